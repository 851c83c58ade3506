"""What the images carry is what the project declares, at the versions that are tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-arrays.lock", "requirements-warehouse.lock"]
)
def test_an_image_has_the_versions_that_the_tests_run_with(lock: str) -> None:
    assert pins(lock) - pins("requirements-dev.lock") == set()


def test_what_two_locks_share_is_the_same_in_both() -> None:
    service, warehouse = pins("requirements.lock"), pins("requirements-warehouse.lock")

    shared = {pin.partition("==")[0] for pin in service} & {
        pin.partition("==")[0] for pin in warehouse
    }

    assert {pin for pin in service ^ warehouse if pin.partition("==")[0] in shared} == set()
