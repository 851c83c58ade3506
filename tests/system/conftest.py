"""The pipeline's steps and its processes, on the shared cluster."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from redis.cluster import RedisCluster

from tests.support.pipeline import Pipeline
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
def pipeline(redis: RedisCluster, redis_url: str) -> Generator[Pipeline]:  # noqa: ARG001
    with Pipeline(redis_url) as pipeline:
        yield pipeline


@pytest.fixture
def running(redis_url: str) -> Generator[Services]:
    with services(redis_url) as running:
        yield running
