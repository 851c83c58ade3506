"""Known vulnerabilities of locked packages fail the check; a database out of reach does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytestmark = pytest.mark.extended

ROOT = Path(__file__).resolve().parent.parent.parent
#: As https://google.github.io/osv.dev/post-v1-query/ answers.
VULNERABLE = {
    "id": "GHSA-0000-1111-2222",
    "aliases": ["CVE-2026-0001"],
    "summary": "It believes whatever it is told.",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "redis", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}


@pytest.fixture
def osv() -> Generator[tuple[str, list[str]]]:
    """A database in which redis is vulnerable, and the packages it has been asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(query["package"]["name"])
            vulns = [VULNERABLE] if asked[-1] == "redis" else []
            body = json.dumps({"vulns": vulns} if vulns else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any, **__: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query", asked
        server.shutdown()


def audited(url: str, *locks: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.vulnerabilities", *locks, "--osv-url", url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_known_vulnerability_is_named_with_the_version_that_mends_it(
    osv: tuple[str, list[str]],
) -> None:
    url, asked = osv
    ended = audited(url, "requirements.lock")
    assert ended.returncode == 1
    assert "CVE-2026-0001, GHSA-0000-1111-2222; fixed in 99.1" in ended.stderr
    assert {"redis", "msgpack", "typer"} <= set(asked)


def test_a_lock_without_one_passes(osv: tuple[str, list[str]]) -> None:
    ended = audited(osv[0], "requirements-warehouse.lock")
    assert ended.returncode == 0
    assert "none known" in ended.stdout


def test_an_unreachable_database_is_reported_in_one_line_and_is_no_failure() -> None:
    ended = audited("http://127.0.0.1:1/v1/query", "requirements-warehouse.lock")
    assert ended.returncode == 0
    assert ended.stdout.startswith("vulnerabilities: not audited")
    assert len((ended.stdout + ended.stderr).splitlines()) == 1


LOCKED = f"redis==7.0.0 --hash=sha256:{'0' * 64}\n"
NOWHERE = "http://127.0.0.1:1/v1/query"


@pytest.mark.parametrize("lock", [None, "redis\n", "redis==7.0.0\n", "redis = 7\n"])
@pytest.mark.parametrize("reachable", [True, False])
def test_a_lock_that_cannot_be_audited_fails_wherever_it_stands(
    osv: tuple[str, list[str]],
    tmp_path: Path,
    lock: str | None,
    reachable: bool,  # noqa: FBT001
) -> None:
    wrong, right = tmp_path / "wrong.lock", tmp_path / "right.lock"
    right.write_text(LOCKED)
    if lock is not None:
        wrong.write_text(lock)

    ended = audited(osv[0] if reachable else NOWHERE, str(right), str(wrong))

    assert ended.returncode == 1
    assert "pip-audit failed" in ended.stderr


def test_a_database_that_answers_with_an_error_fails() -> None:
    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(500)

        def log_message(self, *_: Any, **__: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        ended = audited(url, "requirements-warehouse.lock")
        server.shutdown()
    assert ended.returncode == 1


def test_every_lock_is_audited_by_the_check() -> None:
    dry = subprocess.run(
        ["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (line,) = (each for each in dry.stdout.splitlines() if "tools.vulnerabilities" in each)
    named = line.partition("tools.vulnerabilities ")[2].split()
    asked = {path for pattern in named for path in ROOT.glob(pattern)}
    assert asked == set(ROOT.glob("requirements*.lock"))
    assert len(asked) >= 5
