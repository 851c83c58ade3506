"""What `redis-cluster-dev` appends to its file is there again after a restart, whoever wrote it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis, RedisError

from hourglassctl.local.bootstrap import free_ports
from hourglassctl.local.embedded import find_server
from hourglassctl.local.processes import ProcessGroup
from tests.support.waiting import wait_until

USERS = Path(__file__).parents[2] / "charts/redis-cluster-dev/files/auth.sh"
TWO_WRITES = "redis.call('SET', KEYS[1], '1') redis.call('SET', KEYS[2], '2')"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of one server with the chart's default user, and a user who may do everything."""
    default = re.search(r'echo "(user default .*)"', USERS.read_text())
    assert default
    ((port, bus), *_) = free_ports(1)
    config = tmp_path / "redis.conf"
    config.write_text(
        f"port {port}\ncluster-port {bus}\nbind 127.0.0.1\ndir {tmp_path}\n"
        'save ""\nappendonly yes\n'
        f"{default[1]}\nuser meter on >secret ~* &* +@all\n"
    )
    return config


@contextmanager
def server(config: Path) -> Generator[Redis]:
    """The server until it is told to stop, seen by its user."""
    port = int(config.read_text().split()[1])
    with (
        ProcessGroup("hourglass-test-") as guard,
        Redis("127.0.0.1", port, username="meter", password="secret") as client,
    ):
        process = subprocess.Popen(
            [find_server().binary, config], stdout=subprocess.DEVNULL, process_group=guard.group
        )
        try:
            wait_until(lambda: answers(client), message="redis-server does not answer")
            yield client
        finally:
            process.terminate()
            process.wait()


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def test_what_a_script_wrote_is_there_after_a_restart(config: Path) -> None:
    with server(config) as client:
        client.eval(TWO_WRITES, 2, "{a}1", "{a}2")
    with server(config) as client:
        assert client.mget("{a}1", "{a}2") == [b"1", b"2"]


def test_no_client_can_be_the_default_user(config: Path) -> None:
    with server(config) as client:
        port = client.connection_pool.connection_kwargs["port"]
        with Redis("127.0.0.1", port) as stranger:
            with pytest.raises(AuthenticationError):
                stranger.ping()
            for password in ("", "secret"):
                with pytest.raises(AuthenticationError):
                    stranger.execute_command("AUTH", "default", password)
