"""One big capture read by a team of processes: byte ranges, each walked from a record start that is found, then proved.

Turn by turn, each process reads a range into memory that all of them share and walks the records there; all of them
then see the frames of all these ranges, in order. Where the first record of a range starts its reader can only
guess, as a lane of `records` does, and the proof is the same: the range before, whose records are known, ends exactly
there. Where it does not, and wherever something else is odd (a record that is damaged), the ranges end, for all at the
same place, and each goes on with the plain walk from the last place that is proved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import numpy as np

from analyzer.capture.pcap import PcapParser
from analyzer.capture.records import FrameColumns
from analyzer.schema import I64, U8
from analyzer.team import Team

TURN_OCTETS: Final = 32 << 20
"""Octets of the ranges that are looked at together, one of each process: what is found in them is one chunk. It is
larger than other chunks, as each process takes a share of it only, and calls cost the same for few packets."""
_SLACK: Final = 512 << 10
"""Octets read past a range: its last record may reach so far over its end."""
_MAX_FRAMES: Final = 1 << 20
"""Frames of a turn; each process has room for its part of them."""
_COLUMNS: Final = ("start", "captured_len", "wire_len", "time_ns")
_SLOT: Final = TURN_OCTETS + _SLACK + len(_COLUMNS) * 8 * _MAX_FRAMES
_SLOTS: Final = 2
"""Turns that there is memory for: the one in hand, and the next, once nobody looks at the one before any more."""
_READY: Final = 1
_DONE: Final = 2
_NOTHING: Final = (-1, 0, 0, 0)
_UNREADABLE: Final = (-1, 0, 0, 1)
_Answer = tuple[int, int, int, int]
"""First record, frames, where the next record starts, octets read: none, or 1 where no record was found."""
SHARED_OCTETS: Final = _SLOTS * _SLOT
"""Memory that the processes of a team need to share."""


class _Slot:
    """Shared memory for one turn: its octets, and by process the columns of the frames that it finds in its range."""

    def __init__(self, memory: U8, processes: int) -> None:
        self.octets: Final[U8] = memory[: TURN_OCTETS + _SLACK]
        room = _MAX_FRAMES // processes
        columns: I64 = memory[TURN_OCTETS + _SLACK :].view(np.int64)[: processes * len(_COLUMNS) * room]
        self.columns: Final[I64] = columns.reshape(processes, len(_COLUMNS), room)


class RangeReader:
    """Reads the records of a pcap file by ranges; see `FileReader`, which goes on where this ends.

    Parameters
    ----------
    descriptor : int
        Of a regular file. Its place in the file is not moved.
    parser : PcapParser
    begin, size : int
        Where the first record starts; octets of the file.
    team : Team
        All of its processes read the same file at the same time.
    turn_octets : int
        At most `TURN_OCTETS`.

    Attributes
    ----------
    position : int
        Where the first record starts that was not handed out.
    """

    def __init__(
        self, descriptor: int, parser: PcapParser, begin: int, size: int, team: Team, turn_octets: int
    ) -> None:
        self.position = begin
        self._descriptor: Final = descriptor
        self._parser: Final = parser
        self._begin: Final = begin
        self._size: Final = size
        self._range_octets: Final = turn_octets // team.size & ~7
        self._turn_octets: Final = self._range_octets * team.size
        self._team: Final = team
        self._slots: Final = [_Slot(memory, team.size) for memory in team.memory.reshape(_SLOTS, _SLOT)]
        self._seconds = parser.seconds_at(os.pread(descriptor, 4, begin))
        self._mine: dict[int, _Answer] = {}

    def __iter__(self) -> Iterator[tuple[U8, FrameColumns]]:
        """Yield the octets and frames of each turn; both are valid until the next one is asked for."""
        team = self._team
        turns = -(-(self._size - self._begin) // self._turn_octets)
        following = 0
        for turn in range(turns):
            # Each has its range of the next turn ready when it looks at one.
            while following < min(turn + 2, turns):
                self._read(following)
                following += 1
            slot = self._slots[turn % _SLOTS]
            parts: list[I64] = []
            octets = 0
            proved = True
            for rank in range(team.size):
                answer = self._mine.pop(turn) if rank == team.rank else team.hear(_READY, rank)
                first, frames, end, read = answer
                proved = proved and (first == self.position or read == 0)
                if proved and read:
                    parts.append(slot.columns[rank, :, :frames])
                    octets = rank * self._range_octets + read
                    self.position = end
            columns = np.concatenate(parts, axis=1) if parts else np.empty((len(_COLUMNS), 0), np.int64)
            if columns.shape[1]:
                self._seconds = int(columns[3, 0]) // 1_000_000_000
                yield slot.octets[:octets], self._parser.frames(*columns)
            if not proved:
                break
            team.tell(_DONE)
        # What others have read ahead is looked at by nobody, and nobody looks at what is in the slots any more.
        team.meet(_READY, _DONE)

    def _read(self, turn: int) -> None:
        """Read this process's own range of a turn, and tell the others what is there."""
        team = self._team
        if turn >= _SLOTS:
            for rank in range(team.size):
                if rank != team.rank:
                    team.hear(_DONE, rank)
        self._mine[turn] = answer = self._walk(turn)
        team.tell(_READY, *answer)

    def _walk(self, turn: int) -> _Answer:
        slot, rank = self._slots[turn % _SLOTS], self._team.rank
        before = rank * self._range_octets  # in the turn
        offset = self._begin + turn * self._turn_octets + before
        # The slack is the beginning of the next range, whose reader writes the same octets there.
        octets = slot.octets[before : before + self._range_octets + _SLACK]
        try:
            octets = octets[: os.preadv(self._descriptor, [octets.data], offset)]
        except OSError:  # the plain walk will meet it, and say so
            return _UNREADABLE
        if octets.shape[0] == 0:
            return _NOTHING
        first = 0 if offset == self._begin else self._parser.find_start(octets, self._seconds)
        if first < 0:
            return _UNREADABLE
        stretch = self._parser.parse(octets[first:], offset + first, 1)
        starts = stretch.frames.start + first
        # Records that start in this range, also those that end in the next one.
        frames = int(np.searchsorted(starts - self._parser.record_header, self._range_octets))
        columns = slot.columns[rank]
        if frames > columns.shape[1]:
            return _UNREADABLE
        columns[0, :frames] = starts[:frames] + before
        for row, name in enumerate(_COLUMNS[1:], 1):
            columns[row, :frames] = getattr(stretch.frames, name)[:frames]
        following = first + stretch.consumed
        if frames < starts.shape[0]:
            following = int(starts[frames]) - self._parser.record_header
        return offset + first, frames, offset + following, octets.shape[0]
