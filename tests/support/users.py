"""The users of deploy/redis/users.acl, on a cluster of the test's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from hourglassctl import formation
from tests.support.cluster import Node

FILE = Path(__file__).resolve().parents[2] / "deploy" / "redis" / "users.acl"
PASSWORD = "p@ss/word:1"


def names() -> list[str]:
    return [line.split(" ")[1] for line in FILE.read_text(encoding="utf-8").splitlines()]


def acl_file(folder: Path, *, state: str = f"on >{PASSWORD}") -> Path:
    """A file for Redis' `aclfile`: the users, all with PASSWORD, and the default user, who still
    may do anything, to form the cluster and replicate."""
    file = folder / "users.acl"
    users = FILE.read_text(encoding="utf-8").replace(" off ", f" {state} ")
    file.write_text(f"user default on nopass ~* &* +@all\n{users}")
    return file


def denials(nodes: Iterable[Node]) -> set[tuple[str, str, str]]:
    """Who was refused what, and why, on nodes that answer."""
    found: set[tuple[str, str, str]] = set()
    for node in nodes:
        with formation.client(node.port) as client:
            entries: list[dict[str, Any]] = cast(Any, client).acl_log()
        found |= {(each["username"], each["object"], each["reason"]) for each in entries}
    return found
