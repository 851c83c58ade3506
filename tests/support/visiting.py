"""Visiting the web page with a real browser, headless."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from hourglass.model.averages import HourlyAverage
from tests.support.services import Services
from tests.support.snapshots import average

NAME = "averages-consumer"
PATIENCE_MS = 30_000
#: On Debian the package chromium; elsewhere whatever of its kind there is.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """The browser on PATH."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass
class Visitor:
    """Opens pages, and keeps what the browser asked for and complained of."""

    browser: Browser
    said: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])
    _contexts: list[BrowserContext] = field(default_factory=list[BrowserContext])

    def open(self, url: str, *, state: str = "live", blocked: str = "", **options: Any) -> Page:
        """The page, once it says that it is in that state; `options` are the browser context's.

        blocked: a file that the browser does not get
        """
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        context.on("request", lambda request: self.asked.append(request.url))
        page = context.new_page()
        if blocked:
            page.route(f"**/{blocked}", lambda route: route.abort())
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.goto(url)
        if state:
            page.wait_for_selector(f"[data-state={state}]")
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        self.said.append(f"{message.type}: {message.text}")

    def close(self) -> None:
        while self._contexts:
            self._contexts.pop().close()

    @property
    def hosts(self) -> set[str]:
        """Whom the browser asked."""
        return {str(urlsplit(url).hostname) for url in self.asked}


def serve(running: Services, warehouse_url: str, *options: str) -> str:
    """Start an averages consumer; the address of its page."""
    running.start(NAME, "averages_consumer", "--warehouse-url", warehouse_url, *options)
    return running.page(NAME)


def unlike(hour: int) -> HourlyAverage:
    """An average that no other hour has; every third hour lacks a quarter of its readings."""
    count = 7200 if hour % 3 else 5400
    return average(
        hour,
        count=count,
        sum_milli_f=count * (50_000 + 1_250 * hour),
        min_milli_f=40_000 - 500 * hour,
        max_milli_f=60_000 + 2_000 * hour,
    )


def settled(page: Page) -> Page:
    """The page of the fixture `url`, once all of it is shown."""
    expect(page.locator("#hours tbody tr")).to_have_count(8)
    expect(page.locator("#partitions tbody tr")).to_have_count(1)
    return page


def violations(page: Page) -> list[str]:
    """What axe finds wrong, by the rules of WCAG 2.2 AA and its own best practices."""
    # Off unless asked for, though WCAG 2.2 has it.
    options = {"rules": {"target-size": {"enabled": True}}}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]
