"""Between two hours there is little to ask: an idle aggregator costs next to nothing."""

from __future__ import annotations

from math import inf

import pytest

from aggregator import sealer as sealer_module
from aggregator.sealer import Sealer
from hourglass.cluster.client import Cluster
from hourglass.model.clock import ClockSpec, Mode
from tests.support.pipeline import NEXT_DAY, Pipeline, at, reading
from tests.support.waiting import wait_until


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Sealer]:
    """Whoever takes one from now on, each time."""
    taken: list[Sealer] = []
    step = Sealer.step

    def counted(sealer: Sealer) -> None:
        taken.append(sealer)
        step(sealer)

    monkeypatch.setattr(Sealer, "step", counted)
    monkeypatch.setattr(sealer_module, "IDLE_S", inf)
    return taken


def not_where_it_is(_cluster: Cluster) -> int:
    return at(0) + 1


def published(pipeline: Pipeline) -> list[int]:
    return [average.start_ms for average in pipeline.averages()]


def test_nothing_is_asked_until_another_hour_is_over(
    pipeline: Pipeline, steps: list[Sealer]
) -> None:
    pipeline.produce(reading(at(0)), reading(at(1)))
    pipeline.count()
    pipeline.drive(at(1))
    sealer = pipeline.sealer()
    sealer.tick()
    sealer.tick()
    pipeline.drive(at(2) - 1)
    sealer.tick()
    assert (len(steps), published(pipeline)) == (1, [at(0)])

    pipeline.drive(at(2))
    sealer.tick()
    assert (len(steps), published(pipeline)) == (2, [at(0), at(1)])


def test_what_waits_is_asked_for_again(pipeline: Pipeline, steps: list[Sealer]) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.open()
    pipeline.drive(at(1))
    sealer = pipeline.sealer()
    sealer.tick()
    sealer.tick()
    assert (len(steps), published(pipeline)) == (2, [])

    pipeline.count()
    sealer.tick()
    sealer.tick()
    assert (len(steps), published(pipeline)) == (3, [at(0)])


def test_what_another_was_quicker_with_is_asked_for_again(
    pipeline: Pipeline, steps: list[Sealer], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.produce(reading(at(0)), reading(at(1)))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()
    pipeline.drive(at(2))
    sealer = pipeline.sealer()
    with monkeypatch.context() as patched:
        patched.setattr(sealer_module, "published_through_ms", not_where_it_is)
        sealer.tick()
    sealer.tick()
    assert (len(steps), published(pipeline)) == (3, [at(0), at(1)])


def test_the_next_tick_comes_when_the_next_hour_is_over(pipeline: Pipeline) -> None:
    since_ms = pipeline.clock.current().real_ms - 60_000
    pipeline.clock.set(
        ClockSpec(mode=Mode.SIMULATED, origin_ms=at(1) - 61_000, origin_real_ms=since_ms)
    )
    sealer = pipeline.sealer(lateness_ms=500)
    sealer.tick()

    # The lateness begins when the hour is seen to be over.
    assert 0 < sealer.rest_s(3600) <= 1.0
    assert sealer.rest_s(0.001) == 0.001


def test_a_clock_that_may_be_moved_at_any_time_is_looked_at_as_often_as_told(
    pipeline: Pipeline,
) -> None:
    pipeline.drive(at(1))
    sealer = pipeline.sealer()
    sealer.tick()

    assert sealer.rest_s(3600) == 3600


def test_an_hour_that_waits_is_looked_at_soon(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.open()
    pipeline.drive(at(1))
    sealer = pipeline.sealer()
    sealer.tick()
    assert sealer.rest_s(3600) < 1

    pipeline.count()
    sealer.tick()
    assert sealer.rest_s(3600) == 3600


def test_a_clock_that_is_set_back_is_no_reason_to_rest(
    pipeline: Pipeline, steps: list[Sealer]
) -> None:
    pipeline.drive(at(5, day=NEXT_DAY))
    sealer = pipeline.sealer()
    sealer.tick()
    pipeline.drive(at(5))
    sealer.tick()
    assert len(steps) == 2


def test_a_day_that_begins_when_some_of_it_is_over_is_seen(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "IDLE_S", 0.05)
    pipeline.drive(at(5))
    sealer = pipeline.sealer()
    sealer.tick()

    pipeline.produce(reading(at(2)))
    pipeline.count()

    def ticked() -> list[int]:
        sealer.tick()
        return published(pipeline)

    assert wait_until(ticked) == [at(2)]
