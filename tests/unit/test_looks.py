"""What a look found is told until the next one is done, unless that failed or none came."""

from __future__ import annotations

import pytest

from hourglass.errors import Unreachable
from hourglass.monitoring.collectors import FRESH_S, Latest


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_scrape_during_a_look_finds_what_was_there_before() -> None:
    latest = Latest(0)
    latest.renew(lambda: 1)
    meanwhile: list[int] = []

    def look() -> int:
        meanwhile.append(latest.value)
        return 2

    latest.renew(look)
    assert (meanwhile, latest.value) == ([1], 2)


def test_after_a_look_that_failed_nothing_is_known() -> None:
    latest = Latest(0)
    latest.renew(lambda: 1)

    def look() -> int:
        raise Unreachable("away")

    with pytest.raises(Unreachable):
        latest.renew(look)
    assert latest.value == 0


def test_what_is_old_tells_nothing_of_now() -> None:
    clock = Clock()
    latest = Latest(0, monotonic=clock)
    latest.renew(lambda: 1)
    clock.now_s += FRESH_S - 1
    assert latest.value == 1
    clock.now_s += 1
    assert latest.value == 0
