"""A browser that may ask nobody but the page's own server, and a page with hours in it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.pipeline import Pipeline, at, reading
from tests.support.services import Services, services
from tests.support.visiting import (
    NAME,
    PATIENCE_MS,
    PROGRAMS,
    Visitor,
    chromium,
    serve,
    settled,
    unlike,
)


@pytest.fixture(scope="package")
def browser() -> Generator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is on PATH")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, running: Services) -> Generator[Visitor]:  # noqa: ARG001
    """A test in which the browser complains, or asks another host, fails at its end. Leaves
    before the services stop, of which a browser would complain."""
    visitor = Visitor(browser)
    yield visitor
    visitor.close()
    assert visitor.said == []
    assert visitor.hosts <= {"127.0.0.1"}


@pytest.fixture
def running(redis_url: str, pipeline: Pipeline) -> Generator[Services]:  # noqa: ARG001
    with services(redis_url) as running:
        yield running
        with suppress(KeyError):
            running.kill(NAME)


@pytest.fixture
def warehouse_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/warehouse.db"


@pytest.fixture
def url(running: Services, pipeline: Pipeline, warehouse_url: str) -> str:
    """A page with hours 0 to 8 of a day, but for 4, and half of hour 9."""
    pipeline.drive(at(9, 30))
    pipeline.publish(*(unlike(hour) for hour in range(9) if hour != 4))
    pipeline.produce(*(reading(at(9, minute), 65.0) for minute in range(30)))
    pipeline.count()
    return serve(running, warehouse_url)


@pytest.fixture
def page(visitor: Visitor, url: str) -> Page:
    """That page, opened, with all of it shown."""
    return settled(visitor.open(url))
