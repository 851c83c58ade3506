"""What a test leaves behind of its pipeline: it is deleted, unless Redis would keep it for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from redis.cluster import RedisCluster

from hourglass.model.keys import Keyspace


def keys_kept_for_ever(client: RedisCluster, keyspace: Keyspace) -> list[str]:
    """Every key, on any master, whose name begins with the pipeline's and that has neither a TTL
    nor a cap, sorted."""
    kept: list[str] = []
    for shard, keys in _keys_by_shard(client, keyspace):
        pipeline = shard.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
        lives: list[int] = pipeline.execute()
        # -1 is a key without TTL; -2 one that expired meanwhile.
        kept += [key.decode() for key, life in zip(keys, lives, strict=True) if life == -1]
    return sorted(key for key in kept if key not in keyspace.capped)


def delete_keys(client: RedisCluster, keyspace: Keyspace) -> None:
    """Those of `keys_of`."""
    for shard, keys in _keys_by_shard(client, keyspace):
        pipeline = shard.pipeline(transaction=False)
        for key in keys:
            pipeline.unlink(key)
        pipeline.execute()


def keys_of(client: RedisCluster, keyspace: Keyspace) -> set[str]:
    """All whose names begin with the pipeline's."""
    return {key.decode() for _, keys in _keys_by_shard(client, keyspace) for key in keys}


def _keys_by_shard(client: RedisCluster, keyspace: Keyspace) -> Iterator[tuple[Any, list[bytes]]]:
    for node in cast(Any, client).get_primaries():
        shard = cast(Any, client).get_redis_connection(node)
        yield (
            shard,
            [
                key
                for pattern in keyspace.patterns
                for key in shard.scan_iter(match=pattern, count=1000)
            ],
        )
