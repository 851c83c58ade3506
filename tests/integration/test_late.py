"""A reading for a sealed hour is recorded where audit sees it, and changes no average."""

from __future__ import annotations

from hourglass.model.keys import iso
from tests.support.pipeline import Pipeline, at, reading


def an_hour_published(pipeline: Pipeline) -> None:
    pipeline.produce(reading(at(0), 40.0))
    pipeline.count()
    pipeline.drive(at(1))
    pipeline.seal()


def test_late_readings_are_acknowledged_and_recorded_with_their_sum(pipeline: Pipeline) -> None:
    an_hour_published(pipeline)

    pipeline.produce(reading(at(0), 60.5), reading(at(0), -70.25), reading(at(1)))
    pipeline.count()

    record = pipeline.record(0)
    assert (record.count, record.sum_milli_f) == (1, 40_000)
    assert (record.late, record.late_sum_milli_f) == (2, -9_750)
    assert (record.late_min_milli_f, record.late_max_milli_f) == (-70_250, 60_500)
    assert (record.min_milli_f, record.max_milli_f) == (40_000, 40_000)
    assert pipeline.record(1).count == 1
    assert pipeline.pending() == 0
    assert pipeline.metric("hourglass_readings_late_total") == 2
    assert pipeline.metric("hourglass_readings_counted_total") == 2


def test_a_late_reading_changes_no_published_average(pipeline: Pipeline) -> None:
    an_hour_published(pipeline)
    before = pipeline.averages()

    pipeline.produce(reading(at(0), 60.0))
    pipeline.count()
    sealer = pipeline.sealer()
    sealer.step()
    sealer.step()

    assert pipeline.averages() == before
    assert pipeline.metric("hourglass_averages_revised_total") == 0


def test_audit_shows_late_readings_and_is_clean(pipeline: Pipeline) -> None:
    an_hour_published(pipeline)
    pipeline.produce(reading(at(0), 60.0), reading(at(0), 61.0))
    pipeline.count()

    found = pipeline.audit()

    assert found.clean
    assert (found.counted, found.late) == (1, 2)
    assert found.as_data()["late_by_hour"] == {iso(at(0)): 2}


def test_an_hour_without_readings_that_gets_some_before_a_later_one_is_out_has_its_average(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(reading(at(3)))
    pipeline.count()
    pipeline.drive(at(5))
    pipeline.seal()

    pipeline.produce(reading(at(4), 60.0))
    pipeline.count()
    pipeline.seal()

    record = pipeline.record(4)
    assert (record.count, record.late, record.sum_milli_f) == (1, 0, 60_000)
    assert [average.start_ms for average in pipeline.averages()] == [at(3), at(4)]
    assert pipeline.audit().clean


def test_an_hour_without_readings_that_a_later_one_has_overtaken_has_none(
    pipeline: Pipeline,
) -> None:
    pipeline.produce(reading(at(3)), reading(at(5)))
    pipeline.count()
    pipeline.drive(at(6))
    pipeline.seal()

    pipeline.produce(reading(at(4), 60.0))
    pipeline.count()
    pipeline.seal()

    record = pipeline.record(4)
    assert (record.count, record.late, record.sum_milli_f) == (1, 0, 60_000)
    assert [average.start_ms for average in pipeline.averages()] == [at(3), at(5)]
    assert pipeline.metric("hourglass_averages_too_late_total") == 1
    found = pipeline.audit()
    assert [each.hour for each in found.differences] == [iso(at(4))]
    assert (found.counted, found.late, found.too_late) == (3, 0, 1)
