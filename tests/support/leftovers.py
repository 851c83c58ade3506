"""The keys of a pipeline that a test leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from redis.cluster import RedisCluster

from hourglass.model.keys import Keyspace


def delete_keys(client: RedisCluster, keyspace: Keyspace) -> list[str]:
    """Delete every key whose name begins with the pipeline's, on all masters; return those that
    had neither a TTL nor a cap, sorted."""
    kept: list[str] = []
    for shard, keys in _keys_by_shard(client, keyspace):
        pipeline = shard.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
            pipeline.unlink(key)
        # -1 is a key without TTL; -2 one that expired meanwhile.
        lives: list[int] = pipeline.execute()[::2]
        kept += [key.decode() for key, life in zip(keys, lives, strict=True) if life == -1]
    return sorted(key for key in kept if key not in keyspace.capped)


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
