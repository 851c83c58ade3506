"""A key that holds what the pipeline did not put there stops its partition alone: it is said
once, the others go on, and what waited for it comes when it is gone."""

from __future__ import annotations

import json

import pytest

from hourglass.model.keys import GREATEST_ID, HOURS, Partition
from tests.support.commands import run_hourglass
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading
from tests.support.services import Services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

#: Ten minutes a second: what is written in a test stays within DAY.
SPEED = 600.0
MINUTES = range(0, 60, 20)
OF_THE_DAY = (NEXT_DAY.stream, NEXT_DAY.hours, NEXT_DAY.quarantine, NEXT_DAY.devices(0))
#: Takes entries over at once, and gives them up as soon as may be.
HASTY = ("--claim-idle-ms", "100", "--delivery-limit", "4")
REMEDY = "rename or delete it"
OVERDUE = "hourglass_averages_overdue"


def damage(pipeline: Pipeline, key: str) -> None:
    assert pipeline.cluster.call("SET", key, "in the way", "EX", 3600)


def repair(pipeline: Pipeline, key: str) -> None:
    assert pipeline.cluster.call("DEL", key) == 1


def reported(running: Services, name: str, key: str) -> bool:
    status, said = running.get(name, "/readyz")
    return status == 503 and key in said and REMEDY in said


@pytest.mark.parametrize("key", OF_THE_DAY)
def test_yesterday_is_published_and_today_follows_once_its_key_is_deleted(
    pipeline: Pipeline, running: Services, key: str
) -> None:
    damage(pipeline, key)
    today = [reading(at(0, minute, day=NEXT_DAY), 70) for minute in MINUTES]
    if key != NEXT_DAY.stream:
        pipeline.produce(*today)
    pipeline.produce(*(reading(at(hour, minute)) for hour in range(HOURS) for minute in MINUTES))
    pipeline.drive(at(1, day=NEXT_DAY))

    name = running.aggregator()
    wait_until(lambda: len(pipeline.averages()) == HOURS, message="yesterday is never published")
    wait_until(lambda: reported(running, name, key), message=f"{key} is not mentioned")
    assert running.metric(name, f'hourglass_worker_failing{{worker="{NEXT_DAY.stream}"}}') == 1
    assert running.get(name, "/livez")[0] == 200
    said = running.said(name)

    repair(pipeline, key)
    if key == NEXT_DAY.stream:
        pipeline.produce(*today)
    else:
        wait_until(
            lambda: len(pipeline.averages()) == HOURS + 1, message="today is never published"
        )
        assert pipeline.averages()[-1].sum_milli_f == 70_000 * len(MINUTES)
        assert pipeline.averages()[-1].devices == 1
    running.await_ready(name)
    assert running.metric(name, f'hourglass_worker_failing{{worker="{NEXT_DAY.stream}"}}') == 0
    # By the reader of the partition, and by the sealer.
    assert running.said(name).count(f"{key} is a string") == said.count(f"{key} is a string") <= 2
    wait_until(lambda: counted(pipeline) == len(today), message="today is never counted")
    assert pipeline.audit().differences == []


@pytest.mark.parametrize("name", ["00:count", "00:late_min"])
def test_records_that_are_no_numbers_cost_no_reading_its_hour(
    pipeline: Pipeline, running: Services, name: str
) -> None:
    pipeline.drive(at(0, 1, day=NEXT_DAY))
    pipeline.produce(*(reading(at(hour)) for hour in range(HOURS)), reading(NEXT_DAY.day_ms, 70))
    aggregator = running.aggregator("aggregator", *HASTY)
    wait_until(lambda: counted(pipeline) == 1, message="today is never counted")
    kept = pipeline.cluster.call("HGET", NEXT_DAY.hours, name)

    pipeline.cluster.call("HSET", NEXT_DAY.hours, name, "many")
    for minute in MINUTES:
        pipeline.produce(reading(at(0, minute, day=NEXT_DAY), 70))
        wait_until(lambda: says_why(running, aggregator, name), message="it is not said")
    wait_until(lambda: len(pipeline.averages()) == HOURS, message="yesterday is never published")
    assert running.get(aggregator, "/livez")[0] == 200

    mend = ("HDEL", NEXT_DAY.hours, name) if kept is None else ("HSET", NEXT_DAY.hours, name, kept)
    pipeline.cluster.call(*mend)
    wait_until(lambda: counted(pipeline) == 1 + len(MINUTES), message="today is never counted")
    pipeline.drive(at(1, day=NEXT_DAY))
    wait_until(lambda: len(pipeline.averages()) == HOURS + 1, message="today is never published")
    assert pipeline.averages()[-1].count == 1 + len(MINUTES)
    assert pipeline.audit().differences == []


