"""A Redis whose settings break the pipeline's promises: refused at the start, named afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from hourglass.cluster.connect import connect
from hourglass.model.clock import PipelineClock
from hourglassctl.local import bootstrap
from hourglassctl.status import gather
from tests.integration.test_refusals import COMMANDS, SERVICES, refusal
from tests.support.browsing import ask
from tests.support.cluster import EmbeddedCluster
from tests.support.keyspace import KEYS
from tests.support.services import Services, services
from tests.support.users import PASSWORD, acl_file, denials
from tests.support.waiting import wait_until

EVICTING = {"maxmemory-policy": "volatile-lru", "maxmemory": "100mb"}


@pytest.mark.embedded(masters=2, options=EVICTING)
def test_no_service_starts_on_a_redis_that_may_evict_readings(embedded: EmbeddedCluster) -> None:
    first, second = embedded.ports
    for program in SERVICES:
        code, line = refusal(COMMANDS[program], url=embedded.url)
        assert code == 1
        named = ", ".join(sorted(f"127.0.0.1:{port}" for port in (first, second)))
        assert line.startswith(f"{program}: Redis at {named} may evict readings")
        assert "maxmemory-policy volatile-lru" in line
        assert "CONFIG SET maxmemory-policy noeviction" in line
        assert "HOURGLASS_ALLOW_EVICTION=true" in line


@pytest.mark.embedded(masters=1, options=EVICTING)
def test_the_override_starts_and_the_log_names_the_policy(embedded: EmbeddedCluster) -> None:
    with services(embedded.url, HOURGLASS_ALLOW_EVICTION="true") as running:
        running.await_ready(running.aggregator())
        assert "maxmemory-policy volatile-lru" in running.said("aggregator")
        assert evicting(running, "aggregator", embedded) == 1


@pytest.mark.embedded(masters=1, options={"maxmemory-policy": "allkeys-lru"})
def test_a_server_without_a_memory_limit_is_served_with_a_warning(
    embedded: EmbeddedCluster,
) -> None:
    with services(embedded.url) as running:
        running.await_ready(running.aggregator())
        assert "has maxmemory-policy allkeys-lru" in running.said("aggregator")
        assert evicting(running, "aggregator", embedded) == 0


@pytest.mark.embedded(masters=1, options={"maxmemory": "100mb"})
def test_a_policy_that_changes_while_services_run_is_shown_until_it_is_put_right(
    embedded: EmbeddedCluster, tmp_path: Path
) -> None:
    with services(embedded.url, HOURGLASS_WAREHOUSE_URL=f"sqlite:///{tmp_path}/w.db") as running:
        running.aggregator()
        running.start("consumer", "averages_consumer")
        page = running.page("consumer")
        running.await_ready("aggregator", "consumer")
        wait_until(lambda: "no-append-only-file" in on_page(page), message="the page names no AOF")
        assert "eviction" not in on_page(page)
        assert not {"eviction", "full-coverage"} & set(by_status(embedded.url))

        for setting, code in (
            (("maxmemory-policy", "volatile-ttl"), "eviction"),
            (("cluster-require-full-coverage", "yes"), "full-coverage"),
        ):
            configure(embedded, *setting)
            wait_until(lambda code=code: code in on_page(page), message=f"no {code} on the page")
            assert code in by_status(embedded.url)
        for name in ("aggregator", "consumer"):
            wait_until(lambda name=name: evicting(running, name, embedded) == 1, message=name)
        assert running.ready("aggregator"), "it keeps running"

        configure(embedded, "maxmemory-policy", "noeviction")
        wait_until(lambda: "eviction" not in on_page(page), message="still on the page")
        assert "eviction" not in by_status(embedded.url)
        wait_until(lambda: evicting(running, "aggregator", embedded) == 0, message="still 1")


def test_the_users_of_the_services_see_the_policy_and_ask_for_nothing_forbidden(
    tmp_path: Path, redis_binary: Path | None
) -> None:
    options = {
        **EVICTING,
        "aclfile": str(acl_file(tmp_path)),
        "cluster-require-full-coverage": "yes",
    }
    with EmbeddedCluster(masters=1, binary=redis_binary, options=options) as cluster:
        found = by_status(cluster.url, username="hourglass-auditor", password=PASSWORD)
        assert "eviction" in found
        assert "full-coverage" not in found, "it takes CONFIG, which this user may not call"
        with services(cluster.url, HOURGLASS_REDIS_PASSWORD=PASSWORD) as running:
            running.aggregator("aggregator", "--redis-username", "hourglass-aggregator")
            assert running.exit_status("aggregator") == 1
            assert "may evict readings" in running.said("aggregator")
        assert denials(cluster.nodes) == set()


def configure(cluster: EmbeddedCluster, name: str, value: str) -> None:
    for node in cluster.nodes:
        with bootstrap.client(node.port) as client:
            client.config_set(name, value)


def evicting(running: Services, name: str, cluster: EmbeddedCluster) -> float | None:
    (port,) = cluster.ports
    shard = f'{{shard="127.0.0.1:{port}"}}'
    return running.metric(name, f"hourglass_redis_eviction_possible{shard}")


def on_page(page: str) -> Sequence[str]:
    return [each["code"] for each in ask(page, "api/status").json()["problems"]]


def by_status(url: str, *, username: str = "", password: str = "") -> Sequence[str]:
    """What `hourglass status` names of an empty pipeline."""
    with closing(connect(url, keyspace=KEYS, username=username, password=password)) as cluster:
        return [each.code for each in gather(cluster, PipelineClock(cluster), period_s=1).problems]
