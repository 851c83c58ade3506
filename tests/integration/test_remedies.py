"""Each remedy that a message names is carried out, as the message says, and the problem ends."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from averages_consumer.warehouse import Warehouse
from hourglass.errors import CorruptKey
from hourglass.model.keys import MOST_UNDECIDED_LANES
from hourglassctl.backfill import backfill
from hourglassctl.status import gather
from tests.support.commands import run_hourglass
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, reading


def refusal_of(step: Callable[[], object]) -> str:
    with pytest.raises(CorruptKey) as refused:
        step()
    return str(refused.value)


def an_hour_published(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)), reading(at(0, 1)))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()


def problems(pipeline: Pipeline) -> dict[str, str]:
    """The text of each by its code, as status names them."""
    status = gather(pipeline.cluster, pipeline.clock, period_s=0)
    return {each.code: each.text for each in status.problems}


@pytest.mark.parametrize("key", [KEYS.published, KEYS.too_late, KEYS.revisions])
def test_a_member_that_no_publisher_wrote_is_removed_with_zrem(
    pipeline: Pipeline, tmp_path: Path, key: str
) -> None:
    an_hour_published(pipeline)
    pipeline.cluster.call("ZADD", key, 0, b"jun\xffk")

    with Warehouse(f"sqlite:///{tmp_path}/warehouse.db") as warehouse:
        warehouse.create()

        def step() -> None:
            backfill(pipeline.cluster, pipeline.clock.current(), warehouse, range(at(2)))

        found = re.fullmatch(
            r"(\S+) has the member (b'.+'), which .* it with (ZREM)", refusal_of(step)
        )
        assert found
        pipeline.cluster.call(found[3], found[1], ast.literal_eval(found[2]))
        step()

    assert pipeline.audit().clean


def test_a_record_that_is_no_number_is_put_right(pipeline: Pipeline) -> None:
    an_hour_published(pipeline)
    pipeline.cluster.call("HSET", DAY.hours, "00:count", "many")

    found = re.match(r"(\S+) holds no number in (\S+): put one there", refusal_of(pipeline.seal))
    assert found
    pipeline.cluster.call("HSET", found[1], found[2], 2)

    assert pipeline.audit().clean


def test_a_key_with_a_record_that_is_no_number_is_deleted(pipeline: Pipeline) -> None:
    an_hour_published(pipeline)
    pipeline.cluster.call("HSET", DAY.hours, "00:count", "many")

    refusal = refusal_of(pipeline.seal)
    assert "or delete the key to have the partition counted again" in refusal
    pipeline.cluster.call("DEL", refusal.partition(" ")[0])
    pipeline.count()
    pipeline.seal()

    assert pipeline.record(0).count == 2
    assert pipeline.audit().clean


def test_a_clock_that_is_none_is_set_with_the_command(pipeline: Pipeline, redis_url: str) -> None:
    pipeline.cluster.call("HSET", KEYS.clock, "mode", "sundial")
    found = re.search(r"set it with (hourglass clock)", refusal_of(pipeline.clock.refresh))
    assert found

    command = found[1].split()[1:]
    done = run_hourglass(*command, "wall", "--redis-url", redis_url)

    assert done.returncode == 0, done.stderr
    pipeline.clock.refresh()


def test_what_no_producer_wrote_is_deleted(pipeline: Pipeline) -> None:
    an_hour_published(pipeline)
    pipeline.cluster.call("HSET", DAY.producers, "nobody", "nothing")

    (difference,) = pipeline.audit().differences
    assert "a producers hash holds what no producer wrote: rename or delete it" in difference.what
    pipeline.cluster.call("DEL", DAY.producers)

    assert pipeline.audit().clean


def test_an_aggregator_counts_a_partition_again_whose_group_was_destroyed(
    pipeline: Pipeline,
) -> None:
    an_hour_published(pipeline)
    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, "aggregators")

    (difference,) = pipeline.audit().differences
    assert "start an aggregator" in difference.what
    pipeline.count()

    assert pipeline.audit().clean


def test_lanes_that_are_not_read_are_deleted(pipeline: Pipeline) -> None:
    lanes = [KEYS.partition(DAY.day_ms, number) for number in range(MOST_UNDECIDED_LANES + 2)]
    for lane in lanes:
        pipeline.xadd(to=lane, ts=at(0), temp_f=50)
        pipeline.cluster.call("EXPIRE", lane.stream, 3600)

    found = re.match(
        r"2 lanes are not read, the first is (\S+):", problems(pipeline)["lanes-not-read"]
    )
    assert found
    assert found[1] == lanes[-2].stream
    pipeline.cluster.call("DEL", lanes[-2].stream)
    pipeline.cluster.call("DEL", lanes[-1].stream)

    assert "lanes-not-read" not in problems(pipeline)


@pytest.mark.parametrize("key", [KEYS.revisions, KEYS.too_late])
def test_a_key_that_status_cannot_read_is_deleted(pipeline: Pipeline, key: str) -> None:
    an_hour_published(pipeline)
    pipeline.cluster.call("SET", key, "in the way")

    found = re.search(
        r"(\S+) is not what .*: rename or delete it", refusal_of(lambda: problems(pipeline))
    )
    assert found
    pipeline.cluster.call("DEL", found[1])

    problems(pipeline)
