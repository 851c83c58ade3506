"""What is shown is never taken for how it is when it is only how it was."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from hourglass.monitoring.pipeline_status import REDIS_STALE_MS
from hourglassctl.local.bootstrap import free_ports
from tests.support.browsing import ask
from tests.support.cluster import EmbeddedCluster
from tests.support.keyspace import KEYS
from tests.support.pipeline import Pipeline, at, reading
from tests.support.services import Services, services
from tests.support.visiting import NAME, Visitor, serve, unlike, violations

pytestmark = pytest.mark.extended

LOOKING = {
    "code": "looking",
    "about": "",
    "severity": "info",
    "text": "The first poll of Redis",
}


@pytest.mark.embedded(node_timeout_ms=60_000)
def test_when_redis_goes_what_was_known_stays_and_is_called_stale(
    visitor: Visitor, embedded: EmbeddedCluster, warehouse_url: str
) -> None:
    with Pipeline(embedded.url) as pipeline, services(embedded.url) as running:
        pipeline.publish(*map(unlike, range(3)))
        page = visitor.open(serve(running, warehouse_url))
        expect(page.locator("#hours tbody tr")).to_have_count(3)
        expect(page.locator("#stale")).to_be_hidden()

        for node in embedded.nodes:
            node.pause()

        page.wait_for_selector("[data-state=stale]")
        expect(page.get_by_role("alert")).to_contain_text("Stale: Redis does not answer.")
        expect(page.get_by_role("status")).to_have_text("Redis is unreachable")
        expect(page.locator("#problems")).to_contain_text("Redis has not answered since")
        expect(page.locator("#hours tbody tr")).to_have_count(3)
        expect(page).to_have_title(re.compile("^Stale"))
        mark = "getComputedStyle(document.getElementById('averages-title'), '::after').content"
        assert page.evaluate(mark) == '"stale"'
        assert violations(page) == []

        for node in embedded.nodes:
            node.resume()
        page.wait_for_selector("[data-state=live]")
        expect(page.locator("#stale")).to_be_hidden()
        assert page.evaluate(mark) == "none"
        visitor.close()


def test_when_redis_answers_what_cannot_be_read_the_page_says_that_and_not_that_it_is_away(
    visitor: Visitor, running: Services, pipeline: Pipeline, warehouse_url: str
) -> None:
    pipeline.drive(at(3, 30))
    pipeline.publish(*map(unlike, range(3)))
    pipeline.produce(reading(at(3)))
    pipeline.count()
    page = visitor.open(serve(running, warehouse_url))
    expect(page.locator("#partitions tbody tr")).to_have_count(1)

    aside = f"{{{KEYS.partitions}}}:aside"
    pipeline.cluster.call("RENAME", KEYS.partitions, aside)
    pipeline.cluster.call("SET", KEYS.partitions, "a text")

    page.wait_for_selector("[data-state=unreadable]")
    expect(page.get_by_role("status")).to_have_text("Redis cannot be read")
    expect(page.get_by_role("alert")).to_contain_text("this page cannot read the data in Redis")
    expect(page.locator("#problems")).not_to_contain_text("has not answered")
    expect(page.locator("#partitions tbody tr")).to_have_count(1)
    page.wait_for_timeout(REDIS_STALE_MS + 2_000)
    expect(page.get_by_role("status")).to_have_text("Redis cannot be read")

    pipeline.cluster.call("RENAME", aside, KEYS.partitions)
    page.wait_for_selector("[data-state=live]")
    expect(page.locator("#stale")).to_be_hidden()


def test_before_the_first_look_at_redis_the_page_says_that_nothing_is_known(
    visitor: Visitor, running: Services, pipeline: Pipeline, warehouse_url: str
) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.count()
    # That passes too soon to be seen: this page is shown it, and hears of nothing else.
    url = serve(running, warehouse_url)
    page = visitor.open(url, blocked="page.js", state="")
    status = ask(url, "api/status").json()
    first = {**status, "problems": [LOOKING], "redis": {**status["redis"], "readable": None}}
    first |= {"open_hours": [], "pending": None, "late": None, "quarantined": None, "lag": None}

    page.evaluate(
        "async (status) => {"
        " const {showConnection, showStatus} = await import('/assets/show.js');"
        " showStatus(status); showConnection(status, true); }",
        first,
    )

    expect(page.get_by_role("status")).to_have_text("Loading")
    expect(page.locator("#problems")).to_have_text("Note The first poll of Redis")
    for each in ("late", "quarantined"):
        expect(page.locator(f"#{each}")).to_have_text("unknown")
    expect(page.locator("#open-about")).to_be_empty()
    # That a file was refused the browser says of its own accord.
    visitor.said = [said for said in visitor.said if "net::ERR" not in said]


def test_when_its_server_goes_the_page_says_so_and_finds_it_again(
    visitor: Visitor, running: Services, pipeline: Pipeline, warehouse_url: str
) -> None:
    ((port, _),) = free_ports(1)
    pipeline.publish(*map(unlike, range(3)))
    page = visitor.open(serve(running, warehouse_url, "--web-port", str(port)))
    expect(page.locator("#hours tbody tr")).to_have_count(3)

    running.kill(NAME)

    page.wait_for_selector("[data-state=offline]")
    expect(page.get_by_role("alert")).to_contain_text("no connection to its server. The data shown")
    expect(page.locator("#hours tbody tr")).to_have_count(3)

    pipeline.publish(unlike(3))
    serve(running, warehouse_url, "--web-port", str(port))
    page.wait_for_selector("[data-state=live]")
    expect(page.locator("#hours tbody tr")).to_have_count(4)
    # That a connection broke off and was refused the browser says of its own accord.
    visitor.said = [said for said in visitor.said if "net::ERR" not in said]


def test_when_its_server_falls_silent_the_page_says_so(
    visitor: Visitor, running: Services, pipeline: Pipeline, warehouse_url: str
) -> None:
    pipeline.publish(*map(unlike, range(3)))
    page = visitor.open(serve(running, warehouse_url))
    expect(page.locator("#hours tbody tr")).to_have_count(3)

    running.pause(NAME)
    page.wait_for_selector("[data-state=offline]")
    expect(page.locator("#hours tbody tr")).to_have_count(3)

    running.resume(NAME)
    page.wait_for_selector("[data-state=live]")
