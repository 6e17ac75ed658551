"""One big capture read by a team of processes: byte ranges, each walked from a record start that is found, then proved.

The processes take turns in reading ranges into memory that all of them share and in walking the records there; each
of them then sees the frames of all ranges, in order. Where the first record of a range starts its reader can only
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

RANGE_OCTETS: Final = 8 << 20
_SLACK: Final = 1 << 20
"""Octets read past a range: its last record may reach so far over its end."""
_MAX_FRAMES: Final = 1 << 18
_COLUMNS: Final = ("start", "captured_len", "wire_len", "time_ns")
_SLOT: Final = RANGE_OCTETS + _SLACK + len(_COLUMNS) * 8 * _MAX_FRAMES
_SLOTS_EACH: Final = 2
"""Ranges of one process that are there at a time: the one in hand, and the next."""
_READY: Final = 1
_DONE: Final = 2
_NOTHING: Final = (-1, 0, 0, 0)
_Answer = tuple[int, int, int, int]
"""First record, frames, where the next record starts, octets read."""


def shared_octets(processes: int) -> int:
    """Octets of memory that a team of so many processes needs to read by ranges."""
    return processes * _SLOTS_EACH * _SLOT


class _Slot:
    """Shared memory for one range: its octets, and the columns of its frames."""

    def __init__(self, memory: U8, octets: int) -> None:
        self.octets: Final[U8] = memory[: octets + _SLACK]
        columns: I64 = memory[-len(_COLUMNS) * 8 * _MAX_FRAMES :].view(np.int64)
        self.columns: Final[I64] = columns.reshape(len(_COLUMNS), _MAX_FRAMES)


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
    range_octets : int
        Octets of a range, at most `RANGE_OCTETS`; a multiple of 8.

    Attributes
    ----------
    position : int
        Where the first record starts that was not handed out.
    """

    def __init__(
        self, descriptor: int, parser: PcapParser, begin: int, size: int, team: Team, range_octets: int
    ) -> None:
        self.position = begin
        self._descriptor: Final = descriptor
        self._parser: Final = parser
        self._begin: Final = begin
        self._ranges: Final = -(-(size - begin) // range_octets)
        self._range_octets: Final = range_octets
        self._team: Final = team
        slots = team.memory.reshape(team.size * _SLOTS_EACH, _SLOT)
        self._slots: Final = [_Slot(slot, range_octets) for slot in slots]
        self._seconds = parser.seconds_at(os.pread(descriptor, 4, begin))
        self._mine: dict[int, _Answer] = {}

    def __iter__(self) -> Iterator[tuple[U8, FrameColumns]]:
        """Yield the octets and frames of each range in turn; both are valid until the next one is asked for."""
        team = self._team
        following = team.rank
        for number in range(self._ranges):
            # Each has one range of its own ready besides the one that all look at.
            while following < min(number + team.size, self._ranges):
                self._read(following)
                following += team.size
            owner = number % team.size
            answer = self._mine.pop(number) if owner == team.rank else team.hear(_READY, owner)
            first, frames, end, octets = answer
            if first != self.position:
                break
            if frames:
                slot = self._slots[number % len(self._slots)]
                columns = slot.columns[:, :frames]
                self._seconds = int(columns[3, 0]) // 1_000_000_000
                self.position = end
                yield slot.octets[:octets], self._parser.frames(*columns)
            if owner != team.rank:
                team.tell(_DONE, to=owner)
        # What others have read ahead is looked at by nobody, and nobody looks at what is in the slots any more.
        team.meet(_READY, _DONE)

    def _read(self, number: int) -> None:
        """Read a range of this process's own, and tell the others what is there."""
        team = self._team
        if number >= len(self._slots):
            for rank in range(team.size):
                if rank != team.rank:
                    team.hear(_DONE, rank)
        self._mine[number] = answer = self._walk(number)
        team.tell(_READY, *answer)

    def _walk(self, number: int) -> _Answer:
        slot = self._slots[number % len(self._slots)]
        offset = self._begin + number * self._range_octets
        try:
            read = os.preadv(self._descriptor, [slot.octets.data], offset)
        except OSError:  # the plain walk will meet it, and say so
            return _NOTHING
        octets = slot.octets[:read]
        first = 0 if offset == self._begin else self._parser.find_start(octets, self._seconds)
        if first < 0:
            return _NOTHING
        stretch = self._parser.parse(octets[first:], offset + first, 1)
        starts = stretch.frames.start + first
        # Records that start in this range, also those that end in the next one.
        frames = int(np.searchsorted(starts - self._parser.record_header, self._range_octets))
        if frames > _MAX_FRAMES:
            return _NOTHING
        slot.columns[0, :frames] = starts[:frames]
        for row, name in enumerate(_COLUMNS[1:], 1):
            slot.columns[row, :frames] = getattr(stretch.frames, name)[:frames]
        following = first + stretch.consumed
        if frames < starts.shape[0]:
            following = int(starts[frames]) - self._parser.record_header
        return offset + first, frames, offset + following, read
