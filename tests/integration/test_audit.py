"""Audit is clean on a good pipeline, busy or quiet, and finds whatever was falsified."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from averages_consumer.warehouse import Warehouse
from hourglass.errors import Unreachable
from hourglass.model.keys import AVERAGES_GROUP, GROUP, HOUR_MS
from hourglass.service.cli import invoke
from hourglassctl.__main__ import application
from producer.batch import Batcher
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, batch_of, publish, reading, tick
from tests.support.replica import Copy


@pytest.fixture
def warehouse(tmp_path: Path) -> Generator[Warehouse]:
    with Warehouse(f"sqlite:///{tmp_path}/warehouse.db") as warehouse:
        warehouse.create()
        yield warehouse


@pytest.fixture
def good(pipeline: Pipeline, warehouse: Warehouse) -> Pipeline:
    """Three hours and one of the next day, published and loaded, one of each oddity in them."""
    pipeline.produce(*(reading(at(hour, minute), 50.5) for hour in range(3) for minute in range(9)))
    pipeline.xadd(temp_f="warm")
    pipeline.produce(reading(at(0, day=NEXT_DAY)))
    pipeline.count(DAY, NEXT_DAY)
    pipeline.drive(at(1, day=NEXT_DAY))
    pipeline.seal()
    pipeline.produce(reading(at(1), 99.9))
    pipeline.count()
    load(pipeline, warehouse)
    return pipeline


def load(pipeline: Pipeline, warehouse: Warehouse) -> None:
    """What the averages consumer does."""
    call = pipeline.cluster.call
    call("XGROUP CREATE", KEYS.averages, AVERAGES_GROUP, "0")
    call("XREADGROUP", "GROUP", AVERAGES_GROUP, "consumer", "STREAMS", KEYS.averages, ">")
    warehouse.upsert(pipeline.averages(), datetime.now(UTC))
    for entry_id, _ in call("XRANGE", KEYS.averages, "-", "+"):
        call("XACK", KEYS.averages, AVERAGES_GROUP, entry_id)


def differences(pipeline: Pipeline, warehouse: Warehouse | None = None) -> list[str]:
    return [f"{each.hour} {each.what}" for each in pipeline.audit(warehouse).differences]


def test_it_is_clean_on_a_quiet_pipeline(good: Pipeline, warehouse: Warehouse) -> None:
    found = good.audit(warehouse)

    assert found.differences == []
    assert (found.lost, found.twice) == (0, 0)
    assert (found.counted, found.late, found.quarantined) == (28, 1, 1)
    assert (found.published, found.in_warehouse) == (4, 4)


def test_it_is_clean_while_readings_are_on_their_way(good: Pipeline, warehouse: Warehouse) -> None:
    good.produce(*(reading(at(1, minute, day=NEXT_DAY)) for minute in range(9)))
    good.delivery(NEXT_DAY).read(3, 1)

    assert differences(good, warehouse) == []


def test_an_hour_on_its_way_to_the_warehouse_is_not_missing(
    good: Pipeline, warehouse: Warehouse
) -> None:
    good.produce(reading(at(1, day=NEXT_DAY)), reading(at(2, day=NEXT_DAY)))
    good.count(NEXT_DAY)
    good.drive(at(3, day=NEXT_DAY))
    good.seal()
    delivered = ("COUNT", 1, "STREAMS", KEYS.averages, ">")
    good.cluster.call("XREADGROUP", "GROUP", AVERAGES_GROUP, "consumer", *delivered)

    found = good.audit(warehouse)

    assert found.differences == []
    assert (found.published, found.in_warehouse, found.loading) == (6, 4, 2)


def test_it_is_clean_whenever_it_looks_at_a_busy_pipeline(pipeline: Pipeline) -> None:
    def work() -> None:
        for hour in range(30):
            start_ms = DAY.day_ms + hour * HOUR_MS
            pipeline.produce(*(reading(start_ms + each * 9_000, each) for each in range(255)))
            pipeline.count(DAY, NEXT_DAY) if hour >= 24 else pipeline.count()
            pipeline.drive(start_ms + HOUR_MS)
            pipeline.seal()

    busy = Thread(target=work)
    busy.start()
    looks = 0
    while busy.is_alive():
        assert differences(pipeline) == []
        looks += 1
    busy.join()

    assert looks > 5
    found = pipeline.audit()
    assert (found.counted, found.quarantined) == (30 * 251, 30 * 4)


def record_count(pipeline: Pipeline) -> None:
    pipeline.cluster.call("HINCRBY", DAY.hours, "00:count", 1)


def record_sum(pipeline: Pipeline) -> None:
    pipeline.cluster.call("HINCRBY", DAY.hours, "02:sum", -1)


def late_count(pipeline: Pipeline) -> None:
    pipeline.cluster.call("HINCRBY", DAY.hours, "01:late", -1)


def late_sum(pipeline: Pipeline) -> None:
    pipeline.cluster.call("HINCRBY", DAY.hours, "01:late_sum", 1)


def acknowledged_and_not_counted(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(1, day=NEXT_DAY)))
    delivery = pipeline.delivery(NEXT_DAY)
    ((entry_id, _),) = delivery.read(1, 1)
    pipeline.cluster.call("XACK", NEXT_DAY.stream, GROUP, entry_id)


def unusable_and_not_in_quarantine(pipeline: Pipeline) -> None:
    pipeline.cluster.call("XTRIM", DAY.quarantine, "MAXLEN", 0)


def rewrite_averages(pipeline: Pipeline, change: Callable[[dict[bytes, bytes]], Any]) -> None:
    """The stream as it was, but for a change in its second entry."""
    entries = pipeline.cluster.call("XRANGE", KEYS.averages, "-", "+")
    pipeline.cluster.call("DEL", KEYS.averages)
    for number, (entry_id, fields) in enumerate(entries):
        if number == 1:
            change(fields)
        flat = [part for pair in fields.items() for part in pair]
        pipeline.cluster.call("XADD", KEYS.averages, entry_id, *flat)


def average_altered(pipeline: Pipeline) -> None:
    rewrite_averages(pipeline, lambda fields: fields.update({b"average_temp_f": b"50"}))


def observations_altered(pipeline: Pipeline) -> None:
    rewrite_averages(pipeline, lambda fields: fields.update({b"num_observations": b"10"}))


def sum_on_stream_altered(pipeline: Pipeline) -> None:
    rewrite_averages(pipeline, lambda fields: fields.update({b"sum_temp_f": b"454.499"}))


def average_missing(pipeline: Pipeline) -> None:
    pipeline.cluster.call("XDEL", KEYS.averages, f"{at(1)}-0")


def oldest_average_missing(pipeline: Pipeline) -> None:
    pipeline.cluster.call("XDEL", KEYS.averages, f"{at(0)}-0")


def never_published(pipeline: Pipeline) -> None:
    average_missing(pipeline)
    pipeline.cluster.call("ZREMRANGEBYSCORE", KEYS.published, at(1), at(1))


FALSIFIED: list[Callable[[Pipeline], None]] = [
    record_count,
    record_sum,
    late_count,
    late_sum,
    acknowledged_and_not_counted,
    unusable_and_not_in_quarantine,
    average_altered,
    observations_altered,
    sum_on_stream_altered,
    average_missing,
    oldest_average_missing,
    never_published,
]


@pytest.mark.parametrize("falsify", FALSIFIED, ids=lambda each: each.__name__)
def test_it_finds_what_was_falsified_in_redis(
    good: Pipeline, falsify: Callable[[Pipeline], None]
) -> None:
    falsify(good)

    assert len(differences(good)) >= 1


#: A row of an hour that never was, else like that of the third hour.
INVENTED_ROW = (
    "INSERT INTO hourly_averages SELECT '2025-01-01T20:00:00Z', average_temp_f, sum_milli_f, "
    "min_temp_f, max_temp_f, observations, devices, late, sealed_by, trace_id, entry_id, "
    "loaded_at, revision, late_sum_milli_f FROM hourly_averages WHERE hour LIKE '%T02:%'"
)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE hourly_averages SET sum_milli_f = sum_milli_f + 1 WHERE hour LIKE '%T02:%'",
        "UPDATE hourly_averages SET observations = observations - 1 WHERE hour LIKE '%T02:%'",
        "DELETE FROM hourly_averages WHERE hour LIKE '%T01:%'",
        INVENTED_ROW,
    ],
    ids=["sum", "observations", "row missing", "row invented"],
)
def test_it_finds_what_was_falsified_in_the_warehouse(
    good: Pipeline, warehouse: Warehouse, tmp_path: Path, statement: str
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()

    assert differences(good) == []
    assert len(differences(good, warehouse)) >= 1


def test_the_command_says_what_is_wrong_and_exits_with_1(
    good: Pipeline, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--redis-url", redis_url, "--warehouse-url", f"sqlite:///{tmp_path}/warehouse.db")
    assert run_audit(*arguments) == 0
    capsys.readouterr()

    record_count(good)

    assert run_audit(*arguments) == 1
    assert "2025-01-01T00:00:00Z" in capsys.readouterr().out
    assert run_audit("--json", *arguments) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["clean"], found["lost"], found["twice"]) == (False, 0, 1)


def run_audit(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        invoke(application(), "hourglass", ["audit", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("key", [DAY.stream, DAY.hours, DAY.quarantine])
def test_a_damaged_partition_is_a_difference_and_the_others_are_audited(
    good: Pipeline, key: str
) -> None:
    counted = good.audit().counted
    good.cluster.call("DEL", key)
    good.cluster.call("SET", key, "in the way", "EX", 60)
    good.produce(reading(at(0, day=NEXT_DAY)))
    good.count(NEXT_DAY)

    found = good.audit()

    assert [each.what for each in found.differences if "rename or delete it" in each.what]
    assert 0 < found.counted <= counted + 1


def test_readings_that_a_failover_lost_are_counted_exactly(pipeline: Pipeline) -> None:
    other = pipeline.publisher("other")
    pipeline.produce(*(reading(at(0, minute)) for minute in range(10)))
    publish(other, batch_of(reading(at(0), device="attic")))
    pipeline.count()
    copy = Copy(pipeline, (DAY.stream, *DAY.companions))
    pipeline.produce(*(reading(at(1, minute)) for minute in range(7)))
    pipeline.count()

    copy.restore()
    assert pipeline.audit().gone == 0  # nobody can know before the producer is heard of again
    pipeline.produce(reading(at(2)))
    pipeline.count()

    found = pipeline.audit()
    assert (found.gone, found.lost, found.twice, found.counted) == (7, 0, 0, 12)
    assert len(found.differences) == 1


def test_readings_that_were_flushed_are_counted_exactly(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0, minute)) for minute in range(10)))
    pipeline.count()
    pipeline.cluster.call("DEL", DAY.stream, *DAY.companions)

    pipeline.produce(*(reading(at(1, minute)) for minute in range(7)))
    pipeline.count()

    found = pipeline.audit()
    assert (found.gone, found.lost, found.twice, found.counted) == (10, 0, 0, 7)


def test_readings_not_counted_when_their_partition_was_deleted_are_lost(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(*(reading(at(0, minute)) for minute in range(10)), reading(at(1), 999.0))
    pipeline.count()
    pipeline.produce(*(reading(at(2, minute)) for minute in range(7)))
    pipeline.delivery().read(3, 1)
    pipeline.produce(reading(at(0, day=NEXT_DAY)))
    pipeline.count(NEXT_DAY)
    assert pipeline.audit().differences == []

    pipeline.cluster.call("DEL", DAY.stream)

    found = pipeline.audit()
    (difference,) = found.differences
    assert f"{DAY.stream} is gone with 7 readings that had not been counted" in difference.what
    assert (found.gone, found.lost, found.counted) == (7, 0, 11)


def test_a_partition_that_expired_when_all_of_it_was_counted_is_clean(pipeline: Pipeline) -> None:
    pipeline.produce(*(reading(at(0, minute)) for minute in range(10)), reading(at(1), 999.0))
    pipeline.xadd(temp_f=50)
    pipeline.pack(tick(at(2), 50.0, 999.0, 51.0))
    pipeline.count()
    pipeline.drive(at(3))
    pipeline.seal()
    pipeline.produce(reading(at(0), 60.0))
    pipeline.count()

    pipeline.cluster.call("DEL", DAY.stream)

    found = pipeline.audit()
    assert (found.differences, found.gone) == ([], 0)


def test_a_batch_that_a_producer_gave_up_though_it_was_stored_is_not_lost(
    pipeline: Pipeline,
) -> None:
    cautious = pipeline.publisher("cautious", wait_replicas=1, wait_timeout_ms=1)
    for batch in Batcher(limit=1, partitions=KEYS.undivided).cut([reading(at(0)), reading(at(1))]):
        with pytest.raises(Unreachable, match="0 of 1 replicas"):
            publish(cautious, batch)
    pipeline.count()

    found = pipeline.audit()
    assert (found.gone, found.counted, found.differences) == (0, 2, [])


def test_it_reads_each_reading_once_and_a_thousand_at_a_time(pipeline: Pipeline) -> None:
    many = 50_000
    pipeline.produce(*(reading(at(0) + 72 * each) for each in range(many)))
    pipeline.count()

    before = commands(pipeline)
    found = pipeline.audit()
    asked = commands(pipeline) - before

    assert found.counted == many
    assert asked < many / 1000 + 200


def commands(pipeline: Pipeline) -> int:
    """What the shard of DAY has been asked so far."""
    link = pipeline.cluster.link(DAY.stream)
    (processed,) = re.findall(rb"total_commands_processed:(\d+)", link.call("INFO", "stats"))
    link.close()
    return int(processed)


def test_a_destroyed_group_is_not_taken_for_readings_counted_twice(good: Pipeline) -> None:
    good.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)
    (difference,) = good.audit().differences
    assert "was destroyed" in difference.what
    assert "start an aggregator" in difference.what

    good.count()
    assert good.audit().differences == []
