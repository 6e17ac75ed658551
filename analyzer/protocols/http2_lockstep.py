"""HTTP/2 frames of many streams, walked in lockstep: one numpy step advances every stretch by one frame.

A stretch is what segments that follow one another without a gap carry of one direction. Only what is plain is walked
here: frames that are passed by, and header blocks of one HEADERS frame. Where a stretch has anything else, its walk
halts before it, and `http2_walk.FrameWalk`, which looks at one direction alone, goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from analyzer.copying import gather_items
from analyzer.decode.gather import gather_words
from analyzer.protocols.http2_frames import (
    CONTINUATION,
    END_HEADERS,
    FIXED_LENGTH,
    FRAME_HEADER,
    GOAWAY,
    HEADERS,
    MAX_FRAME_SIZE,
    ON_CONNECTION,
    PADDED,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    PUSH_PROMISE,
    is_frame,
)
from analyzer.protocols.http2_walk import ASIDE, CONFIRMED, known_flags
from analyzer.schema import I64, U8, U64, Mask, Table

_FEW: Final = 64
"""Stretches for which a step in numpy costs less than one of each alone."""
_FEW_HEADS: Final = 24
"""The same, where those that are left are read anew."""
_UNSURE_STEPS: Final = 64
"""Steps made for fewer of them, as long as one is not yet known to be of frames."""

_KINDS: Final = range(256)
_ON_CONNECTION: Final = np.array([kind in ON_CONNECTION for kind in _KINDS])
_ON_STREAM: Final = np.array([kind not in ON_CONNECTION and kind < GOAWAY for kind in _KINDS])
_FIXED: Final = np.array([FIXED_LENGTH.get(kind, -1) for kind in _KINDS], np.int64)
_UNKNOWN_FLAGS: Final = np.array([0xFF & ~known_flags(kind) for kind in _KINDS], np.uint8)
_TELLING: Final = np.isin(np.arange(256), [HEADERS, PUSH_PROMISE, CONTINUATION])
_PREFACE_WORD: Final = np.uint64(int.from_bytes(PREFACE[:8], "big"))


class _Headers(NamedTuple):
    """Frame headers (RFC 9113 4.1): columns of one length."""

    length: I64
    kind: U8
    flags: U8
    stream_id: U64  # with the reserved bit

    @classmethod
    def at(cls, octets: U8, at: I64) -> _Headers:
        """Those that begin at `at`; zeros follow the end of `octets`."""
        words = gather_words(octets, at)
        last = octets[np.minimum(at + FRAME_HEADER - 1, octets.shape[0] - 1)]
        return cls(
            (words >> np.uint64(40)).astype(np.int64),
            (words >> np.uint64(32)).astype(np.uint8),
            (words >> np.uint64(24)).astype(np.uint8),
            (words & np.uint64(0xFFFFFF)) << np.uint64(8) | last,
        )

    def take(self, rows: I64) -> _Headers:
        """Those of some rows."""
        return _Headers(self.length[rows], self.kind[rows], self.flags[rows], self.stream_id[rows])

    def are_frames(self) -> Mask:
        """As `is_frame`, not strict."""
        fixed = _FIXED.take(self.kind)
        placed = np.where(self.stream_id == 0, ~_ON_STREAM.take(self.kind), ~_ON_CONNECTION.take(self.kind))
        are: Mask = placed & (self.stream_id < 1 << 31) & ((fixed < 0) | (fixed == self.length))
        return are

    def are_looked_for(self) -> Mask:
        """What `is_frame` asks besides where it is strict."""
        are: Mask = (self.kind <= PRIORITY_UPDATE) & (self.length <= MAX_FRAME_SIZE)
        return are

    def have_known_flags(self) -> Mask:
        """Whether they have no flags but those that RFC 9113 6 defines."""
        have: Mask = (self.flags & _UNKNOWN_FLAGS.take(self.kind)) == 0
        return have


def begin_chains(octets: U8, start: I64, stop: I64) -> Mask:
    """As `is_chain`, of many payloads: (N,) bool."""
    chains = np.zeros(start.shape[0], bool)
    rows, at = np.arange(start.shape[0]), start
    for number in range(3):
        whole = at + FRAME_HEADER <= stop[rows]
        if number == 2:
            chains[rows[~whole & (at == stop[rows])]] = True
        rows, at = rows[whole], at[whole]
        headers = _Headers.at(octets, at)
        good = headers.are_frames() & headers.are_looked_for()
        rows, at = rows[good], at[good] + FRAME_HEADER + headers.length[good]
    chains[rows] = True
    return chains


def begin_with_preface(octets: U8, start: I64, stop: I64) -> Mask:
    """Whether payloads begin with the client's preface: (N,) bool."""
    begin: Mask = (gather_words(octets, start) == _PREFACE_WORD) & (stop - start >= len(PREFACE))
    rows = np.flatnonzero(begin)
    if rows.shape[0]:
        begin[rows] = gather_items(octets, start[rows], len(PREFACE)) == np.void(PREFACE)
    return begin