def says_why(running: Services, aggregator: str, name: str) -> bool:
    status, said = running.get(aggregator, "/readyz")
    return status == 503 and f"{NEXT_DAY.hours} holds no number in {name}" in said


def counted(pipeline: Pipeline, partition: Partition = NEXT_DAY) -> int:
    return sum(each.count + each.late for each in pipeline.records(partition).values())


def test_a_stream_in_whose_place_something_else_stands_seals_what_was_counted(
    pipeline: Pipeline, running: Services
) -> None:
    name = running.aggregator()
    pipeline.produce(*(reading(at(0, minute)) for minute in MINUTES))
    wait_until(lambda: pipeline.record(0).count == len(MINUTES))

    damage(pipeline, DAY.stream)
    wait_until(lambda: reported(running, name, DAY.stream), message="it is not mentioned")
    pipeline.drive(at(1))

    wait_until(lambda: len(pipeline.averages()) == 1, message="the hour is never published")
    assert pipeline.averages()[0].count == len(MINUTES)


@pytest.mark.parametrize(
    "key",
    [KEYS.partitions, KEYS.averages, KEYS.published_through, KEYS.published, KEYS.clock],
)
def test_whatever_it_is_the_aggregator_outlasts_it(
    pipeline: Pipeline, running: Services, key: str
) -> None:
    name = running.aggregator()
    running.await_ready(name)
    pipeline.cluster.call("DEL", key)
    if key != KEYS.partitions:
        damage(pipeline, key)
    pipeline.produce(reading(at(0)))
    if key == KEYS.partitions:
        damage(pipeline, key)
    if key != KEYS.clock:
        pipeline.drive(at(1))
    wait_until(lambda: reported(running, name, key), message=f"{key} is not mentioned")
    assert running.get(name, "/livez")[0] == 200

    repair(pipeline, key)
    pipeline.drive(at(1))

    wait_until(lambda: len(pipeline.averages()) == 1, message="the hour is never published")
    running.await_ready(name)


def test_an_hour_that_temps_averages_does_not_take_is_overdue(
    pipeline: Pipeline, running: Services
) -> None:
    damage(pipeline, KEYS.averages)
    pipeline.produce(reading(at(0)))
    pipeline.drive(at(1))

    name = running.aggregator()
    wait_until(
        lambda: running.metric(name, OVERDUE) == 1, message="sealed, not published, not overdue"
    )
    wait_until(lambda: pipeline.record(0).sealed, message="not sealed")

    repair(pipeline, KEYS.averages)
    wait_until(lambda: running.metric(name, OVERDUE) == 0, message="overdue for ever")
    assert len(pipeline.averages()) == 1


def test_a_producer_keeps_its_readings_until_the_key_is_deleted(
    pipeline: Pipeline, running: Services
) -> None:
    pipeline.run_clock(at(0), SPEED)
    damage(pipeline, DAY.stream)
    name = running.producer("porch", "--devices=3")
    wait_until(lambda: reported(running, name, DAY.stream), message="it is not mentioned")
    wait_until(lambda: (running.metric(name, "hourglass_readings_buffered") or 0) > 1_000)

    repair(pipeline, DAY.stream)
    running.await_ready(name)
    assert running.terminate(name) == 0

    tally = json.loads(running.output(name).read_text())
    assert tally["dropped"] == 0
    assert tally["produced"] == tally["taken"] == pipeline.cluster.call("XLEN", DAY.stream)
    assert running.said(name).count(f"{DAY.stream} is a string") == 1


