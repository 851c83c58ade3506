"""What the streams look like from outside: lengths, lags, time to live. Never a scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hourglass.cluster import Cluster
from hourglass.instruments import Instrument


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """One stream and one consumer group on it.

    lag: entries not yet delivered to the group; None if Redis cannot tell, which is not zero
    pending: entries delivered and not acknowledged
    expires_ms: real time at which the stream expires; None if it has no TTL
    """

    stream: str
    group: str
    shard: str
    length: int
    lag: int | None
    pending: int
    consumers: int
    expires_ms: int | None


def survey(cluster: Cluster, streams: Sequence[str], group: str) -> list[StreamState]:
    """The state of each of `streams` that exists, in one round trip to each shard."""
    commands: list[tuple[str, ...]] = []
    for stream in streams:
        commands += [("XLEN", stream), ("XINFO GROUPS", stream), ("PEXPIRETIME", stream)]
    replies = cluster.pipeline(commands)
    states: list[StreamState] = []
    for index, stream in enumerate(streams):
        length, groups, expires = replies[3 * index : 3 * index + 3]
        if isinstance(groups, Exception) or isinstance(length, Exception) or expires == -2:
            continue
        info = _group(groups, group)
        states.append(
            StreamState(
                stream=stream,
                group=group,
                shard=cluster.shard_of(stream),
                length=length,
                lag=length if info is None else info["lag"],
                pending=0 if info is None else info["pending"],
                consumers=0 if info is None else info["consumers"],
                expires_ms=expires if expires >= 0 else None,
            )
        )
    return states


def _group(groups: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    return next((info for info in groups if info["name"] == name.encode()), None)


PARTITIONS = Instrument(
    name="hourglass_stream_partitions",
    kind="gauge",
    help="Partitions that live now. The same fact from every replica: take the maximum.",
)
LENGTH = Instrument(
    name="hourglass_stream_length",
    kind="gauge",
    help="Entries in the stream.",
    labels=("stream",),
)
LAG = Instrument(
    name="hourglass_stream_group_lag",
    kind="gauge",
    help="Entries not delivered to the group yet; absent while unknown.",
    labels=("stream", "group"),
)
LAG_KNOWN = Instrument(
    name="hourglass_stream_group_lag_known",
    kind="gauge",
    help="1 if Redis can tell the lag, 0 if it cannot; unknown is not zero.",
    labels=("stream", "group"),
)
PENDING = Instrument(
    name="hourglass_stream_group_messages_pending",
    kind="gauge",
    help="Entries delivered to the group and not acknowledged.",
    labels=("stream", "group"),
)
CONSUMERS = Instrument(
    name="hourglass_stream_group_consumers",
    kind="gauge",
    help="Consumers the group knows.",
    labels=("stream", "group"),
)
EXPIRY = Instrument(
    name="hourglass_partition_expiry_timestamp_seconds",
    kind="gauge",
    help="When the partition expires, in real time since the epoch.",
    labels=("stream",),
)
AGGREGATE_LAG = Instrument(
    name="hourglass_aggregate_lag",
    kind="gauge",
    help="Entries delivered late or not at all yet, over all partitions: lag and pending together; "
    "absent while any lag is unknown. One number for an autoscaler.",
)
STREAM_INSTRUMENTS = (LENGTH, LAG, LAG_KNOWN, PENDING, CONSUMERS)
PARTITION_INSTRUMENTS = (PARTITIONS, EXPIRY, AGGREGATE_LAG)


#: A survey is made every few seconds; one older than this tells nothing of now.
FRESH_S = 15.0


class StreamGauges(Collector):
    """Exports the last survey: series of streams that are gone are gone with them.

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
        self._fresh_until = float("-inf")
        self._monotonic = monotonic
        self._partitions = partitions
        self._lock = Lock()
        registry.register(self)

    def show(self, states: Sequence[StreamState]) -> None:
        with self._lock:
            self._states = states
            self._fresh_until = self._monotonic() + FRESH_S

    def collect(self) -> list[GaugeMetricFamily]:
        with self._lock:
            states = self._states
            if self._monotonic() >= self._fresh_until:
                return []
        length, lag, known, pending, consumers = (each.family() for each in STREAM_INSTRUMENTS)
        for state in states:
            labels = (state.stream, state.group)
            length.add_metric((state.stream,), state.length)
            known.add_metric(labels, 0 if state.lag is None else 1)
            if state.lag is not None:
                lag.add_metric(labels, state.lag)
            pending.add_metric(labels, state.pending)
            consumers.add_metric(labels, state.consumers)
        families = [length, lag, known, pending, consumers]
        return families + self._of_partitions(states) if self._partitions else families

    @staticmethod
    def _of_partitions(states: Sequence[StreamState]) -> list[GaugeMetricFamily]:
        partitions, expiry, aggregate = (each.family() for each in PARTITION_INSTRUMENTS)
        partitions.add_metric((), len(states))
        for state in states:
            if state.expires_ms is not None:
                expiry.add_metric((state.stream,), state.expires_ms / 1000)
        lags = [state.lag for state in states]
        if None not in lags:
            waiting = sum(lag for lag in lags if lag is not None)
            aggregate.add_metric((), waiting + sum(state.pending for state in states))
        return [partitions, expiry, aggregate]
