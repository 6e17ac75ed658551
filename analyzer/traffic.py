"""Traffic over time: packets and octets of each flow in at most 120 equal bins, and when a frame was captured.

How long a capture lasts is known only at its end. Bins are therefore a power of two of nanoseconds long and begin at
multiples of their length since the epoch: where time runs past the last bin, two neighbours become one, and the counts
are those that would have been taken with the longer bins from the start. The same holds for the times of frames, of
which every second one is dropped when there are too many. Both are bounded by the number of flows, not by the length
of the capture, and do not depend on how the input was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final

import numpy as np

from analyzer.numbers import run_starts
from analyzer.schema import I64, FrameTimes, Mask, Traffic

MAX_BINS: Final = 120
"""Bins between the first and the last packet: as many as a reader tells apart."""
_SHORTEST: Final = 20
"""Logarithm to base 2 of the shortest bin: 1.05 ms."""
_ROWS: Final = 1 << 18
"""Rows (a flow in a bin) held before bins become longer, as 2,200 connections of a whole capture have them; more only
where there are so many flows."""
_BLOCK: Final = 1 << 16
"""Rows gathered before they are merged with those before."""
_SAMPLES: Final = 1 << 16
"""Frames of one recording whose time is kept at most."""
_JOINED_SAMPLES: Final = 1 << 20
"""Frames of all recordings whose time is kept at most, but for the least of each."""
_LEAST_SAMPLES: Final = 1 << 10


class TrafficCounter:
    """Count packets and octets by flow and bin; `add` tables of packets, `settle` at fixed frame numbers.

    Parameters
    ----------
    rows : int
        Rows held before bins become longer.
    total : callable
        The sum of a number over all counters that count the flows of one input together, each for others; they must be
        shown the same times (`extend`), and settled at the same frames.
    """

    def __init__(self, rows: int = _ROWS, total: Callable[[int], int] = int) -> None:
        self._limit = rows
        self._total = total
        self._shift = _SHORTEST
        self._first: int | None = None
        self._last = 0
        self._recent: list[Traffic] = []
        self._settled: list[Traffic] = []
        self._merge_at = _BLOCK

    def add(self, time_ns: I64, wire_len: I64, flows: I64, local: I64) -> None:
        """Count packets.

        Parameters
        ----------
        time_ns, wire_len : (N,) int64
            Nanoseconds since the epoch, 0 where unknown (such packets are left out), and octets of each packet.
        flows : (F,) int64
            The distinct flows of these packets.
        local : (N,) int64
            Row in `flows` of each packet.
        """
        low = int(time_ns.min())
        if low <= 0:
            timed: Mask = time_ns > 0
            time_ns, wire_len, local = time_ns[timed], wire_len[timed], local[timed]
            if time_ns.shape[0] == 0:
                return
            low = int(time_ns.min())
        high = int(time_ns.max())
        self._extend(low, high)
        base = low >> self._shift
        width = (high >> self._shift) - base + 1
        code = local if width == 1 else local * width + ((time_ns >> self._shift) - base)
        size = flows.shape[0] * width
        if size > 8 * code.shape[0]:
            codes, code = np.unique(code, return_inverse=True)
            size = codes.shape[0]
        else:
            codes = np.arange(size)
        packets = np.bincount(code, minlength=size)
        octets = np.zeros(size, np.int64)
        np.add.at(octets, code, wire_len)
        seen = np.flatnonzero(packets)
        codes = codes[seen]
        self._recent.append(
            Traffic(self._shift, flows[codes // width], codes % width + base, packets[seen], octets[seen])
        )

    def extend(self, time_ns: I64) -> None:
        """Make bins as long as packets at these times ask for, (N,) int64, which other counters count."""
        low = int(time_ns.min(initial=1))
        if low <= 0:
            time_ns = time_ns[time_ns > 0]
        if time_ns.shape[0]:
            self._extend(int(time_ns.min()), int(time_ns.max()))

    def _extend(self, low: int, high: int) -> None:
        self._first = low if self._first is None else min(low, self._first)
        self._last = max(high, self._last)
        while (self._last >> self._shift) - (self._first >> self._shift) >= MAX_BINS:
            self._shift += 1

    def settle(self) -> None:
        """Merge what was counted since the last call; to be called at frame numbers that no chunking changes."""
        if self._recent:
            self._settled.append(_merged(self._recent, self._shift))
            self._recent = []
        if self._total(sum(len(block) for block in self._settled)) < self._merge_at:
            return
        whole = self._bounded(_merged(self._settled, self._shift))
        self._shift = whole.shift
        self._settled = [whole]
        held = self._total(len(whole))
        self._merge_at = held + max(_BLOCK, held // 2)

    def keep(self, renamed: I64) -> None:
        """Count for flow ``renamed[f]`` what was counted for f; where that is negative, forget it."""
        whole = self.result()
        self._shift = whole.shift
        flow = renamed[whole.flow]
        kept = np.flatnonzero(flow >= 0)
        parts = [Traffic(whole.shift, flow[kept], whole.bin[kept], whole.packets[kept], whole.octets[kept])]
        self._settled, self._recent = ([_merged(parts, self._shift)] if kept.shape[0] else []), []
        held = sum(len(block) for block in self._settled)
        self._merge_at = held + max(_BLOCK, held // 2)

    def result(self) -> Traffic:
        """Everything counted so far, by flow and bin; flows are named as `add` named them."""
        return self._bounded(_merged([*self._settled, *self._recent], self._shift))

    def _bounded(self, whole: Traffic) -> Traffic:
        """The same in longer bins, where there are more rows than are to be held."""
        if self._total(len(whole)) > self._limit:
            most = max(self._limit, 4 * self._total(np.unique(whole.flow).shape[0]))
            while self._total(len(whole)) > most:
                whole = _merged([whole], whole.shift + 1)
        return whole


class FrameClock:
    """Capture times of frames, every one of few, evenly spaced ones of many.

    Parameters
    ----------
    samples : int
        Times kept at most.
    """

    def __init__(self, samples: int = _SAMPLES) -> None:
        self._limit = samples
        self._stride = 1
        self._parts: list[I64] = []
        self._count = 0

    def add(self, first_frame: int, time_ns: I64) -> None:
        """Take the times of consecutive frames, the first of which has number `first_frame` (from 1)."""
        chosen = time_ns[-(first_frame - 1) % self._stride :: self._stride]
        self._parts.append(chosen.copy())
        self._count += chosen.shape[0]
        while self._count > self._limit:
            whole = np.concatenate(self._parts)[::2]
            self._stride *= 2
            self._parts, self._count = [whole], whole.shape[0]

    def result(self) -> FrameTimes:
        """The times so far."""
        times = np.concatenate(self._parts) if self._parts else np.empty(0, np.int64)
        return FrameTimes.of(self._stride, times)


def join_traffic(parts: Sequence[Traffic], flows: Sequence[int]) -> Traffic:
    """Traffic of several recordings as one, where each has so many flows; joining joined ones gives the same."""
    kept = [(part, before) for part, before in zip(parts, accumulate(flows, initial=0), strict=False) if len(part)]
    shift = max((part.shift for part in parts), default=_SHORTEST)
    if not kept:
        return _merged([], shift)
    low = min(int(part.bin.min()) << part.shift for part, _ in kept)
    high = max(int(part.bin.max()) << part.shift for part, _ in kept)
    while (high >> shift) - (low >> shift) >= MAX_BINS:
        shift += 1
    return _merged([replace(part, flow=part.flow + before) for part, before in kept], shift)


def join_times(parts: Sequence[FrameTimes], frames: Sequence[int]) -> FrameTimes:
    """Frame times of several recordings as one, where each has so many frames; joining joined ones gives the same.

    The more recordings there are, the fewer times are kept of each.
    """
    before = list(accumulate(frames, initial=0))[: len(parts)]
    first = np.concatenate([part.first + number for part, number in zip(parts, before, strict=True)])
    limit = max(_LEAST_SAMPLES, _JOINED_SAMPLES // max(first.shape[0], 1))
    strides: list[int] = []
    times: list[I64] = []
    for part in parts:
        for stride, start, stop in zip(part.strides.tolist(), *_ends(part.offsets), strict=True):
            chosen = part.time_ns[start:stop]
            while chosen.shape[0] > limit:
                chosen, stride = chosen[::2], 2 * stride
            strides.append(stride)
            times.append(chosen)
    offsets = np.cumsum([0, *(chosen.shape[0] for chosen in times)])
    return FrameTimes(first, np.array(strides, np.int64), offsets, np.concatenate([np.empty(0, np.int64), *times]))


def _ends(offsets: I64) -> tuple[list[int], list[int]]:
    return offsets[:-1].tolist(), offsets[1:].tolist()


def _merged(parts: list[Traffic], shift: int) -> Traffic:
    """One table of several, in bins of 2^shift ns, sorted by flow and bin."""
    parts = [part for part in parts if len(part)]
    if not parts:
        empty = np.empty(0, np.int64)
        return Traffic(shift, empty, empty, empty, empty)
    codes = np.concatenate([part.bin >> (shift - part.shift) for part in parts])
    base = int(codes.min())
    width = int(codes.max()) - base + 1
    codes -= base
    codes += np.concatenate([part.flow for part in parts]) * width
    # The parts are sorted, and what merges sorted runs makes use of it.
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    starts = run_starts(codes)
    codes = codes[starts]
    packets = np.add.reduceat(np.concatenate([part.packets for part in parts])[order], starts)
    octets = np.add.reduceat(np.concatenate([part.octets for part in parts])[order], starts)
    return Traffic(shift, codes // width, codes % width + base, packets, octets)
