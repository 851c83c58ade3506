"""The pipeline's processes, on the shared cluster."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.support.services import Services, services


@pytest.fixture(
    params=[
        pytest.param(1, id="one lane"),
        pytest.param(3, id="three lanes", marks=pytest.mark.extended),
    ]
)
def lanes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def running(redis_url: str) -> Generator[Services]:
    with services(redis_url) as running:
        yield running
