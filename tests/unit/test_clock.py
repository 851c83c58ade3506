"""The pipeline clock: the arithmetic of its spec, and one process's view of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hourglass.errors import CorruptKey
from hourglass.model.clock import ClockSpec, Expiring, Instant, Mode, PipelineClock
from hourglass.model.keys import HOUR_MS, Keyspace

#: 2000 to 2100, which no clock will leave.
times_ms = st.integers(946_684_800_000, 4_102_444_800_000)
#: How far a simulated clock is looked at from its origin, in real time.
spans_ms = st.integers(0, 30 * 24 * HOUR_MS)
speeds = st.one_of(st.sampled_from([1.0, 60.0, 3_600.0, 14_400.0]), st.floats(0.01, 100_000))

wall = st.just(ClockSpec())
running = st.builds(
    ClockSpec,
    mode=st.just(Mode.SIMULATED),
    origin_ms=times_ms,
    origin_real_ms=times_ms,
    speed=speeds,
)
manual = st.builds(
    ClockSpec, mode=st.just(Mode.MANUAL), origin_ms=times_ms, origin_real_ms=times_ms
)
specs = st.one_of(wall, running, manual)

KEY = Keyspace().clock

AT_DEMO_SPEED = ClockSpec(mode=Mode.SIMULATED, origin_ms=1_735_689_600_000, speed=14_400.0)


class Kept:
    """A place where a clock is kept: what Redis is to the clock."""

    def __init__(self, real_ms: int) -> None:
        self.keyspace = Keyspace()
        self.fields: dict[bytes, bytes] = {}
        self.expire: Mapping[Expiring, int] = {}
        self.real_ms = real_ms
        self.asked = 0

    def clock(self) -> tuple[Mapping[bytes, bytes], int]:
        self.asked += 1
        return self.fields, self.real_ms

    def expiries(self) -> Mapping[Expiring, int]:
        return self.expire

    def extend(self, expiries: Mapping[Expiring, int]) -> None:
        self.expire = {each: max(self.expire[each], at) for each, at in expiries.items()}

    def set_clock(self, fields: Mapping[str, str]) -> None:
        self.fields = {name.encode(): value.encode() for name, value in fields.items()}


class Ticking:
    """A process's monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@given(real_ms=times_ms)
def test_a_wall_clock_is_real_time(real_ms: int) -> None:
    assert ClockSpec().now(real_ms) == real_ms
    assert ClockSpec().real(real_ms, 0) == real_ms


@given(spec=running, span_ms=spans_ms)
def test_a_running_clock_goes_its_speed_from_its_origin(spec: ClockSpec, span_ms: int) -> None:
    shown = spec.now(spec.origin_real_ms + span_ms)

    assert shown - spec.origin_ms == pytest.approx(span_ms * spec.speed, abs=1)


@given(spec=running, first_ms=spans_ms, second_ms=spans_ms)
def test_a_running_clock_never_goes_backwards(
    spec: ClockSpec, first_ms: int, second_ms: int
) -> None:
    first_ms, second_ms = sorted((first_ms, second_ms))

    assert spec.now(spec.origin_real_ms + first_ms) <= spec.now(spec.origin_real_ms + second_ms)


@given(spec=running, before_ms=st.integers(1, HOUR_MS), lateness_ms=st.integers(0, 10_000))
def test_before_a_running_clock_starts_it_stands_and_nothing_is_due(
    spec: ClockSpec, before_ms: int, lateness_ms: int
) -> None:
    real_ms = spec.origin_real_ms - before_ms

    assert spec.now(real_ms) == spec.now(spec.origin_real_ms - 1) <= spec.origin_ms
    assert not spec.is_due(spec.origin_ms, lateness_ms=lateness_ms, real_now_ms=real_ms)


@given(spec=running, behind_ms=st.integers(0, 100 * HOUR_MS), lateness_ms=st.integers(0, 10_000))
def test_what_lies_before_the_start_of_a_running_clock_waits_the_lateness_from_there(
    spec: ClockSpec, behind_ms: int, lateness_ms: int
) -> None:
    at_ms, due_ms = max(0, spec.origin_ms - behind_ms), spec.origin_real_ms + lateness_ms

    assert not spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=due_ms - 1)
    assert spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=due_ms)


