"""A bad network between a client and one server."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_CHUNK = 65_536


class Proxy:
    """Passes bytes on, in both directions, with the faults that it is given.

    delay_s: how long each piece of a reply is held back
    """

    def __init__(self, target: int | Path, *, at: Path | None = None) -> None:
        """To a port, or to a socket in the file system; at a free port, or at such a socket."""
        self.delay_s = 0.0
        self.cuts = 0
        self.losses = 0
        self._target = target
        self._cut_after = 0
        self._cuts_left = 0
        self._lose: bytes = b""
        self._lock = threading.Lock()
        self._server = socket.create_server((HOST, 0)) if at is None else _listening(at)
        self.port: int = self._server.getsockname()[1] if at is None else 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_replies(self, count: int, *, after_bytes: int) -> None:
        """Cut the connection in the middle of the next `count` replies that are longer."""
        with self._lock:
            self._cuts_left, self._cut_after = count, after_bytes

    def lose_reply(self, request: bytes) -> None:
        """Cut the connection instead of passing on the answer to the next request with these bytes
        in it, which the server has carried out."""
        with self._lock:
            self._lose = request

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = _connected(self._target)
            except OSError:
                near.close()
                continue
            _Way(self, near, far)

    def must_lose(self, request: bytes) -> bool:
        with self._lock:
            if self._lose and self._lose in request:
                self._lose = b""
                self.losses += 1
                return True
            return False

    def part_to_pass(self, passed: int, piece: bytes) -> bytes | None:
        """How much of a reply's piece to pass before cutting; None for all of it, uncut."""
        with self._lock:
            if self._cuts_left and passed + len(piece) > self._cut_after:
                self._cuts_left -= 1
                self.cuts += 1
                return piece[: max(0, self._cut_after - passed)]
            return None


def _listening(at: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(at))
    server.listen()
    return server


def _connected(target: int | Path) -> socket.socket:
    if isinstance(target, int):
        return socket.create_connection((HOST, target))
    far = socket.socket(socket.AF_UNIX)
    far.connect(str(target))
    return far


class _Way:
    """One client's connection, and the one to the server that it stands for."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
        self._proxy = proxy
        self._near = near
        self._far = far
        self._passed = 0
        self._lost = False
        threading.Thread(target=self._requests, daemon=True).start()
        threading.Thread(target=self._replies, daemon=True).start()

    def _requests(self) -> None:
        with suppress(OSError):
            while piece := self._near.recv(_CHUNK):
                self._passed = 0
                self._lost = self._lost or self._proxy.must_lose(piece)
                self._far.sendall(piece)
        self._close()

    def _replies(self) -> None:
        with suppress(OSError):
            while piece := self._far.recv(_CHUNK):
                time.sleep(self._proxy.delay_s)
                if self._lost:
                    break
                part = self._proxy.part_to_pass(self._passed, piece)
                if part is not None:
                    self._near.sendall(part)
                    break
                self._near.sendall(piece)
                self._passed += len(piece)
        self._close()

    def _close(self) -> None:
        for each in (self._near, self._far):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
