"""What is acknowledged to a broker, and when: against a broker that does as the protocol says."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from hourglass.model.readings import Reading
from producer.mqtt_session import Content, Session


@dataclass(slots=True)
class Broker:
    """One session of MQTT 5 with QoS 1. Messages are numbers, which are their times too."""

    limit: int
    queue: deque[int] = field(default_factory=deque[int])
    in_flight: dict[int, int] = field(default_factory=dict[int, int])
    on_the_way: deque[tuple[int, int, bool] | None] = field(
        default_factory=deque[tuple[int, int, bool] | None]
    )
    #: Acknowledgements by packet identifier, and fences, that it has not seen yet.
    arriving: deque[int | None] = field(default_factory=deque[int | None])
    packet_ids: count[int] = field(default_factory=lambda: count(1))

    def publish(self, number: int) -> None:
        self.queue.append(number)
        self.send()

    def send(self) -> None:
        while self.queue and len(self.in_flight) < self.limit:
            packet_id, number = next(self.packet_ids), self.queue.popleft()
            self.in_flight[packet_id] = number
            self.on_the_way.append((packet_id, number, False))

    def serve(self) -> None:
        """See what arrives next."""
        if not self.arriving:
            return
        packet_id = self.arriving.popleft()
        if packet_id is None:
            self.on_the_way.append(None)
        else:
            del self.in_flight[packet_id]
            self.send()

    def reconnect(self) -> None:
        self.arriving.clear()
        self.on_the_way = deque((*each, True) for each in self.in_flight.items())
        self.send()

    def forget(self) -> list[int]:
        """It crashes, and loses what it had."""
        lost = [*self.in_flight.values(), *self.queue]
        self.in_flight.clear()
        self.queue.clear()
        self.on_the_way.clear()
        self.arriving.clear()
        return lost


STEPS = ["publish", "deliver", "deliver", "take", "settle", "acknowledge", "fence", "serve",
         "serve", "reconnect"]  # fmt: skip


@dataclass(slots=True)
class World:
    """A broker, and a producer with its session; `stored` is what Redis took."""

    broker: Broker
    session: Session = field(default_factory=Session)
    published: int = 0
    stored: list[int] = field(default_factory=list[int])
    taken: int = 0
    in_hand: list[int] = field(default_factory=list[int])

    def step(self, name: str) -> None:
        getattr(self, name)()
        self.check()

    def publish(self) -> None:
        self.published += 1
        self.broker.publish(self.published)

    def deliver(self) -> None:
        if not self.broker.on_the_way:
            return
        sent = self.broker.on_the_way.popleft()
        if sent is None:
            self.session.fence_answered()
            return
        packet_id, number, is_duplicate = sent
        content = Content(packet_id, hash(number % 3))  # few payloads, which recur
        if not self.session.is_known(content, is_duplicate=is_duplicate):
            # Every seventh message has no reading.
            self.session.received(content, Reading(b"d", number, 0) if number % 7 else None)

    def take(self) -> None:
        self.in_hand += [each.ts_ms for each in self.session.take(3)]

    def settle(self) -> None:
        self.stored += self.in_hand
        self.session.settle(len(self.in_hand))
        self.in_hand = []

    def acknowledge(self) -> None:
        arriving = {each for each in self.broker.arriving if each is not None}
        unacknowledged = [each for each in self.broker.in_flight if each not in arriving]
        acknowledged = self.session.acknowledge()
        assert acknowledged == unacknowledged[: len(acknowledged)], "not in the order of receipt"
        for packet_id in acknowledged:
            number = self.broker.in_flight[packet_id]
            assert number in self.stored or number % 7 == 0, "acknowledged before it was stored"
            self.broker.arriving.append(packet_id)

    def serve(self) -> None:
        self.broker.serve()

    def fence(self) -> None:
        if not self.session.awaits_fence:
            self.session.fence_sent(self.published + 1)
            self.broker.arriving.append(None)

    def reconnect(self) -> None:
        self.session.connected(is_resumed=True)
        self.broker.reconnect()

    def check(self) -> None:
        """Whatever was published before the watermark is stored."""
        owed = {number for number in range(1, self.session.watermark_ms) if number % 7}
        assert owed <= set(self.stored)
        assert self.session.unacknowledged <= self.broker.limit

    def finish(self) -> None:
        """All that may come comes."""
        broker = self.broker
        while broker.on_the_way or broker.in_flight or broker.queue or broker.arriving:
            for name in ("serve", "deliver", "take", "settle", "acknowledge"):
                self.step(name)
        for name in ("fence", "serve", "deliver"):
            self.step(name)


@settings(max_examples=500)
@given(st.integers(1, 6), st.lists(st.sampled_from(STEPS), max_size=60))
def test_every_reading_is_stored_once_however_often_the_connection_breaks(
    limit: int, names: list[str]
) -> None:
    world = World(Broker(limit))
    world.session.connected(is_resumed=False)
    for name in names:
        world.step(name)
    world.finish()
    assert sorted(world.stored) == [n for n in range(1, world.published + 1) if n % 7]
    assert world.session.watermark_ms == world.published + 1
    assert not world.session.is_behind
    assert world.session.unsettled == world.session.unacknowledged == world.session.waiting == 0


@settings(max_examples=200)
@given(st.integers(1, 6), st.lists(st.sampled_from([*STEPS, "lose"]), max_size=60))
def test_a_broker_that_loses_its_session_takes_nothing_along(limit: int, names: list[str]) -> None:
    """What was received before is stored."""
    world = World(Broker(limit))
    world.session.connected(is_resumed=False)
    received: set[int] = set()
    for name in names:
        if name == "lose":
            world.broker.forget()
            world.session.connected(is_resumed=False)
        elif name not in ("fence", "reconnect"):
            if name == "deliver" and world.broker.on_the_way and world.broker.on_the_way[0]:
                received.add(world.broker.on_the_way[0][1])
            getattr(world, name)()
    while world.session.unsettled:
        world.take()
        world.settle()
    assert sorted(world.stored) == sorted(n for n in received if n % 7)


def test_a_message_of_qos_0_is_not_acknowledged() -> None:
    session = Session()
    session.connected(is_resumed=False)
    session.received(None, Reading(b"d", 5, 0))
    assert session.take(9) == [Reading(b"d", 5, 0)]
    session.settle(1)
    assert session.acknowledge() == []


def test_while_a_broker_holds_messages_back_no_fence_moves_the_watermark() -> None:
    world = World(Broker(limit=2))
    world.session.connected(is_resumed=False)
    for name in ["publish"] * 3 + ["deliver"] * 2 + ["fence", "serve", "deliver"]:
        world.step(name)
    assert world.session.is_behind
    for name in ("take", "settle", "acknowledge"):
        world.step(name)
    assert world.session.watermark_ms == 0


def test_a_broker_that_is_waited_for_no_longer_leaves_what_is_here_before_the_watermark() -> None:
    world = World(Broker(limit=2))
    world.session.connected(is_resumed=False)
    for name in ("publish", "deliver"):
        world.step(name)
    world.session.wait_no_longer(50)
    assert world.session.watermark_ms == 0
    world.take()
    world.settle()
    assert world.session.watermark_ms == 50
