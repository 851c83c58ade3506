"""Enforced NetworkPolicies: the pipeline works, and a connection that no rule allows is refused."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence

import pytest
import yaml

from tests.kubernetes.cluster import ClusterError, Namespace
from tests.kubernetes.conftest import Story
from tests.kubernetes.installation import SERVICES, WORKLOADS, Images, Installation, audit_job
from tests.kubernetes.nodes import NODE_SELECTOR, nodes
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

REDIS = "redis-cluster-dev"
#: A policy controller follows a policy within this time, or there is none.
ENFORCED_WITHIN_S = 30.0
PORTS = {"redis": 6379, "bus": 16379, "metrics": 8080, "page": 8081}
#: Prints which of the addresses, each as host:port, accept a connection.
CONNECT = """
import json, socket, sys

def accepts(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True

print(json.dumps({address: accepts(address) for address in sys.argv[1:]}))
"""


def accepted(namespace: Namespace, pod: str, addresses: Sequence[str]) -> dict[str, bool]:
    """Whether each address accepts a connection from a pod."""
    return json.loads(namespace.exec(pod, "python", "-c", CONNECT, *addresses))


def start_pod(namespace: Namespace, images: Images, name: str, command: str, node: str) -> None:
    """A pod that runs Python and has no policy of its own."""
    spec = audit_job(images, namespace)["spec"]["template"]["spec"]
    spec |= {"terminationGracePeriodSeconds": 0, "nodeSelector": {"kubernetes.io/hostname": node}}
    spec["containers"][0] |= {"command": ["python", "-c", command], "args": [], "env": []}
    metadata = {"name": name, "labels": {"app": name}}
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    namespace.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=180s")


def address(namespace: Namespace, pod: str, port: int) -> str:
    return f"{namespace.get('pod', pod)['status']['podIP']}:{port}"


WAIT = "import signal; signal.pause()"


@pytest.fixture(scope="module")
def outside(images: Images, base_namespace: str, story: Story) -> Generator[Namespace]:
    """A namespace of strangers, with a pod on a node that enforces policies. Skips if none does."""
    with story.namespace(f"{base_namespace}-outside") as namespace:
        namespace.create(purpose="monitoring")
        deny = {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]}
        server = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080)"
        namespace.apply(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "deny"},
                "spec": deny,
            }
        )
        (node, *_) = sorted(nodes())
        start_pod(namespace, images, "server", server, node)
        start_pod(namespace, images, "stranger", WAIT, node)
        denied = address(namespace, "server", 8080)
        try:
            wait_until(
                lambda: not accepted(namespace, "stranger", [denied])[denied],
                ENFORCED_WITHIN_S,
                "not enforced",
            )
        except AssertionError:
            pytest.skip("the cluster's network does not enforce NetworkPolicies")
        yield namespace


@pytest.fixture(scope="module")
def guarded(
    images: Images,
    base_namespace: str,
    story: Story,
    outside: Namespace,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Installation]:
    """Every peer is named: clients of Redis, Redis, and the namespace that scrapes and opens the
    page."""
    folder = tmp_path_factory.mktemp("policies")
    clients = [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "hourglass"}}},
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "operator"}}},
    ]
    monitoring = [{"namespaceSelector": {"matchLabels": {"purpose": "monitoring"}}}]
    redis = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": REDIS}}}]
    named = {REDIS: {"clientsFrom": clients}}
    for chart in SERVICES:
        named[chart] = {"metricsFrom": monitoring, "redisTo": redis}
    named["averages-consumer"]["pageFrom"] = monitoring
    node = outside.get("pod", "stranger")["spec"]["nodeName"]
    flags: dict[str, list[str]] = {}
    for chart, policy in named.items():
        file = folder / f"{chart}.yaml"
        file.write_text(yaml.safe_dump({"networkPolicy": policy}), encoding="utf-8")
        flags[chart] = ["--values", str(file), "--set", f"{NODE_SELECTOR}={node}"]
    with story.namespace(f"{base_namespace}-guarded") as namespace:
        installed = Installation(namespace, images, flags)
        installed.upgrade(REDIS)
        installed.install_operator(on=node)
        installed.run_clock()
        for chart in SERVICES:
            installed.upgrade(chart)
        start_pod(namespace, images, "neighbor", WAIT, node)
        yield installed


def endpoints(installed: Installation) -> Mapping[str, list[str]]:
    """The addresses of the pods, by what answers there."""
    found: dict[str, list[str]] = {name: [] for name in PORTS}
    for app in WORKLOADS:
        offered = ("redis", "bus") if app == REDIS else ("metrics",)
        offered += ("page",) if app == "averages-consumer" else ()
        for pod in installed.namespace.ready_pods(app):
            for name in offered:
                found[name].append(address(installed.namespace, pod, PORTS[name]))
    assert all(found.values())
    return found


def reached(installed: Installation, namespace: Namespace, pod: str) -> set[str]:
    """What a pod reaches of at least one other; no policy keeps a pod from itself."""
    own = address(namespace, pod, 0).removesuffix("0")
    return {
        name
        for name, addresses in endpoints(installed).items()
        if any(accepted(namespace, pod, [e for e in addresses if not e.startswith(own)]).values())
    }


def test_the_pipeline_works(guarded: Installation) -> None:
    guarded.await_averages(1)
    assert guarded.audit()["differences"] == []


@pytest.mark.parametrize("release", WORKLOADS)
def test_a_release_passes_its_own_test(guarded: Installation, release: str) -> None:
    output = guarded.namespace.helm("test", release, "--timeout", "3m")
    assert "Succeeded" in output


def test_monitoring_reaches_metrics_and_the_page_alone(
    guarded: Installation, outside: Namespace
) -> None:
    assert reached(guarded, outside, "stranger") == {"metrics", "page"}


def test_a_pod_that_no_rule_names_reaches_nothing(guarded: Installation) -> None:
    assert reached(guarded, guarded.namespace, "neighbor") == set()


@pytest.mark.parametrize("app", SERVICES)
def test_a_service_reaches_names_and_redis_alone(
    guarded: Installation, outside: Namespace, app: str
) -> None:
    (pod, *_) = guarded.namespace.ready_pods(app)
    foreign = [address(outside, "stranger", 6379), "kubernetes.default.svc.cluster.local:443"]
    assert reached(guarded, guarded.namespace, pod) == {"redis"}
    assert not any(accepted(guarded.namespace, pod, foreign).values())
    by_name = f"{REDIS}:6379"
    assert accepted(guarded.namespace, pod, [by_name]) == {by_name: True}


def test_a_policy_that_is_too_narrow_is_named_by_the_service(guarded: Installation) -> None:
    with pytest.raises(ClusterError, match="aggregator is not ready"):
        guarded.upgrade(
            "aggregator", "--timeout=20s",
            # Connections that exist continue, so the pods are replaced.
            **{
                "networkPolicy.redisTo[0].podSelector.matchLabels.app": "other",
                "config.batchEntries": "900",
            },
        )  # fmt: skip
    selector = "app.kubernetes.io/name=aggregator"
    logs = guarded.namespace.kubectl("logs", "--selector", selector, "--tail=50")
    assert f"{REDIS}:6379" in logs
