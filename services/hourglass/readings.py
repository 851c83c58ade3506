"""From a stream entry to a reading: the one place where Redis fields are decoded.

Temperatures are integers, thousandths of a degree Fahrenheit ("milli_f"), so that sums are exact
and do not depend on order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import groupby
from math import isfinite
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from hourglass.keys import DAY_MS, HOUR_MS, Partition

MILLI = 1000
_LONGEST_NUMBER = 32
_LONGEST_DEVICE = 128

#: The field of a producer's batch's first entry that says which span sent it.
TRACEPARENT = b"traceparent"

#: A stream entry as Redis delivers it: its id, and names and values in turn.
Entry: TypeAlias = Sequence[Any]


class Reason(StrEnum):
    """Why a reading cannot be used."""

    NO_TEMPERATURE = "no temp_f"
    NOT_A_NUMBER = "temp_f is not a number"
    NOT_FINITE = "temp_f is not finite"
    IMPLAUSIBLE = "temp_f is outside the plausible range"
    BAD_TIMESTAMP = "ts is not a time in ms"
    WRONG_DAY = "event time is on another day"
    FAR_FUTURE = "event time is too far in the future"
    BAD_DEVICE = "device name is too long"
    UNDELIVERABLE = "delivered too often without being counted"


class Unusable(ValueError):
    """A reading that cannot be counted; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Reading(NamedTuple):
    """One temperature of one device at one event time."""

    device: bytes
    ts_ms: int
    milli_f: int


