"""What a producer has received from a broker and not acknowledged yet. Pure; not thread-safe.

A message is acknowledged over the connection that delivered it, in the order of receipt, and only
once its reading is settled: Redis took it, or it is counted as dropped. After a reconnect to a
session that the broker kept, the broker sends again whatever was not acknowledged; a message whose
reading is still here is recognised, so that its reading is neither lost nor sent twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from hourglass.model.readings import Reading


class Content(NamedTuple):
    """What identifies a message that comes again: its packet identifier, and a hash of topic and
    payload."""

    packet_id: int
    digest: int


@dataclass(slots=True, eq=False)
class _Message:
    packet_id: int
    digest: int
    is_settled: bool


class _Fence(NamedTuple):
    """A request that the broker answers after all it sent before.

    sent_ms: pipeline time when it was sent
    acknowledged: messages of this connection that were acknowledged before it
    """

    sent_ms: int
    acknowledged: int


class _Mark(NamedTuple):
    """A watermark that holds once the first `queued` readings are settled."""

    queued: int
    watermark_ms: int


class Session:
    """The messages of one MQTT session, from receipt to acknowledgement.

    The watermark: a source cannot know the times of messages that it has not received. But a broker
    holds messages back only while it has as many in flight as it allows. So the producer sends a
    request, a fence, whose answer comes after every message that the broker sent before. If
    meanwhile no message was in flight, or fewer than were seen in flight at once over this
    connection, then every message that reached the broker before the fence has been received. The
    time of the fence becomes the watermark once their readings are settled.
    """

    def __init__(self) -> None:
        #: Of this connection, in the order of receipt; the first is the next to be acknowledged.
        self._in_flight: deque[_Message] = deque()
        #: Not acknowledged over an earlier connection, by packet identifier.
        self._to_come_again: dict[int, _Message] = {}
        self._waiting: deque[tuple[_Message, Reading]] = deque()
        self._taken: deque[_Message] = deque()
        self._received = 0
        self._acknowledged = 0
        #: Most messages seen in flight at once over this connection.
        self.most_in_flight = 0
        self._queued = 0
        self._settled = 0
        self._fence: _Fence | None = None
        self._marks: deque[_Mark] = deque()
        #: Every reading that reached the broker before it is settled, in pipeline time.
        self.watermark_ms = 0
        #: Whether the broker may hold messages back, as of the last fence.
        self.is_behind = True

    @property
    def unacknowledged(self) -> int:
        """Messages received over this connection and not acknowledged."""
        return len(self._in_flight)

    @property
    def unsettled(self) -> int:
        """Readings received and not settled, of this connection or an earlier one."""
        return self._queued - self._settled

    @property
    def waiting(self) -> int:
        """Readings that can be taken."""
        return len(self._waiting)

    def connected(self, *, is_resumed: bool) -> None:
        """A new connection begins. `is_resumed`: the broker kept the session."""
        if is_resumed:
            self._to_come_again |= {each.packet_id: each for each in self._in_flight}
        else:
            self._to_come_again.clear()
        self._in_flight.clear()
        self._received = self._acknowledged = 0
        self.most_in_flight = 0
        self._fence = None
        self.is_behind = True

    def is_known(self, content: Content, *, is_duplicate: bool) -> bool:
        """Whether the message was received over an earlier connection; if so, it is in flight
        again, and nothing else is to be done.

        is_duplicate: the broker marks it as sent before
        """
        before = self._to_come_again.pop(content.packet_id, None)
        if before is None or not is_duplicate or before.digest != content.digest:
            return False
        self._add(before)
        return True

    def received(self, content: Content | None, reading: Reading | None) -> None:
        """A message that is not known, with its reading; None if it has none.

        content: None if the message is not to be acknowledged
        """
        message = _Message(*(content or (0, 0)), is_settled=reading is None)
        if content is not None:
            self._add(message)
        if reading is not None:
            self._queued += 1
            self._waiting.append((message, reading))

    def _add(self, message: _Message) -> None:
        self._in_flight.append(message)
        self._received += 1
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))

    def take(self, limit: int) -> list[Reading]:
        """Remove and return the oldest readings, at most `limit`; then settle or keep them all."""
        taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        self._taken.extend(message for message, _ in taken)
        return [reading for _, reading in taken]

    def settle(self, count: int) -> None:
        """The first `count` readings that were taken and are not settled yet are settled."""
        for _ in range(count):
            self._taken.popleft().is_settled = True
        self._settled += count
        self._move_watermark()

    def acknowledge(self) -> list[int]:
        """The packet identifiers to acknowledge now, in order; each is returned once."""
        packet_ids: list[int] = []
        while self._in_flight and self._in_flight[0].is_settled:
            packet_ids.append(self._in_flight.popleft().packet_id)
        self._acknowledged += len(packet_ids)
        return packet_ids

    def fence_sent(self, now_ms: int) -> None:
        self._fence = _Fence(now_ms, self._acknowledged)

    def fence_answered(self) -> None:
        if self._fence is None:
            return
        in_flight = self._received - self._fence.acknowledged  # as the broker may have seen it
        self.is_behind = in_flight >= max(1, self.most_in_flight)
        if not self.is_behind:
            self.wait_no_longer(self._fence.sent_ms)
        self._fence = None

    @property
    def awaits_fence(self) -> bool:
        return self._fence is not None

    def wait_no_longer(self, now_ms: int) -> None:
        """`now_ms` becomes the watermark once all that was received is settled."""
        if self._marks and self._marks[-1].queued == self._queued:
            self._marks.pop()
        self._marks.append(_Mark(self._queued, now_ms))
        self._move_watermark()

    def _move_watermark(self) -> None:
        while self._marks and self._marks[0].queued <= self._settled:
            self.watermark_ms = max(self.watermark_ms, self._marks.popleft().watermark_ms)
