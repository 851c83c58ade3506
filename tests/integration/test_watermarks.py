"""An hour waits for the producers that may still have readings for it, and an outage makes none of
them late."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha1
from importlib import import_module
from itertools import count

import pytest
from redis.cluster import RedisCluster

from hourglass.cluster.scripts import Script
from hourglass.model.devices import lane_index
from hourglass.model.keys import DAY_MS, HOUR_MS, HOURS, Partition
from producer.batch import NO_MORE_MS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading, tick
from tests.support.services import services
from tests.support.waiting import wait_until

#: Long enough that none of them passes while a test runs: `let_pass` and `outage` move the time.
GAP_MS = 3_600_000
LATENESS_MS = 2 * GAP_MS
IDLE_MS = 20 * GAP_MS

#: One producer's readings at some times, and when the next one follows.
Produce = Callable[..., None]


@pytest.fixture(autouse=True)
def no_gap_but_by_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, a partition counts as called without a gap."""
    for module, attribute in (("aggregator.sealer", "_SEAL"), ("producer.writer", "_INGEST")):
        script: Script = getattr(import_module(module), attribute)
        source = script.source.replace("GAP_MS = 5000", f"GAP_MS = {GAP_MS}")
        assert source != script.source
        sha = sha1(source.encode(), usedforsecurity=False).hexdigest()
        monkeypatch.setattr(f"{module}.{attribute}", replace(script, source=source, sha=sha))


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    """Its clock runs, and the first two hours of DAY are over."""
    pipeline.run_clock(at(2), 1.0)
    return pipeline


@pytest.fixture(params=["plain", "packed"])
def produce(request: pytest.FixtureRequest, pipeline: Pipeline) -> Produce:
    def plain(*times_ms: int, next_ms: int) -> None:
        pipeline.produce(*map(reading, times_ms), next_ms=next_ms)

    def packed(*times_ms: int, next_ms: int) -> None:
        pipeline.pack(*(tick(ts_ms, 50.0) for ts_ms in times_ms), next_ms=next_ms)

    return plain if request.param == "plain" else packed


def seal(pipeline: Pipeline, *, idle_ms: int = IDLE_MS) -> None:
    for partition in pipeline.partitions():
        pipeline.count(partition)
    pipeline.sealer(lateness_ms=LATENESS_MS, idle_ms=idle_ms).step()


