"""The audit's comparison: each falsification is found, nothing that is merely on its way is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hourglass.cluster.published import Result
from hourglass.model.averages import HourRecord
from hourglass.model.keys import HOUR_MS, Keyspace
from hourglassctl.audit.compare import Audit, Publication, compare
from hourglassctl.audit.recompute import RawHour, Recomputed

DAY = Keyspace().partition(1_735_689_600_000)
FIRST, SECOND = DAY.day_ms, DAY.day_ms + HOUR_MS
SEALED = HourRecord(start_ms=FIRST, count=3, sum_milli_f=150_000, late=1, late_sum_milli_f=50_000,
                    sealed=True)  # fmt: skip
OPEN = HourRecord(start_ms=SECOND, count=2, sum_milli_f=100_000)
GOOD = Recomputed(
    partition=DAY,
    records=(SEALED, OPEN),
    raw={FIRST: RawHour(4, 200_000), SECOND: RawHour(2, 100_000)},
)
PUBLISHED = Publication(
    stream="temps:averages",
    published_through_ms=FIRST,
    published={FIRST: Result(3, 150_000)},
    on_stream={FIRST: Result(3, 150_000)},
    warehouse={FIRST: Result(3, 150_000)},
)


def differences(recount: Recomputed = GOOD, publication: Publication = PUBLISHED) -> list[str]:
    return [each.what for each in compare([recount], publication).differences]


def test_what_adds_up_has_no_difference() -> None:
    audit = compare([GOOD], PUBLISHED)
    assert audit.clean
    assert (audit.counted, audit.late, audit.lost, audit.twice) == (5, 1, 0, 0)


def test_an_hour_recounted_after_a_removal_takes_nothing_from_the_total_of_late_readings() -> None:
    lane = Keyspace().partition(DAY.day_ms, 7)
    recounted = replace(SEALED, late=-2, late_sum_milli_f=-100_000)
    audit = compare([GOOD, replace(GOOD, partition=lane, records=(recounted,))], PUBLISHED)
    assert (audit.late, audit.late_by_hour) == (1, {FIRST: 1})


@pytest.mark.parametrize(
    ("raw", "lost", "twice"),
    [(RawHour(5, 250_000), 1, 0), (RawHour(3, 150_000), 0, 1), (RawHour(4, 200_001), 0, 0)],
)
def test_raw_readings_that_differ_from_the_record_are_found(
    raw: RawHour, lost: int, twice: int
) -> None:
    recount = replace(GOOD, raw={FIRST: raw, SECOND: RawHour(2, 100_000)})
    audit = compare([recount], PUBLISHED)
    assert [each.hour for each in audit.differences] == ["2025-01-01T00:00:00Z"]
    assert (audit.lost, audit.twice) == (lost, twice)


def test_raw_readings_of_an_hour_without_record_are_lost() -> None:
    recount = replace(GOOD, raw={**(GOOD.raw or {}), SECOND + HOUR_MS: RawHour(7, 1)})
    assert compare([recount], PUBLISHED).lost == 7


def test_entries_acknowledged_and_nowhere_to_be_found_are_lost() -> None:
    audit = compare([replace(GOOD, unaccounted=2)], PUBLISHED)
    assert audit.lost == 2
    assert (
        "neither" in audit.differences[0].what or "not in quarantine" in audit.differences[0].what
    )


def test_acknowledged_readings_that_are_lost_are_a_difference() -> None:
    audit = compare([replace(GOOD, gone=120)], PUBLISHED)
    assert (audit.gone, audit.lost, audit.twice) == (120, 0, 0)
    assert [each.what for each in audit.differences] == [
        "temps:20250101: 120 acknowledged readings are missing"
    ]


@pytest.mark.parametrize(("there", "lost"), [(1, 0), (4, 0), (5, 1)])
def test_a_partition_created_again_may_count_more_than_is_there_and_not_less(
    there: int, lost: int
) -> None:
    raw = {FIRST: RawHour(there, 50_000 * there), SECOND: RawHour(2, 100_000)}
    audit = compare([replace(GOOD, raw=raw, remade=True)], PUBLISHED)
    assert "was deleted and created again" in audit.differences[0].what
    assert (audit.lost, audit.twice) == (lost, 0)


def test_a_partition_that_has_expired_is_compared_by_its_records_alone() -> None:
    assert differences(replace(GOOD, raw=None)) == []


def test_an_hour_sealed_and_not_published_is_found() -> None:
    older = Result(1, 1)
    publication = replace(
        PUBLISHED,
        published={FIRST - HOUR_MS: older},
        on_stream={FIRST - HOUR_MS: older},
        warehouse={FIRST - HOUR_MS: older},
    )
    assert any("not published" in each for each in differences(publication=publication))


def test_an_hour_sealed_after_the_published_through_hour_is_waiting() -> None:
    empty = replace(PUBLISHED, published_through_ms=-1, published={}, on_stream={}, warehouse={})
    audit = compare([GOOD], empty)
    assert audit.clean
    assert audit.waiting == 1


@pytest.mark.parametrize("warehouse", [None, {}, {FIRST: Result(3, 150_001)}])
def test_an_hour_that_came_too_late_is_a_difference_until_the_warehouse_has_it(
    warehouse: dict[int, Result] | None,
) -> None:
    too_late = replace(PUBLISHED, published={}, on_stream={}, too_late={FIRST})
    audit = compare([GOOD], replace(too_late, warehouse=warehouse))
    assert [each.hour for each in audit.differences] == ["2025-01-01T00:00:00Z"]
    assert audit.too_late == 1
    assert compare([GOOD], too_late).clean


@pytest.mark.parametrize("place", ["published", "on_stream", "warehouse"])
def test_an_altered_result_is_found_wherever_it_stands(place: str) -> None:
    altered = replace(PUBLISHED, **{place: {FIRST: Result(3, 150_001)}})
    assert differences(publication=altered)


def test_a_row_missing_from_the_warehouse_is_found_unless_it_is_being_loaded() -> None:
    missing = replace(PUBLISHED, warehouse={})
    assert any("not in the warehouse" in each for each in differences(publication=missing))
    assert differences(publication=replace(missing, loading={FIRST})) == []


def test_a_row_that_was_never_published_is_found() -> None:
    extra = {FIRST: Result(3, 150_000), SECOND: Result(1, 1)}
    assert any(
        "never published" in each
        for each in differences(publication=replace(PUBLISHED, warehouse=extra))
    )


def test_a_warehouse_that_was_not_given_is_not_compared() -> None:
    audit = compare([GOOD], replace(PUBLISHED, warehouse=None))
    assert audit.clean
    assert audit.in_warehouse is None


def test_the_data_says_whether_it_is_clean() -> None:
    assert Audit().as_data()["clean"] is True
    assert compare([replace(GOOD, unaccounted=1)], PUBLISHED).as_data()["clean"] is False


LANES = [Keyspace().partition(DAY.day_ms, number) for number in (0, 3)]


def of_lanes(*counts: int) -> list[Recomputed]:
    """The first hour of DAY, shared out so; its plain partition has no reading."""
    return [
        Recomputed(
            partition=partition,
            records=(HourRecord(start_ms=FIRST, count=n, sum_milli_f=n * 50_000, sealed=True),),
            raw={FIRST: RawHour(n, n * 50_000)} if n else None,
        )
        for partition, n in zip((DAY, *LANES), (0, *counts), strict=True)
    ]


def test_the_lanes_of_a_day_are_compared_with_what_was_published_together() -> None:
    audit = compare(of_lanes(2, 1), PUBLISHED)

    assert audit.differences == []
    assert (audit.hours, audit.counted) == (1, 3)


def test_readings_that_a_lane_has_lost_are_found_in_it_and_in_the_sum() -> None:
    recounts = of_lanes(2, 1)
    recounts[1] = replace(recounts[1], records=of_lanes(1, 1)[1].records)

    audit = compare(recounts, PUBLISHED)

    raw, sealed = [each.what for each in audit.differences]
    assert "temps:20250101:0 give 2 readings" in raw
    assert "sealed with 2 readings" in sealed
    assert (audit.lost, audit.twice) == (1, 0)


def test_an_hour_that_a_lane_has_not_sealed_is_not_compared_yet() -> None:
    recounts = of_lanes(1, 1)
    unsealed = replace(recounts[2].records[0], sealed=False)
    recounts[2] = replace(recounts[2], records=(unsealed,))

    assert compare(recounts, PUBLISHED).differences == []


def test_late_readings_of_lanes_add_up() -> None:
    late = [
        replace(
            each,
            records=(replace(each.records[0], late=2, late_sum_milli_f=100_000),),
            raw={FIRST: RawHour(n + 2, (n + 2) * 50_000)},
        )
        for n, each in enumerate(of_lanes(1, 2))
    ]

    audit = compare(late, PUBLISHED)

    assert audit.differences == []
    assert audit.late_by_hour == {FIRST: 6}
