"""A Redis node's clock leaps: no hour is sealed or published by it, and producers go on."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest

from hourglass.cluster.server_clocks import STEADY_MS
from hourglass.errors import Unreachable
from hourglass.model.keys import HOUR_MS
from tests.support.keyspace import KEYS
from tests.support.leaping_clock import LeapingCluster
from tests.support.pipeline import DAY, Pipeline, at, day_after, reading
from tests.support.services import services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

LEAP_S = 7_300


@pytest.fixture
def leaping(request: pytest.FixtureRequest, redis_binary: Path | None) -> Generator[LeapingCluster]:
    with LeapingCluster(binary=redis_binary, masters=request.param) as cluster:
        yield cluster


@pytest.mark.parametrize("leaping", [1, 3], indirect=True)
def test_the_pipeline_does_not_follow_the_node_that_holds_its_clock(
    leaping: LeapingCluster,
) -> None:
    node = leaping.leaping(KEYS.clock)
    with (
        Pipeline(leaping.url) as pipeline,
        services(leaping.url, HOURGLASS_PRODUCER_IDLE_S="1") as running,
    ):
        pipeline.run_clock(at(0), 1.0)
        running.producer("porch", "--devices=3")
        running.aggregator("aggregator", "--lateness-s=1")
        wait_until(lambda: pipeline.record(0).count > 3, message="nothing is counted")

        node.set_clock(LEAP_S)
        wait_until(lambda: warnings(running.said("aggregator")), message="no word of the leap")
        before = pipeline.record(0).count
        wait_until(lambda: pipeline.record(0).count > before, message="producers do not go on")
        assert pipeline.averages() == []
        shown = running.get("aggregator", "/metrics")[1]
        name = f'hourglass_redis_clock_deviation_seconds{{shard="127.0.0.1:{node.port}"}}'
        assert f"{name} 7" in shown

        node.set_clock(0)
        wait_until(lambda: "is right again" in running.said("aggregator"))
        pipeline.run_clock(at(1) - 2_000, 1.0)
        wait_until(pipeline.averages, message="hour 0 is not published")
        assert [each.start_ms for each in pipeline.averages()] == [at(0)]
        assert len(warnings(running.said("aggregator"))) == 1
        assert sum(each.late for each in pipeline.records().values()) == 0


def warnings(log: str) -> list[str]:
    return re.findall(r"warning Redis at \S+ has a clock that is 7,\d+ s ahead: .*", log)


@pytest.mark.parametrize("leaping", [3], indirect=True)
@pytest.mark.parametrize("leap_s", [LEAP_S, -LEAP_S])
def test_what_leaps_unseen_seals_and_publishes_nothing(
    leaping: LeapingCluster, leap_s: int
) -> None:
    """Between two looks at the clocks the scripts see it themselves."""
    of_the_averages = leaping.leaping(KEYS.averages)
    days = [day_after(DAY, number) for number in range(50)]
    day = next(day for day in days if leaping.master_of(day.stream) is not of_the_averages)
    of_the_day = leaping.leaping(day.stream)
    way = "ahead" if leap_s > 0 else "behind"
    with Pipeline(leaping.url) as pipeline:
        pipeline.run_clock(at(1, day=day), 1.0)
        pipeline.produce(reading(at(0, day=day)), next_ms=at(1, day=day))
        pipeline.count(day)
        sealer = pipeline.sealer()

        of_the_day.set_clock(leap_s)
        for _ in range(2):
            with pytest.raises(Unreachable, match=rf"7,300.0 s {way}: nothing is sealed"):
                sealer.step()
        assert not pipeline.record(0, day).sealed

        of_the_day.set_clock(0)
        of_the_averages.set_clock(leap_s)
        with pytest.raises(Unreachable, match=rf"7,300.0 s {way}: nothing is sealed"):
            sealer.step()
        assert pipeline.record(0, day).sealed
        assert pipeline.averages() == []

        of_the_averages.set_clock(0)
        sealer.step()
        assert [each.start_ms for each in pipeline.averages()] == [at(0, day=day)]


@pytest.mark.parametrize("leaping", [3], indirect=True)
def test_an_hour_that_is_not_over_by_the_clock_of_the_averages_waits(
    leaping: LeapingCluster,
) -> None:
    with Pipeline(leaping.url) as pipeline:
        pipeline.run_clock(at(1), 1.0)
        pipeline.produce(reading(at(0)), next_ms=at(1))
        pipeline.count()
        leaping.leaping(KEYS.averages).set_clock(-1.5)  # tolerated
        pipeline.seal()
        assert pipeline.record(0).sealed
        assert pipeline.averages() == []

        wait_until(lambda: (pipeline.seal(), pipeline.averages())[1])

        (average,) = pipeline.averages()
        seconds, micros = pipeline.cluster.ask(pipeline.cluster.shard_of(KEYS.averages), "TIME")
        spec = pipeline.clock.current().spec
        assert spec.now(seconds * 1000 + micros // 1000) >= average.start_ms + HOUR_MS


@pytest.mark.parametrize("leaping", [3], indirect=True)
def test_while_most_clocks_have_leapt_the_one_that_has_not_seals_nothing_either(
    leaping: LeapingCluster,
) -> None:
    with Pipeline(leaping.url) as pipeline:
        pipeline.run_clock(at(1), 1.0)
        pipeline.produce(reading(at(0)), next_ms=at(1))
        pipeline.count()
        right = leaping.leaping(DAY.stream)
        others = [node for node in leaping.leaping_nodes() if node is not right]

        for node in others:
            node.set_clock(LEAP_S)
        pipeline.cluster.look_at_clocks()
        with pytest.raises(Unreachable, match="most of whose clocks have leapt"):
            pipeline.seal()
        assert not pipeline.record(0).sealed

        for node in others:
            node.set_clock(0)
        pipeline.cluster.look_at_clocks()
        pipeline.seal()
        assert pipeline.record(0).sealed


@pytest.mark.extended
@pytest.mark.parametrize("leaping", [3], indirect=True)
def test_producers_go_on_from_the_new_time_when_all_clocks_were_ahead(
    leaping: LeapingCluster,
) -> None:
    for node in leaping.leaping_nodes():
        node.set_clock(LEAP_S)
    with Pipeline(leaping.url) as pipeline, services(leaping.url) as running:
        pipeline.use_wall_clock()
        running.producer("porch", "--devices=3")
        wait_until(pipeline.partitions, message="nothing is written")

        for node in leaping.leaping_nodes():
            node.set_clock(0)

        wait_until(
            lambda: "the clock went back: readings continue from" in running.said("porch"),
            2 * STEADY_MS / 1000,
            message="the producer does not notice",
        )
        taken = running.metric("porch", "hourglass_readings_taken_total") or 0
        wait_until(
            lambda: (running.metric("porch", "hourglass_readings_taken_total") or 0) > taken,
            message="the producer does not go on",
        )
