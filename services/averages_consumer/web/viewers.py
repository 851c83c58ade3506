"""Those who look on: each is sent the documents that changed, as fast as he takes them.

Nothing queues for a slow viewer. When he is ready for more he is sent what stands on the board
then, and what stood there meanwhile is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager

from averages_consumer.web.board import Document, Documents

MOST_VIEWERS = 100
#: No more often than this to one viewer, however fast the documents change.
PAUSE_S = 0.1


class Viewers:
    """Belongs to one event loop; `show` is for any thread."""

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
        """Take the running loop for that of the viewers."""
        self._loop = asyncio.get_running_loop()

    def show(self, documents: Documents) -> None:
        """What stands on the board from now on."""
        self._documents = documents
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """End every stream. To be called in the loop."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def events(self) -> AsyncGenerator[bytes]:
        """The documents for one viewer: all of them, then those that changed."""
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
