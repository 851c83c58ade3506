"""One installation that the whole session shares: each file disrupts it, and then audits."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
import yaml

from tests.kubernetes.cluster import Namespace, no_cluster
from tests.kubernetes.installation import ROOT, SERVICES, Images, Installation
from tests.kubernetes.prometheus import NoPrometheus, Prometheus


@dataclass(slots=True)
class Story:
    """What the session made, and what it measured."""

    namespaces: list[Namespace] = field(default_factory=list[Namespace])
    snapshots: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    measured: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def measure(self, what: str, seconds: float) -> None:
        """Reported at the end of the run, never asserted."""
        self.measured.append((what, f"{seconds:.1f} s"))

    @contextmanager
    def measured_as(self, what: str) -> Generator[None]:
        """Measure what happens within."""
        began = time.monotonic()
        yield
        self.measure(what, time.monotonic() - began)

    @contextmanager
    def namespace(self, name: str, helm_binary: str = "helm") -> Generator[Namespace]:
        """A new one, removed in the end; KEEP=1 in the environment keeps it. What an error left
        is recorded before."""
        namespace = Namespace(name, helm_binary)
        if namespace.exists:
            pytest.fail(
                f"namespace {name} is there already: choose another NAMESPACE, or remove it with "
                f"make down NAMESPACE={name}",
                pytrace=False,
            )
        self.namespaces.append(namespace)
        try:
            yield namespace
        except BaseException:
            self.snapshots.append(self.snapshot(namespace))
            raise
        finally:
            self.namespaces.remove(namespace)
            if os.environ.get("KEEP") != "1":
                namespace.delete()

    @staticmethod
    def snapshot(namespace: Namespace) -> tuple[str, str]:
        return f"namespace {namespace.name}", namespace.described()


_STORY = pytest.StashKey[Story]()


@pytest.fixture(scope="session")
def story(pytestconfig: pytest.Config) -> Story:
    return pytestconfig.stash.setdefault(_STORY, Story())


@pytest.fixture(scope="session")
def images(pytestconfig: pytest.Config) -> Images:
    """What is to be installed. Nothing is, on whatever cluster kubectl happens to reach, unless
    these very tests are selected."""
    images = Images.from_environment()
    if images is None or pytestconfig.getoption("markexpr") != "kubernetes":
        pytest.skip("installs on a cluster: `make e2e` runs it")
    reason = no_cluster()
    if reason:
        pytest.fail(reason, pytrace=False)
    return images


@pytest.fixture(scope="session")
def base_namespace() -> str:
    """Every namespace of the session is this one, or begins with it."""
    return os.environ.get("NAMESPACE", "hourglass-e2e")


@pytest.fixture(scope="session")
def installation(images: Images, base_namespace: str, story: Story) -> Generator[Installation]:
    """Three shards and one pod of each service, on a clock that runs since before the first
    reading. The time it took is measured."""
    with ExitStack() as resources:
        namespace = resources.enter_context(story.namespace(base_namespace))
        installed = Installation(namespace, images)
        installed.ledger.open()
        resources.callback(installed.ledger.close)
        began = time.monotonic()
        installed.make("up", CHARTS="redis-cluster-dev")
        story.measure("Redis Cluster of three shards ready", time.monotonic() - began)
        installed.install_operator()
        installed.run_clock()
        installed.make("up")
        story.measure("everything ready", time.monotonic() - began)
        installed.await_averages(1)
        story.measure("first average published", time.monotonic() - began)
        yield installed


@pytest.fixture(scope="session")
def prometheus(images: Images) -> Prometheus:  # noqa: ARG001
    """The cluster's own. Without one, there is nothing to be shown."""
    try:
        return Prometheus.find()
    except NoPrometheus as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def monitored(
    images: Images,
    base_namespace: str,
    story: Story,
    prometheus: Prometheus,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Installation]:
    """A second installation, that Prometheus scrapes: the averages consumer by a ServiceMonitor,
    the others by PodMonitors."""
    selected = tmp_path_factory.mktemp("values") / "selected.yaml"
    labels = {kind: {"labels": dict(of)} for kind, of in prometheus.labels.items()}
    selected.write_text(yaml.safe_dump(labels), encoding="utf-8")
    profiles = ROOT / "deploy" / "profiles"
    flags = {
        chart: ["--values", str(selected), "--values", str(profiles / "monitoring.yaml")]
        for chart in SERVICES
    }
    flags["aggregator"] += ["--values", str(profiles / "monitoring-aggregator.yaml")]
    for each in ("podMonitor.enabled=false", "serviceMonitor.enabled=true"):
        flags["averages-consumer"] += ["--set", each]
    # A name of its own: Prometheus shows what a run minutes ago left behind as if it were of now.
    name = f"{base_namespace}-monitored-{secrets.token_hex(2)}"
    with ExitStack() as resources:
        namespace = resources.enter_context(story.namespace(name))
        installed = Installation(namespace, images, flags)
        installed.ledger.open()
        resources.callback(installed.ledger.close)
        installed.upgrade("redis-cluster-dev")
        installed.install_operator()
        installed.run_clock()
        for chart in SERVICES:
            installed.upgrade(chart)
        yield installed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the cluster looked like at that moment."""
    report = yield
    if report.failed and item.get_closest_marker("kubernetes"):
        story = item.config.stash.get(_STORY, Story())
        report.sections += [*story.snapshots, *map(story.snapshot, story.namespaces)]
        story.snapshots.clear()
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    story = config.stash.get(_STORY, Story())
    if story.measured:
        terminalreporter.section("on the cluster, from nothing")
        for what, value in story.measured:
            terminalreporter.write_line(f"{what:40} {value:>10}")
