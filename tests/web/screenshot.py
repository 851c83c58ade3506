"""`python -m tests.web.screenshot DIRECTORY`: the README's pictures of the web page.

They show the exercise's data set after five days and forty minutes: the same on any machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from hourglass.model.keys import HOUR_MS, PIPELINE, Keyspace
from hourglassctl.replay import DataSet
from tests.support.cluster import EmbeddedCluster
from tests.support.pipeline import Pipeline
from tests.support.services import services
from tests.support.visiting import Visitor, chromium, serve
from tests.support.waiting import wait_until

DATA = DataSet(days=5, devices=3)
LATER_MS = 40 * 60_000
SIZE = {"width": 1160, "height": 1180}
PATIENCE_S = 300


def pictures(directory: Path) -> None:
    with (
        EmbeddedCluster() as cluster,
        Pipeline(cluster.url, keyspace=Keyspace()) as pipeline,
        services(cluster.url, HOURGLASS_PIPELINE=PIPELINE) as running,
        TemporaryDirectory() as files,
    ):
        for name in ("aggregator-1", "aggregator-2"):
            running.aggregator(name)
        page = serve(running, f"sqlite:///{files}/warehouse.db")
        sensors = DATA.sensors()
        for hour_ms in range(DATA.start_ms, DATA.end_ms, HOUR_MS):
            pipeline.produce(*sensors.read(hour_ms, hour_ms + HOUR_MS))
            pipeline.drive(hour_ms + HOUR_MS)
        pipeline.produce(*sensors.read(DATA.end_ms, DATA.end_ms + LATER_MS))
        pipeline.drive(DATA.end_ms + LATER_MS)
        wait_until(
            lambda: len(pipeline.averages()) == 24 * DATA.days, PATIENCE_S, "not all is published"
        )
        photograph(page, directory)


def photograph(url: str, directory: Path) -> None:
    with sync_playwright() as playwright:
        visitor = Visitor(playwright.chromium.launch(executable_path=chromium()))
        for name, scheme in (("page.png", "light"), ("page-dark.png", "dark")):
            page = visitor.open(url, color_scheme=scheme, viewport=SIZE, reduced_motion="reduce")
            meter = page.locator("#progress")
            wait_until(lambda meter=meter: meter.get_attribute("aria-valuenow") == "66", PATIENCE_S)
            page.screenshot(path=directory / name)
        visitor.close()
        visitor.browser.close()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    pictures(target)