@given(
    spec=st.one_of(wall, running),
    span_ms=st.integers(-HOUR_MS, 1000 * HOUR_MS),
    lateness_ms=st.integers(0, 10_000),
)
def test_it_is_known_when_something_comes_due(
    spec: ClockSpec, span_ms: int, lateness_ms: int
) -> None:
    at_ms = max(0, spec.origin_ms + span_ms)
    due_ms = spec.due_ms(at_ms)

    assert due_ms is not None
    due_ms += lateness_ms
    slack_ms = 2 + int(1 / spec.speed)  # as above, of rounding
    assert spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=due_ms + slack_ms)
    assert not spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=due_ms - slack_ms)


@given(spec=manual, at_ms=times_ms)
def test_a_manual_clock_does_not_know_when_it_is_moved(spec: ClockSpec, at_ms: int) -> None:
    assert spec.due_ms(at_ms) is None


@given(spec=running, span_ms=spans_ms)
def test_real_undoes_now_within_one_tick(spec: ClockSpec, span_ms: int) -> None:
    real_ms = spec.origin_real_ms + span_ms

    assert abs(spec.real(spec.now(real_ms), real_ms) - real_ms) <= 1 + 1 / spec.speed


@given(spec=running, ahead_ms=spans_ms)
def test_now_undoes_real_within_one_tick(spec: ClockSpec, ahead_ms: int) -> None:
    at_ms = spec.origin_ms + ahead_ms

    assert abs(spec.now(spec.real(at_ms, 0)) - at_ms) <= 1 + spec.speed


@given(spec=manual, real_ms=times_ms, later_ms=times_ms)
def test_a_manual_clock_stands_whatever_the_real_time(
    spec: ClockSpec, real_ms: int, later_ms: int
) -> None:
    assert spec.now(real_ms) == spec.now(later_ms) == spec.origin_ms


@given(spec=manual, ahead_ms=st.integers(-HOUR_MS, 1000 * HOUR_MS), real_ms=times_ms)
def test_a_manual_clock_counts_at_speed_one_from_here(
    spec: ClockSpec, ahead_ms: int, real_ms: int
) -> None:
    assert spec.real(spec.origin_ms + ahead_ms, real_ms) == real_ms + ahead_ms


@given(spec=specs, span_ms=spans_ms, ahead=st.floats(0, 1), lateness_ms=st.integers(0, 5_000))
@example(spec=AT_DEMO_SPEED, span_ms=0, ahead=0.0, lateness_ms=0)
def test_nothing_is_due_before_the_clock_has_passed_it(
    spec: ClockSpec, span_ms: int, ahead: float, lateness_ms: int
) -> None:
    real_ms = spec.origin_real_ms + span_ms
    at_ms = spec.now(real_ms) + 2 + int(ahead * spec.speed)  # a millisecond is lost in rounding

    assert not spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=real_ms)


@given(spec=st.one_of(wall, running), span_ms=spans_ms, lateness_ms=st.integers(0, 60_000))
def test_the_lateness_is_real_time_at_any_speed(
    spec: ClockSpec, span_ms: int, lateness_ms: int
) -> None:
    end_real_ms = spec.origin_real_ms + span_ms
    at_ms = spec.now(end_real_ms)
    # The clock shows `at_ms` during up to a tick and a millisecond of real time.
    slack_ms = 2 + int(1 / spec.speed)

    early_ms, late_ms = end_real_ms + lateness_ms - slack_ms, end_real_ms + lateness_ms + slack_ms
    assert not spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=early_ms)
    assert spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=late_ms)


@given(spec=manual, lateness_ms=st.integers(0, 60_000), real_ms=times_ms)
def test_under_a_manual_clock_the_lateness_is_nil(
    spec: ClockSpec, lateness_ms: int, real_ms: int
) -> None:
    at_ms = spec.origin_ms

    assert spec.is_due(at_ms, lateness_ms=lateness_ms, real_now_ms=real_ms)
    assert not spec.is_due(at_ms + 1, lateness_ms=lateness_ms, real_now_ms=real_ms)


@given(spec=specs)
def test_a_clock_that_did_not_change_goes_on(spec: ClockSpec) -> None:
    assert spec.continues(spec)


