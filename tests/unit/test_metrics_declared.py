"""What is declared is what is exported, and counts from zero."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

import aggregator.metrics
import producer.metrics
from hourglass.metrics import MetricSpec
from hourglass.model.readings import Reason
from producer.metrics import Loss
from tools.reference import SERVICES

COUNTERS = [
    instrument
    for _, instruments in SERVICES.values()
    for instrument in instruments
    if instrument.kind == "counter"
]


@pytest.mark.parametrize("counter", COUNTERS, ids=lambda each: each.name)
def test_each_series_of_a_counter_is_there_from_the_start(counter: MetricSpec) -> None:
    assert len(counter.labels) == (1 if counter.values else 0)
    registry = CollectorRegistry()
    counter.counter(registry)
    for labels in [{counter.labels[0]: value} for value in counter.values] or [{}]:
        assert registry.get_sample_value(counter.name, labels) == 0


def test_every_reason_has_its_series() -> None:
    registry = CollectorRegistry()
    aggregator.metrics.Metrics(registry).quarantined(Reason.IMPLAUSIBLE, 1)
    producer.metrics.Metrics(registry).dropped(3, Loss.SKIPPED)
    found = {
        (sample.name, sample.labels["reason"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and "reason" in sample.labels
    }
    assert found == {
        **{("hourglass_readings_quarantined_total", str(each)): 0 for each in Reason},
        **{("hourglass_readings_dropped_total", str(each)): 0 for each in Loss},
        ("hourglass_readings_quarantined_total", str(Reason.IMPLAUSIBLE)): 1,
        ("hourglass_readings_dropped_total", "skipped"): 3,
    }


def test_a_tally_adds_up_whatever_a_worker_still_tells_after_the_end() -> None:
    registry = CollectorRegistry()
    metrics = producer.metrics.Metrics(registry)
    metrics.produced(10)
    metrics.taken(3, 3, duplicate=False)
    metrics.dropped(2, Loss.STOPPED)
    metrics.give_up_the_rest()

    # The last of the batch that Redis would not answer for.
    metrics.dropped(4, Loss.STOPPED)
    metrics.taken(5, 5, duplicate=False)

    assert metrics.tally == {"produced": 10, "taken": 3, "repeated": 0, "dropped": 7}
    assert metrics.stopped == 7
    stopped = {"reason": "stopped"}
    assert registry.get_sample_value("hourglass_readings_dropped_total", stopped) == 7
    assert registry.get_sample_value("hourglass_readings_taken_total") == 3
