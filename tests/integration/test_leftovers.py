"""The keys that a test leaves behind are deleted; one with neither TTL nor cap is reported."""

from __future__ import annotations

from redis.cluster import RedisCluster

from tests.support.keyspace import KEYS, beside
from tests.support.leftovers import delete_keys, keys_of

A_WEEK = [f"{KEYS.pipeline}:2025010{day}" for day in range(1, 8)]


def test_a_key_without_ttl_is_found_on_any_master(redis: RedisCluster) -> None:
    for key in A_WEEK:
        redis.xadd(key, {"temp_f": "73"})

    assert delete_keys(redis, KEYS) == A_WEEK
    assert not keys_of(redis, KEYS)


def test_a_key_with_a_ttl_is_deleted_in_silence(redis: RedisCluster) -> None:
    for key in A_WEEK:
        redis.set(key, "1", ex=60)

    assert delete_keys(redis, KEYS) == []
    assert not keys_of(redis, KEYS)


def test_the_capped_keys_need_no_ttl(redis: RedisCluster) -> None:
    redis.xadd(KEYS.averages, {"average_temp_f": "73"})
    redis.set(KEYS.published_through, "0-0")
    redis.hset(KEYS.clock, "mode", "wall")

    assert delete_keys(redis, KEYS) == []


def test_a_key_like_a_capped_one_is_still_found(redis: RedisCluster) -> None:
    copies = [f"{KEYS.averages}:copy", f"{KEYS.published_through}:copy"]
    for copy in copies:
        redis.set(copy, "1")

    assert delete_keys(redis, KEYS) == sorted(copies)


def test_what_begins_with_the_pipelines_name_is_deleted_and_no_other_pipelines(
    redis: RedisCluster,
) -> None:
    other = beside(f"{KEYS.pipeline}-")
    for keys in (KEYS, other):
        day = keys.containing(0)
        for key in (*keys.capped, day.stream, *day.companions, f"{keys.pipeline}:notes"):
            redis.set(key, "1", ex=60)

    delete_keys(redis, KEYS)

    assert not keys_of(redis, KEYS)
    assert len(keys_of(redis, other)) == 6 + 1 + len(other.containing(0).companions) + 1
    delete_keys(redis, other)
