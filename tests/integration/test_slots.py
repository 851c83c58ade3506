"""Days lie on different shards, a day on one; every script touches a single slot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster
from redis.crc import key_slot

from hourglass.cluster.client import Cluster
from hourglass.cluster.link import Link
from hourglass.cluster.scripts import Script
from tests.support.every_script import SCRIPTS, use_every_script
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, day_after, reading

TEN_DAYS = [day_after(DAY, days) for days in range(10)]


def test_ten_days_spread_over_the_three_shards(pipeline: Pipeline, redis: RedisCluster) -> None:
    pipeline.produce(*(reading(at(0, day=day)) for day in TEN_DAYS))

    days_by_shard = [
        sum(key in redis.keys(KEYS.patterns[0], target_nodes=shard) for key in streams())
        for shard in redis.get_primaries()
    ]

    assert sum(days_by_shard) == 10
    assert len(days_by_shard) == 3
    assert min(days_by_shard) >= 2


def streams() -> list[bytes]:
    return [day.stream.encode() for day in TEN_DAYS]


def test_a_partition_and_its_companions_share_a_slot() -> None:
    for day in TEN_DAYS:
        slots = {key_slot(key.encode()) for key in (day.stream, *day.companions)}
        assert len(slots) == 1


def test_every_script_touches_one_slot(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[Path, set[int]] = {}
    monkeypatch.setattr(Cluster, "run", recording(Cluster.run, seen))
    monkeypatch.setattr(Link, "begin", recording(Link.begin, seen))

    use_every_script(pipeline)

    assert set(seen) == set(SCRIPTS.values())
    assert {path.name: slots for path, slots in seen.items() if max(slots) > 1} == {}


def recording(run: Any, seen: dict[Path, set[int]]) -> Any:
    """What sends a script, noting for each script how many slots its calls touch."""

    def recorded(self: object, script: Script, keys: Sequence[str], arguments: Any) -> Any:
        slots = {key_slot(key.encode()) for key in keys}
        seen.setdefault(SCRIPTS[script.name], set()).add(len(slots))
        return run(self, script, keys, arguments)

    return recorded


@pytest.mark.parametrize("path", SCRIPTS.values(), ids=lambda path: path.name)
def test_redis_itself_holds_every_script_to_one_slot(path: Path) -> None:
    # A script with a #!lua line may touch only the keys it was given, all of one slot.
    first_line = path.read_text(encoding="utf-8").partition("\n")[0]

    assert first_line.startswith("#!lua")
    assert "allow-cross-slot-keys" not in first_line
