from __future__ import annotations

import mmap
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.team import GivenUp, Team

_Answer = TypeVar("_Answer")


def team_of(size: int) -> list[Team]:
    """All views of a team, in one process."""
    ends: list[dict[int, socket.socket]] = [{} for _ in range(size)]
    for one in range(size):
        for other in range(one):
            ends[one][other], ends[other][one] = socket.socketpair()
    return [Team(rank, size, others, mmap.mmap(-1, 1)) for rank, others in enumerate(ends)]


@pytest.fixture
def pair() -> Iterator[tuple[Team, Team]]:
    one, other = team_of(2)
    yield one, other
    one.close()
    other.close()


def each(members: list[Team], work: Callable[[Team], _Answer]) -> list[_Answer]:
    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(work, members))


@given(st.lists(st.lists(st.integers(-(1 << 40), 1 << 40), min_size=3, max_size=3), max_size=5))
def test_all_have_the_same_sums(rounds: list[list[int]]) -> None:
    members = team_of(3)

    found = each(members, lambda member: [member.total(numbers[member.rank]) for numbers in rounds])

    assert found == [[sum(numbers) for numbers in rounds]] * 3
    for member in members:
        member.close()


def test_messages_of_a_kind_come_in_order_whatever_is_asked_for_first(pair: tuple[Team, Team]) -> None:
    one, other = pair
    one.tell(1, 10)
    one.tell(2, 20, 21, 22, 23, to=1)
    one.tell(1, 11)

    assert other.hear(2, 0) == (20, 21, 22, 23)
    assert [other.hear(1, 0)[0] for _ in range(2)] == [10, 11]


def test_what_was_not_asked_for_is_dropped_where_all_meet(pair: tuple[Team, Team]) -> None:
    pair[0].tell(1, 10)

    each([*pair], lambda member: member.meet(1))
    pair[0].tell(1, 11)

    assert pair[1].hear(1, 0)[0] == 11


def test_whoever_waits_for_one_that_has_ended_learns_of_it(pair: tuple[Team, Team]) -> None:
    one, other = pair
    other.tell(1, 5)
    other.close()

    assert one.hear(1, 1)[0] == 5  # said before
    with pytest.raises(GivenUp):
        one.hear(1, 1)


def test_whoever_tells_one_that_has_ended_learns_of_it(pair: tuple[Team, Team]) -> None:
    one, other = pair
    other.close()

    with pytest.raises(GivenUp):
        one.total(1)
