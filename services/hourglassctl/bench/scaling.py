"""How work spreads over shards: by commands and processor time of each, not by speed.

On a machine with few cores the shards share them, so that more shards cannot be faster here; where
each has cores of its own they work side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hourglass.keys import DAY_MS, Partition
from hourglassctl.bench.figures import Table
from hourglassctl.bench.rig import DAY, Rig, Shards, readings

#: Six days, each a stream of its own.
_DAYS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardShare:
    """What one master did: scripts run, and processor time."""

    scripts: int
    cpu_s: float


def scaling(rig: Rig) -> Iterator[Table]:
    """The same readings on one, two, three and six shards, without and with a replica each."""
    rows: list[Sequence[str]] = []
    count = rig.scale.sweep
    for replicas in (0, 1):
        for masters in (1, 2, 3, 6):
            with rig.shards(masters, replicas) as shards:
                shares = spread(shards, masters, count)
            total = sum(share.scripts for share in shares)
            used_s = sum(share.cpu_s for share in shares)
            rows.append(
                (
                    str(masters),
                    str(replicas),
                    " ".join(f"{share.scripts / total:.0%}" for share in shares),
                    " ".join(f"{share.cpu_s / max(used_s, 1e-9):.0%}" for share in shares),
                    f"{used_s / count * 1e6:.2f}",
                )
            )
    yield Table(
        title=f"Scaling: {_DAYS} days of readings written and counted",
        head=(
            "shards", "replicas each", "scripts by shard", "processor time by shard",
            "masters' µs a reading",
        ),
        rows=rows,
        note="The shape, not the speed: here all shards share this machine's cores. A day is one "
        "stream and so one shard; six days spread as their slots fall.",
    )  # fmt: skip


def days(number: int = _DAYS) -> list[Partition]:
    return [Partition(DAY.day_ms + day * DAY_MS) for day in range(number)]


def spread(shards: Shards, masters: int, count: int) -> list[ShardShare]:
    """Write and count `count` readings, the same number each day; what each master did."""
    ports = shards.embedded.ports[:masters]
    scripts = {port: _scripts(shards, port) for port in ports}
    cpu_s = {port: shards.cpu_s(port) for port in ports}
    for day in days():
        shards.publish(readings(count // _DAYS, from_ms=day.day_ms))
        shards.count(day)
    return [
        ShardShare(
            scripts=_scripts(shards, port) - scripts[port],
            cpu_s=shards.cpu_s(port) - cpu_s[port],
        )
        for port in ports
    ]


def _scripts(shards: Shards, port: int) -> int:
    with shards.admin(port) as admin:
        stats = admin.info("commandstats")
    return sum(
        int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("eval", "evalsha")
    )