@dataclass(frozen=True, slots=True)
class Stretches(Table):
    """Stretches to walk, and how the walk of each direction stands where its stretch begins.

    Attributes
    ----------
    begin, end : (R,) int64
        Octets ``begin:end``.
    first, last : (R,) int64
        Rows ``first:last`` of the segments.
    left : (R,) int64
        Octets of the frame under way that are still to come.
    on : (R,) bool
        Frames are walked; where not, the walk begins at the first segment that may begin with one.
    sure : (R,) bool
        They are known to be frames.
    headers, segments : (R,) int64
        Frame headers met so far, in so many segments.
    """

    begin: I64
    end: I64
    first: I64
    last: I64
    left: I64
    on: Mask
    sure: Mask
    headers: I64
    segments: I64


@dataclass(frozen=True, slots=True)
class Blocks(Table):
    """Header blocks, in the order of their stretches and in each of their octets.

    Attributes
    ----------
    stretch : (B,) int64
    header : (B,) int64
        Where its HEADERS frame begins.
    start, stop : (B,) int64
        Where the block lies.
    end : (B,) int64
        Where the frame ends.
    sure : (B,) bool
        It was known that these are frames when it was met.
    """

    stretch: I64
    header: I64
    start: I64
    stop: I64
    end: I64
    sure: Mask


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk came to.

    Attributes
    ----------
    stretches : Stretches
        As they stand at their end.
    at : (R,) int64
        Where the next frame begins.
    halted : (R,) bool
        Not all of the stretch was walked: at `at` something needs a closer look. Where the walk was not sure of its
        frames, or had only begun, ``sure`` is not set, and nothing of it counts.
    joined : (R,) bool
        The walk began in this stretch.
    blocks : Blocks
    """

    stretches: Stretches
    at: I64
    halted: Mask
    joined: Mask
    blocks: Blocks


def walk_stretches(octets: U8, stretches: Stretches, segment_at: I64, untrimmed: Mask) -> Walked:
    """Walk the frames of `stretches`, those that follow the rules of `FrameWalk` to the end.

    Parameters
    ----------
    octets : (B,) uint8
    stretches : Stretches
        One behind the other, ascending.
    segment_at : (S,) int64
        Where each of their segments begins.
    untrimmed : (S,) bool
        That is where the segment itself begins: a walk may begin there.
    """
    walker = _Walker(octets, stretches, segment_at)
    walker.join(untrimmed)
    walker.walk()
    return walker.result()


def whole_blocks(octets: U8, at: I64, stop: I64) -> tuple[Blocks, Mask]:
    """Header blocks of the frames from `at` on that end at `stop` or before, whatever other frames there are.

    Returns
    -------
    Blocks
        In the order of the places given, and in each of the octets.
    (N,) bool
        Where these are all: of the others some is in more than one frame, or in one that is odd.
    """
    whole = np.ones(at.shape[0], bool)
    rows, parts = np.arange(at.shape[0]), []
    while rows.shape[0]:
        if rows.shape[0] < _FEW_HEADS:
            whole[rows] = False
            break
        headers = _Headers.at(octets, at)
        end = at + FRAME_HEADER + headers.length
        telling = np.flatnonzero(_TELLING.take(headers.kind) & (at + FRAME_HEADER <= stop) & (end <= stop))
        if telling.shape[0]:
            theirs, row = headers.take(telling), rows[telling]
            part, plain = _plain_blocks(octets, row, at[telling], theirs, stop[telling], whole[row])
            plain &= (theirs.stream_id & 0x7FFFFFFF) != 0
            whole[row[~plain]] = False
            parts.append(part)
        going = np.flatnonzero((end + FRAME_HEADER <= stop) & whole[rows])
        rows, at, stop = rows[going], end[going], stop[going]
    blocks = Blocks.concatenate([*parts, _NO_BLOCKS])
    return blocks.take(np.argsort(blocks.stretch, kind="stable")), whole


def _plain_blocks(octets: U8, rows: I64, at: I64, headers: _Headers, stop: I64, sure: Mask) -> tuple[Blocks, Mask]:
    """Blocks of telling frames, and which of those frames are plain: the whole block in one HEADERS frame."""
    start = at + FRAME_HEADER
    end = start + headers.length
    plain = (headers.kind == HEADERS) & ((headers.flags & END_HEADERS) != 0) & (end <= stop)
    last = end
    if (headers.flags & (PADDED | PRIORITY)).any():
        # As `fragment_of` has it.
        padded = (headers.flags & PADDED) != 0
        padding = octets[np.minimum(start, octets.shape[0] - 1)]
        last = end - np.where(padded & (headers.length > 0), padding, 0)
        start = start + padded + np.where((headers.flags & PRIORITY) != 0, 5, 0)
        plain &= start <= last
    return Blocks(*(column[plain] for column in (rows, at, start, last, end, sure))), plain


class _Walker:
    """Columns of a walk under way, one row a stretch."""

    def __init__(self, octets: U8, stretches: Stretches, segment_at: I64) -> None:
        self.octets, self.given, self.segment_at = octets, stretches, segment_at
        self.at = np.where(stretches.on, stretches.begin + stretches.left, stretches.end)
        self.on, self.sure, self.headers = stretches.on.copy(), stretches.sure.copy(), stretches.headers.copy()
        self.joined = np.zeros(len(stretches), bool)
        self.halted = np.zeros(len(stretches), bool)
        self.origin = stretches.first - stretches.segments  # row of the first segment walked, as if all were rows
        self.newest = stretches.first - 1  # the segment in which the last header was complete
        self.parts: list[Blocks] = []
        self.found_unsure = np.zeros(len(stretches), np.int64)

    def join(self, untrimmed: Mask) -> None:
        """Begin the walks that are not on, where a frame may begin with a segment."""
        given, at = self.given, self.segment_at
        off = np.flatnonzero(~given.on)
        if off.shape[0] == 0:
            return
        stop = np.append(at[1:], given.end[-1])
        rows = np.repeat(np.arange(len(given)), given.last - given.first)
        looks = np.flatnonzero(untrimmed & ~given.on[rows])
        preface = begin_with_preface(self.octets, at[looks], stop[looks])
        headers = _Headers.at(self.octets, at[looks])
        may = headers.are_frames() & headers.are_looked_for() & headers.have_known_flags()
        may &= at[looks] + FRAME_HEADER <= stop[looks]
        chosen = np.flatnonzero(may | preface)
        row, first = np.unique(rows[looks[chosen]], return_index=True)
        segment, preface = looks[chosen[first]], preface[chosen[first]]
        self.at[row] = at[segment] + np.where(preface, len(PREFACE), 0)
        self.on[row] = self.joined[row] = True
        self.sure[row] = preface
        self.headers[row] = 0
        self.origin[row] = self.newest[row] = segment

    def walk(self) -> None:
        """Walk until every stretch has ended or is left to a closer look."""
        end = self.given.end
        active = np.flatnonzero(self.on & (self.at + FRAME_HEADER <= end))
        steps = 0
        while active.shape[0]:
            if active.shape[0] < _FEW:
                if steps > _UNSURE_STEPS:
                    self.halted[active[~self.sure[active]]] = True
                    active = active[self.sure[active]]
                if self.sure[active].all():
                    self._walk_alone(active)
                    return
            steps += 1
            self._step(active)
            active = active[(self.at[active] + FRAME_HEADER <= end[active]) & ~self.halted[active]]

    def _step(self, rows: I64) -> None:
        """Advance `rows` by a frame each."""
        at, sure = self.at[rows], self.sure[rows]
        headers = _Headers.at(self.octets, at)
        good = headers.are_frames()
        if not sure.all():
            sure = self._confirm(rows, at, sure)
            good &= sure | (headers.are_looked_for() & headers.have_known_flags())
        telling = np.flatnonzero(_TELLING.take(headers.kind) & good)
        stop = at + FRAME_HEADER + headers.length
        if telling.shape[0]:
            theirs = headers.take(telling)
            part, plain = self._blocks(rows[telling], at[telling], theirs, sure[telling])
            good[telling[~plain]] = False
            self.parts.append(part)
        self.halted[rows[~good]] = True
        rows = rows[good]
        self.at[rows] = stop[good]
        self.headers[rows] += 1

    def _confirm(self, rows: I64, at: I64, sure: Mask) -> Mask:
        """Which are frames, by what the segments before the one in which this header is complete came to."""
        unsure = np.flatnonzero(~sure)
        row = rows[unsure]
        segment = np.searchsorted(self.segment_at, at[unsure] + FRAME_HEADER - 1, side="right") - 1
        enough = (self.headers[row] >= CONFIRMED) & (segment - self.origin[row] > 1) & (segment > self.newest[row])
        self.newest[row] = segment
        sure[unsure[enough]] = True
        self.sure[row[enough]] = True
        return sure

    def _blocks(self, rows: I64, at: I64, headers: _Headers, sure: Mask) -> tuple[Blocks, Mask]:
        """Blocks of telling frames, and which of those frames are plain."""
        self.found_unsure[rows[~sure]] += 1
        return _plain_blocks(self.octets, rows, at, headers, self.given.end[rows], sure)

    def _walk_alone(self, rows: I64) -> None:
        """As `walk`, one stretch after the other: a few long ones would keep a step in numpy waiting for each frame."""
        view = self.octets.data
        found: list[tuple[int, int, int]] = []
        for row, at, end in zip(rows.tolist(), self.at[rows].tolist(), self.given.end[rows].tolist(), strict=True):
            headers = 0
            while at + FRAME_HEADER <= end:
                word = int.from_bytes(view[at : at + FRAME_HEADER], "big")
                kind, stream_id = word >> 40 & 0xFF, word & 0xFFFFFFFF
                stop = at + FRAME_HEADER + (word >> 48)
                if kind:
                    if not is_frame((word >> 48, kind, 0, stream_id), strict=False):
                        break
                    if kind in (PUSH_PROMISE, CONTINUATION):
                        break
                    if kind == HEADERS:
                        if stop > end or not word >> 32 & END_HEADERS:
                            break
                        found.append((row, at, stop))
                elif not 0 < stream_id < 1 << 31:  # DATA, the most frequent of all: what `is_frame` says of it
                    break
                headers += 1
                at = stop
            self.halted[row] = at + FRAME_HEADER <= end
            self.at[row] = at
            self.headers[row] += headers
        if found:
            columns = np.array(found, np.int64)
            self._walked_alone(columns[:, 0], columns[:, 1])

    def _walked_alone(self, rows: I64, at: I64) -> None:
        """Blocks of the HEADERS frames at `at`; a stretch halts at the first that is not plain."""
        part, plain = self._blocks(rows, at, _Headers.at(self.octets, at), np.ones(rows.shape[0], bool))
        odd = np.flatnonzero(~plain)
        if odd.shape[0]:
            row, first = np.unique(rows[odd], return_index=True)
            self.halted[row] = True
            self.at[row] = at[odd[first]]
            part = part.take(part.header < self.at[part.stretch])
        self.parts.append(part)

    def result(self) -> Walked:
        """What came of it."""
        given = self.given
        rest = given.end - self.at
        self.halted |= self.on & (rest > 0)
        segments = given.last - self.origin
        self.sure |= self.on & ~self.halted & (self.headers >= CONFIRMED) & (segments > 1)
        crowded = self.found_unsure >= ASIDE
        self.halted |= crowded
        self.sure &= ~crowded
        # A walk that fails in the segment in which it began never was one, preface or not.
        stopped = np.flatnonzero(self.halted & self.joined & self.sure)
        if stopped.shape[0]:
            segment = np.searchsorted(self.segment_at, self.at[stopped], side="right") - 1
            self.sure[stopped[segment == self.origin[stopped]]] = False
        blocks = Blocks.concatenate([*self.parts, _NO_BLOCKS])
        blocks = blocks.take(np.argsort(blocks.stretch, kind="stable"))
        on = self.on
        stretches = Stretches(
            given.begin,
            given.end,
            given.first,
            given.last,
            np.where(on, np.maximum(-rest, 0), 0),
            on,
            self.sure,
            np.where(on, self.headers, 0),
            np.where(on, segments, 0),
        )
        return Walked(stretches, self.at, self.halted, self.joined, blocks)


_NONE: Final = np.empty(0, np.int64)
_NO_BLOCKS: Final = Blocks(_NONE, _NONE, _NONE, _NONE, _NONE, np.empty(0, bool))
