"""One redis-server by itself, as a user starts it who forms no cluster."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from hourglassctl.local.bootstrap import free_ports
from hourglassctl.local.embedded import find_server
from tests.support.waiting import wait_until


@contextmanager
def plain_redis(tmp_path: Path, *options: str) -> Generator[str]:
    """`host:port` of a server that is started with `options`, the first of which may be a
    file; cluster mode is off by default."""
    port, bus_port = free_ports(1)[0]
    server = subprocess.Popen(
        [
            str(find_server().binary), *options,
            "--port", str(port), "--cluster-port", str(bus_port), "--save", "",
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: _listens(port), message="redis-server does not listen")
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
