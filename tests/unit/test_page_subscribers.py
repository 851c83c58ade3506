"""What each viewer is sent: everything at first, then what changed; for none it queues."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from threading import Thread
from typing import Any

import pytest

from averages_consumer.web import document_store as module
from averages_consumer.web.document_store import Document, Documents, Subscribers

PATIENCE_S = 20


@pytest.fixture(autouse=True)
def _without_pause(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(module, "PAUSE_S", 0)


def documents(**bodies: str) -> Documents:
    return {name: Document(name, body.encode()) for name, body in bodies.items()}


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await story()

    asyncio.run(bounded())


def test_a_viewer_is_sent_everything_and_then_what_changed() -> None:
    async def story() -> None:
        first = documents(averages="[1]", status="a")
        viewers = Subscribers(first)
        viewers.attach()
        events = viewers.events()

        assert await anext(events) == (b"event: averages\ndata: [1]\n\nevent: status\ndata: a\n\n")
        viewers.show({**first, **documents(status="b")})
        assert await anext(events) == b"event: status\ndata: b\n\n"

    run(story)


def test_a_slow_viewer_skips_what_stood_there_meanwhile() -> None:
    async def story() -> None:
        viewers = Subscribers(documents(status="0"))
        viewers.attach()
        events = viewers.events()
        await anext(events)

        for number in range(1, 1001):
            viewers.show(documents(status=str(number)))

        assert await anext(events) == b"event: status\ndata: 1000\n\n"

    run(story)


def test_what_another_thread_shows_wakes_every_viewer() -> None:
    async def story() -> None:
        viewers = Subscribers(documents(status="0"))
        viewers.attach()
        streams = [viewers.events() for _ in range(5)]
        for events in streams:
            await anext(events)
        waiting: list[Awaitable[bytes]] = [asyncio.ensure_future(anext(each)) for each in streams]
        await asyncio.sleep(0)

        Thread(target=viewers.show, args=(documents(status="1"),)).start()

        assert set(await asyncio.gather(*waiting)) == {b"event: status\ndata: 1\n\n"}

    run(story)


def test_every_stream_ends_when_the_service_stops() -> None:
    async def story() -> None:
        viewers = Subscribers(documents(status="0"))
        viewers.attach()
        events = viewers.events()
        await anext(events)
        waiting = asyncio.ensure_future(anext(events, None))
        await asyncio.sleep(0)

        viewers.close()

        assert await waiting is None
        assert [each async for each in viewers.events()] == []

    run(story)


def test_viewers_are_counted_while_they_look_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VIEWERS", 2)
    viewers = Subscribers({})

    with viewers.one_more():
        assert not viewers.full
        with viewers.one_more():
            assert viewers.full
    assert not viewers.full
