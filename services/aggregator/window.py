"""From entries to what a batch adds to each hour. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hourglass.model.entries import ARRAY, Entry, Reject, decode_all
from hourglass.model.keys import HOUR_MS, Partition
from hourglass.model.readings import TIME_OF_DAY, Readings, Rules

#: What quarantine keeps of an entry: so many fields, and so many bytes of each name and value.
MOST_FIELDS = 16
MOST_BYTES = 1024
_OF_A_READING = (b"temp_f", b"ts", TIME_OF_DAY, b"device")


@dataclass(slots=True)
class PartialAggregate:
    """What a batch adds to one hour; temperatures in thousandths of a degree.

    devices: names seen; `blocks`: those seen in packed entries, as hourglass.model.devices has them
    """

    count: int = 0
    sum_milli_f: int = 0
    min_milli_f: int = 1 << 62
    max_milli_f: int = -(1 << 62)
    devices: frozenset[bytes] = frozenset()
    blocks: dict[bytes, int] = field(default_factory=dict[bytes, int])

    @classmethod
    def of(cls, readings: Readings) -> PartialAggregate:
        """What these add up to; there must be one at least."""
        temperatures = readings.milli_f
        return cls(
            len(temperatures),
            sum(temperatures),
            min(temperatures),
            max(temperatures),
            frozenset(readings.devices),
        )


@dataclass(slots=True)
class BatchAggregate:
    """A batch, folded: every entry is in `ids`, and each of its readings in one tally or among the
    rejects.

    latest_ms: no reading counted is later; the day's start if there is none
    """

    ids: list[bytes]
    tallies: dict[int, PartialAggregate]
    rejects: list[Reject] = field(default_factory=list[Reject])
    latest_ms: int = 0

    @property
    def counted(self) -> int:
        """Readings in the tallies."""
        return sum(tally.count for tally in self.tallies.values())

    @property
    def rejected(self) -> int:
        """Readings among the rejects."""
        return sum(reject.readings for reject in self.rejects)


def aggregate_entries(
    partition: Partition, entries: Sequence[Entry], rules: Rules
) -> BatchAggregate:
    """Sort the readings in `entries` into hours (0 to 23) and rejects."""
    readings, packed, rejects = decode_all(partition, entries, rules)
    folded = BatchAggregate(
        ids=[entry_id for entry_id, _ in entries],
        tallies={
            (start_ms - partition.day_ms) // HOUR_MS: PartialAggregate.of(of_hour)
            for start_ms, of_hour in readings.by_hour()
        },
        rejects=[reject._replace(fields=kept(reject.fields)) for reject in rejects],
        latest_ms=max(readings.times_ms, default=partition.day_ms),
    )
    if packed:
        from aggregator.packed_window import aggregate_packed  # numpy, of which others have no need

        aggregate_packed(partition, packed, rules, folded)
    return folded


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
