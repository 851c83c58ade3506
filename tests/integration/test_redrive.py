"""A quarantined reading that is usable by now can be counted after all, once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hourglass.cluster.link import Link
from hourglass.model.keys import GROUP, Partition
from hourglass.model.readings import MILLI, Reason, Rules
from hourglass.monitoring.stream_stats import read_streams
from hourglass.service.cli import invoke
from hourglassctl.__main__ import application
from hourglassctl.audit import recompute
from hourglassctl.quarantine import READ_BACK, quarantined, redrive
from tests.support.pipeline import DAY, Pipeline, at, reading

WIDE = Rules(max_milli_f=1_000 * MILLI)


def one_too_hot(pipeline: Pipeline) -> bytes:
    """A reading and one above the plausible range, both counted; the second one's id."""
    pipeline.produce(reading(at(0), 40.0))
    entry_id = pipeline.xadd(ts=at(0, 30), temp_f=451, device="stove")
    pipeline.produce(reading(at(0, 45), 50.0))
    pipeline.count()
    return entry_id


def redrive_all(pipeline: Pipeline, rules: Rules = WIDE) -> list[str]:
    items = list(quarantined(pipeline.cluster, pipeline.clock.current()))
    return [redrive(pipeline.cluster, item, rules, pipeline.clock.current()) for item in items]


def in_quarantine(pipeline: Pipeline) -> int:
    return int(pipeline.cluster.call("XLEN", DAY.quarantine))


def test_a_redriven_reading_counts_once_at_its_own_time(pipeline: Pipeline) -> None:
    original = one_too_hot(pipeline)

    (outcome,) = redrive_all(pipeline)
    pipeline.count(rules=WIDE)

    assert outcome == "redriven: 1 counted"
    record = pipeline.record(0)
    assert (record.count, record.sum_milli_f) == (3, 541_000)
    assert in_quarantine(pipeline) == 0
    assert len(pipeline.cluster.call("XRANGE", DAY.stream, original, original)) == 1
    found = pipeline.audit()
    assert (found.clean, found.counted, found.quarantined) == (True, 3, 0)


def test_an_entry_too_large_to_be_read_is_shown_by_its_size_and_stays(pipeline: Pipeline) -> None:
    array = bytes(READ_BACK)
    pipeline.xadd(ts=at(0), encoding="i16/10", temps_f=array)
    pipeline.xadd(ts=at(0), encoding="i16/10", temps_f=array, device="porch")
    pipeline.count()

    items = list(quarantined(pipeline.cluster, pipeline.clock.current()))

    sizes = [READ_BACK + len(f"ts{at(0)}encodingi16/10temps_f") + more for more in (0, 11)]
    assert [item.reason for item in items] == [
        f"{Reason.TOO_LARGE}: {size} bytes" for size in sizes
    ]
    assert [list(item.shown) for item in items] == [[f"({size} bytes)"] for size in sizes]
    outcomes = [
        redrive(pipeline.cluster, item, Rules(), pipeline.clock.current()).partition(":")[0]
        for item in items
    ]
    assert outcomes == ["stays", "stays"]
    assert pipeline.audit().differences == []


def test_an_audit_reads_no_entry_that_is_too_large_or_was_delivered_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0

    def weigh(self: Link, receive: Any = Link.receive) -> Any:
        nonlocal largest
        reply = receive(self)
        largest = max(largest, size_of(reply))
        return reply

    pipeline.produce(reading(at(0)))
    pipeline.xadd(ts=at(0), note="n" * READ_BACK)
    pipeline.produce(reading(at(0)))
    pipeline.count()
    pipeline.xadd(ts=at(0), note="n" * READ_BACK)
    pipeline.delivery().read(1, 1)
    pipeline.claim(pipeline.delivery(), 0, limit=5)
    monkeypatch.setattr(Link, "receive", weigh)

    assert pipeline.audit().differences == []
    assert 0 < largest < READ_BACK


def size_of(reply: Any) -> int:
    """Bytes in it."""
    match reply:
        case bytes():
            return len(reply)
        case [*parts]:
            return sum(map(size_of, parts))
        case _:
            return 0


def test_redriving_again_adds_nothing(pipeline: Pipeline) -> None:
    one_too_hot(pipeline)
    (item,) = quarantined(pipeline.cluster, pipeline.clock.current())
    instant = pipeline.clock.current()
    redrive(pipeline.cluster, item, WIDE, instant)

    assert redrive(pipeline.cluster, item, WIDE, instant).startswith("gone")
    pipeline.count(rules=WIDE)

    assert pipeline.record(0).count == 3


def test_one_without_ts_keeps_the_time_of_its_id(pipeline: Pipeline) -> None:
    pipeline.xadd(entry_id=f"{at(3)}-0", temp_f=451)
    pipeline.xadd(entry_id=f"{at(9)}-0", temp_f=73)
    pipeline.count()

    redrive_all(pipeline)
    pipeline.count(rules=WIDE)

    assert (pipeline.record(3).count, pipeline.record(9).count) == (1, 1)


def test_one_that_is_still_unusable_stays(pipeline: Pipeline) -> None:
    one_too_hot(pipeline)

    assert redrive_all(pipeline, Rules()) == ["stays: temp_f is outside the plausible range"]

    assert in_quarantine(pipeline) == 1
    assert pipeline.cluster.call("XLEN", DAY.stream) == 3


