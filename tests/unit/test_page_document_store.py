"""The board, as long as nothing is known of Redis."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from averages_consumer.web import document_store as module
from averages_consumer.web.document_store import DocumentStore
from hourglass.errors import Unreachable
from hourglass.model.clock import Instant
from hourglass.monitoring.pipeline_status import REDIS_STALE_MS
from hourglass.monitoring.stream_stats import Removals
from tests.support.snapshots import DAY, instant, polled


class NoClock:
    """Redis went before it was read."""

    def current(self) -> Instant:
        raise Unreachable("it does not answer")


@pytest.fixture
def board() -> DocumentStore:
    return DocumentStore(
        cast(Any, NoClock()),
        begun=instant(),
        name="me",
        period_s=1.0,
        not_ready=list,
        missing_hours=lambda: 0,
        server_findings=list,
    )


def said(board: DocumentStore) -> tuple[bool, bool | None, list[str]]:
    status = json.loads(board.documents["status"].body)
    codes = [problem["code"] for problem in status["problems"]]
    return status["redis"]["answers"], status["redis"]["readable"], codes


def test_before_the_first_look_it_is_looking_and_nothing_is_well(board: DocumentStore) -> None:
    assert said(board) == (True, None, ["looking"])


def test_if_no_look_ever_succeeds_redis_is_away(
    board: DocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    later_s = module.time.monotonic() + REDIS_STALE_MS / 1000 + 1
    monkeypatch.setattr(module.time, "monotonic", lambda: later_s)

    board.refresh()

    assert said(board) == (False, None, ["redis-away"])


def test_what_one_look_cannot_read_another_does_not_make_good(board: DocumentStore) -> None:
    board.unreadable("averages", "WRONGTYPE")
    board.polled(polled())
    board.refresh()
    assert said(board) == (True, False, ["redis-unreadable"])

    board.received(module.Update())
    board.refresh()
    assert said(board) == (True, True, [])


def test_a_loss_stays_known_while_a_later_poll_finds_less_of_it(
    board: DocumentStore,
) -> None:
    def problems_after(removed: Removals) -> list[str]:
        board.polled(polled(removals={DAY.stream: removed}))
        board.refresh()
        found = json.loads(board.documents["status"].body)["problems"]
        return [each["text"] for each in found if each["code"] == "readings-lost"]

    first = problems_after(Removals(entries=5, uncounted=5))
    assert first
    assert problems_after(Removals(entries=5)) == first
    assert problems_after(Removals(entries=1)) == []  # another stream of the same name
