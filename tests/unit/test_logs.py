"""Log lines say what happened, once each: facts in JSON, and few of what repeats."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator

import pytest

from hourglass.service.config import LogFormat
from hourglass.service.logs import BURST, PERIOD_S, Repeats, set_up_logging

log = logging.getLogger("hourglass.test")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def passed(repeats: Repeats, message: str, *args: object) -> str | None:
    """The line, if it is let through."""
    record = log.makeRecord(log.name, logging.WARNING, "", 0, message, args, None)
    return record.getMessage() if repeats.filter(record) else None


def test_a_burst_passes_and_the_rest_is_counted() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    lines = [passed(repeats, "entry %d is none", number) for number in range(BURST + 7)]
    assert lines[:BURST] == [f"entry {number} is none" for number in range(BURST)]
    assert lines[BURST:] == [None] * 7
    assert passed(repeats, "something else") == "something else"
    clock.now_s += PERIOD_S
    assert (
        passed(repeats, "entry %d is none", 99) == "entry 99 is none (7 similar lines suppressed)"
    )
    assert passed(repeats, "entry %d is none", 100) == "entry 100 is none"


@pytest.fixture(autouse=True)
def _as_before() -> Generator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_carry_the_facts(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogFormat.JSON, "info", service="aggregator", name="a-1")
    log.info("published %s", "it", extra={"hour": "2025-01-01T00:00:00Z", "trace_id": "ab"})
    line = json.loads(capsys.readouterr().err)
    assert (line["message"], line["service"], line["name"]) == ("published it", "aggregator", "a-1")
    assert (line["hour"], line["trace_id"]) == ("2025-01-01T00:00:00Z", "ab")


def test_readable_lines_tell_the_facts_that_the_message_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging(LogFormat.TEXT, "info")
    hour = "2025-01-01T00:00:00Z"
    log.info("published %s", hour, extra={"hour": hour, "trace_id": ""})
    log.info("published it", extra={"hour": hour, "trace_id": "ab"})
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(f" info    published {hour}")
    assert second.endswith(f" info    published it [hour={hour} trace_id=ab]")


def test_the_failures_of_one_worker_do_not_silence_those_of_another() -> None:
    repeats = Repeats(Clock())

    def failure(worker: str) -> bool:
        args = (worker, "Redis does not answer")
        record = log.makeRecord(log.name, logging.WARNING, "", 0, "%s: %s", args, None)
        record.worker = worker
        return repeats.filter(record)

    assert [failure("sealer") for _ in range(BURST + 1)][-1] is False
    assert failure("temps:20250101")
