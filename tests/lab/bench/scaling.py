"""How work spreads over shards: by commands and processor time of each, not by speed.

On a machine with few cores the shards share them, so that more shards cannot be faster here; where
each has cores of its own they work side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from tests.lab.bench.figures import Table
from tests.lab.bench.rig import DAY, Rig, Shards, readings

#: So many that lanes get about the same number of them.
_DEVICES = 600
_COMMANDS = ("evalsha", "xadd", "xreadgroup", "xack")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardShare:
    """What one master did: commands of the hot path, those of the scripts included, and processor
    time."""

    commands: int
    cpu_s: float


def scaling(rig: Rig) -> Iterator[Table]:
    """A day's readings on so many shards, lanes and replicas."""
    rows: list[Sequence[str]] = []
    count = rig.scale.sweep
    for replicas, masters, lanes in product((0, 1), (1, 2, 3, 6), (1, 3, 6)):
        with rig.shards(masters, replicas) as shards:
            shares = spread(shards, masters, lanes, count)
        total = sum(share.commands for share in shares)
        used_s = sum(share.cpu_s for share in shares)
        rows.append(
            (
                str(masters),
                str(lanes),
                str(replicas),
                " ".join(f"{share.commands / total:.0%}" for share in shares),
                " ".join(f"{share.cpu_s / max(used_s, 1e-9):.0%}" for share in shares),
                f"{used_s / count * 1e6:.2f}",
            )
        )
    yield Table(
        title="Scaling: a day's readings written and counted",
        head=(
            "shards", "lanes", "replicas each", "commands by shard", "processor time by shard",
            "masters' µs a reading",
        ),
        rows=rows,
        note="The shape, not the speed: here all shards share this machine's cores. A lane is one "
        "stream and so one shard; further shards are for other days.",
    )  # fmt: skip


def spread(shards: Shards, masters: int, lanes: int, count: int) -> list[ShardShare]:
    """Write and count `count` readings of a day with so many lanes; what each master did."""
    ports = shards.embedded.ports[:masters]
    commands = {port: _commands(shards, port) for port in ports}
    cpu_s = {port: shards.cpu_s(port) for port in ports}
    days = shards.days(lanes)
    shards.publish(readings(count, devices=_DEVICES), days=days)
    for lane in days.partitions(DAY):
        shards.count(lane)
    return [
        ShardShare(
            commands=_commands(shards, port) - commands[port],
            cpu_s=shards.cpu_s(port) - cpu_s[port],
        )
        for port in ports
    ]


def _commands(shards: Shards, port: int) -> int:
    with shards.admin(port) as admin:
        stats = admin.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in _COMMANDS)
