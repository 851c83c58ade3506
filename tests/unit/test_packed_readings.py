"""From a packed entry to the arrays in it, or to the reason why it is none."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.entries import ENCODINGS, MOST_PACKED, Packed, unpack
from hourglass.model.keys import Keyspace
from hourglass.model.readings import Reason, Rules, Unusable

DAY = Keyspace().containing(1_735_689_600_000)  # 1 January 2025
NOON_MS = DAY.hour_start_ms(12)
ARRAY = struct.pack("<6h", *range(6))
SIX = {"device": "pod", "ts": NOON_MS, "encoding": "i16/10", "temps_f": ARRAY}


def packed(*, entry_id: bytes = b"%d-0" % NOON_MS, **fields: object) -> Packed:
    """Of these fields in place of SIX's, or without them if they are None."""
    flat: list[bytes] = []
    for name, value in {**SIX, **fields}.items():
        if value is not None:
            flat += [name.encode(), value if isinstance(value, bytes) else str(value).encode()]
    return unpack(DAY, entry_id, flat, Rules())


def test_without_more_fields_all_values_are_one_tick() -> None:
    assert packed() == (b"pod", 0, 6, NOON_MS, 0, ENCODINGS[b"i16/10"], ARRAY)
    assert (packed().ticks, packed().size) == (1, 6)


def test_several_ticks_take_turns() -> None:
    several = packed(devices=2, period_ms=500)

    assert (several.devices, several.ticks, several.period_ms) == (2, 3, 500)


def test_devices_are_numbered_from_the_first() -> None:
    assert [packed().name(index) for index in (0, 5)] == [b"pod-0", b"pod-5"]
    assert packed(first=40).name(2) == b"pod-42"


def test_a_single_device_bears_the_name_itself_unless_it_is_numbered() -> None:
    assert packed(temps_f=ARRAY[:2]).name(0) == b"pod"
    assert packed(devices=1, period_ms=1).name(0) == b"pod"
    assert packed(devices=1, period_ms=1, first=0).name(0) == b"pod-0"


def test_without_ts_a_tick_is_as_old_as_its_entry() -> None:
    assert packed(ts=None).ts_ms == NOON_MS
    assert packed(ts=None, entry_id=b"%d-0" % (DAY.end_ms + 5_000)).ts_ms == DAY.end_ms - 1


def test_without_device_it_is_unknown() -> None:
    assert packed(device=None).name(3) == b"unknown-3"


@pytest.mark.parametrize(
    "fields",
    [
        {"encoding": "f16/10"},
        {"encoding": None},
        {"temps_f": b""},
        {"temps_f": ARRAY[:-1]},
        {"temps_f": ARRAY[:6], "encoding": "i32/1000"},
        {"temps_f": bytes(2 * (MOST_PACKED + 1))},
        {"devices": 0},
        {"devices": 7},
        {"devices": 4, "period_ms": 1},
        {"devices": -1},
        {"devices": "six"},
        {"devices": 3},
        {"devices": 3, "period_ms": 0},
        {"devices": 3, "period_ms": 1.5},
        {"devices": 3, "period_ms": 86_400_000},
        {"devices": 3, "period_ms": "9" * 33},
        {"devices": 3, "period_ms": 1, "ts": None},
        {"first": -1},
        {"first": ""},
        {"first": 9_999_995},
        {"temp_f": 73},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_an_array_and_a_description_that_do_not_agree_are_refused(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(Unusable) as refusal:
        packed(**fields)
    assert refusal.value.reason is Reason.BAD_ARRAY


def test_the_edges_of_what_is_taken() -> None:
    assert packed(temps_f=bytes(2 * MOST_PACKED)).size == MOST_PACKED
    assert packed(first=9_999_994).name(5) == b"pod-9999999"
    assert packed(devices=3, period_ms=86_399_999).ticks == 2
    assert len(packed(device="x" * 120, first=9_999_994).name(5)) == 128


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"device": "x" * 121}, Reason.BAD_DEVICE),
        ({"ts": "noon"}, Reason.BAD_TIMESTAMP),
        ({"ts": ""}, Reason.BAD_TIMESTAMP),
    ],
)
def test_names_and_times_are_those_of_plain_readings(
    fields: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(Unusable) as refusal:
        packed(**fields)
    assert refusal.value.reason is reason


texts = st.one_of(
    st.binary(max_size=10),
    st.integers(-2, 10_000_001).map(lambda number: b"%d" % number),
    st.integers(DAY.day_ms, DAY.end_ms).map(lambda ms: b"%d" % ms),
    st.sampled_from(sorted(ENCODINGS)),
)


@given(
    fields=st.dictionaries(
        st.sampled_from(
            [b"device", b"ts", b"first", b"devices", b"period_ms", b"encoding", b"x", b"temp_f"]
        ),
        texts,
    ),
    array=st.binary(max_size=40),
)
def test_whatever_the_fields_hold_is_packed_or_unusable(
    fields: dict[bytes, bytes], array: bytes
) -> None:
    flat = [part for pair in {**fields, b"temps_f": array}.items() for part in pair]
    try:
        decoded = unpack(DAY, b"%d-0" % NOON_MS, flat, Rules())
    except Unusable:
        return
    assert decoded.size == decoded.ticks * decoded.devices > 0
    assert decoded.size * decoded.encoding.width == len(array)
    assert len(decoded.name(decoded.devices - 1)) <= 128
