"""How a program's output ends: its reader has gone, its disk is full, its encoding has no such
mark. Real processes, pipes and devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from hourglass.service.cli import add_command, application, invoke
from hourglass.service.config import RedisSettings

def run(settings: RedisSettings) -> None:
    "Print."
    {body}

app = application()
add_command(app, RedisSettings, run)
invoke(app, "speaker")
"""
MUCH = "[print('x' * 1000) for _ in range(10_000)]"
LITTLE_AND_UNHEALTHY = "print('x'); sys.exit(1)"


def spoken(body: str, after: str = "", **environment: str) -> tuple[str, str]:
    """Standard output and standard error; the last line of that is the exit status."""
    shell = f'("$0" -c "$1"; echo $? >&2) {after}'
    ended = subprocess.run(
        ["sh", "-c", shell, sys.executable, PROGRAM.format(body=body)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        check=True,
    )
    return ended.stdout.decode(errors="replace"), ended.stderr.decode()


@pytest.mark.parametrize("body", [MUCH, "[(print(1), sys.stdout.flush()) for _ in range(100_000)]"])
def test_a_reader_who_has_seen_enough_is_no_error(body: str) -> None:
    assert spoken(body, "| head -n 1 > /dev/null")[1] == "141\n"


def test_a_reader_that_closed_early_is_not_reported_as_a_finding() -> None:
    until_gone = "import select; gone = select.poll(); gone.register(1, 0); gone.poll()"

    assert spoken(f"{until_gone}; {LITTLE_AND_UNHEALTHY}", "| true")[1] == "141\n"


@pytest.mark.parametrize("body", [MUCH, LITTLE_AND_UNHEALTHY])
def test_a_full_disk_is_one_line(body: str) -> None:
    message = "speaker: standard output cannot be written: No space left on device"

    assert spoken(body, "> /dev/full")[1] == f"{message}\n1\n"


def test_a_closed_output_is_no_error() -> None:
    assert spoken("print(1)", ">&-")[1] == "0\n"


def test_the_exit_status_is_the_programs_own() -> None:
    assert spoken(LITTLE_AND_UNHEALTHY) == ("x\n", "1\n")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "█·▒ 50 °F é"), ("latin-1", "#·+ 50 °F é"), ("ascii", "#.+ 50 F ?")],
)
def test_an_encoding_without_the_marks_gets_plainer_ones(
    encoding: str, shown: str, tmp_path: Path
) -> None:
    file = tmp_path / "output"
    spoken("print('█·▒ 50 °F é')", f"> '{file}'", PYTHONIOENCODING=encoding)

    assert file.read_text(encoding=encoding) == f"{shown}\n"
