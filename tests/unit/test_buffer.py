"""The bounded buffer: what it drops is the oldest, and every dropped reading is counted."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Thread

from hypothesis import given
from hypothesis import strategies as st

from hourglass.model.readings import Reading
from producer.batch import NO_MORE_MS
from producer.buffer import Buffer

#: Longer than any test runs: whoever waits so long was not woken.
FOR_EVER_S = 600.0


def readings(numbers: Iterable[int]) -> list[Reading]:
    return [Reading(b"d", number, 73_000) for number in numbers]


def numbers(of: Iterable[Reading]) -> list[int]:
    return [reading.ts_ms for reading in of]


@given(
    capacity=st.integers(1, 20),
    steps=st.lists(st.tuples(st.sampled_from(["put", "take"]), st.integers(0, 40))),
)
def test_the_oldest_give_way_and_are_counted(capacity: int, steps: list[tuple[str, int]]) -> None:
    buffer = Buffer[Reading](capacity)
    put, dropped, taken = 0, 0, list[int]()
    expected: list[int] = []

    for step, size in steps:
        if step == "put":
            dropped += buffer.put(readings(range(put, put + size)))
            put += size
            expected = [*expected, *range(put - size, put)][-capacity:]
        else:
            got = numbers(buffer.take(size, 0))
            assert got == expected[:size]
            expected = expected[size:]
            taken += got
        assert len(buffer) == len(expected) <= buffer.capacity == capacity
        assert put == dropped + len(taken) + len(buffer)

    assert taken == sorted(set(taken))


def test_readings_come_out_in_the_order_they_went_in() -> None:
    buffer = Buffer[Reading](10)
    buffer.put(readings(range(5)))

    assert numbers(buffer.take(2, 0)) == [0, 1]
    assert numbers(buffer.take(9, 0)) == [2, 3, 4]


def test_an_empty_buffer_gives_nothing_in_the_end() -> None:
    assert Buffer[Reading](1).take(1, 0.001) == []


def test_a_waiting_reader_gets_what_is_put() -> None:
    buffer = Buffer[Reading](10)
    got: list[Reading] = []
    taker = Thread(target=lambda: got.extend(buffer.take(10, FOR_EVER_S)), daemon=True)
    taker.start()
    buffer.put(readings([1]))
    taker.join(30)

    assert numbers(got) == [1]


def test_closing_wakes_a_waiting_reader() -> None:
    buffer = Buffer[Reading](10)
    taker = Thread(target=buffer.take, args=(10, FOR_EVER_S), daemon=True)
    taker.start()
    buffer.close()
    taker.join(30)

    assert not taker.is_alive()


def test_what_is_left_at_the_end_can_still_be_taken() -> None:
    buffer = Buffer[Reading](10)
    buffer.put(readings([1, 2]))
    buffer.close()

    assert not buffer.drained
    assert numbers(buffer.take(10, FOR_EVER_S)) == [1, 2]
    assert buffer.drained
    assert buffer.take(10, FOR_EVER_S) == []


def test_an_open_buffer_is_never_drained() -> None:
    assert not Buffer[Reading](1).drained


def test_what_follows_is_the_first_that_is_here_or_the_next_to_come() -> None:
    buffer = Buffer[Reading](2)
    buffer.put([], next_ms=1)
    assert buffer.next_ms == 1

    buffer.put(readings([1, 2, 3]), next_ms=4)
    assert buffer.next_ms == 2  # the first was dropped
    buffer.take(1, 0)
    assert buffer.next_ms == 3
    buffer.take(1, 0)
    assert buffer.next_ms == 4


def test_of_a_buffer_that_is_closed_and_empty_nothing_follows() -> None:
    buffer = Buffer[Reading](2)
    buffer.put(readings([1]), next_ms=2)
    buffer.close()
    assert buffer.next_ms == 1

    buffer.take(1, 0)
    assert buffer.next_ms == NO_MORE_MS
