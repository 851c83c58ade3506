"""What is in an image, and what is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.images.conftest import REVISION, SOURCE, TAG
from tests.images.engine import ask, config, have, history
from tests.images.test_locks import pins

#: The first test builds the images.
pytestmark = [pytest.mark.images, pytest.mark.timeout(900)]

#: The project's own packages in each image.
PACKAGES = {
    "producer": {"hourglass", "producer"},
    "aggregator": {"hourglass", "aggregator"},
    "averages-consumer": {"hourglass", "averages_consumer"},
    "hourglassctl": {"hourglass", "producer", "aggregator", "averages_consumer", "hourglassctl"},
}
WITH_WAREHOUSE = {"averages-consumer", "hourglassctl"}
WITH_ARRAYS = {"producer", "aggregator", "hourglassctl"}
SERVICES = sorted(PACKAGES.keys() - {"hourglassctl"})
#: The operator's command has arrays and warehouse both, and the producer's client of MQTT.
MOST_OVER_BASE = {**dict.fromkeys(SERVICES, 120e6), "hourglassctl": 145e6}

every_image = pytest.mark.parametrize("name", PACKAGES)

LOOK = """
import json, re, shutil, stat
from importlib.metadata import distributions
from importlib.util import cache_from_source, find_spec
from pathlib import Path

app = Path("/app")
found = [each for each in distributions() if Path(each.locate_file("")) == app]
theirs = {path.parts[0] for each in found for path in each.files}
sources = list(app.rglob("*.py"))
print(json.dumps({
    "distributions": [re.sub("[-_.]+", "-", each.name).lower() for each in found],
    "own": [each.name for each in app.iterdir() if each.name not in {*theirs, "__pycache__"}],
    "installers": [each for each in INSTALLERS if find_spec(each)],
    "programs": [each for each in PROGRAMS if shutil.which(each)],
    "leftovers": [
        str(each) for each in Path("/usr").rglob("*.whl")
    ] + [str(each) for each in app.rglob("conftest.py")],
    "uncompiled": [str(each) for each in sources if not Path(cache_from_source(each)).exists()],
    "compiled": len(sources),
    "unreadable": [str(each) for each in app.rglob("*") if not each.stat().st_mode & stat.S_IROTH],
    "writable": [str(each) for each in app.rglob("*") if each.stat().st_mode & stat.S_IWOTH],
}))
"""
INSTALLERS = ("pip", "setuptools", "wheel", "ensurepip", "pkg_resources", "uv")
PROGRAMS = (
    "pip", "pip3", "uv", "easy_install", "cc", "c++", "gcc", "g++", "clang", "as", "ld", "make",
    "rustc", "go", "git",
)  # fmt: skip


@pytest.fixture(scope="module")
def look(images: Callable[[str], str]) -> Callable[[str], dict[str, Any]]:
    """What is found inside an image by its name; each is entered once."""
    seen: dict[str, dict[str, Any]] = {}
    program = f"INSTALLERS = {INSTALLERS}\nPROGRAMS = {PROGRAMS}\n{LOOK}"

    def found(name: str) -> dict[str, Any]:
        if name not in seen:
            seen[name] = ask(images(name), program)
        return seen[name]

    return found


@every_image
def test_an_image_has_the_library_and_the_package_of_its_own(
    name: str, look: Callable[[str], dict[str, Any]]
) -> None:
    assert set(look(name)["own"]) == PACKAGES[name]


@every_image
def test_an_image_has_no_dependency_that_is_not_locked_for_it(
    name: str, look: Callable[[str], dict[str, Any]]
) -> None:
    locked = pins("requirements.lock")
    if name in WITH_WAREHOUSE:
        locked |= pins("requirements-warehouse.lock")
    if name in WITH_ARRAYS:
        locked |= pins("requirements-arrays.lock")
    found = set(look(name)["distributions"])

    assert found - {pin.partition("==")[0] for pin in locked} == set()
    assert {"redis", "hiredis", "msgpack", "typer", "prometheus-client"} <= found
    assert ("sqlalchemy" in found) == ("psycopg" in found) == (name in WITH_WAREHOUSE)
    assert ("starlette" in found) == ("youplot" in found) == (name in WITH_WAREHOUSE)
    assert ("numpy" in found) == (name in WITH_ARRAYS)


@every_image
def test_an_image_can_install_and_compile_nothing(
    name: str, look: Callable[[str], dict[str, Any]]
) -> None:
    found = look(name)

    assert (found["installers"], found["programs"], found["leftovers"]) == ([], [], [])


@every_image
def test_an_image_is_compiled_readable_by_every_user_and_writable_by_none(
    name: str, look: Callable[[str], dict[str, Any]]
) -> None:
    found = look(name)

    assert found["compiled"] > 500
    assert (found["uncompiled"], found["unreadable"], found["writable"]) == ([], [], [])


@every_image
def test_spans_can_be_exported(name: str, images: Callable[[str], str]) -> None:
    exporter = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

    assert ask(images(name), f"import {exporter}; print(1)") == 1


@every_image
def test_an_image_says_what_it_is_and_runs_as_a_numbered_user(
    name: str, images: Callable[[str], str]
) -> None:
    found = config(images(name))
    labels = {
        label.removeprefix("org.opencontainers.image."): value
        for label, value in found["Labels"].items()
    }

    assert found["User"] == "10001:10001"
    assert found["Entrypoint"][:2] == ["python", "-m"], "a shell would keep the signals"
    assert not found["Cmd"]
    assert found["StopSignal"] == ("SIGINT" if name == "hourglassctl" else "SIGTERM")
    page = ["8081/tcp"] if name == "averages-consumer" else []
    assert sorted(found.get("ExposedPorts") or {}) == (
        ["8080/tcp", *page] if name in SERVICES else []
    )
    assert labels["licenses"] == "MIT"
    said = {each: labels[each] for each in ("source", "version", "revision")}
    assert said == {"source": SOURCE, "version": TAG, "revision": REVISION}


@every_image
def test_the_layers_over_the_base_stay_small(
    name: str, images: Callable[[str], str], base: str, sizes: dict[str, int]
) -> None:
    sizes[name] = sum(size for size, _ in _own_steps(images(name), base))

    assert 0 < sizes[name] < MOST_OVER_BASE[name]


@every_image
def test_an_image_tells_nothing_about_where_it_was_built(
    name: str, images: Callable[[str], str], base: str
) -> None:
    steps = "\n".join(step for _, step in _own_steps(images(name), base))
    environment = set(config(images(name))["Env"]) - set(config(base)["Env"])

    assert not re.search(
        r"://|password|secret|token|proxy|credential|index-url|pip_|/root/", steps.lower()
    )
    assert {each.partition("=")[0] for each in environment} == {
        "PYTHONPATH",
        "PYTHONSAFEPATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
        "HOURGLASS_VERSION",
        "HOURGLASS_REVISION",
    }


@pytest.fixture(scope="module")
def base(images: Callable[[str], str]) -> str:
    """The image that all of them are built on."""
    named = config(images("producer"))["Labels"]["org.opencontainers.image.base.name"]
    have(named)
    return named


def _own_steps(image: str, base: str) -> list[tuple[int, str]]:
    steps = history(image)
    return steps[: len(steps) - len(history(base))]
