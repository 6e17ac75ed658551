"""Work done beside the main process, in children that see what it held when they were made.

A child is a copy of the process (fork(2)): it needs nothing handed over, and only its answer comes back. A child that
fails, or is killed, costs time only: the work is then done here.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from typing import Final, Generic, TypeVar

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

    def result(self) -> _Answer:
        """Wait for the child and return its answer; where it has none, do the work."""
        with os.fdopen(self._pipe, "rb") as pipe:
            octets = pipe.read()
        _, status = os.waitpid(self._child, 0)
        if status != 0:
            return self._work()
        answer: _Answer = pickle.loads(octets)  # our own child's
        return answer


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
