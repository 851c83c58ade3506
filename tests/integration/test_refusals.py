"""What a user gets wrong is answered in one line that says what to do."""

from __future__ import annotations

import socketserver
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import pytest

from tests.support.commands import run
from tests.support.plain_redis import plain_redis

COMMANDS = {
    "hourglass-producer": ("producer",),
    "hourglass-aggregator": ("aggregator",),
    "hourglass-averages-consumer": ("averages_consumer",),
    "hourglass": ("hourglassctl", "status"),
}
SERVICES = list(COMMANDS)[:3]


def refusal(command: Sequence[str], *, url: str = "redis://127.0.0.1:1") -> tuple[int, str]:
    """Exit code and the one line on standard error."""
    ended = run(
        *command,
        HOURGLASS_REDIS_URL=url,
        HOURGLASS_CONNECT_WITHIN_S="0",
        HOURGLASS_HTTP_PORT="0",
        HOURGLASS_WEB_PORT="0",
    )
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert ended.stdout == ""
    return ended.returncode, lines[0]


@pytest.mark.parametrize("program", COMMANDS)
def test_an_unreachable_redis_is_named_with_where_it_was_looked_for(program: str) -> None:
    code, line = refusal(COMMANDS[program])
    assert code == 1
    assert line.startswith(f"{program}: no Redis answers at 127.0.0.1:1")
    assert "HOURGLASS_REDIS_URL" in line


@pytest.mark.parametrize("program", COMMANDS)
def test_a_redis_without_cluster_mode_is_refused_with_the_setting_to_change(
    program: str, tmp_path: Path
) -> None:
    with plain_redis(tmp_path) as address:
        code, line = refusal(COMMANDS[program], url=f"redis://{address}")
    assert code == 1
    assert f"{address} is not in cluster mode" in line
    assert "cluster-enabled yes" in line


@pytest.mark.parametrize("credentials", ["", "hunter2@", ":wrong-secret@", "nobody:wrong-secret@"])
def test_a_missing_or_wrong_password_is_refused_without_showing_it(
    credentials: str, tmp_path: Path
) -> None:
    with plain_redis(tmp_path, "--requirepass", "right") as address:
        code, line = refusal(("aggregator",), url=f"redis://{credentials}{address}")
    assert code == 1
    assert "HOURGLASS_REDIS_URL" in line
    assert "secret" not in line


class OldServer(socketserver.StreamRequestHandler):
    """Answers as a Redis 6.2 does. No such server can be installed beside a new one everywhere,
    and all that matters here is the version it tells."""

    def handle(self) -> None:
        while header := self.rfile.readline():
            words: list[bytes] = []
            for _ in range(int(header[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:length])
            if words[0].upper() == b"INFO":
                body = b"redis_version:6.2.14\r\ncluster_enabled:1\r\n"
                self.wfile.write(b"$%d\r\n%s\r\n" % (len(body), body))
            else:
                self.wfile.write(b"+OK\r\n")


def test_a_redis_older_than_7_is_refused_with_its_version() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldServer) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        code, line = refusal(("producer",), url=f"redis://127.0.0.1:{port}")
        server.shutdown()
    assert code == 1
    assert "has version 6.2.14: upgrade it to 7.0 or newer" in line


@pytest.mark.parametrize("program", SERVICES)
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["--http-port", "many"], "--http-port"),
        (["--http-port", "70000"], "--http-port"),
        (["--redis-url", "http://nowhere"], "redis://"),
        (["--redis-url", "redis://host:port"], "redis://"),
        (["--log-level", "loud"], "--log-level"),
        (["--name", ":a"], "HOURGLASS_NAME"),
        (["--http-host", "[::]"], "HOURGLASS_HTTP_HOST"),
    ],
)
def test_a_wrong_option_is_named(program: str, arguments: list[str], named: str) -> None:
    code, line = refusal([*COMMANDS[program], *arguments])
    assert code == 2
    assert line.startswith(f"{program}: ")
    assert named in line


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["producer", "--until", "tomorrow"], "--until"),
        (["producer", "--devices", "0"], "--devices"),
        (["producer", "--tally-file", "/nowhere/tally"], "--tally-file"),
        (["hourglassctl", "clock", "run", "--from", "noon"], "--from"),
        (["producer", "--period-s", "inf"], "--period-s"),
        (["hourglassctl", "quarantine", "redrive", "--min-temp-f", "nan"], "--min-temp-f"),
        (["aggregator", "--no-reading-f", "85;-127"], "--no-reading-f"),
        (["hourglassctl", "replay", "--start", "2025-01-01T12:00:00Z"], "--start"),
        (["hourglassctl", "demo", "--days", "0"], "--days"),
        (["hourglassctl", "audit", "--warehouse-url", "nonsense"], "warehouse"),
        (["averages_consumer", "--warehouse-url", "oracle://x"], "warehouse"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(command: list[str], named: str) -> None:
    code, line = refusal(command)
    assert code == 2
    assert named in line.lower()


@pytest.mark.parametrize("program", COMMANDS)
def test_help_names_every_option_with_its_default(program: str) -> None:
    """By an interpreter of its own: nothing else has loaded what the program needs."""
    ended = subprocess.run(
        [sys.executable, "-m", *COMMANDS[program], "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--redis-url" in ended.stdout
    assert "HOURGLASS_REDIS_URL" in ended.stdout
    assert "default" in ended.stdout
