"""`python -m tests.web.screenshot DIRECTORY`: the README's pictures of the web page.

The page shows the exercise's data set, five days of it replayed and then the clock let run, so that
the pictures look alike on any machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

from hourglass.clock import ClockSpec, Mode
from hourglassctl.embedded import EmbeddedCluster
from hourglassctl.replay import EXERCISE_START_MS, DataSet, replay
from tests.pipeline import Pipeline
from tests.services import services
from tests.visiting import Visitor, chromium, serve
from tests.waiting import wait_until

DAYS = 5
DEVICES = 3
#: A minute in a second: the hour in progress is half full after half a minute.
SPEED = 60.0
SIZE = {"width": 1160, "height": 1200}
HALF_FULL = 40


def pictures(directory: Path) -> None:
    with (
        EmbeddedCluster() as cluster,
        Pipeline(cluster.url) as pipeline,
        services(cluster.url) as running,
        TemporaryDirectory() as files,
    ):
        data = DataSet(
            start_ms=EXERCISE_START_MS, days=DAYS, devices=DEVICES, period_ms=1000, seed=0
        )
        for name in ("aggregator-1", "aggregator-2"):
            running.aggregator(name)
        page = serve(running, f"sqlite:///{files}/warehouse.db")
        replay(pipeline.cluster, data)
        wait_until(lambda: len(pipeline.averages()) == 24 * DAYS, 120, "not all is published")
        pipeline.clock.set(
            ClockSpec(
                mode=Mode.RUNNING,
                origin_ms=data.end_ms,
                origin_real_ms=pipeline.clock.refresh().real_ms,
                speed=SPEED,
            )
        )
        running.producer("producer", "--devices", str(DEVICES))
        photograph(page, directory)


def photograph(url: str, directory: Path) -> None:
    with sync_playwright() as playwright:
        visitor = Visitor(playwright.chromium.launch(executable_path=chromium()))
        pages: dict[str, Page] = {
            "page.png": visitor.open(url, color_scheme="light", viewport=SIZE),
            "page-dark.png": visitor.open(url, color_scheme="dark", viewport=SIZE),
        }
        for name, page in pages.items():
            wait_until(lambda page=page: filled(page) >= HALF_FULL, 120, "the hour does not fill")
            page.screenshot(path=directory / name)
        visitor.close()
        visitor.browser.close()


def filled(page: Page) -> int:
    """The hour in progress, in per cent."""
    return int(page.locator("#progress").get_attribute("aria-valuenow") or 0)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    pictures(target)
