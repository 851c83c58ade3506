"""The images, built once, where a container engine answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images.engine import no_engine

TAG = "test"
SOURCE = "source.example/hourglass"
REVISION = "0123456789abcdef0123456789abcdef01234567"
_SIZES = pytest.StashKey[dict[str, int]]()


@pytest.fixture(scope="session")
def images() -> Callable[[str], str]:
    """The reference of an image by its name. DOCKER_BUILD_FLAGS from the environment hold."""
    reason = no_engine()
    if reason:
        pytest.skip(reason)
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    build = subprocess.run(
        ["make", "images", f"TAG={TAG}", "REGISTRY=", f"SOURCE={SOURCE}", f"REVISION={REVISION}"],
        cwd=Path(__file__).parents[2],
        env=outer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if build.returncode:
        pytest.fail(f"make images:\n{build.stdout[-3000:]}", pytrace=False)
    return lambda name: f"hourglass/{name}:{TAG}"


@pytest.fixture
def sizes(pytestconfig: pytest.Config) -> dict[str, int]:
    """Bytes over the base by image; shown at the end of the run."""
    return pytestconfig.stash.setdefault(_SIZES, {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if _SIZES in config.stash:
        terminalreporter.section("images, size over the base")
        for name, size in config.stash[_SIZES].items():
            terminalreporter.write_line(f"{name:18} {size / 1e6:6.1f} MB")
