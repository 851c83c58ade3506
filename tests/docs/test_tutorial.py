"""The tutorial tells what happens: its commands are run in one shell, and say what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hourglassctl.local.processes import ProcessGroup
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.extended

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
#: The one block that is not run: whoever runs the tests has done it.
SETUP = """\
make setup
. .venv/bin/activate
mkdir -p /tmp/exercise && cd /tmp/exercise
"""
_BLOCK = re.compile(r"^```console( until)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command, and what the page says that it says; `until`: after a while."""

    command: str
    said: str
    until: bool


def steps() -> Iterator[Step]:
    for block in _BLOCK.finditer(TUTORIAL.read_text(encoding="utf-8")):
        for each in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
            command, _, said = each.partition("\n")
            yield Step(command=command, said=said.strip("\n"), until=bool(block[1]))


def is_said(said: str, by: str) -> bool:
    """A line that is … stands for any lines, and else for any part of a line."""
    lines = [f"{line.rstrip()}\n" for line in by.strip("\n").split("\n")]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
        for line in said.split("\n")
    )
    return re.fullmatch(pattern, "".join(lines)) is not None


class Shell:
    """One bash, as a reader has it open."""

    def __init__(self, guard: ProcessGroup, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(folder),
                "LANG": "C.UTF-8",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=guard.group,
        )

    def run(self, command: str) -> str:
        """What it says, on either output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho; echo '<done>'\n")
        self._process.stdin.flush()
        said = ""
        for line in self._process.stdout:
            if line == "<done>\n":
                break
            said += line
        return said

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


@pytest.fixture
def shell(tmp_path: Path) -> Generator[Shell]:
    with ProcessGroup("hourglass-tutorial-") as guard:
        shell = Shell(guard, tmp_path)
        yield shell
        shell.close()


@pytest.mark.timeout(600)
def test_each_command_says_what_the_tutorial_says(shell: Shell) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not on PATH (Debian: redis-tools)")
    tried = 0
    for step in steps():
        tried += 1
        said = shell.run(step.command)
        give_up = time.monotonic() + (PATIENCE_S if step.until else 0)
        while not is_said(step.said, said):
            assert time.monotonic() < give_up, f"{step.command} said:\n{said}\nnot:\n{step.said}"
            time.sleep(0.2)
            said = shell.run(step.command)
    assert tried > 40


def test_every_block_is_run_or_is_the_setup() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    run = [block for block in blocks if block[0] in ("console", "console until")]
    assert [block for block in blocks if block not in run] == [("", SETUP)]
    assert len(_BLOCK.findall(text)) == len(run)
    assert len(re.findall("^```", text, re.MULTILINE)) == 2 * len(blocks)


@pytest.mark.parametrize(
    ("said", "by", "so"),
    [
        ("one", "one\n", True),
        ("one", "two\n", False),
        ("one", "one\ntwo\n", False),
        ("a … c", "a b c\n", True),
        ("a … c", "a\nc\n", False),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a\n…\nd", "a\nb\nc\ne\n", False),
        ("", "\n", True),
        ("", "oh\n", False),
        ("(…) [x]", "(any) [x]\n", True),
    ],
)
def test_what_is_left_out_is_within_a_line_or_whole_lines(said: str, by: str, *, so: bool) -> None:
    assert is_said(said, by) == so