@given(spec=manual, moved_ms=st.integers(1, 1000 * HOUR_MS))
def test_a_manual_clock_goes_on_when_moved_forward_and_not_when_set_back(
    spec: ClockSpec, moved_ms: int
) -> None:
    moved = replace(spec, origin_ms=spec.origin_ms + moved_ms)

    assert moved.continues(spec)
    assert not spec.continues(moved)


@given(spec=running, moved_ms=st.integers(1, HOUR_MS))
def test_a_clock_of_another_mode_or_origin_counts_as_set_again(
    spec: ClockSpec, moved_ms: int
) -> None:
    assert not spec.continues(ClockSpec())
    assert not ClockSpec().continues(spec)
    assert not replace(spec, origin_ms=spec.origin_ms + moved_ms).continues(spec)
    assert not replace(spec, mode=Mode.MANUAL).continues(spec)


@given(spec=st.one_of(wall, running), span_ms=spans_ms, tolerance_ms=st.integers(0, 600_000))
def test_the_tolerance_for_the_future_is_real_time(
    spec: ClockSpec, span_ms: int, tolerance_ms: int
) -> None:
    real_ms = spec.origin_real_ms + span_ms
    latest_ms = spec.latest_plausible(real_ms, tolerance_ms)

    assert latest_ms is not None
    assert latest_ms - spec.now(real_ms + tolerance_ms) == pytest.approx(0, abs=2)


@given(spec=manual, real_ms=times_ms, tolerance_ms=st.integers(0, 600_000))
def test_under_a_manual_clock_no_time_is_too_far_ahead(
    spec: ClockSpec, real_ms: int, tolerance_ms: int
) -> None:
    assert spec.latest_plausible(real_ms, tolerance_ms) is None


@given(spec=specs)
def test_a_spec_is_read_back_as_it_was_stored(spec: ClockSpec) -> None:
    stored = {name.encode(): value.encode() for name, value in spec.fields().items()}

    assert ClockSpec.decode(stored, key=KEY) == spec


def test_where_no_clock_is_stored_it_is_the_wall_clock() -> None:
    assert ClockSpec.decode({}, key=KEY) == ClockSpec(mode=Mode.WALL)


@given(spec=running, span_ms=spans_ms, life_ms=spans_ms)
def test_a_running_clocks_speed_shortens_the_real_life_of_a_key(
    spec: ClockSpec, span_ms: int, life_ms: int
) -> None:
    instant = Instant(spec, spec.origin_real_ms + span_ms)
    left_ms = instant.deadline(instant.now_ms + life_ms) - instant.real_ms

    assert left_ms == pytest.approx(life_ms / spec.speed, abs=2 + 1 / spec.speed)


@given(spec=specs, real_ms=times_ms, at_ms=times_ms)
def test_an_expiry_never_deletes_what_was_just_written(
    spec: ClockSpec, real_ms: int, at_ms: int
) -> None:
    assert Instant(spec, real_ms).expiry(at_ms) > real_ms


@given(spec=specs, real_ms=times_ms, left_ms=st.integers(HOUR_MS, 100 * HOUR_MS))
def test_an_expiry_well_ahead_is_the_deadline(spec: ClockSpec, real_ms: int, left_ms: int) -> None:
    instant = Instant(spec, real_ms)
    at_ms = instant.now_ms + int(left_ms * spec.speed)
    if instant.deadline(at_ms) >= real_ms + HOUR_MS:
        assert instant.expiry(at_ms) == instant.deadline(at_ms)


@given(spec=specs)
def test_a_clock_set_by_one_process_is_the_clock_of_another(spec: ClockSpec) -> None:
    kept = Kept(real_ms=1_750_000_000_000)
    PipelineClock(kept).set(spec)

    assert PipelineClock(kept).current() == Instant(spec, kept.real_ms)


def test_setting_the_wall_clock_leaves_nothing_stored() -> None:
    kept = Kept(real_ms=1_750_000_000_000)
    PipelineClock(kept).set(ClockSpec(mode=Mode.MANUAL, origin_ms=5))
    PipelineClock(kept).set(ClockSpec())

    assert kept.fields == {}


def test_the_process_that_sets_the_clock_sees_it_at_once() -> None:
    clock = PipelineClock(Kept(real_ms=1_750_000_000_000))
    clock.refresh()
    clock.set(ClockSpec(mode=Mode.MANUAL, origin_ms=5))

    assert clock.current().now_ms == 5


