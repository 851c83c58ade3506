"""From a stream entry to a reading: the one place where Redis fields are decoded.

Temperatures are integers, thousandths of a degree Fahrenheit ("milli_f"), so that sums are exact
and do not depend on order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

from hourglass.keys import Partition

MILLI = 1000
_LONGEST_NUMBER = 32
_LONGEST_DEVICE = 128

#: The layout the producer writes, which needs no looking for fields.
_PRODUCER_FIELDS = [b"device", b"ts", b"temp_f"]


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


def decode(partition: Partition, entry_id: bytes, fields: Sequence[bytes], rules: Rules) -> Reading:
    """The reading in a stream entry; `fields` alternates names and values. Raises Unusable.

    The event time is the `ts` field in ms, else the id's milliseconds, which is an arrival time:
    one that fell past midnight by no more than `overrun_ms` counts in the day's last hour,
    because the writer had named the day before midnight.
    """
    if len(fields) == 6 and fields[::2] == _PRODUCER_FIELDS:
        _, device, _, ts, _, text = fields
    else:
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
