from __future__ import annotations

import errno
import itertools
import os
import signal
import sys

import pytest

from analyzer.team import GivenUp, Team
from analyzer.workers import Tally, Task, can_fork, in_children, together

pytestmark = pytest.mark.skipif(not can_fork(), reason="this system makes no copies of processes")


def test_the_answer_comes_from_a_child_that_sees_what_was_there() -> None:
    seen = {"octets": bytes(1 << 20)}  # more than a pipe holds

    answer, process = Task(lambda: (seen["octets"], os.getpid())).result()

    assert answer == seen["octets"]
    assert process != os.getpid()


def test_what_the_child_changes_stays_in_the_child() -> None:
    numbers = [1]

    def work() -> list[int]:
        numbers.append(2)
        return numbers

    assert Task(work).result() == [1, 2]
    assert numbers == [1]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_work_of_a_killed_child_is_done_here(end: signal.Signals) -> None:
    parent = os.getpid()

    def work() -> str:
        if os.getpid() != parent:
            os.kill(os.getpid(), end)
        return "done"

    assert Task(work).result() == "done"


def test_an_error_is_raised_here_and_printed_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ValueError("as it would be without a child")

    with pytest.raises(ValueError, match="without a child"):
        Task(work).result()
    assert capfd.readouterr() == ("", "")


def test_no_child_and_no_descriptor_is_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    assert [task.result() for task in [Task(lambda i=i: i) for i in range(5)]] == list(range(5))  # type: ignore[misc]

    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_team_works_side_by_side_in_processes_of_its_own() -> None:
    def work(team: Team) -> tuple[int, int, int]:
        team.memory[team.rank] = team.rank + 10
        team.meet()
        return os.getpid(), team.total(team.rank), int(team.memory[: team.size].sum())

    answers = together(3, work, 16)

    assert answers[0][0] == os.getpid()
    assert len({process for process, _, _ in answers}) == 3
    assert [rest for _, *rest in answers] == [[3, 33]] * 3


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_team_is_given_up_where_one_gives_up(victim: int) -> None:
    def work(team: Team) -> int:
        if team.rank == victim:
            raise GivenUp
        return team.total(1)

    with pytest.raises(GivenUp):
        together(3, work, 1)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_error_here_ends_the_team_and_is_raised() -> None:
    def work(team: Team) -> None:
        if team.rank == 0:
            raise ValueError("here")
        team.meet()

    with pytest.raises(ValueError, match="here"):
        together(4, work, 1)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_one_that_waits_for_more_than_others_have_to_say_is_not_waited_for() -> None:
    # Given a process that asks for one sum more than the first one, as it has seen more
    def work(team: Team) -> int:
        sums = [team.total(1) for _ in range(1 + team.rank)]
        return sums[-1]

    with pytest.raises(GivenUp):
        together(2, work, 1)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_nobody_does_the_work_of_a_child_that_fails_at_its_end() -> None:
    parent, ranks = os.getpid(), []

    def work(team: Team) -> int:
        ranks.append(team.rank)
        team.meet()
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return team.rank

    with pytest.raises(GivenUp):
        together(2, work, 1)
    assert ranks == [0]


@pytest.mark.parametrize("refused", ["os.fork", "os.pipe", "socket.socketpair", "mmap.mmap"])
def test_what_the_system_refuses_gives_the_team_up(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given room for one process, or for some connections
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    owner, _, name = refused.rpartition(".")
    there = getattr(sys.modules[owner], name)
    calls = itertools.count()

    def some(*arguments: object) -> object:
        if next(calls) >= (name != "mmap"):
            raise OSError(errno.EMFILE, "no more")
        return there(*arguments)

    monkeypatch.setattr(refused, some)
    with pytest.raises(GivenUp):
        together(4, lambda team: team.total(1), 1)
    monkeypatch.undo()

    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("room", [0, 1])
def test_pieces_are_done_here_where_there_are_no_children(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fork, calls = os.fork, itertools.count()

    def some() -> int:
        if next(calls) >= room:
            raise BlockingIOError
        return fork()

    monkeypatch.setattr(os, "fork", some)

    assert sorted(in_children([lambda _, i=i: i for i in range(4)], 3, Tally(None))) == [0, 1, 2, 3]  # type: ignore[misc]


def test_an_interrupt_before_the_child_knows_that_it_is_one_stays_the_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an interrupt that both processes of a fork get at once
    parent, fork = os.getpid(), os.fork

    def interrupted() -> int:
        child = fork()
        # To this thread: another one, left by another test, would take it whenever it comes to run.
        signal.raise_signal(signal.SIGINT)
        return child

    monkeypatch.setattr(os, "fork", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Task(lambda: os.getpid())
    assert os.getpid() == parent
    os.wait()


def test_a_team_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    assert together(4, lambda team: team.total(1), 1) == [4] * 4

    if before:
        assert len(os.listdir("/proc/self/fd")) == before
