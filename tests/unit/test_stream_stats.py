"""What is exported of the streams: the last survey, and nothing of streams that are gone."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from hourglass.model.clock import ClockSpec, Instant, Mode
from hourglass.monitoring.collectors import FRESH_S, StreamGauges
from hourglass.monitoring.stream_stats import StreamState, hours_left

PENDING = "hourglass_stream_group_messages_pending"


def state(
    stream: str = "temps:20250101",
    *,
    length: int = 10,
    lag: int | None = 0,
    pending: int = 0,
    expires_ms: int | None = 1_735_862_400_500,
) -> StreamState:
    return StreamState(
        stream=stream,
        group="aggregators",
        shard="127.0.0.1:7000",
        length=length,
        lag=lag,
        pending=pending,
        consumers=2,
        expires_ms=expires_ms,
    )


class Exported:
    """A registry with one StreamGauges in it."""

    def __init__(self, *, partitions: bool = True) -> None:
        self.registry = CollectorRegistry()
        self.now_s = 0.0
        self.gauges = StreamGauges(
            self.registry, partitions=partitions, monotonic=lambda: self.now_s
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def streams(self) -> set[str]:
        samples = [sample for family in self.registry.collect() for sample in family.samples]
        return {sample.labels["stream"] for sample in samples if "stream" in sample.labels}


@pytest.fixture
def exported() -> Exported:
    return Exported()


def test_every_stream_has_its_series(exported: Exported) -> None:
    exported.gauges.show([state(lag=7, pending=3), state("temps:20250102", length=20)])

    of_group = {"stream": "temps:20250101", "group": "aggregators"}
    assert exported.value("hourglass_stream_length", stream="temps:20250102") == 20
    assert exported.value("hourglass_stream_group_lag", **of_group) == 7
    assert exported.value("hourglass_stream_group_lag_known", **of_group) == 1
    assert exported.value(PENDING, **of_group) == 3
    assert exported.value("hourglass_stream_group_consumers", **of_group) == 2
    assert exported.value("hourglass_stream_partitions") == 2


def test_an_unknown_lag_is_absent_and_not_zero(exported: Exported) -> None:
    exported.gauges.show([state(lag=None)])

    of_group = {"stream": "temps:20250101", "group": "aggregators"}
    assert exported.value("hourglass_stream_group_lag", **of_group) is None
    assert exported.value("hourglass_stream_group_lag_known", **of_group) == 0


def test_a_lag_of_zero_is_known(exported: Exported) -> None:
    exported.gauges.show([state(lag=0)])

    of_group = {"stream": "temps:20250101", "group": "aggregators"}
    assert exported.value("hourglass_stream_group_lag", **of_group) == 0
    assert exported.value("hourglass_stream_group_lag_known", **of_group) == 1


def test_the_aggregate_lag_is_all_that_waits_undelivered_or_pending(exported: Exported) -> None:
    exported.gauges.show([state(lag=7, pending=3), state("temps:20250102", lag=20, pending=10)])

    assert exported.value("hourglass_aggregate_lag") == 40


def test_one_unknown_lag_makes_the_aggregate_unknown(exported: Exported) -> None:
    exported.gauges.show([state(lag=7), state("temps:20250102", lag=None)])

    assert exported.value("hourglass_aggregate_lag") is None


def test_without_partitions_nothing_waits(exported: Exported) -> None:
    exported.gauges.show([])

    assert exported.value("hourglass_stream_partitions") == 0
    assert exported.value("hourglass_aggregate_lag") == 0


def test_the_expiry_is_in_seconds(exported: Exported) -> None:
    exported.gauges.show([state(expires_ms=1_735_862_400_500)])

    name = "hourglass_partition_expiry_timestamp_seconds"
    assert exported.value(name, stream="temps:20250101") == 1_735_862_400.5


def test_a_stream_without_ttl_has_no_expiry(exported: Exported) -> None:
    exported.gauges.show([state(expires_ms=None)])

    name = "hourglass_partition_expiry_timestamp_seconds"
    assert exported.value(name, stream="temps:20250101") is None
    assert exported.value("hourglass_stream_length", stream="temps:20250101") == 10


def test_the_series_of_a_deleted_stream_disappear(exported: Exported) -> None:
    exported.gauges.show([state(), state("temps:20250102")])
    exported.gauges.show([state("temps:20250102")])

    assert exported.streams() == {"temps:20250102"}


def test_before_the_first_read_there_are_no_stream_stats(exported: Exported) -> None:
    assert list(exported.registry.collect()) == []


def test_old_stream_stats_are_not_used(exported: Exported) -> None:
    exported.gauges.show([state(lag=7)])
    exported.now_s += FRESH_S - 1
    assert exported.value("hourglass_aggregate_lag") == 7
    exported.now_s += 1
    assert list(exported.registry.collect()) == []
    exported.gauges.show([state(lag=8)])
    assert exported.value("hourglass_aggregate_lag") == 8


def test_streams_that_are_no_partitions_neither_expire_nor_add_up() -> None:
    exported = Exported(partitions=False)
    exported.gauges.show([state("temps:averages", lag=5, expires_ms=None)])

    assert exported.value("hourglass_stream_length", stream="temps:averages") == 10
    names = {family.name for family in exported.registry.collect()}
    assert not names & {
        "hourglass_stream_partitions",
        "hourglass_aggregate_lag",
        "hourglass_partition_expiry_timestamp_seconds",
    }


def test_the_hours_left_are_those_of_the_first_partition_that_waits() -> None:
    ten_times = ClockSpec(mode=Mode.SIMULATED, origin_ms=0, origin_real_ms=0, speed=10)
    instant = Instant(ten_times, 1_000)
    counted = state(lag=0, pending=0, expires_ms=2_000)
    later = state("temps:20250102", lag=5, pending=0, expires_ms=361_000)
    held = state("temps:20250103", lag=0, pending=1, expires_ms=1_081_000)
    unknown = state("temps:20250104", lag=None, pending=0, expires_ms=181_000)

    assert hours_left(instant, [counted]) is None
    assert hours_left(instant, [counted, held]) == 3
    assert hours_left(instant, [counted, held, later]) == 1
    assert hours_left(instant, [unknown, later]) == 0.5
    assert hours_left(instant, [state(lag=1, expires_ms=500)]) == 0
    # What never expires is at no risk.
    assert hours_left(instant, [state(lag=1, expires_ms=None), later]) == 1
