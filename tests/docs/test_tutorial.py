"""The commands of a page are run in one shell, and say what the page says."""

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

from hourglassctl.local.bootstrap import free_ports
from hourglassctl.local.processes import ProcessGroup
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.extended

DOCS = Path(__file__).resolve().parents[2] / "docs"
#: The programs of each page, and the Debian packages that have them.
PAGES = {
    "tutorial": {"redis-cli": "redis-tools"},
    "devices": {
        "redis-cli": "redis-tools",
        "/usr/sbin/mosquitto": "mosquitto",
        "mosquitto_pub": "mosquitto-clients",
    },
}
each_page = pytest.mark.parametrize("page", PAGES)
#: The one block that is not run: whoever runs the tests has done it.
SETUP = """\
make setup
. .venv/bin/activate
mkdir -p /tmp/{folder} && cd /tmp/{folder}
"""
_BLOCK = re.compile(r"^```console( until)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command, and what the page says that it says; `until`: after a while."""

    command: str
    said: str
    until: bool


def steps(page: str) -> Iterator[Step]:
    for block in _BLOCK.finditer((DOCS / f"{page}.md").read_text(encoding="utf-8")):
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
                "MQTT_PORT": str(free_ports(1)[0][0]),
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


# Some fifty commands, one after the other, on a clock that runs.
@pytest.mark.timeout(600)
@each_page
def test_each_command_says_what_the_page_says(shell: Shell, page: str) -> None:
    for program, package in PAGES[page].items():
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH (Debian: {package})")
    tried = 0
    for step in steps(page):
        tried += 1
        said = shell.run(step.command)
        give_up = time.monotonic() + (PATIENCE_S if step.until else 0)
        while not is_said(step.said, said):
            assert time.monotonic() < give_up, f"{step.command} said:\n{said}\nnot:\n{step.said}"
            time.sleep(0.2)
            said = shell.run(step.command)
    assert tried > 15


@each_page
def test_every_block_is_run_or_is_the_setup(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    folder = "exercise" if page == "tutorial" else page
    blocks = re.findall(r"^```(.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    run = [block for block in blocks if block[0] in ("console", "console until")]
    assert [block for block in blocks if block not in run] == [("", SETUP.format(folder=folder))]
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