class Readings(NamedTuple):
    """Readings side by side: the n-th of each sequence is the n-th reading's."""

    devices: Sequence[bytes]
    times_ms: Sequence[int]
    milli_f: Sequence[int]

    def and_also(self, others: Readings) -> Readings:
        return Readings(
            [*self.devices, *others.devices],
            [*self.times_ms, *others.times_ms],
            [*self.milli_f, *others.milli_f],
        )

    def by_hour(self) -> Iterator[tuple[int, Readings]]:
        """Each hour's start in ms, and its readings."""
        if not self.times_ms:
            return
        first, last = min(self.times_ms) // HOUR_MS, max(self.times_ms) // HOUR_MS
        if first == last:
            yield first * HOUR_MS, self
            return
        hours = [ts_ms // HOUR_MS for ts_ms in self.times_ms]
        rows = sorted(zip(hours, *self, strict=True), key=itemgetter(0))
        for hour, of_hour in groupby(rows, itemgetter(0)):
            _, devices, times_ms, milli_f = zip(*of_hour, strict=True)
            yield hour * HOUR_MS, Readings(devices, times_ms, milli_f)


class Reject(NamedTuple):
    """An entry that cannot be used."""

    id: bytes
    reason: Reason
    fields: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a usable reading is.

    min_milli_f, max_milli_f: the plausible range, both ends included
    overrun_ms: how far past midnight an arrival still counts in the day its stream was named for
    latest_ms: event times after this one are too far in the future; None sets no limit
    """

    min_milli_f: int = -150 * MILLI
    max_milli_f: int = 250 * MILLI
    overrun_ms: int = 5_000
    latest_ms: int | None = None


@lru_cache(maxsize=65_536)  # temperatures recur: a look-up costs a tenth of the arithmetic
def milli_f(text: bytes) -> int:
    """Thousandths of a degree from decimal text, rounded half to even; raises Unusable.

    Exact for up to three decimals: the float nearest to such a number, times 1000, is within
    half a unit of it for every magnitude a temperature can have.
    """
    if len(text) > _LONGEST_NUMBER or b"_" in text:
        raise Unusable(Reason.NOT_A_NUMBER)
    try:
        thousandths = float(text) * MILLI
    except ValueError:
        raise Unusable(Reason.NOT_A_NUMBER) from None
    if not isfinite(thousandths):
        raise Unusable(Reason.NOT_FINITE)
    return round(thousandths)


def decode_all(
    partition: Partition,
    entries: Sequence[Entry],
    rules: Rules,
    undeliverable: Collection[bytes] = (),
) -> tuple[Readings, list[Reject]]:
    """The readings in stream entries, and the entries that cannot be used.

    An entry whose id is in `undeliverable` is rejected without being decoded: decoding may be
    what killed whoever tried.
    """
    together, singly = Readings((), (), ()), entries
    if not undeliverable:
        readings = _decode_together(partition, entries, rules)
        if readings is not None:
            return readings, []
        # The first of a producer's batch tells its trace, where there is one; the rest are alike.
        traced = [entry for entry in entries if TRACEPARENT in entry[1]]
        alike = [entry for entry in entries if TRACEPARENT not in entry[1]] if traced else []
        if alike and (readings := _decode_together(partition, alike, rules)):
            together, singly = readings, traced
    usable: list[Reading] = []
    rejects: list[Reject] = []
    for entry_id, fields in singly:
        if entry_id in undeliverable:
            rejects.append(Reject(entry_id, Reason.UNDELIVERABLE, fields))
            continue
        try:
            usable.append(decode(partition, entry_id, fields, rules))
        except Unusable as unusable:
            rejects.append(Reject(entry_id, unusable.reason, fields))
    if not usable:
        return together, rejects
    one_by_one = Readings(*zip(*usable, strict=True))
    return together.and_also(one_by_one) if together.times_ms else one_by_one, rejects


def origins(entries: Sequence[Entry]) -> list[str]:
    """The traceparents among the entries' fields, one for each of the producers' batches."""
    return [
        fields[fields.index(TRACEPARENT) + 1].decode(errors="replace")
        for _, fields in entries
        if TRACEPARENT in fields[::2]
    ]


def _decode_together(
    partition: Partition, entries: Sequence[Entry], rules: Rules
) -> Readings | None:
    """What `decode` gives one by one, in a third of the time; None unless all are usable and have
    the same fields in the same order."""
    try:
        columns = list(zip(*[fields for _, fields in entries], strict=True))
        names = [set(column) for column in columns[::2]]
        values = {name: value for (name,), value in zip(names, columns[1::2], strict=True)}
        milli = [*map(milli_f, values[b"temp_f"])]
        times_ms = _times_together(partition, entries, values.get(b"ts"))
    except (KeyError, ValueError):
        return None
    devices = values.get(b"device", (b"unknown",) * len(entries))
    latest_ms = max(times_ms)
    if (
        min(milli) < rules.min_milli_f
        or max(milli) > rules.max_milli_f
        or min(times_ms) < partition.day_ms
        or latest_ms >= partition.end_ms
        or (rules.latest_ms is not None and latest_ms > rules.latest_ms)
        or max(map(len, devices)) > _LONGEST_DEVICE
    ):
        return None
    return Readings(devices, times_ms, milli)


def _times_together(
    partition: Partition, entries: Sequence[Entry], stamps: Sequence[bytes] | None
) -> list[int]:
    """Raises ValueError if one of `stamps` is no time."""
    if stamps is None:
        return [int(entry_id.partition(b"-")[0]) for entry_id, _ in entries]
    if not b"".join(stamps).isdigit():  # int would take a sign, spaces and underscores
        raise ValueError
    if max(map(len, stamps)) > _LONGEST_NUMBER:
        raise ValueError
    times_ms = [*map(int, stamps)]
    if max(times_ms) >= DAY_MS:
        return times_ms
    day_ms = partition.day_ms
    return [day_ms + of_day_ms for of_day_ms in times_ms]


def decode(partition: Partition, entry_id: bytes, fields: Sequence[bytes], rules: Rules) -> Reading:
    """The reading in a stream entry; `fields` alternates names and values. Raises Unusable.

    The event time is the `ts` field in ms: since the epoch, or since the partition's start if it is
    less than a day, which saves five bytes. Without one it is the id's milliseconds, an arrival
    time: one that fell past midnight by no more than `overrun_ms` counts in the day's last hour,
    because the writer had named the day before midnight.
    """
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    device = values.get(b"device", b"unknown")
    ts = values.get(b"ts")
    text = values.get(b"temp_f")
    if text is None:
        raise Unusable(Reason.NO_TEMPERATURE)
    temperature = milli_f(text)
    if not rules.min_milli_f <= temperature <= rules.max_milli_f:
        raise Unusable(Reason.IMPLAUSIBLE)
    if ts is None:
        ts_ms = int(entry_id.partition(b"-")[0])
        if 0 <= ts_ms - partition.end_ms <= rules.overrun_ms:
            ts_ms = partition.end_ms - 1
    elif ts.isdigit() and len(ts) <= _LONGEST_NUMBER:
        ts_ms = int(ts)
        if ts_ms < DAY_MS:
            ts_ms += partition.day_ms
    else:
        raise Unusable(Reason.BAD_TIMESTAMP)
    if not partition.day_ms <= ts_ms < partition.end_ms:
        raise Unusable(Reason.WRONG_DAY)
    if rules.latest_ms is not None and ts_ms > rules.latest_ms:
        raise Unusable(Reason.FAR_FUTURE)
    if len(device) > _LONGEST_DEVICE:
        raise Unusable(Reason.BAD_DEVICE)
    return Reading(device, ts_ms, temperature)


def degrees(milli: int) -> str:
    """`milli` thousandths as plain decimal text without needless zeros: 73000 is "73"."""
    sign = "-" if milli < 0 else ""
    whole, thousandths = divmod(abs(milli), MILLI)
    fraction = f"{thousandths:03d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
