"""A fault point is where its name says, and what it loses is lost as a connection loses it."""

from __future__ import annotations

from contextlib import closing

import pytest

from hourglass.cluster.connect import connect
from hourglass.errors import ConnectionLost, Unreachable
from hourglass.model.keys import GROUP
from tests.support.fault_injection import bind, install
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline, at, reading


def test_a_reply_lost_on_a_link_is_a_broken_connection_after_the_work_is_done(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.open()
    delivery = pipeline.delivery()
    entries = delivery.read(10, 1)
    install(bind("commit.after:lose-reply"), monkeypatch.setattr)

    with pytest.raises(ConnectionLost, match=r"lost at fault point commit\.after"):
        pipeline.commit(delivery, entries)

    assert pipeline.record(0).count == 1


def test_a_reply_lost_by_the_cluster_is_an_unreachable_redis_after_the_work_is_done(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.produce(reading(at(0)))
    install(bind("open.after:lose-reply"), monkeypatch.setattr)

    with pytest.raises(Unreachable, match=r"lost at fault point open\.after"):
        pipeline.open()

    (group,) = pipeline.cluster.call("XINFO GROUPS", DAY.stream)
    assert group["name"] == GROUP.encode()


def test_points_are_passed_before_a_script_is_sent_and_after_its_reply_is_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.produce(reading(at(0)))
    pipeline.open()
    passed: list[tuple[str, int]] = []

    def counted(point: str) -> None:
        if point.startswith("commit."):
            with closing(connect(pipeline.url, keyspace=KEYS)) as cluster:
                held = cluster.call("XPENDING", DAY.stream, GROUP)["pending"]
            passed.append((point, held))

    install(counted, monkeypatch.setattr)
    pipeline.count()

    assert passed == [("commit.before", 1), ("commit.after", 0)]
