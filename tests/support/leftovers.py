"""Which keys a test left behind that Redis would keep for ever."""

from __future__ import annotations

from typing import Any, cast

from redis.cluster import RedisCluster

#: Without TTL on purpose: each is bounded by a cap, or is one small record.
CAPPED = ("temps:averages", "temps:clock")
CAPPED_PREFIX = "{temps:averages}:"


def keys_kept_for_ever(client: RedisCluster) -> list[str]:
    """Every key on any master that has neither a TTL nor a cap, sorted."""
    kept: list[str] = []
    for node in cast(Any, client).get_primaries():
        shard = cast(Any, client).get_redis_connection(node)
        keys: list[bytes] = list(shard.scan_iter(count=1000))
        pipeline = shard.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
        lives: list[int] = pipeline.execute()
        # -1 is a key without TTL; -2 one that expired meanwhile.
        kept += [key.decode() for key, life in zip(keys, lives, strict=True) if life == -1]
    return sorted(key for key in kept if key not in CAPPED and not key.startswith(CAPPED_PREFIX))
