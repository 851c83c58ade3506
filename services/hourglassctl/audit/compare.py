"""Whether everything adds up: raw readings, hour records, averages' stream, warehouse. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from hourglass.cluster.published import Result
from hourglass.model.averages import HourRecord, joined_hours
from hourglass.model.keys import AVERAGES_KEPT, iso
from hourglass.monitoring.stream_stats import counted_line, uncounted_line
from hourglassctl.audit.recompute import Recomputed


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What the averages' slot and the warehouse hold, by hour start.

    stream: the averages', by name
    published: every hour the slot remembers having published
    on_stream: what stands on it
    misread: entries there that are no averages, or contradict themselves
    too_late: hours that got their first reading after a later hour was published
    warehouse: None if no warehouse was given; where a row was revised, what it was before
    revised: rows that were
    loading: hours on the stream that no consumer has acknowledged yet
    """

    stream: str
    published_through_ms: int
    published: Mapping[int, Result]
    on_stream: Mapping[int, Result]
    misread: Sequence[str] = ()
    too_late: AbstractSet[int] = frozenset()
    warehouse: Mapping[int, Result] | None = None
    revised: int = 0
    loading: AbstractSet[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that does not add up. `hour` is empty where it concerns a whole partition."""

    hour: str
    what: str


@dataclass(slots=True, kw_only=True)
class Audit:
    """The findings, and the totals over every hour that has a record.

    gone: readings that were acknowledged to producers, are missing and were not counted; an
        entry that another program removed counts as one
    lost: readings that exist, or that are not in quarantine, and that no hour contains
    removed: entries that another program removed after they had been counted
    notes: what is no difference, and may surprise
    """

    hours: int = 0
    counted: int = 0
    late_by_hour: dict[int, int] = field(default_factory=dict[int, int])
    quarantined: int = 0
    recounted_hours: int = 0
    published: int = 0
    waiting: int = 0
    too_late: int = 0
    in_warehouse: int | None = None
    revised: int = 0
    loading: int = 0
    gone: int = 0
    lost: int = 0
    twice: int = 0
    removed: int = 0
    notes: list[str] = field(default_factory=list[str])
    differences: list[Difference] = field(default_factory=list[Difference])

    @property
    def late(self) -> int:
        return sum(self.late_by_hour.values())

    @property
    def clean(self) -> bool:
        return not self.differences

    def as_data(self) -> dict[str, Any]:
        """Everything, for programs."""
        data = asdict(self)
        data["late_by_hour"] = {iso(hour): count for hour, count in self.late_by_hour.items()}
        return {**data, "late": self.late, "clean": self.clean}


def compare(recounts: Iterable[Recomputed], publication: Publication) -> Audit:
    """Compare hour by hour, with exact integers."""
    audit = Audit(published=len(publication.published), loading=len(publication.loading))
    recounts = sorted(recounts, key=lambda each: each.partition)
    for each in recounts:
        audit.quarantined += each.quarantined
        _add_late(audit, each.records)
        _compare_acknowledged(audit, each)
        _compare_uncounted(audit, each)
        _compare_removed(audit, each)
        _compare_raw(audit, each)
    for _, members in groupby(recounts, lambda each: each.partition.day):
        for record in joined_hours([each.records for each in members if each.records]):
            audit.hours += 1
            audit.counted += record.count
            if record.sealed and record.count:
                _compare_published(audit, record, publication)
    _compare_stream(audit, publication)
    if publication.warehouse is not None:
        audit.in_warehouse = len(publication.warehouse)
        audit.revised = publication.revised
        audit.differences += _warehouse_differences(publication, publication.warehouse)
    return audit


def _add_late(audit: Audit, records: Iterable[HourRecord]) -> None:
    """Add the late readings of one partition. A recount of a sealed hour begins at minus its count,
    and stays below 0 if entries were removed since: then no late reading is known of."""
    for record in records:
        if record.late > 0:
            late = audit.late_by_hour.get(record.start_ms, 0)
            audit.late_by_hour[record.start_ms] = late + record.late


def _compare_acknowledged(audit: Audit, recount: Recomputed) -> None:
    if recount.gone:
        audit.gone += recount.gone
        audit.differences.append(
            Difference(
                hour="",
                what=f"{recount.partition.stream}: {recount.gone} acknowledged readings "
                "are missing",
            )
        )


def _compare_uncounted(audit: Audit, recount: Recomputed) -> None:
    if recount.uncounted:
        audit.gone += recount.uncounted
        audit.differences.append(
            Difference(
                hour="",
                what=f"{recount.partition.stream} is gone with {recount.uncounted} readings that "
                "had not been counted: it was deleted, or expired",
            )
        )


def _compare_removed(audit: Audit, recount: Recomputed) -> None:
    stream, removed = recount.partition.stream, recount.removals
    if removed is None:
        return
    audit.gone += removed.uncounted or 0
    audit.removed += removed.counted
    if what := uncounted_line(stream, removed):
        audit.differences.append(Difference(hour="", what=what))
    if note := counted_line(stream, removed):
        audit.notes.append(note)


def _compare_raw(audit: Audit, recount: Recomputed) -> None:
    if recount.raw is None:
        return
    if recount.remade:
        audit.differences.append(
            Difference(
                hour="",
                what=f"{recount.partition.stream} was deleted and created again: what was counted "
                "of it before cannot be counted again",
            )
        )
    if recount.unaccounted:
        audit.lost += recount.unaccounted
        audit.differences.append(
            Difference(
                hour="",
                what=f"{recount.partition.stream}: {recount.unaccounted} unusable entries were "
                "acknowledged and are not in quarantine",
            )
        )
    records = {record.start_ms: record for record in recount.records}
    removed = recount.removals.may_be_counted if recount.removals else 0
    for start_ms in sorted({*records, *recount.raw}):
        record = records.get(start_ms)
        have = (
            Result(record.count + record.late, record.sum_milli_f + record.late_sum_milli_f)
            if record
            else Result(0, 0)
        )
        raw = recount.raw.get(start_ms)
        want = Result(raw.count, raw.sum_milli_f) if raw else Result(0, 0)
        audit.recounted_hours += 1
        audit.lost += max(0, want.count - have.count)
        more = have.count - want.count
        if recount.remade and more >= 0:
            continue
        if removed and more > 0:
            # What was removed is in its hour and not among the raw readings. How many readings a
            # packed entry held is not known.
            explained = more if recount.packed else min(more, removed)
            more -= explained
            removed -= 0 if recount.packed else explained
            if not more:
                continue
        audit.twice += max(0, more)
        if have != want:
            audit.differences.append(
                Difference(
                    hour=iso(start_ms),
                    what=f"the raw readings of {recount.partition.stream} give {want}, "
                    f"counted were {have}",
                )
            )


def _compare_published(audit: Audit, record: HourRecord, publication: Publication) -> None:
    if record.start_ms > publication.published_through_ms:
        audit.waiting += 1
        return
    published = publication.published.get(record.start_ms)
    sealed = Result(record.count, record.sum_milli_f)
    if published is None and record.start_ms in publication.too_late:
        audit.too_late += 1
        _compare_too_late(audit, record.start_ms, sealed, publication)
    elif published is None:
        if publication.published and record.start_ms >= min(publication.published):
            audit.differences.append(
                Difference(hour=iso(record.start_ms), what=f"sealed with {sealed}, not published")
            )
    elif published != sealed:
        audit.differences.append(
            Difference(
                hour=iso(record.start_ms), what=f"sealed with {sealed}, published with {published}"
            )
        )


def _compare_too_late(
    audit: Audit, start_ms: int, sealed: Result, publication: Publication
) -> None:
    """Such an hour has no average on the stream; a row in the warehouse is all it can get."""
    row = publication.warehouse.get(start_ms) if publication.warehouse is not None else None
    if row == sealed:
        return
    what = f"sealed with {sealed} after a later hour was published, so it was not published"
    if row is not None:
        what += f"; the warehouse has {row}"
    elif publication.warehouse is None:
        what += "; no warehouse was given that may have it"
    else:
        what += "; it is not in the warehouse: hourglass averages backfill loads it"
    audit.differences.append(Difference(hour=iso(start_ms), what=what))


def _compare_stream(audit: Audit, publication: Publication) -> None:
    audit.differences += [Difference(hour="", what=what) for what in publication.misread]
    for start_ms in sorted(publication.published)[-AVERAGES_KEPT:]:
        if start_ms not in publication.on_stream:
            audit.differences.append(
                Difference(
                    hour=iso(start_ms), what=f"published, and missing from {publication.stream}"
                )
            )
    for start_ms, on_stream in publication.on_stream.items():
        published = publication.published.get(start_ms)
        if published != on_stream:
            audit.differences.append(
                Difference(
                    hour=iso(start_ms),
                    what=f"{publication.stream} has {on_stream}, "
                    f"published was {published or 'nothing'}",
                )
            )


def _warehouse_differences(
    publication: Publication, warehouse: Mapping[int, Result]
) -> Iterator[Difference]:
    for start_ms, published in publication.published.items():
        row = warehouse.get(start_ms)
        if row is None:
            if start_ms in publication.loading:
                continue
            on_stream = start_ms in publication.on_stream
            gone = "" if on_stream else f", and no longer on {publication.stream}"
            yield Difference(hour=iso(start_ms), what=f"published, not in the warehouse{gone}")
        elif row != published:
            yield Difference(
                hour=iso(start_ms), what=f"published with {published}, the warehouse has {row}"
            )
    if not publication.published:
        return
    unpublished = warehouse.keys() - publication.published.keys() - publication.too_late
    for start_ms in sorted(unpublished):
        if start_ms > min(publication.published):
            yield Difference(hour=iso(start_ms), what="in the warehouse, and never published")
