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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from analyzer.team import GivenUp, Team

if TYPE_CHECKING:
    import socket

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

    Raises
    ------
    OSError
        The system refuses another process.
    """

    def __init__(self, work: Callable[[], _Answer]) -> None:
        self._work: Final = work
        read, write = os.pipe()
        # What is sent to both processes (Ctrl-C) must not meet the child before it knows that it is one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            self._child: Final = os.fork()
            if self._child == 0:
                os.close(read)
                _answer(write, work, before)
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._pipe: Final = read
        self._ended = False

    def fileno(self) -> int:
        """Descriptor that can be read once the child answers, or has ended."""
        return self._pipe

    def abandon(self) -> None:
        """End the child: nobody waits for its answer."""
        with suppress(OSError):  # an interrupt came while it was waited for
            os.close(self._pipe)
        if not self._ended:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)

    def result(self) -> _Answer:
        """Wait for the child and return its answer; where it has none, do the work."""
        with os.fdopen(self._pipe, "rb") as pipe:
            octets = pipe.read()
        _, status = os.waitpid(self._child, 0)
        self._ended = True
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
        By one of them, or one has ended early, or the system refuses so many processes or connections.
    """
    from socket import socketpair

    parent = os.getpid()
    ends: list[dict[int, socket.socket]] = [{} for _ in range(processes)]
    tasks: list[Task[_Answer]] = []

    def hang_up(but: int | None = None) -> None:
        for rank, connections in enumerate(ends):
            for connection in connections.values() if rank != but else ():
                connection.close()

    def member(rank: int) -> _Answer:
        if os.getpid() == parent:  # in place of a child that has failed
            raise GivenUp
        # Whoever holds the other end of a connection would keep it from breaking.
        hang_up(but=rank)
        return work(Team(rank, processes, ends[rank], memory))

    try:
        try:
            memory = mmap.mmap(-1, shared_octets)
            for one in range(processes):
                for other in range(one):
                    ends[one][other], ends[other][one] = socketpair()
            for rank in range(1, processes):
                tasks.append(Task(partial(member, rank)))
        except OSError as error:
            raise GivenUp from error
        hang_up(but=0)
        answers = [work(Team(0, processes, ends[0], memory))]
        # One that waits for a message now, because it has seen more than this process, waits in vain.
        hang_up()
        while tasks:
            answers.append(tasks[0].result())
            del tasks[0]
        return answers
    finally:
        hang_up()
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
        self._parent = os.getpid()
        self._counts = memoryview(mmap.mmap(-1, 16 * pieces)).cast("q")

    def of(self, piece: int) -> Callable[[int, int], None]:
        """What a piece of work, in whatever process, is to tell its own counts."""

        def tell(octets: int, frames: int) -> None:
            if self._parent not in (os.getpid(), os.getppid()):
                os._exit(1)  # nobody is there any more to take the answer
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
                    try:
                        task = Task(waiting[0])
                    except OSError:
                        if not running:
                            yield waiting.popleft()()
                        children = max(len(running), 1)
                        break
                    waiting.popleft()
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


def _answer(descriptor: int, work: Callable[[], object], mask: Iterable[int]) -> None:
    """Do the work in the child, write the answer, and end the child without the parent's clean-up.

    The signals that are blocked are those of `mask` from here on.
    """
    status = 1
    try:
        # An interrupt is for the parent, which decides what becomes of the run.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with os.fdopen(descriptor, "wb") as pipe:
            pickle.dump(work(), pipe, protocol=pickle.HIGHEST_PROTOCOL)
        status = 0
    finally:
        os._exit(status)
