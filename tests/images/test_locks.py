"""What the images carry is what the project declares, at the versions that are tested."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-arrays.lock", "requirements-warehouse.lock")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(lock: str) -> set[str]:
    return set(re.findall(r"^[a-z0-9-]+==[^ ;]+", (ROOT / lock).read_text(), re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    """`redis[hiredis]>=8.0` is `redis[hiredis]`."""
    return {re.split("[<>=~;! ]", each)[0] for each in requirements}


def test_every_dependency_is_in_an_image() -> None:
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"]

    declared = names([*project["dependencies"], *extras["postgres"], *extras["otlp"]])

    assert names([*groups["service"], *groups["arrays"], *groups["warehouse"]]) == declared


@pytest.mark.parametrize("lock", LOCKS)
def test_an_image_has_the_versions_that_the_tests_run_with(lock: str) -> None:
    assert pins(lock) - pins("requirements-dev.lock") == set()


def test_what_two_locks_share_is_the_same_in_both() -> None:
    service, warehouse = pins("requirements.lock"), pins("requirements-warehouse.lock")

    shared = {pin.partition("==")[0] for pin in service} & {
        pin.partition("==")[0] for pin in warehouse
    }

    assert {pin for pin in service ^ warehouse if pin.partition("==")[0] in shared} == set()


@pytest.mark.images
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_wheel_for_either_architecture(
    lock: str, architecture: str, tmp_path: Path
) -> None:
    (python,) = re.findall(r"^ARG PYTHON_IMAGE=python:(\S+)-slim", DOCKERFILE, re.MULTILINE)
    subprocess.run(
        [
            find_uv_bin(), "--no-config", "pip", "install", "--dry-run", "--quiet",
            "--target", tmp_path, "--no-deps", "--only-binary", ":all:", "--require-hashes",
            "--python-version", python, "--python-platform", f"{architecture}-unknown-linux-gnu",
            "--requirement", ROOT / lock,
        ],
        check=True,
    )  # fmt: skip
