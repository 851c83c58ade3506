"""Gathering what an audit compares."""

from __future__ import annotations

import logging

from averages_consumer.warehouse import Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.groups import pending_ids
from hourglass.cluster.partitions import recorded
from hourglass.cluster.published import (
    AHEAD_MS,
    Result,
    ahead_ms,
    decode_published_through,
    published_ahead,
    results,
)
from hourglass.cluster.scripts import Script
from hourglass.errors import CorruptKey, HourglassError, Unforeseen
from hourglass.model.averages import HourlyAverage
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.keys import (
    AVERAGES_GROUP,
    HOUR_MS,
    RECORDS_KEPT_MS,
    iso,
)
from hourglass.model.readings import degrees
from hourglassctl.audit.compare import Audit, Difference, Publication, compare
from hourglassctl.audit.recompute import Recomputed, recount

log = logging.getLogger(__name__)
_PUBLICATION = Script.load("hourglassctl", "publication")


def audit(cluster: Cluster, instant: Instant, warehouse: Warehouse | None) -> Audit:
    """Compare everything that still exists. Safe on a live pipeline: each stage is read before
    the one that is made from it, so what is on its way is never taken for missing.

    Raises Unreachable, and WarehouseUnreachable.
    """
    recounts: list[Recomputed] = []
    damage: list[Difference] = []
    for partition in recorded(cluster, instant, kept_ms=RECORDS_KEPT_MS):
        try:
            recounts.append(recount(cluster, partition))
        except CorruptKey as error:
            damage.append(Difference(hour="", what=str(error)))
        except HourglassError:
            raise
        except Exception as error:
            log.debug("%s", partition.stream, exc_info=True)
            unforeseen = Unforeseen.of(error, about=partition.stream)
            damage.append(Difference(hour="", what=str(unforeseen)))
    publication = _publication(cluster, warehouse)
    found = compare(recounts, publication)
    found.differences += damage
    # By the clock after what was published was read, which it may have been since.
    if ahead_ms(publication.published_through_ms, PipelineClock(cluster).refresh()) > AHEAD_MS:
        last_ms = publication.published_through_ms
        found.differences.append(Difference(hour=iso(last_ms), what=published_ahead(last_ms)))
    return found


def _publication(cluster: Cluster, warehouse: Warehouse | None) -> Publication:
    keys = cluster.keyspace
    last, published, too_late, entries = cluster.run(
        _PUBLICATION, [keys.averages, keys.published_through, keys.published, keys.too_late], []
    )
    published_through = decode_published_through(last, key=keys.published_through)
    published = results(published, key=keys.published)
    too_late = results(too_late, key=keys.too_late)
    loading = _loading(cluster)
    on_stream: dict[int, Result] = {}
    misread: list[str] = []
    for entry_id, flat in entries:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        try:
            average = HourlyAverage.decode(entry_id, fields)
        except ValueError as error:
            misread.append(f"entry {entry_id.decode()} of {keys.averages} is no average: {error}")
            continue
        on_stream[average.start_ms] = Result(average.count, average.sum_milli_f)
        shown, due = fields.get(b"average_temp_f", b"").decode(), degrees(average.mean_milli_f)
        if shown != due:
            misread.append(f"entry {entry_id.decode()} of {keys.averages} says {shown}, not {due}")
    rows: dict[int, Result] | None = None
    revised = 0
    if warehouse is not None:
        compared = published.keys() | too_late.keys()
        first = min(compared, default=0)
        last = max(compared, default=0) + HOUR_MS
        rows = {}
        for row in warehouse.rows(first, last):
            rows[row.start_ms] = row.published
            revised += row.revision > 0
    return Publication(
        stream=keys.averages,
        published_through_ms=-1 if published_through is None else published_through,
        published=published,
        on_stream=on_stream,
        misread=misread,
        too_late=too_late.keys(),
        warehouse=rows,
        revised=revised,
        loading=loading,
    )


def _loading(cluster: Cluster) -> frozenset[int]:
    """Hours on the stream that were not delivered to the warehouse, or not acknowledged."""
    stream = cluster.keyspace.averages
    if not cluster.call("EXISTS", stream):
        return frozenset()
    groups = {info["name"]: info for info in cluster.call("XINFO GROUPS", stream)}
    group = groups.get(AVERAGES_GROUP.encode())
    after = f"({group['last-delivered-id'].decode()}" if group else "-"
    undelivered = [entry_id for entry_id, _ in cluster.call("XRANGE", stream, after, "+")]
    pending = pending_ids(cluster, stream, AVERAGES_GROUP)
    return frozenset(int(entry_id.partition(b"-")[0]) for entry_id in (*undelivered, *pending))


def audit_lines(audit: Audit) -> list[str]:
    """The findings of an audit, one per line; the last line is the result."""
    warehouse = "not compared" if audit.in_warehouse is None else f"{audit.in_warehouse:,}"
    lines = [
        f"hours with records       {audit.hours:>12,}",
        f"hours counted from raw   {audit.recounted_hours:>12,}",
        f"hours published          {audit.published:>12,}",
        f"hours in the warehouse   {warehouse:>12}",
        f"readings counted         {audit.counted:>12,}",
        f"readings late            {audit.late:>12,}",
        f"readings in quarantine   {audit.quarantined:>12,}",
        f"taken, and gone since    {audit.gone:>12,}",
        f"lost                     {audit.lost:>12,}",
        f"counted twice            {audit.twice:>12,}",
    ]
    if audit.waiting:
        lines.append(f"sealed, not published yet {audit.waiting:>11,}")
    if audit.loading:
        lines.append(f"published, not loaded yet {audit.loading:>11,}")
    if audit.revised:
        lines.append(f"hours revised by late ones {audit.revised:>10,}")
    if audit.too_late:
        lines.append(f"hours too late to publish {audit.too_late:>11,}")
    if audit.removed:
        lines.append(f"entries counted, removed {audit.removed:>12,}")
    lines += [f"NOTE {each}" for each in audit.notes]
    lines += [f"DIFFERENCE {each.hour} {each.what}" for each in audit.differences]
    lines.append("no difference" if audit.clean else f"{len(audit.differences)} differences")
    return lines
