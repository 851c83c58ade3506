"""What a failover does to some keys, without one."""

from __future__ import annotations

from tests.support.keyspace import KEYS
from tests.support.pipeline import Pipeline


class Copy:
    """What a replica held of some keys; a failover that loses what came later restores it."""

    def __init__(self, pipeline: Pipeline, keys: tuple[str, ...]) -> None:
        self._pipeline = pipeline
        self._dumps = {key: pipeline.cluster.call("DUMP", key) for key in keys}

    def restore(self) -> None:
        for key, dump in self._dumps.items():
            if dump is None:
                self._pipeline.cluster.call("DEL", key)
            else:
                ttl_ms = 0 if key in KEYS.capped else 3_600_000
                self._pipeline.cluster.call("RESTORE", key, ttl_ms, dump, "REPLACE")
