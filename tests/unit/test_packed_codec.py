"""The codec of packed temperatures: exact, and as narrow as exactness allows."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.entries import ENCODINGS
from hourglass.model.packed_codec import MISSING, decode, encode, missing

temperatures = st.one_of(
    st.integers(-(2**31) + 1, 2**31 - 1),
    st.integers(-150_000, 250_000),
    st.integers(-32_767, 32_767).map(lambda hundredths: hundredths * 10),
    st.integers(-32_767, 32_767).map(lambda tenths: tenths * 100),
)
values = st.lists(st.just(None) | temperatures, max_size=20)


def encoded(milli_f: list[int | None]) -> tuple[bytes, bytes]:
    return encode(np.array([MISSING if each is None else each for each in milli_f], np.int32))


def decoded(name: bytes, array: bytes) -> list[int | None]:
    """What a reader in another language finds, by the name of the encoding alone."""
    width, per_degree = name[1:].split(b"/")
    letter = {b"16": "h", b"32": "i"}[width]
    least = -(1 << int(width) - 1)
    numbers = struct.unpack(f"<{len(array) // struct.calcsize(letter)}{letter}", array)
    return [None if each == least else each * 1000 // int(per_degree) for each in numbers]


@given(milli_f=values)
def test_what_is_encoded_is_read_back_exactly(milli_f: list[int | None]) -> None:
    assert decoded(*encoded(milli_f)) == milli_f


@given(milli_f=values)
def test_two_bytes_are_taken_where_they_are_enough(milli_f: list[int | None]) -> None:
    present = [each for each in milli_f if each is not None]
    enough = any(
        all(each % unit == 0 and abs(each // unit) < 2**15 for each in present)
        for unit in (10, 100)
    )

    name, array = encoded(milli_f)

    assert len(array) == (2 if enough else 4) * len(milli_f)
    assert name.startswith(b"i16" if enough else b"i32")


@given(milli_f=values, gaps=st.integers(1, 5))
def test_missing_readings_change_no_encoding(milli_f: list[int | None], gaps: int) -> None:
    assert encoded(milli_f + [None] * gaps)[0] == encoded(milli_f)[0]


@pytest.mark.parametrize(
    ("milli_f", "name"),
    [
        ([73_500], b"i16/100"),
        ([327_670, -327_670], b"i16/100"),
        ([327_680], b"i32/1000"),
        ([327_700], b"i16/10"),
        ([-327_680], b"i32/1000"),
        ([3_276_700], b"i16/10"),
        ([3_276_800], b"i32/1000"),
        ([73_505], b"i32/1000"),
        ([None], b"i16/100"),
        ([], b"i16/100"),
    ],
)
def test_the_first_encoding_that_holds_every_value_is_taken(
    milli_f: list[int | None], name: bytes
) -> None:
    assert encoded(milli_f)[0] == name


@given(milli_f=values)
def test_a_reader_of_this_project_finds_the_same(milli_f: list[int | None]) -> None:
    name, array = encoded(milli_f)
    encoding = ENCODINGS[name]
    units = decode(encoding, array)

    assert [
        None if unit == missing(encoding) else unit * encoding.milli_f for unit in units.tolist()
    ] == milli_f


def test_ticks_follow_one_another() -> None:
    ticks = np.array([[1_000, 2_000], [3_000, 4_000]], np.int32)

    assert decoded(*encode(ticks)) == [1_000, 2_000, 3_000, 4_000]
