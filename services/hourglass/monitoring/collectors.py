"""The last stream stats as metrics, without streams that no longer exist, and only while fresh."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.metrics import MetricSpec
from hourglass.monitoring.stream_stats import StreamState

LENGTH = MetricSpec(
    name="hourglass_stream_length",
    kind="gauge",
    help="Entries in the stream.",
    unit="entries",
    labels=("stream",),
    across="max",
)
MEMORY = MetricSpec(
    name="hourglass_stream_memory_bytes",
    kind="gauge",
    help="Memory that the stream takes in Redis, estimated by MEMORY USAGE from samples.",
    unit="bytes",
    labels=("stream",),
    across="max",
)
SHARD = MetricSpec(
    name="hourglass_stream_shard_info",
    kind="gauge",
    help="1 for the master, as host:port, that holds the stream.",
    unit="1",
    labels=("stream", "shard"),
    across="max",
)
LAG = MetricSpec(
    name="hourglass_stream_group_lag",
    kind="gauge",
    help="Entries not delivered to the group yet; absent while unknown.",
    unit="entries",
    labels=("stream", "group"),
    across="max",
)
LAG_KNOWN = MetricSpec(
    name="hourglass_stream_group_lag_known",
    kind="gauge",
    help="1 if Redis can tell the lag, 0 if it cannot; unknown is not zero.",
    unit="1",
    labels=("stream", "group"),
    across="min",
)
PENDING = MetricSpec(
    name="hourglass_stream_group_messages_pending",
    kind="gauge",
    help="Entries delivered to the group and not acknowledged.",
    unit="entries",
    labels=("stream", "group"),
    across="max",
)
OLDEST_PENDING = MetricSpec(
    name="hourglass_stream_group_oldest_pending_timestamp_seconds",
    kind="gauge",
    help="Time in the id of the oldest pending entry; absent while nothing is pending. If it "
    "stands still, a consumer holds an entry and does not finish it.",
    unit="seconds since the epoch",
    labels=("stream", "group"),
    across="max",
)
CONSUMERS = MetricSpec(
    name="hourglass_stream_group_consumers",
    kind="gauge",
    help="Consumers the group knows.",
    unit="consumers",
    labels=("stream", "group"),
    across="max",
)
STREAM_METRICS = (
    LENGTH,
    MEMORY,
    SHARD,
    LAG,
    LAG_KNOWN,
    PENDING,
    OLDEST_PENDING,
    CONSUMERS,
)

PARTITIONS = MetricSpec(
    name="hourglass_stream_partitions",
    kind="gauge",
    help="Partitions that live now.",
    unit="partitions",
    across="max",
)
EXPIRY = MetricSpec(
    name="hourglass_partition_expiry_timestamp_seconds",
    kind="gauge",
    help="When the partition expires, in real time.",
    unit="seconds since the epoch",
    labels=("stream",),
    across="max",
)
LAG_READINGS = MetricSpec(
    name="hourglass_stream_group_lag_readings",
    kind="gauge",
    help="Readings in the partition that are not counted yet, those delivered and not acknowledged "
    "included; absent while unknown.",
    unit="readings",
    labels=("stream", "group"),
    across="max",
)
AGGREGATE_LAG = MetricSpec(
    name="hourglass_aggregate_lag",
    kind="gauge",
    help="Entries delivered late or not at all yet, over all partitions: lag and pending together; "
    "absent while any lag is unknown. One number for an autoscaler.",
    unit="entries",
    across="max",
)
AGGREGATE_LAG_SECONDS = MetricSpec(
    name="hourglass_aggregate_lag_seconds",
    kind="gauge",
    help="How far counting is behind, in event time: from the oldest reading that is not counted "
    "to the pipeline clock; 0 if every reading is counted.",
    unit="seconds of event time",
    across="max",
)
UNCOUNTED_EXPIRY = MetricSpec(
    name="hourglass_uncounted_expiry_seconds",
    kind="gauge",
    help="Until the first partition with uncounted readings expires, which loses them; absent "
    "while every reading is counted.",
    unit="seconds of event time",
    across="min",
)
AGGREGATE_LAG_READINGS = MetricSpec(
    name="hourglass_aggregate_lag_readings",
    kind="gauge",
    help="As hourglass_aggregate_lag, in readings: a packed entry holds many.",
    unit="readings",
    across="max",
)
PARTITION_METRICS = (
    PARTITIONS,
    EXPIRY,
    LAG_READINGS,
    AGGREGATE_LAG,
    AGGREGATE_LAG_READINGS,
    AGGREGATE_LAG_SECONDS,
    UNCOUNTED_EXPIRY,
)

#: Values are read every few seconds; older ones than this are unknown.
FRESH_S = 15.0

Seen = TypeVar("Seen")


class Latest(Generic[Seen]):
    """The last value read, for FRESH_S; nothing after a read that failed. A scrape during a read
    gets the value before."""

    def __init__(self, nothing: Seen, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._nothing = nothing
        self._monotonic = monotonic
        self._seen = (nothing, float("-inf"))

    def renew(self, read: Callable[[], Seen]) -> None:
        """Raises what `read` raises."""
        try:
            self._seen = (read(), self._monotonic() + FRESH_S)
        except Exception:
            self._seen = (self._nothing, float("-inf"))
            raise

    @property
    def value(self) -> Seen:
        seen, fresh_until = self._seen
        return seen if self._monotonic() < fresh_until else self._nothing


class StreamGauges(Collector):
    """Exports the last stream stats; a stream that no longer exists has no series.

    Before the first one, and once Redis has not answered for FRESH_S, there are no series at all:
    unknown is not zero, and not what it was either.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        partitions: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`partitions`: the streams are partitions, which expire and add up to one lag."""
        self._states: Sequence[StreamState] = ()
        self._behind_s = 0.0
        self._hours_left: float | None = None
        self._fresh_until = float("-inf")
        self._monotonic = monotonic
        self._partitions = partitions
        self._lock = Lock()
        registry.register(self)

    def show(
        self,
        states: Sequence[StreamState],
        *,
        behind_s: float = 0.0,
        hours_left: float | None = None,
    ) -> None:
        """`behind_s`: the age of the oldest reading that waits, in event time; `hours_left` until
        the first of them expires."""
        with self._lock:
            self._states = states
            self._behind_s = behind_s
            self._hours_left = hours_left
            self._fresh_until = self._monotonic() + FRESH_S

    def collect(self) -> list[GaugeMetricFamily]:
        with self._lock:
            states, behind_s, left = self._states, self._behind_s, self._hours_left
            if self._monotonic() >= self._fresh_until:
                return []
        families = {each: each.family() for each in STREAM_METRICS}
        for state in states:
            for instrument, labels, value in _of_stream(state):
                if value is not None:
                    families[instrument].add_metric(labels, value)
        found = list(families.values())
        return found + _of_partitions(states, behind_s, left) if self._partitions else found


def _of_stream(
    state: StreamState,
) -> list[tuple[MetricSpec, tuple[str, ...], float | None]]:
    """Values by instrument and labels; None is not known."""
    stream, group = (state.stream,), (state.stream, state.group)
    oldest = state.oldest_pending
    return [
        (LENGTH, stream, state.length),
        (MEMORY, stream, state.memory_bytes),
        (SHARD, (state.stream, state.shard), 1),
        (LAG, group, state.lag),
        (LAG_KNOWN, group, 0 if state.lag is None else 1),
        (PENDING, group, state.pending),
        (OLDEST_PENDING, group, int(oldest.partition(b"-")[0]) / 1000 if oldest else None),
        (CONSUMERS, group, state.consumers),
    ]


def _of_partitions(
    states: Sequence[StreamState], behind_s: float, hours_left: float | None
) -> list[GaugeMetricFamily]:
    families = [each.family() for each in PARTITION_METRICS]
    partitions, expiry, of_readings, aggregate, in_readings, seconds, left = families
    partitions.add_metric((), len(states))
    seconds.add_metric((), behind_s)
    if hours_left is not None:
        left.add_metric((), hours_left * 3600)
    for state in states:
        if state.expires_ms is not None:
            expiry.add_metric((state.stream,), state.expires_ms / 1000)
        if state.lag_readings is not None:
            of_readings.add_metric((state.stream, state.group), state.lag_readings)
    lags = [state.lag for state in states]
    if None not in lags:
        waiting = sum(lag for lag in lags if lag is not None)
        aggregate.add_metric((), waiting + sum(state.pending for state in states))
    lags = [state.lag_readings for state in states]
    if None not in lags:
        in_readings.add_metric((), sum(lag for lag in lags if lag is not None))
    return families
