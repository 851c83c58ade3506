"""What nobody can count does not stop the counting: it goes to quarantine, which stays small."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from aggregator.window import MOST_BYTES, MOST_FIELDS
from hourglass.model.readings import Reason
from hourglassctl.quarantine import quarantined
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import Services
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system

#: An aggregator whose decoder does not survive one kind of entry.
FRAGILE = """
import os, signal
from aggregator import window

decode_all = window.decode_all

def fragile(partition, entries, rules):
    if any(b"poison" in fields for _, fields in entries):
        os.kill(os.getpid(), signal.SIGKILL)
    return decode_all(partition, entries, rules)

window.decode_all = fragile
from aggregator.__main__ import main
main()
"""
#: Deliveries, the lowest there can be.
LIMIT = 4
#: What an aggregator may allocate beyond what it has taken at its start, in bytes.
ROOM = 192 << 20
LIMITED = f"""
import os, re, resource, signal
from pathlib import Path
from aggregator.__main__ import main
from hourglass.errors import Unforeseen

# Where memory ends, the kernel kills the process.
Unforeseen.of = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)

taken = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (taken + {ROOM}, taken + {ROOM}))
main()
"""
KEPT_WHOLE = 10_000


def lives_until_published(
    pipeline: Pipeline, running: Services, module: str, *, folder: Path, limit: int, most: int
) -> int:
    """Start the aggregator that `module` in `folder` is, and again each time it has died, until an
    hour is published; how often that was."""
    lives = 0

    def ended() -> bool:
        return len(pipeline.averages()) == 1 or not running.running(module)

    while len(pipeline.averages()) != 1:
        lives += 1
        assert lives <= most, "it is delivered more often than the limit"
        running.start(
            module,
            module,
            PYTHONPATH=str(folder),
            HOURGLASS_DELIVERY_LIMIT=str(limit),
        )
        wait_until(ended, message="the aggregator neither dies nor publishes the hour")
    return lives


def test_an_entry_that_kills_its_reader_is_given_up_at_the_limit(
    pipeline: Pipeline, running: Services, tmp_path: Path
) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    pipeline.produce(*(reading(at(0, 0, second)) for second in range(30)))
    poison = pipeline.xadd(ts=at(0, 1), temp_f=73, device="poison")
    pipeline.produce(*(reading(at(0, 2, second)) for second in range(30)))
    pipeline.drive(at(1))

    lives_until_published(pipeline, running, "fragile", folder=tmp_path, limit=5, most=10)
    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    assert (item.original_id, item.reason) == (poison, Reason.UNDELIVERABLE)
    assert pipeline.averages()[0].count == 60
    assert pipeline.audit().differences == []


@pytest.mark.parametrize("at_the_head", [True, False])
def test_an_entry_larger_than_the_memory_of_an_aggregator_is_given_up_unread_at_the_limit(
    pipeline: Pipeline, running: Services, tmp_path: Path, *, at_the_head: bool
) -> None:
    (tmp_path / "limited.py").write_text(LIMITED)
    readings = [reading(at(0, 0, second)) for second in range(60)]
    if not at_the_head:
        pipeline.produce(*readings)
    # To parse it takes a buffer of its size, and its size again.
    huge = pipeline.xadd(ts=at(0, 1), temp_f=73, note=bytes(ROOM))
    if at_the_head:
        pipeline.produce(*readings)
    pipeline.drive(at(1))

    lives = lives_until_published(
        pipeline, running, "limited", folder=tmp_path, limit=LIMIT, most=LIMIT + 1
    )
    # A process survives a delivery that times out, and receives the next one. So the entry takes
    # fewer lives on a slow machine, where it is given up after as many deliveries.
    assert lives == LIMIT + 1 or "Timeout reading from socket" in running.said("limited")
    assert pipeline.averages()[0].count == 60
    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    assert (item.original_id, item.reason) == (huge, Reason.UNDELIVERABLE)
    assert item.size > ROOM
    assert pipeline.audit().differences == []


def test_megabytes_are_cut_in_quarantine_and_hold_up_no_other(
    pipeline: Pipeline, running: Services
) -> None:
    long, huge = "9" * 500_000, "9" * 1_000_000
    pipeline.produce(reading(at(0)))
    for _ in range(20):
        pipeline.xadd(ts=at(0), temp_f=long)
        pipeline.xadd(ts=at(0), temp_f=50, note=long)
        pipeline.xadd(ts=at(0), temp_f=50, note=huge)
    many = [part for each in range(1000) for part in (f"field-{each}", long[:900])]
    pipeline.cluster.call("XADD", DAY.stream, "*", *many, "temp_f", "warm")
    pipeline.produce(reading(at(0)))
    pipeline.drive(at(1))

    running.aggregator()

    wait_until(lambda: len(pipeline.averages()) == 1, message="the hour is never published")
    assert pipeline.averages()[0].count == 22
    items = list(quarantined(pipeline.cluster, pipeline.clock.current()))
    assert Counter(item.reason.partition(":")[0] for item in items) == {
        Reason.NOT_A_NUMBER: 21,
        Reason.TOO_LARGE: 20,
    }
    assert max(len(part) for item in items for part in item.fields) == MOST_BYTES
    assert items[-1].fields[:2] == (b"temp_f", b"warm")
    assert len(items[-1].fields) == 2 * MOST_FIELDS
    assert pipeline.audit().differences == []


def flood(pipeline: Pipeline, count: int, temp_f: str) -> None:
    entry = ("XADD", DAY.stream, "*", "device", "porch", "ts", at(0), "temp_f", temp_f)
    for _ in range(0, count, 1000):
        pipeline.cluster.pipeline([entry] * 1000)


@pytest.mark.extended
def test_a_hundred_thousand_bad_readings_in_a_row_take_no_room_and_little_time(
    pipeline: Pipeline,
) -> None:
    flood(pipeline, 100_000, "50")
    good_s = cpu_time_to_count(pipeline)
    flood(pipeline, 100_000, "warm")
    bad_s = cpu_time_to_count(pipeline)

    assert bad_s < 10 * good_s
    assert pipeline.cluster.call("XLEN", DAY.quarantine) == 100_000
    size = pipeline.cluster.call("MEMORY USAGE", DAY.quarantine, "SAMPLES", 0)
    assert size < 100 * 100_000
    assert pipeline.audit().differences == []


def cpu_time_to_count(pipeline: Pipeline) -> float:
    before = time.process_time()
    pipeline.count()
    return time.process_time() - before


def test_beyond_ten_thousand_the_fields_are_those_of_the_raw_readings(pipeline: Pipeline) -> None:
    flood(pipeline, KEPT_WHOLE, "warm")
    pipeline.xadd(ts=at(0), temp_f="cold", device="attic")
    pipeline.count()

    *_, last = quarantined(pipeline.cluster, pipeline.clock.current())
    assert last.fields == (b"ts", b"%d" % at(0), b"temp_f", b"cold", b"device", b"attic")
    stored = pipeline.cluster.call("XREVRANGE", DAY.quarantine, "+", "-", "COUNT", 1)
    assert stored[0][1][b"fields"] == b""

    pipeline.cluster.call("DEL", DAY.stream)
    *_, last = quarantined(pipeline.cluster, pipeline.clock.current())
    assert last.fields == ()
