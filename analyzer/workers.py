"""Work done beside the main process, in children that see what it held when they were made.

A child is a copy of the process (fork(2)): it needs nothing handed over, and only its answer comes back. A child that
fails, or is killed, costs time only: the work is then done here.
"""

from __future__ import annotations

import mmap
import os
import pickle
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

from analyzer.team import GivenUp, Team

_Answer = TypeVar("_Answer")


def can_fork() -> bool:
    """Whether this system makes copies of processes."""
    return hasattr(os, "fork")


class Task(Generic[_Answer]):
    """A piece of work under way in a child.

    Parameters
    ----------
    work : callable
        Must change nothing that it would have to be repeated with: it may be called a second time, in this process.
    """

    def __init__(self, work: Callable[[], _Answer]) -> None:
        self._work: Final = work
        read, write = os.pipe()
        self._child: Final = os.fork()
        if self._child == 0:
            os.close(read)
            _answer(write, work)
        os.close(write)
        self._pipe: Final = read

    def fileno(self) -> int:
        """Descriptor that can be read once the child answers, or has ended."""
        return self._pipe

    def abandon(self) -> None:
        """End the child: nobody waits for its answer."""
        os.close(self._pipe)
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    def result(self) -> _Answer:
        """Wait for the child and return its answer; where it has none, do the work."""
        with os.fdopen(self._pipe, "rb") as pipe:
            octets = pipe.read()
        _, status = os.waitpid(self._child, 0)
        if status != 0:
            return self._work()
        answer: _Answer = pickle.loads(octets)  # our own child's
        return answer


def together(processes: int, work: Callable[[Team], _Answer], shared_octets: int) -> list[_Answer]:
    """Have a team do the work, this process as its first member; returns what each gave, by rank.

    Parameters
    ----------
    processes : int
        At least 2.
    work : callable
        Done by each process with its own view of the team.
    shared_octets : int
        Memory for them to share.

    Raises
    ------
    GivenUp
        By one of them, or one has ended early.
    """
    memory = mmap.mmap(-1, shared_octets)
    ends: list[dict[int, socket.socket]] = [{} for _ in range(processes)]
    for one in range(processes):
        for other in range(one):
            ends[one][other], ends[other][one] = socket.socketpair()
    tasks: list[Task[_Answer]] = []
    here = Team(0, processes, ends[0], memory)

    def member(rank: int) -> _Answer:
        if rank == here.rank:  # in place of a child that has failed
            raise GivenUp
        # Whoever holds the other end of a connection would keep it from breaking.
        for of, connections in enumerate(ends):
            for connection in connections.values() if of != rank else ():
                connection.close()
        return work(Team(rank, processes, ends[rank], memory))

    try:
        for rank in range(1, processes):
            tasks.append(Task(partial(member, rank)))
        for connections in ends[1:]:
            for connection in connections.values():
                connection.close()
        answers = [work(here)]
        while tasks:
            answers.append(tasks.pop(0).result())
        return answers
    finally:
        here.close()
        for task in tasks:
            task.abandon()


class Tally:
    """How far several processes are, together: octets and frames read.

    Parameters
    ----------
    progress : callable, optional
        Told the sums.
    """

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self._progress: Final = progress
        self._before = [0, 0]
        self._counts: list[int] | memoryview = []

    def here(self) -> Callable[[int, int], None]:
        """What a further piece of work, done in this process, is to tell its own counts."""
        before = self._before
        mine = self._before = [*before]

        def tell(octets: int, frames: int) -> None:
            mine[:] = before[0] + octets, before[1] + frames
            if self._progress is not None:
                self._progress(*mine)

        return tell

    def share(self, pieces: int) -> None:
        """Make room that children share for the counts of so many pieces of work."""
        self._counts = memoryview(mmap.mmap(-1, 16 * pieces)).cast("q")

    def of(self, piece: int) -> Callable[[int, int], None]:
        """What a piece of work, in whatever process, is to tell its own counts."""

        def tell(octets: int, frames: int) -> None:
            self._counts[2 * piece], self._counts[2 * piece + 1] = octets, frames

        return tell

    def look(self) -> None:
        """Pass on what has been told."""
        counts = list(self._counts)
        self._before = [sum(counts[0::2]), sum(counts[1::2])]
        if self._progress is not None:
            self._progress(*self._before)


def in_children(
    works: Sequence[Callable[[Callable[[int, int], None]], _Answer]], children: int, tally: Tally
) -> Iterator[_Answer]:
    """Yield what each piece of work gives, in any order; so many children at a time, each for one piece.

    Parameters
    ----------
    works : sequence of callables
        Each is given what it may tell its progress; see `Task`.
    children : int
    tally : Tally
    """
    tally.share(len(works))
    waiting = deque(partial(work, tally.of(piece)) for piece, work in enumerate(works))
    running: set[Task[_Answer]] = set()
    try:
        with selectors.DefaultSelector() as selector:
            while waiting or running:
                while waiting and len(running) < children:
                    task = Task(waiting.popleft())
                    running.add(task)
                    selector.register(task, selectors.EVENT_READ)
                for key, _ in selector.select(_PAUSE_S):
                    done: Any = key.fileobj
                    selector.unregister(done)
                    running.remove(done)
                    yield done.result()
                tally.look()
    finally:
        for task in running:
            task.abandon()


_PAUSE_S: Final = 0.2
"""Seconds between two looks at how far the children are."""


def _answer(descriptor: int, work: Callable[[], object]) -> None:
    """Do the work in the child, write the answer, and end the child without the parent's clean-up."""
    status = 1
    try:
        # An interrupt is for the parent, which decides what becomes of the run.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with os.fdopen(descriptor, "wb") as pipe:
            pickle.dump(work(), pipe, protocol=pickle.HIGHEST_PROTOCOL)
        status = 0
    finally:
        os._exit(status)
