"""Which settings of Redis break a promise, and which are merely not known."""

from __future__ import annotations

from typing import Any

import pytest

from hourglass.monitoring.server_settings import ServerSettings, findings

MB = 1 << 20


def server(shard: str = "a:1", **changes: Any) -> ServerSettings:
    good: dict[str, Any] = {
        "policy": "noeviction",
        "maxmemory": 100 * MB,
        "append_only": True,
        "full_coverage": False,
    }
    return ServerSettings(shard=shard, **{**good, **changes})


def found(*servers: ServerSettings) -> list[tuple[str, str]]:
    return [(each.code, each.severity) for each in findings(servers)]


def test_what_keeps_the_promises_is_no_finding() -> None:
    assert found(server(), server("b:1", maxmemory=0)) == []


def test_what_is_unknown_is_no_finding() -> None:
    assert found(ServerSettings(shard="a:1")) == []


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl", "allkeys-lfu", "volatile-new"])
@pytest.mark.parametrize("maxmemory", [1, None], ids=["limited", "limit unknown"])
def test_any_policy_but_one_may_evict(policy: str, maxmemory: int | None) -> None:
    it = server(policy=policy, maxmemory=maxmemory)
    assert it.evicts
    assert found(it) == [("eviction", "error")]


def test_without_a_limit_nothing_is_evicted_and_the_policy_is_a_warning() -> None:
    it = server(policy="allkeys-lru", maxmemory=0)
    assert not it.evicts
    assert found(it) == [("eviction-policy", "warning")]


@pytest.mark.parametrize(
    ("change", "code"),
    [({"append_only": False}, "no-append-only-file"), ({"full_coverage": True}, "full-coverage")],
)
def test_the_other_settings_are_worth_a_note(change: dict[str, Any], code: str) -> None:
    assert found(server(**change)) == [(code, "info")]


def test_masters_with_the_same_setting_share_a_line_which_names_them_and_the_remedy() -> None:
    others = [server("b:1", policy="volatile-lru"), server("a:1", policy="volatile-lru")]
    lru, ttl = findings([server("c:1"), *others, server("d:1", policy="volatile-ttl")])
    assert lru.text.startswith("Redis at a:1, b:1 may evict")
    assert "volatile-lru" in lru.text
    assert "CONFIG SET maxmemory-policy noeviction" in lru.text
    assert ttl.text.startswith("Redis at d:1 ")


def test_the_worst_comes_first() -> None:
    everything = server(policy="allkeys-lru", append_only=False, full_coverage=True)
    idle = server("b:1", policy="allkeys-lru", maxmemory=0)
    assert [code for code, _ in found(idle, everything)] == [
        "eviction",
        "eviction-policy",
        "no-append-only-file",
        "full-coverage",
    ]
