"""The text of lines about hourly averages and about missing hours. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from averages_consumer.table import HourRow
from hourglass.cluster.published import Result
from hourglass.model.averages import HourlyAverage, HourRecord, mean_milli_f
from hourglass.model.keys import HOUR_MS, iso
from hourglass.model.readings import degrees


def line(average: HourlyAverage) -> str:
    """The terminal line of one average, in the format that the exercise specifies."""
    return (
        f"Average temperature for {average.start:%Y/%m/%d} at {average.start.hour} "
        f"was {degrees(average.mean_milli_f)}F ({average.count} observations)."
    )


def revision_line(row: HourRow) -> str:
    """The terminal line of a row that was revised with late readings."""
    average = degrees(mean_milli_f(row.sum_milli_f, row.observations))
    return (
        f"Average temperature for {row.hour:%Y/%m/%d} at {row.hour.hour} is {average}F "
        f"in the warehouse from now on: revision {row.revision}, with {row.late} late "
        f"({row.observations} observations)."
    )


def refilled(
    records: Iterable[HourRecord], missing: Iterable[int], published: Mapping[int, Result]
) -> list[HourlyAverage]:
    """The averages of the `missing` hours, made from their hour records.

    An hour whose record differs from the published result stays missing: the consumer cannot
    decide which of the two is correct.
    """
    wanted = set(missing)
    return [
        HourlyAverage.of(record)
        for record in records
        if record.sealed
        and record.start_ms in wanted
        and published.get(record.start_ms) == Result(record.count, record.sum_milli_f)
    ]


def missing_hours(
    expected: Iterable[int],
    *,
    waiting_ms: int | None,
    held: AbstractSet[int],
    loaded: AbstractSet[int],
) -> list[int]:
    """The expected hours that are neither in the warehouse nor still to be loaded, in order.

    Only published hours are expected: an hour without readings has no entry. Callers must read the
    arguments from Redis and the warehouse in this order, so that an hour that is loaded meanwhile
    does not count as missing.

    waiting_ms: hour of the first entry not yet delivered to the group; None if there is none
    held: hours of pending entries, whether still in the stream or trimmed
    loaded: hours in the warehouse
    """
    return sorted(
        hour
        for hour in set(expected)
        if (waiting_ms is None or hour < waiting_ms) and hour not in held and hour not in loaded
    )


def describe_missing(hours: Sequence[int]) -> str:
    """One line that names `hours`, which must be in order and not empty."""
    count = "1 published hour was" if len(hours) == 1 else f"{len(hours)} published hours were"
    return f"{count} not in the warehouse: {_spans(hours)}"


def _spans(hours: Sequence[int]) -> str:
    """Consecutive hours as ranges, as in "2025-01-01T00:00:00Z to 2025-01-01T05:00:00Z"."""
    spans: list[list[int]] = []
    for hour in hours:
        if spans and hour == spans[-1][1] + HOUR_MS:
            spans[-1][1] = hour
        else:
            spans.append([hour, hour])
    return ", ".join(
        iso(first) if first == last else f"{iso(first)} to {iso(last)}" for first, last in spans
    )
