"""A test that leaves a key behind for ever is caught."""

from __future__ import annotations

from redis.cluster import RedisCluster

from tests.support.leftovers import keys_kept_for_ever


def test_a_key_without_ttl_is_found_on_whatever_master_it_lies(redis: RedisCluster) -> None:
    keys = [f"temps:2025010{day}" for day in range(1, 8)]
    for key in keys:
        redis.xadd(key, {"temp_f": "73"})

    assert keys_kept_for_ever(redis) == keys

    for key in keys:
        redis.expire(key, 60)
    assert keys_kept_for_ever(redis) == []


def test_the_capped_keys_may_live_for_ever(redis: RedisCluster) -> None:
    redis.xadd("temps:averages", {"average_temp_f": "73"})
    redis.set("{temps:averages}:frontier", "0-0")
    redis.hset("temps:clock", "mode", "wall")

    assert keys_kept_for_ever(redis) == []


def test_a_key_like_a_capped_one_is_still_found(redis: RedisCluster) -> None:
    redis.set("temps:averages:copy", "1")

    assert keys_kept_for_ever(redis) == ["temps:averages:copy"]
    redis.delete("temps:averages:copy")
