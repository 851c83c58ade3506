"""Three masters in one container, reachable from outside under the addresses they tell."""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import redis
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from hourglassctl.local import bootstrap
from hourglassctl.local.bootstrap import HOST, Member

START_TIMEOUT_S = 60.0
LIFE_S = 3600


@contextmanager
def docker_cluster(image: str) -> Generator[str]:
    """Yields the cluster's URL.

    Each port is the same inside and outside and is announced with loopback's address, so the
    clients outside and the nodes inside take the same way.
    """
    masters = bootstrap.plan(bootstrap.free_ports(3), masters=3)
    # The container ends by itself if its starter cannot end it: testcontainers' own reaper is an
    # image more to be fetched, and where it cannot be had, nothing would start at all.
    testcontainers_config.ryuk_disabled = True
    life = f"sleep {LIFE_S}"
    script = "\n".join([*(_start(member, masters) for member in masters), life])
    container = DockerContainer(image).with_command(["sh", "-c", script])
    container.with_kwargs(auto_remove=True)
    for member in masters:
        cast(Any, container.ports)[f"{member.port}/tcp"] = (HOST, member.port)
    with container:
        until = time.monotonic() + START_TIMEOUT_S
        for member in masters:
            bootstrap.poll(
                lambda port=member.port: _answers(port),
                until=until,
                message=f"no answer from port {member.port} of a container of {image}",
            )
        bootstrap.take_slots(masters, until=until)
        bootstrap.await_whole(masters, until=until)
        yield "redis://" + ",".join(f"{HOST}:{member.port}" for member in masters)


def _start(member: Member, members: tuple[Member, ...]) -> str:
    """The shell lines that write one server's files and start it."""
    options = bootstrap.server_options(member, node_timeout_ms=2000)
    options |= {"protected-mode": "no", "cluster-announce-ip": HOST}
    nodes, conf = bootstrap.nodes_conf(members, member), bootstrap.redis_conf(options)
    return "\n".join(
        [
            'cd "$(mktemp -d)"',
            f"printf %s {shlex.quote(nodes)} >nodes.conf",
            f"printf %s {shlex.quote(conf)} >redis.conf",
            "redis-server redis.conf &",
        ]
    )


def _answers(port: int) -> bool:
    try:
        with bootstrap.client(port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
