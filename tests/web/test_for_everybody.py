"""The page with keyboard, screen reader, phone, in light and dark."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import Services
from tests.support.visiting import Visitor, serve, settled, unlike, violations
from tests.support.waiting import wait_until

pytestmark = pytest.mark.extended

PHONE: dict[str, Any] = {
    "viewport": {"width": 320, "height": 640},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
FOCUSED = """
(() => {
  const {tagName, id, textContent, attributes} = document.activeElement;
  return `${tagName} ${id || attributes["aria-labelledby"]?.value || textContent}`;
})()
"""


@pytest.mark.parametrize("device", [{}, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_anybody(
    visitor: Visitor, url: str, pipeline: Pipeline, scheme: str, device: dict[str, Any]
) -> None:
    pipeline.xadd(temp_f="warm", ts=at(9))
    pipeline.count()
    page = settled(visitor.open(url, color_scheme=scheme, **device))
    expect(page.locator("#problems")).to_contain_text("cannot be used")

    assert violations(page) == []


def test_an_empty_page_bars_nobody_either(
    visitor: Visitor, running: Services, warehouse_url: str
) -> None:
    page = visitor.open(serve(running, warehouse_url))
    expect(page.locator("#latest-about")).to_have_text("No hour has been published yet.")

    assert violations(page) == []


def test_the_keyboard_reaches_whatever_can_be_used(page: Page) -> None:
    reached: list[str] = []
    while not reached or (reached[-1] != "A API description" and len(reached) < 20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))

    assert reached == [
        "A To the averages", "INPUT scrubber", "DIV partitions-title", "DIV averages-title",
        "A averages", "A partitions", "A status", "A API description",
    ]  # fmt: skip


def test_the_keyboard_reads_off_any_hour(page: Page, pipeline: Pipeline) -> None:
    slider = page.get_by_role("slider", name="Selected hour")
    readout = page.locator("#readout")
    slider.focus()
    expect(readout).to_contain_text("1 Jan, 08:00 to 09:00")

    page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text("1 Jan, 07:00 to 08:00")
    spoken = re.compile("07:00 to 08:00, Average 58.8 °F, from 36.5, to 74.0 °F, Readings 7,200")
    expect(slider).to_have_attribute("aria-valuetext", spoken)

    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text("none")
    assert pointed_at(page) == "04:00"

    page.keyboard.press("End")
    expect(readout).to_contain_text("Readings30")
    assert pointed_at(page) == "09:00"
    pipeline.produce(reading(at(9) + 500))
    pipeline.count()
    expect(readout).to_contain_text("Readings31")


def pointed_at(page: Page) -> str:
    """The time of day of the hour that the chart's cursor stands at."""
    return page.evaluate(
        "(({data, cursor}) => new Date(1000 * data[0][cursor.idx]).toISOString().slice(11, 16))"
        "(document.getElementById('chart').plot)"
    )


def test_the_reader_stays_with_the_latest_hour_unless_it_looks_at_another(
    page: Page, pipeline: Pipeline
) -> None:
    readout = page.locator("#readout")
    expect(readout).to_contain_text("08:00 to 09:00")
    pipeline.publish(unlike(9))
    expect(readout).to_contain_text("09:00 to 10:00")

    page.get_by_role("slider").press("ArrowLeft")
    pipeline.publish(unlike(10))
    expect(page.locator("#hours tbody tr")).to_have_count(10)
    expect(readout).to_contain_text("08:00 to 09:00")


