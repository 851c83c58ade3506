"""From entries to what a batch adds to each hour. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Sequence

from aggregator.aggregates import BatchAggregate, PartialAggregate
from hourglass.model.entries import ARRAY, Entry, decode_all
from hourglass.model.keys import HOUR_MS, Partition
from hourglass.model.readings import TIME_OF_DAY, Rules

#: What quarantine keeps of an entry: so many fields, and so many bytes of each name and value.
MOST_FIELDS = 16
MOST_BYTES = 1024
_OF_A_READING = (b"temp_f", b"ts", TIME_OF_DAY, b"device")


def aggregate_entries(
    partition: Partition, entries: Sequence[Entry], rules: Rules
) -> BatchAggregate:
    """Sort the readings in `entries` into hours (0 to 23) and rejects."""
    readings, packed, rejects = decode_all(partition, entries, rules)
    aggregate = BatchAggregate(
        ids=[entry_id for entry_id, _ in entries],
        partials={
            (start_ms - partition.day_ms) // HOUR_MS: PartialAggregate.of(of_hour)
            for start_ms, of_hour in readings.by_hour()
        },
        rejects=[reject._replace(fields=kept(reject.fields)) for reject in rejects],
        latest_ms=max(readings.times_ms, default=partition.day_ms),
    )
    if packed:
        from aggregator.packed_window import aggregate_packed  # imports numpy

        aggregate_packed(partition, packed, rules, aggregate)
    return aggregate


def kept(fields: Sequence[bytes]) -> Sequence[bytes]:
    """`fields` within the bounds of what quarantine keeps; those of a reading are kept first.

    None of a packed entry: they stand in the stream, and a part of an array is another array.
    """
    if ARRAY in fields[::2]:
        return ()
    if len(fields) <= 2 * MOST_FIELDS and max(map(len, fields), default=0) <= MOST_BYTES:
        return fields
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    pairs.sort(key=lambda pair: pair[0] not in _OF_A_READING)
    return [part[:MOST_BYTES] for pair in pairs[:MOST_FIELDS] for part in pair]
