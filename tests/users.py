"""The users of deploy/redis/users.acl, on a cluster of the test's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from hourglassctl import formation
from hourglassctl.embedded import Node

FILE = Path(__file__).resolve().parent.parent / "deploy" / "redis" / "users.acl"
PASSWORD = "p@ss/word:1"


def rules() -> dict[str, str]:
    """What each user may do, by name."""
    lines = (line.split(" ", 3) for line in FILE.read_text(encoding="utf-8").splitlines())
    return {name: rules for _user, name, _off, rules in lines}


def grant(nodes: Iterable[Node]) -> None:
    """Make the users on each node, all with PASSWORD; replicas do not learn them from masters."""
    for node in nodes:
        with formation.client(node.port) as client:
            for name, allowed in rules().items():
                cast(Any, client).execute_command(
                    "ACL SETUSER", name, "reset", *words(allowed), "on", f">{PASSWORD}"
                )


def denials(nodes: Iterable[Node]) -> set[tuple[str, str, str]]:
    """Who was refused what, and why, on nodes that answer."""
    found: set[tuple[str, str, str]] = set()
    for node in nodes:
        if not node.responds:
            continue
        with formation.client(node.port) as client:
            entries: list[dict[str, Any]] = cast(Any, client).acl_log()
        found |= {(each["username"], each["object"], each["reason"]) for each in entries}
    return found


def words(rules: str) -> list[str]:
    """A selector in parentheses is one word."""
    words: list[str] = []
    for part in rules.split(" "):
        if words and words[-1].startswith("(") and not words[-1].endswith(")"):
            words[-1] += f" {part}"
        else:
            words.append(part)
    return words
