"""The lag an autoscaler goes by is true or absent: at the start, and while Redis is away."""

from __future__ import annotations

import pytest

from tests.support.cluster import EmbeddedCluster
from tests.support.pipeline import DAY, Pipeline, at
from tests.support.services import Services, services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

LAG = "hourglass_aggregate_lag"
PARTITIONS = "hourglass_stream_partitions"
WAITING = 7
#: Longer than the test: what somebody else holds stays with them.
HELD = ("--claim-idle-ms", "600000")


def first_shown(running: Services, name: str, sample: str) -> float:
    values: list[float] = []

    def shown() -> bool:
        value = running.metric(name, sample)
        values.extend([] if value is None else [value])
        return bool(values)

    wait_until(shown, message=f"{name} does not show {sample}")
    return values[0]


@pytest.mark.extended
@pytest.mark.embedded(node_timeout_ms=15_000)
def test_the_first_lag_exported_is_right_and_none_is_while_redis_is_unreachable(
    embedded: EmbeddedCluster,
) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        for second in range(WAITING):
            pipeline.xadd(ts=at(0, 0, second), temp_f=50)
        pipeline.delivery(name="somebody").read(WAITING, 1)
        name = running.aggregator("aggregator", *HELD)

        assert first_shown(running, name, LAG) == WAITING
        assert running.metric(name, PARTITIONS) == 1

        shard = embedded.node_at(pipeline.master_of(DAY.stream))
        shard.pause()
        for sample in (LAG, PARTITIONS):
            wait_until(
                lambda sample=sample: running.metric(name, sample) is None,
                message=f"{sample} is shown though nobody can know it",
            )
        shard.resume()

        assert first_shown(running, name, LAG) == WAITING
