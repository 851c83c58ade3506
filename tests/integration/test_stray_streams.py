"""Streams that nobody reads, because of their names, are found, given a TTL and reported."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from aggregator.strays import StrayFinder
from hourglass.errors import CorruptKey, Unreachable
from hourglass.model.keys import RETENTION_MS, Keyspace
from hourglass.model.strays import Reason, Strays, decode
from hourglassctl.replay import reset
from hourglassctl.status import gather
from tests.support.browsing import ask
from tests.support.keyspace import KEYS, beside
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, day_after, reading
from tests.support.services import services
from tests.support.waiting import wait_until

#: A pipeline whose name begins as this one's does.
OTHER = beside(f"{KEYS.pipeline}-")
MALFORMED = f"{KEYS.pipeline}:2025-01-01"
#: A stream that may be another program's.
WORD = f"{KEYS.pipeline}:today"
TODAY = day_after(DAY, 100)
OVER, AHEAD = day_after(TODAY, -3), day_after(TODAY, 3)


@pytest.fixture
def wall(pipeline: Pipeline) -> Generator[Pipeline]:
    """The clock goes, and it is noon of TODAY."""
    pipeline.run_clock(at(12, day=TODAY), 1)
    yield pipeline
    pipeline.cluster.call("DEL", WORD)  # it has no TTL


def add(pipeline: Pipeline, *streams: str) -> None:
    for stream in streams:
        pipeline.cluster.call("XADD", stream, "*", "temp_f", 73)


def ttl(pipeline: Pipeline, key: str) -> int:
    return int(pipeline.cluster.call("PTTL", key))


def finder(pipeline: Pipeline, **options: Any) -> StrayFinder:
    return StrayFinder(pipeline.cluster, pipeline.clock, **options)


def recorded(pipeline: Pipeline) -> dict[Reason, Strays]:
    return dict(decode(pipeline.cluster.call("GET", KEYS.strays), key=KEYS.strays))


def look(pipeline: Pipeline) -> dict[Reason, Strays]:
    """What a whole look through Redis finds."""
    one = finder(pipeline)
    for _ in range(100):
        if (found := one.step()) is not None:
            return dict(found)
    raise AssertionError("a look takes more than 100 steps")


def test_a_stream_that_no_service_reads_is_found_and_given_a_partitions_ttl(wall: Pipeline) -> None:
    add(wall, MALFORMED, OVER.stream, AHEAD.stream)

    assert look(wall) == {
        Reason.NAME: Strays(1, MALFORMED),
        Reason.OVER: Strays(1, OVER.stream),
        Reason.AHEAD: Strays(1, AHEAD.stream),
    }
    for stream in (MALFORMED, OVER.stream, AHEAD.stream):
        assert RETENTION_MS - 60_000 < ttl(wall, stream) <= RETENTION_MS
        assert wall.cluster.call("XLEN", stream) == 1


def test_its_ttl_is_not_put_off_by_looking_again(wall: Pipeline) -> None:
    add(wall, MALFORMED)
    look(wall)
    expires = wall.cluster.call("PEXPIRETIME", MALFORMED)
    wall.run_clock(at(13, day=TODAY), 1)

    add(wall, MALFORMED)
    look(wall)

    assert wall.cluster.call("PEXPIRETIME", MALFORMED) == expires


def test_a_stream_that_may_be_another_programs_is_reported_and_keeps_no_ttl(wall: Pipeline) -> None:
    add(wall, WORD)

    assert look(wall) == {Reason.NAME: Strays(1, WORD)}
    assert ttl(wall, WORD) == -1


def test_a_key_that_is_no_stream_is_left_alone(wall: Pipeline) -> None:
    wall.cluster.call("SET", MALFORMED, "a program's own", "EX", 3600)

    assert look(wall) == {}
    assert ttl(wall, MALFORMED) <= 3_600_000


def test_nothing_that_the_pipeline_made_is_touched(wall: Pipeline) -> None:
    wall.produce(reading(at(11, day=TODAY)), reading(at(11, 30, day=TODAY)))
    wall.xadd(to=TODAY, temp_f="warm", ts=at(11, day=TODAY))
    wall.count(TODAY)
    wall.seal()
    keys = [key.decode() for pattern in KEYS.patterns for key in wall.cluster.keys(pattern)]
    assert {TODAY.stream, KEYS.averages, TODAY.quarantine} <= {*keys}
    before = wall.cluster.pipeline([("PEXPIRETIME", key) for key in keys])

    assert look(wall) == {}
    assert wall.cluster.pipeline([("PEXPIRETIME", key) for key in keys]) == before


def test_a_day_that_is_read_or_will_be_is_not_stray(wall: Pipeline) -> None:
    near = [day_after(TODAY, days).stream for days in (-2, -1, 0, 1, 2)]
    add(wall, *near)
    for stream in near:
        wall.cluster.call("EXPIRE", stream, 3600)

    assert look(wall) == {}
    assert all(ttl(wall, stream) <= 3_600_000 for stream in near)


def test_a_day_that_the_index_has_is_not_stray(pipeline: Pipeline) -> None:
    """As when a clock was set, or days are replayed."""
    pipeline.run_clock(at(0, day=TODAY), 1)
    pipeline.produce(reading(at(0, day=TODAY)))
    for day in (day_after(TODAY, 30), day_after(TODAY, -30)):
        pipeline.run_clock(at(0, day=day), 1)
        assert look(pipeline) == {}


def test_a_day_that_is_over_and_counted_is_not_stray_until_more_is_added(wall: Pipeline) -> None:
    add(wall, OVER.stream)
    wall.count(OVER)
    assert look(wall) == {}

    add(wall, OVER.stream)
    assert look(wall) == {Reason.OVER: Strays(1, OVER.stream)}


def test_a_clock_that_is_set_back_while_it_looks_judges_nothing(wall: Pipeline) -> None:
    """Its own view of the clock is of before; a writer of the replayed day is not."""
    with Pipeline(wall.url) as another:
        another.run_clock(at(1), 1)
        add(another, DAY.stream)
        another.cluster.call("EXPIRE", DAY.stream, 3600)

        assert wall.clock.current().now_ms > at(0, day=TODAY)
        assert look(wall) == {}


def test_a_step_makes_a_bounded_number_of_calls_and_all_keys_are_scanned(
    wall: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [f"{OTHER.pipeline}:{number}" for number in range(2000)]
    wall.cluster.pipeline([("SET", key, 1, "EX", 3600) for key in others])
    add(wall, MALFORMED)
    asked: list[tuple[str, ...]] = []
    send = wall.cluster.ask

    def counted(master: str, *command: str) -> Any:
        asked.append(command)
        return send(master, *command)

    monkeypatch.setattr(wall.cluster, "ask", counted)
    one, steps = finder(wall, scans=3, count=20), 0
    found = None
    while found is None:
        asked.clear()
        found = one.step()
        steps += 1
        assert 1 <= len(asked) <= 3
        assert all(each[0] == "SCAN" and "20" in each for each in asked)
        assert steps < 1000
    wall.cluster.pipeline([("UNLINK", key) for key in others])

    assert steps >= len(others) // (3 * 20 * 4)
    assert found == {Reason.NAME: Strays(1, MALFORMED)}


def test_a_master_that_does_not_answer_holds_up_no_other_and_nothing_is_recorded(
    wall: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(wall, MALFORMED)
    holder = wall.cluster.shard_of(MALFORMED)
    send = wall.cluster.ask

    def partly(master: str, *command: str) -> Any:
        if master != holder:
            raise Unreachable("away")
        return send(master, *command)

    def holder_last(masters: list[str], _: int) -> list[str]:
        return sorted(masters, key=lambda master: master != holder)

    monkeypatch.setattr(wall.cluster, "ask", partly)
    monkeypatch.setattr(random, "sample", holder_last)
    one = finder(wall)
    for _ in range(len(wall.cluster.masters()) - 1):
        with pytest.raises(Unreachable):
            one.step()
    assert one.step() is None

    assert ttl(wall, MALFORMED) > 0
    assert recorded(wall) == {}
    monkeypatch.undo()
    assert one.step() == {Reason.NAME: Strays(1, MALFORMED)}
    assert recorded(wall) == {Reason.NAME: Strays(1, MALFORMED)}


def test_it_is_recorded_and_logged_once_and_removed_once_it_is_deleted(
    wall: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    def warned() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]

    add(wall, MALFORMED, f"{MALFORMED}T12")
    look(wall)
    wall.cluster.call("EXPIRE", KEYS.strays, 3600)
    look(wall)
    (line,) = warned()
    assert f"2 streams are not read, the first is {MALFORMED}" in line
    assert recorded(wall) == {Reason.NAME: Strays(2, MALFORMED)}
    assert 0 < ttl(wall, KEYS.strays) <= 3_600_000  # it was not written again

    add(wall, OVER.stream)
    look(wall)
    assert len(warned()) == 2
    assert f"Not read: {OVER.stream}" in warned()[1]

    for stream in (MALFORMED, f"{MALFORMED}T12", OVER.stream):
        wall.cluster.call("DEL", stream)
    look(wall)
    assert recorded(wall) == {}
    assert len(warned()) == 2


def test_status_reports_it_with_the_remedy_and_is_not_healthy(wall: Pipeline) -> None:
    add(wall, MALFORMED)
    look(wall)

    status = gather(wall.cluster, wall.clock, period_s=1)

    (text,) = [each.text for each in status.problems if each.code == "stray-streams"]
    assert MALFORMED in text
    assert f"{KEYS.pipeline}:YYYYMMDD of today" in text
    assert not status.healthy


def test_a_name_that_commands_a_screen_is_shown_without_its_command(wall: Pipeline) -> None:
    name = f"{KEYS.pipeline}:2025\n\x1b[2J\xff".encode("latin-1")
    wall.cluster.call("XADD", name, "*", "temp_f", 73)

    found = look(wall)

    assert found[Reason.NAME].first == f"{KEYS.pipeline}:2025??[2J\\xff"
    assert wall.cluster.call("PTTL", name) > 0
    wall.cluster.call("DEL", name)


@pytest.mark.parametrize("damage", [("SET", "nothing"), ("HSET", "a", "b")])
def test_a_damaged_record_is_named(wall: Pipeline, damage: Iterable[str]) -> None:
    command, *value = damage
    wall.cluster.call(command, KEYS.strays, *value)
    wall.cluster.call("EXPIRE", KEYS.strays, 3600)

    with pytest.raises(CorruptKey, match="strays"):
        look(wall)
    with pytest.raises(CorruptKey, match="strays"):
        gather(wall.cluster, wall.clock, period_s=1)


def test_another_pipelines_streams_are_its_own(wall: Pipeline) -> None:
    with Pipeline(wall.url, keyspace=OTHER) as other:
        other.run_clock(at(12, day=TODAY), 1)
        theirs = f"{OTHER.pipeline}:2025-01-01"
        their_day = Keyspace(OTHER.pipeline).partition(OVER.day_ms).stream
        add(other, theirs, their_day)

        assert look(wall) == {}
        assert (ttl(wall, theirs), ttl(wall, their_day)) == (-1, -1)
        assert look(other) == {
            Reason.NAME: Strays(1, theirs),
            Reason.OVER: Strays(1, their_day),
        }
        assert recorded(wall) == {}
        wall.cluster.call("DEL", theirs)
        wall.cluster.call("DEL", their_day)
        reset(other.cluster)


def test_no_day_is_too_far_ahead_of_a_manual_clock(pipeline: Pipeline) -> None:
    far = day_after(NEXT_DAY, 30)
    add(pipeline, far.stream)
    pipeline.cluster.call("EXPIRE", far.stream, 3600)

    assert look(pipeline) == {}


@pytest.mark.system
def test_an_aggregator_exports_it_and_the_page_shows_it_until_it_is_gone(
    wall: Pipeline, redis_url: str, tmp_path: Path
) -> None:
    add(wall, MALFORMED)
    with services(redis_url) as running:
        running.start(
            "consumer", "averages_consumer", "--warehouse-url", f"sqlite:///{tmp_path}/w.db"
        )
        running.aggregator("aggregator")
        page = running.page("consumer")

        def shown() -> list[str]:
            problems = ask(page, "api/status").json()["problems"]
            return [each["about"] for each in problems if each["code"] == "stray-streams"]

        def found(reason: Reason) -> float | None:
            return running.metric("aggregator", f'hourglass_stray_streams{{reason="{reason}"}}')

        wait_until(lambda: found(Reason.NAME) == 1, message="it is not found")
        wait_until(lambda: shown() == [MALFORMED], message="the page does not show it")
        assert found(Reason.OVER) == found(Reason.AHEAD) == 0
        assert ttl(wall, MALFORMED) > 0
        wall.cluster.call("DEL", MALFORMED)
        wait_until(lambda: found(Reason.NAME) == 0, message="it is exported still")
        wait_until(lambda: shown() == [], message="the page shows it still")