def test_one_whose_partition_has_expired_stays(pipeline: Pipeline) -> None:
    one_too_hot(pipeline)
    pipeline.cluster.call("DEL", DAY.stream)

    assert redrive_all(pipeline) == ["gone: its partition has expired"]

    assert pipeline.cluster.call("EXISTS", DAY.stream) == 0
    assert in_quarantine(pipeline) == 1


def test_one_redriven_into_a_sealed_hour_is_late(pipeline: Pipeline) -> None:
    one_too_hot(pipeline)
    pipeline.drive(at(1))
    pipeline.seal()

    assert redrive_all(pipeline) == ["redriven: 1 counted, 1 of them as late"]
    pipeline.count(rules=WIDE)

    record = pipeline.record(0)
    assert (record.count, record.late, record.late_sum_milli_f) == (2, 1, 451_000)
    assert pipeline.audit().clean


def test_the_lag_stays_known(pipeline: Pipeline) -> None:
    one_too_hot(pipeline)

    redrive_all(pipeline)
    pipeline.produce(reading(at(1)))
    (before,) = read_streams(pipeline.cluster, [DAY.stream], GROUP)
    pipeline.count(rules=WIDE)
    (after,) = read_streams(pipeline.cluster, [DAY.stream], GROUP)

    assert (before.lag, before.lag_readings) == (1, 1)
    assert (after.lag, after.lag_readings) == (0, 0)


def test_a_redriven_reading_is_there_for_a_recount(pipeline: Pipeline) -> None:
    pipeline.xadd(ts=at(0), temp_f=451)  # the first entry, which a recount goes by
    pipeline.xadd(ts=at(0), temp_f=73)
    pipeline.count()
    redrive_all(pipeline)
    pipeline.count(rules=WIDE)

    pipeline.cluster.call("XGROUP DESTROY", DAY.stream, GROUP)
    pipeline.count(rules=WIDE)

    assert pipeline.record(0).count == 2


def test_an_audit_beside_a_redrive_finds_no_difference(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_too_hot(pipeline)
    rejected = getattr(recompute, "_rejected")  # noqa: B009

    def meanwhile(link: Link, partition: Partition) -> Any:
        redrive_all(pipeline)
        return rejected(link, partition)

    monkeypatch.setattr(recompute, "_rejected", meanwhile)
    found = pipeline.audit()

    assert (found.differences, found.counted, found.quarantined) == ([], 3, 0)


def test_the_command_lists_and_redrives(
    pipeline: Pipeline, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    original = one_too_hot(pipeline).decode()

    assert run("quarantine", "list", "--json", "--redis-url", redis_url) == 0
    assert json.loads(capsys.readouterr().out) == {
        "partition": DAY.stream,
        "id": original,
        "reason": "temp_f is outside the plausible range",
        "fields": f"ts={at(0, 30)} temp_f=451 device=stove",
        "readings": 1,
    }

    limits = ("--max-temp-f", "1000", "--redis-url", redis_url)
    assert run("quarantine", "redrive", "--id", "1-1", *limits) == 0
    assert capsys.readouterr().out == ""
    assert run("quarantine", "redrive", "--id", original, *limits) == 0
    assert capsys.readouterr().out == f"{DAY.stream}  {original}  redriven: 1 counted\n"


def test_what_a_sensor_gives_in_place_of_a_reading_stays_unless_it_is_named(
    pipeline: Pipeline, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = pipeline.xadd(ts=at(0), temp_f=85).decode()
    pipeline.count(rules=Rules(no_reading_milli_f=frozenset([85_000])))

    assert run("quarantine", "redrive", "--redis-url", redis_url) == 0
    assert f"stays: {Reason.NO_READING}; --id counts it" in capsys.readouterr().out
    assert run("quarantine", "redrive", "--id", failed, "--redis-url", redis_url) == 0
    assert "redriven: 1 counted" in capsys.readouterr().out


def test_what_a_foreign_writer_wrote_does_not_command_the_screen(
    pipeline: Pipeline, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.xadd(temp_f="\x1b[2Jhot\nthing")
    pipeline.count()

    assert run("quarantine", "list", "--redis-url", redis_url) == 0

    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("temp_f=?[2Jhot?thing")


def test_what_is_still_too_far_ahead_stays(
    pipeline: Pipeline, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.run_clock(at(1), 1.0)
    original = pipeline.xadd(ts=at(5), temp_f=73).decode()
    rules = Rules(latest_ms=at(2))
    pipeline.count(rules=rules)

    assert run("quarantine", "redrive", "--redis-url", redis_url) == 0
    stays = "stays: event time is too far in the future"
    assert capsys.readouterr().out == f"{DAY.stream}  {original}  {stays}\n"

    pipeline.run_clock(at(5), 1.0)
    assert run("quarantine", "redrive", "--redis-url", redis_url) == 0
    assert "redriven: 1 counted" in capsys.readouterr().out


def run(*arguments: str) -> int:
    """The exit status of `hourglass` with these arguments."""
    with pytest.raises(SystemExit) as ended:
        invoke(application(), "hourglass", arguments)
    return int(ended.value.code or 0)
