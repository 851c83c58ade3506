"""A reading that cannot be used goes to quarantine, with its reason, as it is acknowledged."""

from __future__ import annotations

from typing import Any

import pytest

from hourglass.model.readings import Reason, Rules
from hourglassctl.quarantine import quarantined
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading
from tests.support.services import services
from tests.support.waiting import wait_until

NOON = at(12)
UNUSABLE: list[tuple[dict[str, Any], Reason]] = [
    ({"humidity": 40}, Reason.NO_TEMPERATURE),
    ({"temp_f": "warm"}, Reason.NOT_A_NUMBER),
    ({"temp_f": ""}, Reason.NOT_A_NUMBER),
    ({"temp_f": b"\xff\xfe"}, Reason.NOT_A_NUMBER),
    ({"temp_f": "NaN"}, Reason.NOT_FINITE),
    ({"temp_f": "inf"}, Reason.NOT_FINITE),
    ({"temp_f": "-Infinity"}, Reason.NOT_FINITE),
    ({"temp_f": "1e999"}, Reason.NOT_FINITE),
    ({"temp_f": "1e300"}, Reason.IMPLAUSIBLE),
    ({"temp_f": "250.001"}, Reason.IMPLAUSIBLE),
    ({"temp_f": "-150.001"}, Reason.IMPLAUSIBLE),
    ({"temp_f": 73, "ts": DAY.day_ms - 1}, Reason.WRONG_DAY),
    ({"temp_f": 73, "ts": NEXT_DAY.day_ms}, Reason.WRONG_DAY),
    ({"temp_f": 73, "ts": "9" * 32}, Reason.WRONG_DAY),
    ({"temp_f": 73, "ts": "noon"}, Reason.BAD_TIMESTAMP),
    ({"temp_f": 73, "ts": -1}, Reason.BAD_TIMESTAMP),
    ({"temp_f": 73, "ts": "1" * 1000}, Reason.BAD_TIMESTAMP),
    ({"temp_f": 73, "ts": NOON + 60_001}, Reason.FAR_FUTURE),
    ({"temp_f": 73, "ts": 0}, Reason.WRONG_DAY),
    ({"temp_f": 73, "ts": 300_000}, Reason.WRONG_DAY),
    ({"temp_f": 73, "ts": NOON // 1000}, Reason.TS_IN_S),
    ({"temp_f": 73, "device": "x" * 129}, Reason.BAD_DEVICE),
]
AT_THE_EDGE: list[dict[str, Any]] = [
    {"temp_f": "250.0004"},
    {"temp_f": -150},
    {"temp_f": "7.3e1"},
    {"temp_f": 73, "ts": NOON + 60_000},
    {"temp_f": 73, "ts": DAY.day_ms},
    {"temp_f": 73, "device": "x" * 128},
    {"temp_f": 73, "device": ""},
    {"temp_f": 73, "humidity": 40},
]


def shown(value: object) -> str:
    return str(value)[:60]


def rules() -> Rules:
    return Rules(latest_ms=NOON + 60_000)


@pytest.mark.parametrize(("fields", "reason"), UNUSABLE, ids=shown)
def test_an_unusable_reading_is_kept_with_its_reason_and_its_fields(
    pipeline: Pipeline, fields: dict[str, Any], reason: Reason
) -> None:
    entry_id = pipeline.xadd(entry_id=f"{at(1)}-7", **fields)

    pipeline.count(rules=rules())

    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    assert (item.partition, item.original_id, item.reason) == (DAY, entry_id, str(reason))
    flat = [part for pair in fields.items() for part in pair]
    assert item.fields == tuple(
        part if isinstance(part, bytes) else str(part).encode() for part in flat
    )
    assert pipeline.pending() == 0
    assert [each for each in pipeline.records().values() if each.count or each.late] == []
    assert pipeline.metric("hourglass_readings_quarantined_total", reason=str(reason)) == 1


@pytest.mark.parametrize("fields", AT_THE_EDGE, ids=shown)
def test_a_reading_at_the_edge_of_the_rules_counts(
    pipeline: Pipeline, fields: dict[str, Any]
) -> None:
    pipeline.xadd(entry_id=f"{at(1)}-7", **fields)

    pipeline.count(rules=rules())

    assert [each.count for each in pipeline.records().values()] == [1]
    assert pipeline.cluster.call("EXISTS", DAY.quarantine) == 0


def test_audit_is_clean_with_readings_in_quarantine(pipeline: Pipeline) -> None:
    pipeline.xadd(entry_id=f"{at(1)}-0", temp_f=73)
    for number, (fields, _) in enumerate(UNUSABLE):
        pipeline.xadd(entry_id=f"{at(1, number)}-1", **fields)
    pipeline.count(rules=rules())

    found = pipeline.audit()

    assert found.differences == []
    assert (found.counted, found.quarantined) == (1, len(UNUSABLE))


def test_an_aggregator_judges_by_its_options_and_the_pipeline_clock(
    pipeline: Pipeline, redis_url: str
) -> None:
    options = ("--min-temp-f", "10", "--max-temp-f", "20", "--no-reading-f", "-127, 12.5")
    with services(redis_url) as running:
        # An hour of tolerance at this speed, of which the test uses up a little.
        pipeline.run_clock(NOON, speed=60.0)
        for temp_f in (9, 10, 12.5, 20, 21):
            pipeline.produce(reading(NOON, temp_f))
        pipeline.produce(reading(NOON + 30 * 60_000, 15), reading(at(23), 15))
        running.aggregator("aggregator", "--future-tolerance-s", "60", *options)

        reasons = wait_until(lambda: reasons_of(pipeline, 4), message="four are unusable")

    assert reasons == [
        Reason.IMPLAUSIBLE,
        Reason.NO_READING,
        Reason.IMPLAUSIBLE,
        Reason.FAR_FUTURE,
    ]
    assert pipeline.record(12).count == 3


def reasons_of(pipeline: Pipeline, count: int) -> list[str] | None:
    items = list(quarantined(pipeline.cluster, pipeline.clock.current()))
    return [item.reason for item in items] if len(items) == count else None
