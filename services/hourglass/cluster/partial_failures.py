"""Doing something with many partitions, as far as Redis lets it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from hourglass.cluster.client import Cluster
from hourglass.errors import CorruptKey, HourglassError, Unforeseen, Unreachable
from hourglass.model.keys import Partition

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(slots=True)
class PartialFailures:
    """What one round met. It asks no shard twice that did not answer: that takes its time."""

    damaged: dict[Partition, CorruptKey] = field(default_factory=dict[Partition, CorruptKey])
    silent: dict[str, Unreachable] = field(default_factory=dict[str, Unreachable])

    def attempt(
        self, cluster: Cluster, partition: Partition, act: Callable[[Partition], Result]
    ) -> Result | None:
        """What `act` makes of `partition`; None if it is damaged, its shard does not answer, or
        `act` fails in a way that no code expects."""
        shard = ""
        try:
            shard = cluster.shard_of(partition.stream)
            if partition not in self.damaged and shard not in self.silent:
                return act(partition)
        except CorruptKey as error:
            self.damaged[partition] = error
        except Unreachable as error:
            self.silent[shard] = error
        except HourglassError:
            raise
        except Exception as error:
            log.debug("%s", partition.stream, exc_info=True)
            self.damaged[partition] = Unforeseen.of(error, about=partition.stream)
        return None

    def tell(self) -> None:
        """Raises Unreachable or CorruptKey, unless there were none."""
        said = "; ".join(map(str, [*self.silent.values(), *self.damaged.values()]))
        if self.silent:
            raise Unreachable(said)
        for damage in self.damaged.values():
            if isinstance(damage, Unforeseen):
                raise Unforeseen(said) from damage.__cause__
        if self.damaged:
            raise CorruptKey(said)


def with_each(
    cluster: Cluster, partitions: Iterable[Partition], act: Callable[[Partition], object]
) -> None:
    """Do `act` with each of `partitions`. Raises Unreachable or CorruptKey, after it has done it
    with all the others."""
    met = PartialFailures()
    for partition in partitions:
        met.attempt(cluster, partition, act)
    met.tell()
