"""A queue between two threads: all of it, in order, bounded, and nobody left waiting."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from analyzer.capture.handover import HandOver


def filling(queue: HandOver[bytes], items: Iterable[bytes]) -> threading.Thread:
    thread = threading.Thread(target=queue.fill, args=(items,), daemon=True)
    thread.start()
    return thread


def taken(queue: HandOver[bytes], seconds: float = 10.0) -> list[bytes]:
    found, deadline = [], time.monotonic() + seconds
    while not queue.ended:
        assert time.monotonic() < deadline
        if (item := queue.take(0.05)) is not None:
            found.append(item)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_all_of_it_in_order_and_no_more_waits_than_there_is_room_for(seed: int) -> None:
    chance = random.Random(seed)
    items = [bytes([n % 256]) * chance.randint(1, 40) for n in range(400)]
    made = got = worst = 0

    def making() -> Iterator[bytes]:
        nonlocal made
        for item in items:
            if chance.random() < 0.02:
                time.sleep(0.002)
            made += len(item)
            yield item

    queue: HandOver[bytes] = HandOver(len, 100)
    thread = filling(queue, making())
    found: list[bytes] = []
    while not queue.ended:
        worst = max(worst, made - got)
        if (item := queue.take(0.05)) is not None:
            found.append(item)
            got += len(item)
        if seed % 2:
            time.sleep(0.0005)
    assert found == items
    # Less than the room, the item that filled it, and the one that is being made.
    assert worst <= 99 + 40 + 40
    thread.join(5)
    assert not thread.is_alive()


def test_a_taker_is_woken_by_what_comes_and_by_the_end() -> None:
    queue: HandOver[bytes] = HandOver(len, 100)
    begin = time.monotonic()
    assert queue.take(0.05) is None
    assert queue.take(0) is None
    assert 0.05 <= time.monotonic() - begin < 2

    def late() -> Iterator[bytes]:
        time.sleep(0.1)
        yield b"x"
        time.sleep(0.1)

    begin = time.monotonic()
    filling(queue, late())
    assert queue.take(30) == b"x"
    assert queue.take(30) is None, "the end wakes it, too"
    assert time.monotonic() - begin < 10
    assert queue.ended


def test_an_error_comes_behind_what_came_before_it_and_once() -> None:
    def breaking() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise ValueError("broken")

    queue: HandOver[bytes] = HandOver(len, 100)
    filling(queue, breaking()).join(5)
    assert [queue.take(1), queue.ended, queue.take(1), queue.ended] == [b"one", False, b"two", False]
    with pytest.raises(ValueError, match="broken"):
        queue.take(1)
    assert queue.take(1) is None
    assert queue.ended


def test_closing_releases_a_thread_that_waits_for_room() -> None:
    queue: HandOver[bytes] = HandOver(len, 10)
    thread = filling(queue, itertools.repeat(b"x" * 10))
    thread.join(0.2)
    assert thread.is_alive()
    queue.close()
    thread.join(5)
    assert not thread.is_alive()
    assert taken(queue) == [b"x" * 10]


def test_one_that_never_ends_is_ended_in_time_and_what_waits_is_handed_out() -> None:
    queue: HandOver[bytes] = HandOver(len, 10)
    thread = filling(queue, itertools.repeat(b"xx"))
    assert queue.take(5) == b"xx"
    queue.end_within(0.2)
    queue.end_within(60)
    begin = time.monotonic()
    assert len(taken(queue)) > 0
    assert 0.1 < time.monotonic() - begin < 5
    thread.join(5)
    assert not thread.is_alive()


def test_one_that_is_silent_is_ended_in_time() -> None:
    queue: HandOver[bytes] = HandOver(len, 10)
    begin = time.monotonic()
    queue.end_within(0.1)
    assert [queue.ended, queue.take(30), queue.ended] == [False, None, True]
    assert time.monotonic() - begin < 10
