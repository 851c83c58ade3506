"""A real Redis Cluster for every test that asks for one."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings
from redis.cluster import ClusterNode, RedisCluster

from hourglass.cluster.seed import RedisUrl
from hourglass.model.keys import PIPELINE
from hourglassctl.local import bootstrap
from tests.support import providers
from tests.support.cluster import EmbeddedCluster
from tests.support.keyspace import KEYS
from tests.support.leftovers import delete_keys
from tests.support.pipeline import Pipeline
from tests.support.providers import Provider, Unavailable

#: Most seconds of a test with this mark that names no other limit: it takes real time, or waits for
#: several processes one after the other.
TIMEOUTS_S = {"extended": 300, "system": 180}

# The same examples in every run: a failure is then one of the code. `--hypothesis-profile=search
# --hypothesis-seed=N` looks for others.
settings.register_profile("hourglass", derandomize=True, deadline=None)
settings.register_profile("search", print_blob=True, deadline=None)
settings.load_profile("hourglass")

_PROVIDER = pytest.StashKey[Provider | Unavailable]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hourglass")
    group.addoption(
        "--redis",
        default="auto",
        metavar="docker|path|wheel|SERVER",
        help="where the shared Redis Cluster comes from (default: the first that can serve); of a "
        "wheel, or of a SERVER (a path, or a name on PATH), are the clusters of single tests too",
    )
    group.addoption("--redis-image", default="redis:8", help="the image for --redis docker")
    group.addoption(
        "--redis-url",
        metavar="URL",
        help="a running Redis Cluster of three masters without a password, for one test process; "
        "the tests delete keys of pipelines named test-…, and no others",
    )


def pytest_configure(config: pytest.Config) -> None:
    wanted = str(config.getoption("--redis"))
    image = str(config.getoption("--redis-image"))
    # The port of a node that is down, or not up yet, is not drawn by another worker.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    cast(Any, bootstrap).PORTS = bootstrap.PORTS[worker::workers]
    # For commands that a test runs; for services, see tests/support/services.py.
    os.environ["HOURGLASS_PIPELINE"] = KEYS.pipeline
    if url := config.getoption("--redis-url"):
        if "PYTEST_XDIST_WORKER" in os.environ:
            raise pytest.UsageError("--redis-url: tests look at a server's own counters, so one at "
                                    "a time can use it: leave out -n")  # fmt: skip
        config.stash[_PROVIDER] = providers.running(str(url))
        return
    try:
        provider = config.stash[_PROVIDER] = providers.choose(wanted, image)
    except Unavailable as reason:
        if wanted != "auto":
            raise pytest.UsageError(str(reason)) from None
        # Tests of the pure core run all the same; the others say why they cannot.
        config.stash[_PROVIDER] = reason
    else:
        if provider.server:
            first_on_path = ExitStack()
            first_on_path.enter_context(providers.redis_server_is(provider.server.binary))
            config.add_cleanup(first_on_path.close)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Without the worker's name: a test has the same id in all of them."""
    return val.replace(KEYS.pipeline, PIPELINE) if isinstance(val, str) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark, timeout_s in TIMEOUTS_S.items():
            if item.get_closest_marker(mark) and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(timeout_s))


def pytest_report_header(config: pytest.Config) -> str:
    provider = config.stash[_PROVIDER]
    return f"redis: {provider.description if isinstance(provider, Provider) else provider}"


@pytest.fixture(scope="session")
def redis_url(pytestconfig: pytest.Config) -> Generator[str]:
    """A cluster of three masters that the whole session shares."""
    provider = pytestconfig.stash[_PROVIDER]
    if isinstance(provider, Unavailable):
        pytest.fail(str(provider), pytrace=False)
    with provider.cluster() as url:
        yield url


@pytest.fixture(scope="session")
def _client(redis_url: str) -> Generator[RedisCluster]:  # pyright: ignore[reportUnusedFunction]
    """Of the shared cluster, which has no key of this worker's pipeline."""
    nodes = [ClusterNode(host, port) for host, port in RedisUrl.parse(redis_url).nodes]
    with RedisCluster(startup_nodes=nodes, decode_responses=False, protocol=2) as client:
        delete_keys(client, KEYS)
        yield client


@pytest.fixture
def redis(_client: RedisCluster) -> Generator[RedisCluster]:
    """A client of the shared cluster, which has no key of this worker's pipeline before the test; a
    key that the test leaves behind with neither TTL nor cap is the test's failure."""
    yield _client
    if kept := delete_keys(_client, KEYS):
        pytest.fail(f"keys without TTL or cap: {', '.join(kept)}", pytrace=False)


@pytest.fixture(scope="session")
def redis_binary(pytestconfig: pytest.Config) -> Path | None:
    """The server for clusters of a test's own; None leaves the choice to EmbeddedCluster."""
    provider = pytestconfig.stash[_PROVIDER]
    server = provider.server if isinstance(provider, Provider) else None
    return server.binary if server else None


@pytest.fixture
def pipeline(redis: RedisCluster, redis_url: str) -> Generator[Pipeline]:  # noqa: ARG001
    """Its steps, on an empty cluster; keys left behind without TTL or cap fail the test."""
    with Pipeline(redis_url) as pipeline:
        yield pipeline


@pytest.fixture
def embedded(
    request: pytest.FixtureRequest, redis_binary: Path | None
) -> Generator[EmbeddedCluster]:
    """A cluster of this test's own, to kill, pause and restart nodes of.

    `@pytest.mark.embedded(replicas=1, node_timeout_ms=500)` passes options to EmbeddedCluster.
    """
    marker = request.node.get_closest_marker("embedded")
    options: dict[str, Any] = {"binary": redis_binary, **(marker.kwargs if marker else {})}
    if options.get("persistence"):
        # While a background fsync of `everysec` takes its time, Redis answers before it writes: a
        # killed node would have lost what it had acknowledged.
        options["options"] = {"appendfsync": "always", **options.get("options", {})}
    with EmbeddedCluster(**options) as cluster:
        yield cluster
