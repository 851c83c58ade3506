"""Which time it is when the masters' clocks do not agree."""

from __future__ import annotations

import pytest

from hourglass.cluster.server_clocks import STEADY_MS, TOLERANCE_MS, Offset, ServerClocks

LEAP_MS = 7_300_000


def clocks(**ahead_ms: int) -> ServerClocks:
    """A process that has seen each master once, at 0 of its own clock."""
    seen = ServerClocks()
    see(seen, 0, **ahead_ms)
    return seen


def see(seen: ServerClocks, now_ms: int, *, took_ms: int = 0, **ahead_ms: int) -> None:
    answers = {
        name: Offset.of(now_ms + ahead, asked_ms=now_ms - took_ms, answered_ms=now_ms)
        for name, ahead in ahead_ms.items()
    }
    seen.see(answers, now_ms=now_ms)


def test_real_time_is_the_median_of_three_whichever_is_wrong() -> None:
    assert clocks(a=LEAP_MS, b=10, c=20).real_ms(1000) == 1020
    assert clocks(a=0, b=-LEAP_MS, c=20).real_ms(1000) == 1000
    assert clocks(a=0, b=10, c=LEAP_MS).real_ms(1000) == 1010


def test_a_master_that_deviates_is_in_doubt_and_no_other() -> None:
    seen = clocks(a=0, b=TOLERANCE_MS + 1, c=-TOLERANCE_MS)

    (doubt,) = seen.doubts().items()

    assert doubt[0] == "b"
    assert "is 2 s ahead" in doubt[1]
    assert seen.deviations_ms() == {"a": 0, "b": 2001, "c": -2000}


def test_of_two_that_do_not_agree_the_one_that_went_on_is_right() -> None:
    seen = clocks(a=0, b=0)

    see(seen, 1000, a=LEAP_MS, b=0)

    assert seen.real_ms(1000) == 1000
    assert set(seen.doubts()) == {"a"}


def test_of_two_that_never_agreed_the_earlier_is_believed() -> None:
    assert clocks(a=LEAP_MS, b=0).real_ms(1000) == 1000


def test_the_only_master_is_not_believed_when_it_leaps() -> None:
    seen = clocks(a=0)

    see(seen, 1000, a=LEAP_MS)

    assert seen.real_ms(1000) == 1000
    assert set(seen.doubts()) == {"a"}

    see(seen, 21_000, a=0)
    assert not seen.doubts()


def test_a_leap_that_lasts_is_believed_in_the_end() -> None:
    seen = clocks(a=0, b=0, c=0)

    for now_ms in (1000, STEADY_MS):
        see(seen, now_ms, a=-LEAP_MS, b=-LEAP_MS, c=0)
        assert seen.real_ms(now_ms) == now_ms
        assert set(seen.doubts()) == {"a", "b", "c"}

    see(seen, 1000 + STEADY_MS, a=-LEAP_MS, b=-LEAP_MS, c=0)
    assert seen.real_ms(1000 + STEADY_MS) == 1000 + STEADY_MS - LEAP_MS
    assert set(seen.doubts()) == {"c"}


def test_a_leap_that_goes_on_leaping_is_not_believed() -> None:
    seen = clocks(a=0)

    for step in range(1, 5):
        see(seen, step * STEADY_MS, a=step * LEAP_MS)

    assert seen.real_ms(0) == 0


def test_a_clock_that_drifts_is_followed() -> None:
    seen = clocks(a=0)

    for step in range(10):
        see(seen, 1000 * step, a=step * 1500)

    assert seen.real_ms(0) == 9 * 1500
    assert not seen.doubts()


@pytest.mark.parametrize("took_ms", [3_000, 60_000])
def test_an_answer_that_took_long_is_no_leap(took_ms: int) -> None:
    seen = clocks(a=0)

    see(seen, 100_000, took_ms=took_ms, a=-took_ms // 2)

    assert not seen.doubts()
    assert seen.real_ms(100_000) == 100_000


def test_a_master_that_does_not_answer_or_is_none_any_more_has_no_clock() -> None:
    seen = clocks(a=0, b=0, c=LEAP_MS)
    seen.see({"c": None}, now_ms=0)
    assert not seen.doubts()

    see(seen, 0, a=0, b=0, c=LEAP_MS)
    seen.keep(["a", "b"])
    assert set(seen.deviations_ms()) == {"a", "b"}