def test_a_producer_gives_up_a_day_whose_key_is_damaged_to_its_end(
    pipeline: Pipeline, running: Services
) -> None:
    damage(pipeline, DAY.stream)
    pipeline.run_clock(at(23), 1.0)
    name = running.producer("porch")
    wait_until(lambda: reported(running, name, DAY.stream), message="it is not mentioned")

    pipeline.run_clock(at(23, 50), SPEED)

    wait_until(lambda: pipeline.cluster.call("EXISTS", NEXT_DAY.stream), message="no day follows")
    dropped = running.metric(name, 'hourglass_readings_dropped_total{reason="refused"}')
    assert running.terminate(name) == 0
    tally = json.loads(running.output(name).read_text())
    assert tally["dropped"] == dropped
    assert tally["dropped"] > 0
    assert tally["produced"] == tally["taken"] + tally["dropped"]
    assert tally["taken"] == pipeline.cluster.call("XLEN", NEXT_DAY.stream)


def accounted(running: Services, name: str) -> bool:
    """Whether what was produced is taken, dropped or held."""
    produced, taken, dropped, held = (
        running.total(name, f"hourglass_readings_{each}")
        for each in ("produced_total", "taken_total", "dropped_total", "buffered")
    )
    return 0 < produced == taken + dropped + held


def test_a_stream_with_the_greatest_id_ends_no_process(
    pipeline: Pipeline, running: Services, redis_url: str
) -> None:
    pipeline.run_clock(at(0), SPEED)
    # None is dropped, however long the stream is in the way.
    room = "--buffer-readings=10000000"
    producer = running.producer("porch", "--devices=3", room)
    aggregator = running.aggregator()
    wait_until(lambda: pipeline.record(0).count > 0, message="nothing is counted")
    before = pipeline.cluster.call("XLEN", DAY.stream)

    pipeline.cluster.call("XADD", DAY.stream, GREATEST_ID, "temp_f", "70")
    running.start("late", "producer", "--devices=1", room)
    for name in (producer, "late"):
        wait_until(lambda name=name: reported(running, name, DAY.stream), message="it is not said")
    wait_until(lambda: (running.metric(producer, "hourglass_readings_buffered") or 0) > 1_000)
    wait_until(lambda: accounted(running, producer), message="a reading is not accounted for")
    # What is there is still counted and sealed, and every command says what is wrong.
    wait_until(lambda: len(pipeline.averages()) > 0, message="the first hour is never published")
    status = run_hourglass("status", "--redis-url", redis_url)
    assert f"{DAY.stream} takes no more entries" in status.stdout
    assert status.stdout.rstrip().endswith("NOT HEALTHY")
    audit = run_hourglass("audit", "--redis-url", redis_url)
    assert "Traceback" not in audit.stdout + audit.stderr
    restarted = running.aggregator("restarted")
    running.await_ready(aggregator, restarted)
    stored = pipeline.cluster.call("XLEN", DAY.stream) - 1
    assert stored >= before

    wait_until(lambda: pipeline.pending() == 0 and counted(pipeline, DAY) == stored)
    repair(pipeline, DAY.stream)

    running.await_ready(producer, "late")
    wait_until(lambda: pipeline.cluster.call("XLEN", DAY.stream) > 1_000)
    for name in (producer, "late"):
        assert running.terminate(name) == 0
    tallies = [json.loads(running.output(name).read_text()) for name in (producer, "late")]
    assert [each["dropped"] for each in tallies] == [0, 0]
    assert sum(each["taken"] for each in tallies) == stored + pipeline.cluster.call(
        "XLEN", DAY.stream
    )
    assert running.said(producer).count("takes no more entries") == 1
