"""A batch is taken once, however often it has to be sent."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hourglass.errors import Unreachable
from hourglassctl.local import bootstrap
from producer.batch import Batch, Batcher
from producer.writer import BatchWriter, Outcome
from tests.support.cluster import EmbeddedCluster, Node
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, batch_of, publish, reading
from tests.support.services import services
from tests.support.waiting import wait_until


def length(pipeline: Pipeline) -> int:
    return int(pipeline.cluster.call("XLEN", DAY.stream))


def three_batches() -> list[Batch]:
    return list(
        Batcher(limit=2, partitions=KEYS.undivided).cut(
            reading(at(0, 0, second)) for second in range(6)
        )
    )


def test_a_batch_whose_reply_was_lost_adds_nothing_twice(pipeline: Pipeline) -> None:
    publisher = pipeline.publisher("porch:1")
    batch = batch_of(reading(at(0)), reading(at(0, 0, 1)))

    assert publish(publisher, batch) is Outcome.TAKEN
    publisher.close()  # the retry comes over another connection
    assert publish(publisher, batch) is Outcome.DUPLICATE

    assert length(pipeline) == 2


def test_an_older_sequence_number_adds_nothing(pipeline: Pipeline) -> None:
    publisher = pipeline.publisher("porch:1")
    first, second, third = three_batches()
    assert publish(publisher, first) is Outcome.TAKEN
    assert publish(publisher, third) is Outcome.TAKEN

    assert publish(publisher, first) is Outcome.DUPLICATE
    assert publish(publisher, second) is Outcome.DUPLICATE

    assert length(pipeline) == 4


def test_another_incarnation_collides_with_nothing(pipeline: Pipeline) -> None:
    batch = batch_of(reading(at(0)))

    assert publish(pipeline.publisher("porch:1"), batch) is Outcome.TAKEN
    assert publish(pipeline.publisher("porch:2"), batch) is Outcome.TAKEN

    assert length(pipeline) == 2


def test_a_producer_restarted_under_its_name_is_another_incarnation(
    pipeline: Pipeline, redis_url: str
) -> None:
    with services(redis_url) as running:
        for start, until in ((0, 10), (10, 20)):
            pipeline.drive(at(0, 0, start))
            running.producer("porch", "--until", f"2025-01-01T00:00:{until}Z")
            running.await_ready("porch")
            pipeline.drive(at(0, 0, until))
            assert running.exit_status("porch") == 0

    assert length(pipeline) == 20


def test_a_batch_past_its_retention_is_refused_and_deletes_nothing(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.drive(at(0) + 3 * 86_400_000)

    assert publish(pipeline.publisher("porch:1"), batch_of(reading(at(0)))) is Outcome.EXPIRED

    assert length(pipeline) == 1
    assert pipeline.cluster.call("HEXISTS", DAY.producers, "porch:1") is False


def test_a_partition_past_its_retention_is_not_made(pipeline: Pipeline) -> None:
    pipeline.drive(at(0) + 3 * 86_400_000)

    assert publish(pipeline.publisher("porch:1"), batch_of(reading(at(0)))) is Outcome.EXPIRED

    assert pipeline.cluster.call("EXISTS", DAY.stream) == 0
    assert pipeline.cluster.call("EXISTS", DAY.producers) == 0


def waiting(pipeline: Pipeline, timeout_ms: int) -> BatchWriter:
    """The one producer of a test, with so much patience for its replica."""
    return pipeline.publisher("porch:1", wait_replicas=1, wait_timeout_ms=timeout_ms)


@pytest.mark.embedded(masters=1, replicas=1, node_timeout_ms=10_000)
def test_with_wait_a_batch_counts_as_taken_when_a_replica_has_it(embedded: EmbeddedCluster) -> None:
    _, replica = embedded.nodes
    with Pipeline(embedded.url) as pipeline:
        patient, hasty = waiting(pipeline, 10_000), waiting(pipeline, 100)
        first, second, _ = three_batches()
        assert publish(patient, first) is Outcome.TAKEN

        replica.pause()
        with pytest.raises(Unreachable, match="0 of 1 replicas confirmed"):
            publish(hasty, second)
        replica.resume()

        assert publish(patient, second) is Outcome.DUPLICATE
        assert length(pipeline) == 4


@pytest.mark.embedded(masters=1, replicas=1, node_timeout_ms=10_000)
def test_a_retry_over_another_connection_waits_for_the_replica_too(
    embedded: EmbeddedCluster,
) -> None:
    _, replica = embedded.nodes
    with Pipeline(embedded.url) as pipeline:
        patient, hasty = waiting(pipeline, 10_000), waiting(pipeline, 100)
        batch = batch_of(reading(at(0)))
        replica.pause()
        with pytest.raises(Unreachable):
            publish(hasty, batch)
        hasty.close()

        with pytest.raises(Unreachable, match="0 of 1 replicas confirmed"):
            publish(hasty, batch)

        replica.resume()
        assert publish(patient, batch) is Outcome.DUPLICATE
        assert length(pipeline) == 1


def confirms(publisher: BatchWriter, batch: Batch) -> bool:
    try:
        return publish(publisher, batch) in (Outcome.TAKEN, Outcome.DUPLICATE)
    except Unreachable:
        return False


@pytest.mark.parametrize("old_master_dies", [False, True])
@pytest.mark.embedded(masters=1, replicas=1)
def test_a_batch_follows_its_partition_to_another_master(
    embedded: EmbeddedCluster, *, old_master_dies: bool
) -> None:
    master, replica = embedded.nodes
    with Pipeline(embedded.url) as pipeline:
        publisher = pipeline.publisher("porch:1")
        first, second, third = three_batches()
        assert publish(publisher, first) is Outcome.TAKEN
        wait_until(
            lambda: (
                replication(master)["master_repl_offset"]
                == replication(replica)["master_repl_offset"]
            ),
            message="the replica lags behind",
        )
        if old_master_dies:
            master.kill()
            with pytest.raises(Unreachable):
                publish(publisher, second)
        with bootstrap.client(replica.port) as client:
            cast(Any, client).execute_command("CLUSTER FAILOVER", "TAKEOVER")
        if not old_master_dies:
            wait_until(lambda: replication(master)["role"] == "slave", message="no failover")

        # The publisher alone has to find out: nothing else asks for the topology here.
        for batch in (second, third):
            wait_until(lambda batch=batch: confirms(publisher, batch), message="never taken")

        pipeline.cluster.refresh_topology()
        assert length(pipeline) == 6


def replication(node: Node) -> dict[str, Any]:
    with bootstrap.client(node.port) as client:
        return cast(Any, client).info("replication")
