"""Over TLS with a client certificate and a user of its own, into PostgreSQL, with traces that
lead nowhere: installed chart by chart, as beside an existing Redis Cluster."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack

import pytest

from tests.kubernetes.conftest import Story
from tests.kubernetes.installation import SERVICES, Images, Installation, await_on_cluster
from tests.kubernetes.secured import PASSWORD, QUOTED, postgres, secrets

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

REDIS = {
    "shards": "1",
    "persistence.whenDeleted": "Retain",
    "auth.existingSecret": "redis-user",
    "tls.enabled": "true",
    "tls.existingSecret": "redis-server",
    "tls.clientCertificates": "required",
}
SERVICE = {
    "redis.existingSecret": "redis-user",
    "redis.tls.enabled": "true",
    "redis.tls.existingSecret": "redis-client",
    "redis.tls.certKey": "tls.crt",
    "redis.tls.keyKey": "tls.key",
    "tracing.endpoint": "http://127.0.0.1:9",
}
WAREHOUSE = {
    "replicaCount": "2",
    "warehouse.existingSecret": "warehouse",
    "warehouse.sqlite.persistence.enabled": "false",
}


@pytest.fixture(scope="module")
def secured(images: Images, base_namespace: str, story: Story) -> Generator[Installation]:
    with ExitStack() as resources:
        namespace = resources.enter_context(story.namespace(f"{base_namespace}-secured"))
        namespace.create(**{"pod-security.kubernetes.io/enforce": "restricted"})
        namespace.apply(*secrets(namespace), *postgres(images))
        installed = Installation(namespace, images)
        installed.ledger.open()
        resources.callback(installed.ledger.close)
        installed.upgrade("redis-cluster-dev", **REDIS)
        installed.upgrade("aggregator", **SERVICE)
        installed.upgrade("averages-consumer", **SERVICE, **WAREHOUSE)
        installed.install_operator(like="averages-consumer")
        installed.run_clock()
        installed.upgrade("producer", **SERVICE)
        yield installed


def test_averages_flow_into_postgresql(secured: Installation) -> None:
    secured.await_averages(1)
    await_on_cluster(secured.rows, "no rows in PostgreSQL")


def test_a_consumer_that_goes_leaves_its_work_to_the_other(secured: Installation) -> None:
    first = secured.namespace.ready_pods("averages-consumer")[0]
    secured.namespace.delete_pods(first, at_once=True)
    secured.await_averages(1)
    secured.namespace.rolled_out("deployment/averages-consumer")
    await_on_cluster(
        lambda: secured.hours() == list(secured.rows()), "the warehouse has other hours"
    )


def test_redis_takes_nobody_without_a_certificate(secured: Installation) -> None:
    reply = secured.namespace.exec(
        "redis-cluster-dev-0", "sh", "-c",
        "redis-cli --tls --cacert /tls/ca.crt -h redis-cluster-dev PING 2>&1 || true",
    )  # fmt: skip
    assert "PONG" not in reply
    assert "NOAUTH" not in reply


def test_the_clusters_own_test_shows_its_certificate(secured: Installation) -> None:
    assert "Succeeded" in secured.namespace.helm("test", "redis-cluster-dev", "--timeout", "3m")


def test_no_log_shows_a_password(secured: Installation) -> None:
    for app in SERVICES:
        logs = secured.namespace.kubectl("logs", "--selector", f"app.kubernetes.io/name={app}")
        assert PASSWORD not in logs
        assert QUOTED not in logs


def test_the_audit_compares_the_warehouse_too(secured: Installation) -> None:
    settlement = secured.settle()
    settlement.check()
    audit = settlement.audit
    assert audit["in_warehouse"] == audit["published"] - audit["loading"] > 0


def test_uninstalling_keeps_the_claims_as_documented(secured: Installation) -> None:
    releases = ("redis-cluster-dev", *SERVICES)
    secured.namespace.helm("uninstall", *releases, "--wait", "--timeout", "3m")
    claims = {name for name in secured.namespace.everything() if "claim" in name}
    assert claims == {"persistentvolumeclaim/data-redis-cluster-dev-0"}
