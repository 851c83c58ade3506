"""What is shown is never taken for how it is when it is only how it was."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from hourglassctl.embedded import EmbeddedCluster
from hourglassctl.formation import free_ports
from tests.pipeline import Pipeline
from tests.services import Services, services
from tests.visiting import NAME, Visitor, serve, unlike, violations


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
        expect(page.get_by_role("status")).to_have_text("Redis is away")
        expect(page.locator("#troubles")).to_contain_text("Redis has not answered since")
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


def test_when_its_server_goes_the_page_says_so_and_finds_it_again(
    visitor: Visitor, running: Services, pipeline: Pipeline, warehouse_url: str
) -> None:
    ((port, _),) = free_ports(1)
    pipeline.publish(*map(unlike, range(3)))
    page = visitor.open(serve(running, warehouse_url, "--web-port", str(port)))
    expect(page.locator("#hours tbody tr")).to_have_count(3)

    running.kill(NAME)

    page.wait_for_selector("[data-state=offline]")
    expect(page.get_by_role("alert")).to_contain_text("no connection to its server. What is shown")
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
