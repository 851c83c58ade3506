"""The users of deploy/redis/users.acl, on a cluster of the test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from hourglass.model.keys import PIPELINE
from hourglassctl.local import bootstrap
from tests.support.cluster import Node
from tests.support.keyspace import KEYS

FILE = Path(__file__).resolve().parents[2] / "deploy" / "redis" / "users.acl"
PASSWORD = "p@ss/word:1"


def names() -> list[str]:
    return [line.split(" ")[1] for line in FILE.read_text(encoding="utf-8").splitlines()]


def acl_file(folder: Path, *, state: str = f"on >{PASSWORD}", others: Sequence[str] = ()) -> Path:
    """A file for Redis' `aclfile`: the users, all with PASSWORD, and the default user, who still
    may do anything, to form the cluster and replicate.

    The users have their usual names and the keys of this worker's pipeline.

    others: names of pipelines whose users are there as well, as users.sh makes them
    """
    file = folder / "users.acl"
    users = FILE.read_text(encoding="utf-8").replace(f"{PIPELINE}:", f"{KEYS.pipeline}:")
    users += "".join(made_by_users_sh(folder, pipeline) for pipeline in others)
    users = users.replace(" off ", f" {state} ")
    file.write_text(f"user default on nopass ~* &* +@all\n{users}")
    return file


def made_by_users_sh(passwords: Path, *pipeline: str) -> str:
    """What the script prints."""
    script = FILE.with_name("users.sh")
    return subprocess.run(
        ["sh", script, passwords, *pipeline], capture_output=True, text=True, check=True
    ).stdout


def denials(nodes: Iterable[Node]) -> set[tuple[str, str, str]]:
    """Who was refused what, and why, on nodes that answer."""
    found: set[tuple[str, str, str]] = set()
    for node in nodes:
        with bootstrap.client(node.port) as client:
            entries: list[dict[str, Any]] = cast(Any, client).acl_log()
        found |= {(each["username"], each["object"], each["reason"]) for each in entries}
    return found
