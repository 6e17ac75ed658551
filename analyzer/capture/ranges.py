"""One big capture read by several processes: byte ranges, each walked from a record start that is found, then proved.

A child (fork(2)) reads a range into memory that it shares with this process and walks the records in it. Where the
first of them starts it can only guess, as a lane of `records` does, and the proof is the same: the range before, whose
records are known, ends exactly there. Where it does not, and wherever something else is odd (a record that is damaged,
a child that was killed), the ranges end and the plain walk goes on from the last place that is proved.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import numpy as np

from analyzer.capture.pcap import PcapParser
from analyzer.capture.records import FrameColumns
from analyzer.schema import I64, U8

RANGE_OCTETS: Final = 8 << 20
_SLACK: Final = 1 << 20
"""Octets read past a range: its last record may reach so far over its end."""
_MAX_FRAMES: Final = 1 << 18
_COLUMNS: Final = ("start", "captured_len", "wire_len", "time_ns")
_TASK: Final = struct.Struct("<qqq")  # offset, slot, seconds of a record nearby
_ANSWER: Final = struct.Struct("<qqqq")  # first record, frames, where the next record starts, octets read
_STOP: Final = -1
_Serve = Callable[[int, int, int], tuple[int, int, int, int]]


class _Slot:
    """Shared memory for one range: its octets, and the columns of its frames."""

    def __init__(self, octets: int) -> None:
        self._memory: Final = mmap.mmap(-1, octets + _SLACK + len(_COLUMNS) * 8 * _MAX_FRAMES)
        whole: U8 = np.frombuffer(self._memory, np.uint8)
        self.octets: Final[U8] = whole[: octets + _SLACK]
        columns: I64 = whole[octets + _SLACK :].view(np.int64)
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
    children : int
    range_octets : int
        Octets of a range; a multiple of 8.

    Attributes
    ----------
    position : int
        Where the first record starts that was not handed out.
    """

    def __init__(
        self,
        descriptor: int,
        parser: PcapParser,
        begin: int,
        size: int,
        children: int,
        range_octets: int,
    ) -> None:
        self.position = begin
        self._descriptor: Final = descriptor
        self._parser: Final = parser
        self._begin: Final = begin
        self._ranges: Final = -(-(size - begin) // range_octets)
        self._range_octets: Final = range_octets
        self._slots: Final = [_Slot(range_octets) for _ in range(2 * children)]
        self._children: Final = [_Child(self._serve) for _ in range(children)]
        self._seconds = parser.seconds_at(os.pread(descriptor, 4, begin))

    def __iter__(self) -> Iterator[tuple[U8, FrameColumns]]:
        """Yield the octets and frames of each range in turn; both are valid until the next one is asked for."""
        slots = len(self._slots)
        for number in range(min(slots, self._ranges)):
            self._ask(number)
        for number in range(self._ranges):
            answer = self._children[number % len(self._children)].answer()
            if answer is None or answer[0] != self.position:
                return
            _, frames, following, octets = answer
            slot = self._slots[number % slots]
            if frames:
                columns = slot.columns[:, :frames]
                self._seconds = int(columns[3, 0]) // 1_000_000_000
                self.position = following
                yield slot.octets[:octets], self._parser.frames(*columns)
            if number + slots < self._ranges:
                self._ask(number + slots)

    def close(self) -> None:
        """End the children."""
        for child in self._children:
            child.end()

    def _ask(self, number: int) -> None:
        offset = self._begin + number * self._range_octets
        self._children[number % len(self._children)].ask(offset, number % len(self._slots), self._seconds)

    def _serve(self, offset: int, place: int, seconds: int) -> tuple[int, int, int, int]:
        """Read one range (the child)."""
        slot = self._slots[place]
        read = os.preadv(self._descriptor, [slot.octets.data], offset)
        octets = slot.octets[:read]
        first = 0 if offset == self._begin else self._parser.find_start(octets, seconds)
        if first < 0:
            return _STOP, 0, 0, 0
        stretch = self._parser.parse(octets[first:], offset + first, 1)
        starts = stretch.frames.start + first
        # Records that start in this range, also those that end in the next one.
        frames = int(np.searchsorted(starts - self._parser.record_header, self._range_octets))
        if frames > _MAX_FRAMES:
            return _STOP, 0, 0, 0
        slot.columns[0, :frames] = starts[:frames]
        for row, name in enumerate(_COLUMNS[1:], 1):
            slot.columns[row, :frames] = getattr(stretch.frames, name)[:frames]
        following = first + stretch.consumed
        if frames < starts.shape[0]:
            following = int(starts[frames]) - self._parser.record_header
        return offset + first, frames, offset + following, read


class _Child:
    """A process that answers tasks until it is told to stop."""

    def __init__(self, serve: _Serve) -> None:
        task_read, self._task = os.pipe()
        self._answer, answer_write = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            _run(task_read, answer_write, serve)
        os.close(task_read)
        os.close(answer_write)

    def ask(self, offset: int, slot: int, seconds: int) -> None:
        with suppress(BrokenPipeError):  # it was killed, and there will be no answer
            os.write(self._task, _TASK.pack(offset, slot, seconds))

    def answer(self) -> tuple[int, int, int, int] | None:
        """Wait for the answer to the oldest task; None where the child is no more."""
        octets = os.read(self._answer, _ANSWER.size)
        if len(octets) < _ANSWER.size:
            return None
        first, frames, following, read = _ANSWER.unpack(octets)
        return first, frames, following, read

    def end(self) -> None:
        if self._process:
            # A message, not the end of the pipe: children made since hold its other end open too.
            self.ask(_STOP, 0, 0)
            os.close(self._task)
            os.close(self._answer)
            os.waitpid(self._process, 0)
            self._process = 0


def _run(tasks: int, answers: int, serve: _Serve) -> None:
    """Answer tasks in the child, then end it without the parent's clean-up."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while len(octets := os.read(tasks, _TASK.size)) == _TASK.size:
            offset, slot, seconds = _TASK.unpack(octets)
            if offset == _STOP:
                break
            os.write(answers, _ANSWER.pack(*serve(offset, slot, seconds)))
    finally:
        os._exit(0)