def test_the_mouse_reads_off_the_hour_it_points_at_and_leaves_it_there(page: Page) -> None:
    box = page.locator("#chart .u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 117 / 120, box["y"] + 20)
    expect(page.locator("#readout")).to_contain_text("1 Jan, 06:00 to 07:00")

    page.mouse.move(0, 0)

    expect(page.locator("#readout")).to_contain_text("1 Jan, 06:00 to 07:00")
    wait_until(lambda: pointed_at(page) == "06:00")


def test_focus_is_seen(page: Page) -> None:
    page.keyboard.press("Tab")

    outline, top = page.evaluate(
        "[getComputedStyle(document.activeElement).outlineWidth,"
        " document.activeElement.getBoundingClientRect().top]"
    )
    assert outline == "3px"
    assert top >= 0


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_fits_every_width(visitor: Visitor, url: str, width: int) -> None:
    page = settled(visitor.open(url, viewport={"width": width, "height": 700}))

    assert fits(page)


def test_the_chart_takes_the_room_there_is(visitor: Visitor, url: str) -> None:
    page = settled(visitor.open(url, viewport={"width": 1200, "height": 700}))

    for width in (400, 1000):
        page.set_viewport_size({"width": width, "height": 700})
        wait_until(lambda: fits(page))


def fits(page: Page) -> bool:
    return page.evaluate(
        """() => {
          const chart = document.getElementById("chart");
          const drawn = chart.querySelector("canvas").clientWidth;
          return document.documentElement.scrollWidth <= innerWidth && drawn === chart.clientWidth;
        }"""
    )


def test_nothing_moves_for_who_wants_no_motion(visitor: Visitor, url: str) -> None:
    duration = "getComputedStyle(document.querySelector('.fill')).transitionDuration"
    still = visitor.open(url, reduced_motion="reduce")
    moving = visitor.open(url, reduced_motion="no-preference")

    assert still.evaluate(duration) == "0s"
    assert moving.evaluate(duration) != "0s"


WATCH_WHAT_IS_ANNOUNCED = """
() => {
  window.changes = 0;
  const everything = {subtree: true, childList: true, characterData: true, attributes: true};
  const seen = new MutationObserver((all) => { window.changes += all.length; });
  for (const element of document.querySelectorAll("[aria-live], [role=status], [role=alert]")) {
    seen.observe(element, everything);
  }
}
"""
AWAIT_STATUSES = """
() => new Promise((done) => {
  const source = new EventSource("api/events");
  let count = 0;
  source.addEventListener("status", () => {
    count += 1;
    if (count < 4) return;
    source.close();
    done();
  });
})
"""


def test_a_screen_reader_is_not_told_the_same_again(page: Page, pipeline: Pipeline) -> None:
    """A status comes every second; what is announced changes when there is something new."""
    page.evaluate(WATCH_WHAT_IS_ANNOUNCED)
    page.evaluate(AWAIT_STATUSES)
    assert page.evaluate("window.changes") == 0

    pipeline.xadd(temp_f="warm", ts=at(9))
    pipeline.count()
    news = page.locator("#news")
    expect(news).to_have_text(re.compile("^Warning 1 reading cannot be used"))

    # More of it may come than can be listened to; whoever looks on sees it.
    page.evaluate("window.changes = 0")
    pipeline.xadd(temp_f="warm", ts=at(9))
    pipeline.count()
    expect(page.locator("#problems")).to_contain_text("2 readings cannot be used")
    assert page.evaluate("window.changes") == 0

    pipeline.cluster.call("PERSIST", DAY.stream)
    expect(news).to_have_text(f"Warning {DAY.stream} has no expiry time.")
    pipeline.cluster.call("EXPIRE", DAY.stream, 100_000)
    expect(news).to_have_text(f"Resolved: {DAY.stream} has no expiry time.")
    expect(page.locator("#problems")).not_to_contain_text("no expiry time")


#: The contrast of two colours of the page's, by https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRAST = """
(names) => {
  const luminance = (name) => {
    const swatch = new OffscreenCanvas(1, 1).getContext("2d");
    swatch.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
    swatch.fillRect(0, 0, 1, 1);
    const linear = [...swatch.getImageData(0, 0, 1, 1).data]
      .map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const [darker, lighter] = names.map(luminance).sort((one, other) => one - other);
  return (lighter + 0.05) / (darker + 0.05);
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_drawn_stands_out_from_what_it_is_drawn_on(
    visitor: Visitor, url: str, scheme: str
) -> None:
    page = settled(visitor.open(url, color_scheme=scheme))
    drawn = ("--accent", "--range", "--revised", "--whole", "--part", "--ok", "--warn", "--error")
    pairs = [*((name, "--card") for name in drawn), ("--accent", "--grid")]

    contrasts = {pair: page.evaluate(CONTRAST, pair) for pair in pairs}

    assert {pair: ratio for pair, ratio in contrasts.items() if ratio < 3} == {}
