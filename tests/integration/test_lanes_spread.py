"""With lanes every shard gets its part of today's commands, counted by the shards themselves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, cast

import pytest

from hourglass.model.devices import lane_index
from hourglass.model.keys import HOUR_MS
from hourglass.model.readings import Reading
from hourglassctl.local import bootstrap
from tests.support.cluster import EmbeddedCluster
from tests.support.pipeline import DAY, Pipeline, reading

DEVICES_PER_LANE = 3
READINGS_PER_DEVICE = 60


def calls(embedded: EmbeddedCluster, command: str) -> list[int]:
    """How often each shard has executed `command` since the last look, in scripts or not."""
    numbers: list[int] = []
    for node in embedded.nodes:
        with bootstrap.client(node.port) as client:
            statistics = cast(Any, client).info("commandstats")
            numbers.append(int(statistics.get(f"cmdstat_{command}", {}).get("calls", 0)))
            cast(Any, client).execute_command("CONFIG RESETSTAT")
    return numbers


def devices(lanes: int) -> list[str]:
    """So many of each lane."""
    found: dict[int, list[str]] = {lane: [] for lane in range(lanes)}
    names = (f"porch-{number}" for number in count())
    while any(len(each) < DEVICES_PER_LANE for each in found.values()):
        name = next(names)
        found[lane_index(name.encode(), lanes)].append(name)
    return [name for each in found.values() for name in each[:DEVICES_PER_LANE]]


def readings_of(devices: Sequence[str]) -> list[Reading]:
    return [
        reading(DAY.day_ms + second * 1000, 50.0, device)
        for second in range(READINGS_PER_DEVICE)
        for device in devices
    ]


@pytest.mark.parametrize(
    ("shards", "lanes"),
    [
        pytest.param(shards, lanes, marks=pytest.mark.embedded(masters=shards))
        for shards, lanes in ((3, 3), (3, 6), (6, 6), (6, 12))
    ],
)
def test_every_shard_takes_and_counts_the_same_number_of_readings(
    embedded: EmbeddedCluster, shards: int, lanes: int
) -> None:
    readings = readings_of(devices(lanes))
    each = len(readings) // shards
    with Pipeline(embedded.url, lanes=lanes) as pipeline:
        calls(embedded, "xadd")
        pipeline.produce(*readings)
        assert calls(embedded, "xadd") == [each] * shards

        for partition in pipeline.partitions():
            pipeline.count(partition)
        assert calls(embedded, "xack") == [lanes // shards] * shards

        pipeline.drive(DAY.day_ms + HOUR_MS)
        pipeline.seal()
        assert [average.count for average in pipeline.averages()] == [len(readings)]


@pytest.mark.embedded(masters=3)
def test_without_lanes_one_shard_takes_them_all(embedded: EmbeddedCluster) -> None:
    with Pipeline(embedded.url) as pipeline:
        calls(embedded, "xadd")
        pipeline.produce(*readings_of(devices(3)))
        assert sorted(calls(embedded, "xadd")) == [0, 0, 540]

        pipeline.count()
        assert sorted(calls(embedded, "xack")) == [0, 0, 1]