def test_between_refreshes_time_passes_without_asking() -> None:
    kept, ticking = Kept(real_ms=1_750_000_000_000), Ticking()
    clock = PipelineClock(kept, monotonic=ticking)
    clock.refresh()
    ticking.seconds += 1.5

    assert clock.current().real_ms == kept.real_ms + 1_500
    assert kept.asked == 1


def test_a_process_believes_redis_and_not_its_own_wall_clock() -> None:
    kept, ticking = Kept(real_ms=5_000), Ticking()
    clock = PipelineClock(kept, monotonic=ticking)
    clock.refresh()
    kept.real_ms = 1_750_000_000_000

    assert clock.refresh().real_ms == clock.current().real_ms == 1_750_000_000_000


def test_the_first_look_asks() -> None:
    kept = Kept(real_ms=1_750_000_000_000)

    assert PipelineClock(kept).current() == Instant(ClockSpec(), kept.real_ms)
    assert kept.asked == 1


def test_a_clock_set_by_another_process_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = Kept(real_ms=1_750_000_000_000)
    clock = PipelineClock(kept)
    clock.set(ClockSpec(mode=Mode.MANUAL, origin_ms=5))
    other = PipelineClock(kept)
    other.refresh()
    assert caplog.messages == []

    kept.fields = {}
    for _ in range(3):
        clock.refresh()
        other.refresh()

    told = "the pipeline clock was changed: wall, 2025-06-15T15:06:40Z"
    assert caplog.messages == [told, told]


def test_a_manual_clock_that_moves_on_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept(real_ms=1_750_000_000_000)
    driver, clock = PipelineClock(kept), PipelineClock(kept)
    for origin_ms in (5, 6, 7):
        driver.set(ClockSpec(mode=Mode.MANUAL, origin_ms=origin_ms))
        clock.refresh()

    assert caplog.messages == []


@pytest.mark.parametrize(
    "damage",
    [
        {b"mode": b"sundial"},
        {b"origin_ms": b"noon"},
        {b"origin_ms": b"9999999999999999999"},
        {b"origin_ms": b"-1"},
        {b"speed": b"0"},
        {b"speed": b"nan"},
        {b"speed": b"inf"},
    ],
)
def test_what_is_no_clock_is_refused_with_the_remedy(damage: dict[bytes, bytes]) -> None:
    good = {b"mode": b"simulated", b"origin_ms": b"5", b"origin_real_ms": b"7", b"speed": b"2.0"}
    assert ClockSpec.decode(good, key=KEY).speed == 2.0

    with pytest.raises(CorruptKey, match="temps:clock holds no clock: set it with hourglass clock"):
        ClockSpec.decode({**good, **damage}, key=KEY)
    with pytest.raises(CorruptKey):
        ClockSpec.decode({name: good[name] for name in good if name not in damage}, key=KEY)


@given(before=specs, after=st.one_of(running, wall), left_ms=st.integers(0, 2 * 24 * HOUR_MS))
def test_what_lives_expires_at_the_same_pipeline_time_by_another_clock(
    before: ClockSpec, after: ClockSpec, left_ms: int
) -> None:
    now_ms = max(before.origin_real_ms, after.origin_real_ms)
    earlier, later = Instant(before, now_ms), Instant(after, now_ms)
    expires_ms = earlier.spec.real(earlier.now_ms + left_ms, now_ms)
    kept_ms = 10**18  # no bound

    translated_ms = later.translated(expires_ms, earlier, kept_ms=kept_ms)

    shown_ms = earlier.spec.shown(expires_ms, now_ms)
    if shown_ms >= after.origin_ms:  # before it, the clock does not go
        assert after.now(translated_ms) == pytest.approx(shown_ms, abs=1 + after.speed)


def test_a_clock_that_waits_for_its_start_keeps_what_lives_for_a_bounded_time() -> None:
    before, waits = Instant(ClockSpec(), 10**12), replace(AT_DEMO_SPEED, origin_real_ms=1 << 52)

    expires_ms = Instant(waits, 10**12).translated(10**12, before, kept_ms=HOUR_MS)

    assert expires_ms <= 10**12 + HOUR_MS