def published(pipeline: Pipeline) -> dict[int, int]:
    """Readings of each hour that is out; the hours of DAY go from 0 to 23."""
    return {(each.start_ms - DAY.day_ms) // HOUR_MS: each.count for each in pipeline.averages()}


def late(pipeline: Pipeline) -> int:
    return sum(record.late for record in pipeline.day_records())


def let_pass(pipeline: Pipeline, ms: int, *, called: bool = True) -> None:
    """Let what the shards remember be so much older; they were called meanwhile, or were not."""
    for partition in pipeline.partitions():
        _make_older(pipeline, partition, ms, called=called)


def outage(pipeline: Pipeline, ms: int) -> None:
    let_pass(pipeline, ms, called=False)


def _make_older(pipeline: Pipeline, partition: Partition, ms: int, *, called: bool) -> None:
    call = pipeline.cluster.call
    for name, value in call("HGETALL", partition.producers).items():
        if name == b":resumed" or (name == b":called" and not called):
            call("HSET", partition.producers, name, int(value) - ms)
        elif not name.startswith(b":") and len(value.split()) == 4:
            *rest, received_ms = map(int, value.split())
            call("HSET", partition.producers, name, " ".join(map(str, [*rest, received_ms - ms])))
    for name in (f"{hour:02d}:ended" for hour in range(HOURS)):
        if ended_ms := call("HGET", partition.hours, name):
            call("HSET", partition.hours, name, int(ended_ms) - ms)


def test_an_hour_waits_the_lateness_from_when_it_was_first_found_over(
    pipeline: Pipeline, produce: Produce
) -> None:
    produce(at(0), next_ms=at(1))
    let_pass(pipeline, IDLE_MS)
    seal(pipeline)
    assert published(pipeline) == {}

    let_pass(pipeline, LATENESS_MS - GAP_MS)
    seal(pipeline)
    assert published(pipeline) == {}

    let_pass(pipeline, GAP_MS)
    seal(pipeline)
    assert published(pipeline) == {0: 1}


def test_under_a_manual_clock_lateness_and_idle_time_are_nil(
    pipeline: Pipeline, produce: Produce
) -> None:
    produce(at(0), next_ms=at(0, 30))
    pipeline.drive(at(1))

    seal(pipeline)

    assert published(pipeline) == {0: 1}


def test_an_hour_waits_for_a_producer_that_is_behind_until_its_watermark_passes_the_end(
    pipeline: Pipeline, produce: Produce
) -> None:
    produce(at(0), next_ms=at(0, 30))
    let_pass(pipeline, IDLE_MS)
    seal(pipeline)
    let_pass(pipeline, LATENESS_MS)
    produce(at(0, 30), next_ms=at(0, 59))
    seal(pipeline)
    assert published(pipeline) == {}

    produce(at(0, 59), next_ms=at(1))
    seal(pipeline)
    assert published(pipeline) == {0: 3}


def test_a_producer_that_was_killed_is_waited_for_the_idle_time(
    pipeline: Pipeline, produce: Produce
) -> None:
    produce(at(0), next_ms=at(0, 30))
    seal(pipeline)
    let_pass(pipeline, IDLE_MS - GAP_MS)
    seal(pipeline)
    assert published(pipeline) == {}

    let_pass(pipeline, GAP_MS)
    seal(pipeline)
    assert published(pipeline) == {0: 1}


def test_a_producer_that_stopped_is_not_waited_for(pipeline: Pipeline, produce: Produce) -> None:
    produce(at(0), next_ms=at(0, 30))
    let_pass(pipeline, IDLE_MS)
    produce(next_ms=NO_MORE_MS)
    seal(pipeline)
    let_pass(pipeline, LATENESS_MS)

    seal(pipeline)

    assert published(pipeline) == {0: 1}


def test_a_foreign_writer_gets_the_lateness(pipeline: Pipeline) -> None:
    pipeline.xadd(ts=at(0), temp_f=50)
    seal(pipeline)
    let_pass(pipeline, IDLE_MS)
    pipeline.xadd(ts=at(0), temp_f=60)

    seal(pipeline)

    assert published(pipeline) == {0: 2}


def test_after_an_outage_every_producer_has_the_idle_time_to_deliver(
    pipeline: Pipeline, produce: Produce
) -> None:
    produce(at(0), next_ms=at(0, 30))
    let_pass(pipeline, IDLE_MS)
    outage(pipeline, 2 * IDLE_MS)
    seal(pipeline)
    let_pass(pipeline, IDLE_MS - GAP_MS)
    seal(pipeline)
    assert published(pipeline) == {}

    produce(at(0, 30), at(1, 30), next_ms=at(2))
    let_pass(pipeline, GAP_MS)
    seal(pipeline)
    assert published(pipeline) == {0: 2, 1: 1}
    assert late(pipeline) == 0


def test_another_producers_call_is_the_end_of_an_outage_too(pipeline: Pipeline) -> None:
    first, second = (pipeline.writer(name, lanes=1) for name in ("first", "second"))
    for writer in (first, second):
        writer.produce(reading(at(0)), next_ms=at(0, 30))
    seal(pipeline)
    outage(pipeline, IDLE_MS)
    first.produce(reading(at(0, 30)), next_ms=at(1))
    let_pass(pipeline, IDLE_MS - GAP_MS)
    seal(pipeline)
    assert published(pipeline) == {}

    second.produce(reading(at(0, 30)), next_ms=at(1))
    let_pass(pipeline, GAP_MS)
    seal(pipeline)
    assert published(pipeline) == {0: 4}


def test_an_outage_that_begins_between_an_hours_end_and_the_last_batch_makes_none_late(
    pipeline: Pipeline, produce: Produce
) -> None:
    produce(at(0), next_ms=at(0, 59))
    let_pass(pipeline, IDLE_MS)
    seal(pipeline)
    outage(pipeline, LATENESS_MS)
    seal(pipeline)
    produce(at(0, 59), next_ms=at(1))
    let_pass(pipeline, IDLE_MS)

    seal(pipeline)

    assert (published(pipeline), late(pipeline)) == ({0: 2}, 0)


def test_a_server_whose_clock_is_behind_that_of_the_one_before_it_delays_no_hour_by_that(
    pipeline: Pipeline, produce: Produce
) -> None:
    produce(at(0), next_ms=at(0, 30))
    seal(pipeline)
    outage(pipeline, -100 * IDLE_MS)
    seal(pipeline)
    let_pass(pipeline, IDLE_MS)

    seal(pipeline)

    assert published(pipeline) == {0: 1}


def test_an_hour_that_is_empty_waits_like_others_before_a_later_one_is_published(
    pipeline: Pipeline,
) -> None:
    behind, ahead = (pipeline.writer(name, lanes=1) for name in ("behind", "ahead"))
    ahead.produce(reading(at(1)), next_ms=at(2))
    let_pass(pipeline, IDLE_MS)
    behind.produce(reading(at(2)), next_ms=at(0, 30))
    seal(pipeline)
    let_pass(pipeline, LATENESS_MS)
    seal(pipeline)
    assert published(pipeline) == {}

    behind.produce(reading(at(0, 30)), next_ms=at(2))
    seal(pipeline)
    assert published(pipeline) == {0: 1, 1: 1}


def test_an_hour_is_over_again_when_the_clock_was_set_back(
    pipeline: Pipeline, produce: Produce
) -> None:
    produce(at(0), next_ms=at(1))
    seal(pipeline)
    let_pass(pipeline, IDLE_MS)
    pipeline.run_clock(at(0, 30), 1.0)
    seal(pipeline)

    pipeline.run_clock(at(2), 1.0)
    seal(pipeline)
    assert published(pipeline) == {}

    let_pass(pipeline, LATENESS_MS)
    seal(pipeline)
    assert published(pipeline) == {0: 1}


def test_at_midnight_a_producer_that_goes_on_with_the_next_day_does_not_delay_the_last_hour(
    pipeline: Pipeline, produce: Produce
) -> None:
    pipeline.run_clock(at(0, 30, day=NEXT_DAY), 1.0)
    produce(at(23, 30), next_ms=at(23, 59))
    let_pass(pipeline, IDLE_MS)
    produce(at(23, 59), at(0, day=NEXT_DAY), next_ms=at(0, 1, day=NEXT_DAY))
    seal(pipeline)
    let_pass(pipeline, LATENESS_MS)

    seal(pipeline)

    assert published(pipeline) == {23: 2}


def test_at_midnight_a_producer_whose_last_readings_were_dropped_does_not_either(
    pipeline: Pipeline, produce: Produce
) -> None:
    pipeline.run_clock(at(0, 30, day=NEXT_DAY), 1.0)
    produce(at(23, 30), next_ms=at(23, 59))
    let_pass(pipeline, IDLE_MS)
    produce(at(0, day=NEXT_DAY), next_ms=at(0, 1, day=NEXT_DAY))
    seal(pipeline)
    let_pass(pipeline, LATENESS_MS)

    seal(pipeline)

    assert published(pipeline) == {23: 1}


@pytest.fixture
def lanes(redis: RedisCluster, redis_url: str) -> Iterator[Pipeline]:  # noqa: ARG001
    """A day has three of them."""
    with Pipeline(redis_url, lanes=3) as of_lanes:
        of_lanes.run_clock(at(2), 1.0)
        yield of_lanes


def test_of_a_day_with_lanes_each_lane_waits_for_the_producers_that_write_to_it(
    lanes: Pipeline,
) -> None:
    devices = [f"porch-{number}" for number in range(20)]
    lanes.produce(*(reading(at(0), device=each) for each in devices), next_ms=at(0, 30))
    assert len(lanes.partitions()) == 3
    let_pass(lanes, IDLE_MS)
    lanes.produce(*(reading(at(0, 30), device=each) for each in devices), next_ms=at(0, 59))
    seal(lanes)
    let_pass(lanes, LATENESS_MS)
    seal(lanes)
    assert published(lanes) == {}

    # Of one lane alone, for the last time in this hour.
    lanes.produce(reading(at(0, 59), device=devices[0]), next_ms=at(1))
    seal(lanes)
    assert published(lanes) == {0: 41}


def test_a_lane_that_has_nothing_yet_is_not_sealed_before_those_that_have_readings(
    lanes: Pipeline,
) -> None:
    first, second = (lanes.writer(name, lanes=3) for name in ("first", "second"))
    first.produce(reading(at(0), device="porch"), next_ms=at(1))
    seal(lanes)
    elsewhere = next(
        device
        for device in (f"attic-{number}" for number in count())
        if lane_index(device.encode(), 3) != lane_index(b"porch", 3)
    )
    second.produce(reading(at(0), device=elsewhere), next_ms=at(1))
    let_pass(lanes, IDLE_MS)
    seal(lanes)
    let_pass(lanes, LATENESS_MS)

    seal(lanes)

    assert (published(lanes), late(lanes)) == ({0: 2}, 0)


def test_what_an_older_producer_wrote_is_as_from_a_foreign_writer(pipeline: Pipeline) -> None:
    pipeline.xadd(ts=at(0), temp_f=50)
    pipeline.cluster.call("HSET", DAY.producers, "older:1", "1 1 1", ":entries", 1, ":readings", 1)
    pipeline.cluster.call("PEXPIRE", DAY.producers, DAY_MS)
    seal(pipeline)
    let_pass(pipeline, IDLE_MS)

    seal(pipeline)

    assert published(pipeline) == {0: 1}
    assert pipeline.audit().clean


def _looks(pipeline: Pipeline) -> int:
    """At watermarks, on the shard of DAY so far."""
    with closing(pipeline.cluster.link(DAY.stream)) as link:
        stats = link.call("INFO", "commandstats").decode()
    found = re.search(r"^cmdstat_zrangebyscore:calls=(\d+)", stats, re.MULTILINE)
    return int(found[1]) if found else 0


def _many_producers(pipeline: Pipeline, producers: int, *, watermark_ms: int, age_ms: int) -> None:
    _, real_ms = pipeline.cluster.clock()
    names = [f"porch:{number}" for number in range(producers)]
    ledgers = [part for name in names for part in (name, f"1 1 1 {real_ms - age_ms}")]
    pipeline.cluster.call("HSET", DAY.producers, *ledgers)
    watermarks = [part for name in names for part in (watermark_ms, name)]
    pipeline.cluster.call("ZADD", DAY.watermarks, *watermarks)
    pipeline.cluster.call("PEXPIRE", DAY.watermarks, DAY_MS)


@pytest.mark.parametrize(
    ("watermark_ms", "hours"), [(HOUR_MS // 2, {}), (HOUR_MS, {0: 1})], ids=["behind", "ahead"]
)
def test_of_ten_thousand_producers_that_live_one_is_looked_at(
    pipeline: Pipeline, watermark_ms: int, hours: dict[int, int]
) -> None:
    pipeline.xadd(ts=at(0), temp_f=50)
    pipeline.run_clock(at(1), 1.0)
    seal(pipeline)
    let_pass(pipeline, IDLE_MS)
    _many_producers(pipeline, 10_000, watermark_ms=watermark_ms, age_ms=0)
    before = _looks(pipeline)

    seal(pipeline)

    assert (_looks(pipeline) - before, published(pipeline)) == (1, hours)


def test_of_ten_thousand_dead_producers_each_read_takes_a_bounded_number(
    pipeline: Pipeline,
) -> None:
    pipeline.xadd(ts=at(0), temp_f=50)
    pipeline.run_clock(at(3), 1.0)  # of all hours that wait together
    seal(pipeline)
    let_pass(pipeline, IDLE_MS)
    _many_producers(pipeline, 10_000, watermark_ms=0, age_ms=IDLE_MS)

    left: list[int] = []
    while not published(pipeline):
        seal(pipeline)
        left.append(pipeline.cluster.call("ZCARD", DAY.watermarks))

    assert left == [*range(9_000, -1, -1_000), 0]


def _received(pipeline: Pipeline) -> dict[bytes, list[int]]:
    """By producer: sequence number, acknowledged, stored, when."""
    ledgers = pipeline.cluster.call("HGETALL", DAY.producers).items()
    return {name: [*map(int, each.split())] for name, each in ledgers if name[:1] != b":"}


def test_a_producer_that_stops_says_so(pipeline: Pipeline) -> None:
    with services(pipeline.url) as running:
        name = running.producer("porch", "--devices", "20")
        wait_until(lambda: _received(pipeline), message="nothing was written")
        assert running.terminate(name) == 0

    (producer,) = _received(pipeline)
    assert float(pipeline.cluster.call("ZSCORE", DAY.watermarks, producer)) == DAY_MS


def test_a_producer_that_has_nothing_to_send_says_that_it_lives(pipeline: Pipeline) -> None:
    pipeline.drive(at(2))
    with services(pipeline.url) as running:
        running.producer("porch", "--period-s", "3600")
        seen = wait_until(lambda: _received(pipeline), message="nothing was written")
        ((name, first),) = seen.items()
        wait_until(lambda: _received(pipeline)[name][3] > first[3], message="nothing follows")

    assert _received(pipeline)[name][1:3] == [1, 1]
    assert pipeline.cluster.call("XLEN", DAY.stream) == 1
