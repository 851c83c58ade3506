"""The clients of the event stream. Each receives the documents that changed, at its own speed.

There is no queue per client. A slow client receives the current documents when it is ready, and
skips the versions in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager

from averages_consumer.web.document_store import Document, Documents

MOST_VIEWERS = 100
#: Shortest interval between two messages to one client.
PAUSE_S = 0.1


class Subscribers:
    """The connected clients. Use it in one event loop; only `show` is thread-safe."""

    def __init__(self, documents: Documents) -> None:
        self.count = 0
        self._documents = documents
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def full(self) -> bool:
        return self.count >= MOST_VIEWERS

    @contextmanager
    def one_more(self) -> Generator[None]:
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    def attach(self) -> None:
        """Use the running event loop for all clients."""
        self._loop = asyncio.get_running_loop()

    def show(self, documents: Documents) -> None:
        """Replace the documents and wake the clients."""
        self._documents = documents
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """End every stream. Call it in the event loop."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def events(self) -> AsyncGenerator[bytes]:
        """The events for one client: all documents first, then those that change."""
        sent: Mapping[str, Document] = {}
        while not self._closed:
            changed, documents = self._changed, self._documents
            fresh = [each for each in documents.values() if sent.get(each.name) is not each]
            sent = documents
            if fresh:
                yield b"".join(each.event for each in fresh)
                await asyncio.sleep(PAUSE_S)
            if self._documents is documents:
                await changed.wait()
