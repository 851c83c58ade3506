"""What stands in a key and is not the pipeline's is said in one line, by whoever reads it."""

from __future__ import annotations

import pytest

from averages_consumer.gaps import hours_of
from hourglass.cluster.published import results
from hourglass.errors import CorruptKey
from hourglass.service.cli import invoke
from hourglassctl.__main__ import application
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading


@pytest.mark.parametrize("damage", ["a record", "a set"])
def test_status_names_the_key(
    pipeline: Pipeline, redis_url: str, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()
    if damage == "a record":
        pipeline.cluster.call("HSET", DAY.hours, "quarantined", "many")
    else:
        pipeline.cluster.call("SET", KEYS.revisions, "in the way")

    with pytest.raises(SystemExit) as ended:
        invoke(application(), "hourglass", ["status", "--redis-url", redis_url])

    assert ended.value.code == 1
    said = capsys.readouterr()
    if damage == "a record":  # the failure of its day: the rest is shown
        assert f"{DAY.hours} is not what the pipeline put there" in said.out
    else:
        (line,) = said.err.splitlines()
        assert KEYS.revisions in line


def test_a_member_that_no_publisher_wrote_is_named() -> None:
    with pytest.raises(CorruptKey, match="which no publisher put there: remove it with ZREM"):
        results([b"0:1:2", b"junk"], key=KEYS.published)


def test_a_damaged_day_is_left_out_and_the_others_are_not(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)), reading(at(1, day=NEXT_DAY)))
    pipeline.count(DAY, NEXT_DAY)
    pipeline.cluster.call("HSET", DAY.hours, "05:count", "many")

    found = hours_of(pipeline.cluster, [DAY, NEXT_DAY])

    assert [hour.start_ms for hour in found] == [at(1, day=NEXT_DAY)]
