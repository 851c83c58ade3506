"""What a benchmark finds, as values: ratios, medians, and whether a target is met."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.lab.bench.figures import Curve, Figure, Samples, Target, percentile
from tests.lab.bench.report import lines, page
from tests.lab.bench.rig import DAY, Amiss, rate, readings


def figure(*values: float, ceilings: Sequence[float] = (), target: Target | None = None) -> Figure:
    return Figure(work="w", how="h", unit="u", values=values, ceilings=ceilings, target=target)


def curve(last: float, flat: float | None) -> Curve:
    return Curve(
        name="n", title="t", x="x", y="y", xs=(1, 2), flat=flat,
        lines={"a": [1.0, 1.0], "b": [1.0, last]},
    )  # fmt: skip


def test_a_ratio_is_that_of_one_repeat():
    assert figure(10, 40, ceilings=(20, 50)).ratios == [0.5, 0.8]


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (figure(8, 8, 2, ceilings=(10, 10, 10), target=Target(bound=0.8)), True),
        (figure(8, 2, 2, ceilings=(10, 10, 10), target=Target(bound=0.8)), False),
        (figure(5, target=Target(bound=6, at_most=True)), True),
        (figure(7, target=Target(bound=6, at_most=True)), False),
        (figure(7), None),
    ],
)
def test_a_target_is_for_the_median_of_the_ratios_or_else_of_the_values(
    found: Figure,
    *,
    met: bool | None,
):
    assert found.met is met
    text = "".join(lines(found))
    assert ("MISSED" in text) == (met is False)
    assert ("✗" in page({}, [found], "images")) == (met is False)


def test_a_curve_has_the_median_of_what_was_found_at_each_point():
    samples = Samples()
    for x, value in ((1, 10.0), (2, 1.0), (1, 30.0), (2, 3.0), (1, 20.0), (2, 2.0)):
        samples.add("line", x, value)
    assert samples.medians((1, 2)) == {"line": [20.0, 2.0]}


def test_a_curve_is_flat_if_none_of_its_lines_grows():
    assert curve(1.4, flat=1.5).met is True
    assert curve(1.6, flat=1.5).met is False
    assert curve(1.6, flat=None).met is None


def test_growth_from_a_cost_that_the_clock_does_not_resolve_is_unknown():
    of_nothing = Curve(
        name="n", title="t", x="x", y="y", xs=(1, 2), flat=1.5,
        lines={"a": [0.0, 2.0], "b": [1.0, 1.2]},
    )  # fmt: skip
    assert of_nothing.growth == {"a": None, "b": 1.2}
    assert of_nothing.met is True
    assert "a from 0, b 1.20 times" in "".join(lines(of_nothing))
    unresolved = replace(of_nothing, lines={"a": [0.0, 2.0]})
    assert unresolved.met is None
    assert "at most: unknown" in "".join(lines(unresolved))
    assert "at most: unknown" in page({}, [unresolved], "images")


def test_a_percentile_is_a_value_that_was_found():
    assert percentile([3, 1, 2], 50) == 2
    assert percentile(range(1, 101), 99) == 99


def test_a_rate_of_other_than_what_was_to_be_done_is_none():
    assert rate(3, lambda: 3) > 0
    with pytest.raises(Amiss, match="2 were dealt with instead of 3"):
        rate(3, lambda: 2)


@pytest.mark.parametrize("devices", [1, 7])
@pytest.mark.parametrize("count", [1, 10, 200_000])
def test_the_readings_of_a_measurement_are_of_one_day(count: int, devices: int):
    times_ms = [reading.ts_ms for reading in readings(count, devices=devices)]
    assert len(times_ms) == count
    assert DAY.day_ms <= times_ms[0]
    assert times_ms[-1] < DAY.end_ms
