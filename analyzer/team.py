"""Processes that run the same program over the same input side by side, each for its share of it.

What concerns all of them is agreed by messages: every process sends its own number to every other one and waits for
theirs, so that all go on from the same sum. A process that ends takes its connections to the others with it: they learn
of it at the next message, and the team is given up.
"""

from __future__ import annotations

import struct
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from analyzer.schema import U8

if TYPE_CHECKING:  # a plain run needs neither: two thousandths of a second
    import mmap
    import socket

MOST: Final = 16
"""Processes of a team: each has a connection to every other one, and each decodes all packets to find its share."""

_MESSAGE: Final = struct.Struct("<5q")
_SUM: Final = 0
_Numbers = tuple[int, int, int, int]


class GivenUp(Exception):
    """The processes of a team cannot go on together: the input is to be read by one."""


class Team:
    """One process's view of the team.

    Parameters
    ----------
    rank, size : int
        Number of this process, and how many there are.
    others : mapping
        A connected stream socket to each other process, by its rank.
    memory : mmap.mmap
        Shared by all.
    """

    def __init__(self, rank: int, size: int, others: Mapping[int, socket.socket], memory: mmap.mmap) -> None:
        self.rank: Final = rank
        self.size: Final = size
        self.memory: Final[U8] = np.frombuffer(memory, np.uint8)
        self._others: Final = others
        self._heard: defaultdict[tuple[int, int], deque[_Numbers]] = defaultdict(deque)

    def total(self, mine: int) -> int:
        """The sum of what all processes give; each must ask for the same sums in the same order."""
        self.tell(_SUM, mine)
        return mine + sum(self.hear(_SUM, rank)[0] for rank in self._others)

    def meet(self, *forgotten: int) -> None:
        """Wait until all are here; messages of the kinds `forgotten` that were not asked for are dropped."""
        self.total(0)
        for rank in self._others:
            for kind in forgotten:
                self._heard[kind, rank].clear()

    def tell(self, kind: int, *numbers: int, to: int | None = None) -> None:
        """Send up to four numbers to one other process, or to all others; kinds are above 0."""
        message = _MESSAGE.pack(kind, *numbers, *(0,) * (4 - len(numbers)))
        try:
            for rank, connection in self._others.items():
                if to is None or to == rank:
                    connection.sendall(message)
        except OSError as error:
            raise GivenUp from error

    def hear(self, kind: int, rank: int) -> _Numbers:
        """The oldest message of that kind from that process that was not heard yet; wait for it."""
        from socket import MSG_WAITALL

        waiting = self._heard[kind, rank]
        while not waiting:
            try:
                message = self._others[rank].recv(_MESSAGE.size, MSG_WAITALL)
            except OSError as error:
                raise GivenUp from error
            if len(message) < _MESSAGE.size:
                raise GivenUp
            said, *numbers = _MESSAGE.unpack(message)
            self._heard[said, rank].append((numbers[0], numbers[1], numbers[2], numbers[3]))
        return waiting.popleft()

    def close(self) -> None:
        """Hang up."""
        for connection in self._others.values():
            connection.close()
