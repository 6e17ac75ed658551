"""TLS records of many streams, walked in lockstep: one numpy step advances every stream by one record.

A record's body may lie in a hole: its length is known, so the walk steps over it. A record *header* in a hole ends the
walk of that stream; it may go on at a later segment that begins with a plausible header, and the first record there
is marked: records may be missing before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.protocols.tls.extents import Extents
from analyzer.schema import I64, U8, U16, Mask, StreamHeads, Table

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23
SSL2_HELLO: Final = 128
"""Not a ContentType: marks a ClientHello in an SSL 2.0 record (RFC 5246 E.2)."""

HEADER: Final = 5
MAX_LENGTH: Final = (1 << 14) + 2048
"""TLSCiphertext.length, RFC 5246 6.2.3."""
MAX_RECORDS: Final = 64
"""Records read of one stream. A handshake of one message a record has at most ten a side."""
ENOUGH_DATA: Final = 16
"""Application data records after which a stream is not read on: a TLS 1.3 flight has at most five of them."""
_RESUMPTIONS: Final = 4
"""Times a walk is taken up again after a gap."""


class WalkEnd(IntEnum):
    """Why the walk of a stream ended."""

    END = 0  #: at the end of the head, between records or inside the last one
    GAP = 1  #: a record header lies in a hole, and no later segment begins with one
    MALFORMED = 2  #: not a record header
    LIMIT = 3  #: `MAX_RECORDS`
    ENOUGH = 4  #: `ENOUGH_DATA`: the handshake is long over


@dataclass(frozen=True, slots=True)
class Records(Table):
    """Records in the order of their streams, and in each stream in the order of the octets.

    Attributes
    ----------
    row : (R,) int64
        Index into the list of streams that was walked.
    kind : (R,) uint8
        ContentType (RFC 8446 5.1) or `SSL2_HELLO`.
    version : (R,) uint16
        legacy_record_version.
    header, start, stop : (R,) int64
        Absolute offsets of the header and of the body, half-open, by the header's length. ``stop`` may lie past the
        head.
    known : (R,) int64
        Absolute offset of the first octet of the body that was not captured; ``stop`` where all were.
    gap : (R,) bool
        Octets before this record are missing or were not understood.
    """

    row: I64
    kind: U8
    version: U16
    header: I64
    start: I64
    stop: I64
    known: I64
    gap: Mask


@dataclass(frozen=True, slots=True)
class RecordWalk:
    """Records of S streams.

    Attributes
    ----------
    records : Records
    begin : (S + 1,) int64
        Records of stream s are rows ``begin[s]:begin[s + 1]``.
    end : (S,) uint8
        `WalkEnd` of each stream.
    """

    records: Records
    begin: I64
    end: U8


def walk_records(heads: StreamHeads, streams: I64, extents: Extents) -> RecordWalk:
    """Walk the records of `streams`.

    Parameters
    ----------
    heads : StreamHeads
    streams : (S,) int64
        Stream numbers.
    extents : Extents
        Of `heads`.

    Notes
    -----
    Record layout: RFC 8446 5.1, RFC 5246 6.2.1. Where the first octets of a head are no record header (the capture
    began in the middle, or a clear proxy exchange came first) the walk begins at the first segment that begins with
    one.
    """
    walker = _Walker(heads, streams, extents)
    opening = heads.offsets[streams]
    plain = np.flatnonzero(heads.from_start[streams] & walker.opens(np.arange(streams.shape[0]), opening))
    walker.walk(plain, opening[plain], gap=False)
    others = np.setdiff1d(np.arange(streams.shape[0]), plain)
    some = walker.stop[others] - opening[others] >= HEADER
    walker.end[others[some]] = WalkEnd.MALFORMED
    stuck, at = walker.next_opening(others, opening[others])
    walker.walk(stuck, at, gap=True)
    for _ in range(_RESUMPTIONS):
        rows = np.flatnonzero(walker.end == WalkEnd.GAP)
        if rows.shape[0] == 0:
            break
        rows, at = walker.next_opening(rows, walker.at[rows] + 1)
        if rows.shape[0] == 0:
            break
        walker.walk(rows, at, gap=True)
    return walker.result()


class _Walker:
    """State of the walk: where each stream stands, and the records found so far, one part a step."""

    def __init__(self, heads: StreamHeads, streams: I64, extents: Extents) -> None:
        self.heads, self.streams, self.extents = heads, streams, extents
        self.stop = heads.offsets[streams + 1]
        self.at = heads.offsets[streams].copy()
        self.count = np.zeros(streams.shape[0], np.int64)
        self.data_count = np.zeros(streams.shape[0], np.int64)
        self.end = np.full(streams.shape[0], WalkEnd.END, np.uint8)
        self.parts: list[tuple[I64, Records]] = []

    def header_known(self, rows: I64, at: I64) -> Mask:
        """Where the octets of a record header from `at` are in the head and were captured."""
        known: Mask = (at + HEADER <= self.stop[rows]) & (self.extents.known_until(at, at + HEADER) == at + HEADER)
        return known

    def opens(self, rows: I64, at: I64) -> Mask:
        """Where a stream can begin at `at`: a record header, or an SSL 2.0 ClientHello."""
        known = self.header_known(rows, at)
        block = gather_block(self.heads.octets, at, HEADER)
        return known & (_plausible(block) | _ssl2_hello(block))

    def next_opening(self, rows: I64, after: I64) -> tuple[I64, I64]:
        """The first segment of each row, from absolute offset `after`, that begins with a record header.

        The header that follows the record must be plausible too where it was captured: an encrypted octet string
        passes the first test once in some ten million places.
        """
        heads, nothing = self.heads, np.empty(0, np.int64)
        stream = self.streams[rows]
        counts = heads.segments_offsets[stream + 1] - heads.segments_offsets[stream]
        if int(counts.sum()) == 0:
            return nothing, nothing
        owner = np.repeat(np.arange(rows.shape[0]), counts)
        within = np.arange(owner.shape[0]) - np.repeat(np.cumsum(counts) - counts, counts)
        segment = heads.segments_offsets[stream][owner] + within
        at = heads.offsets[stream][owner] + heads.segment_position[segment]
        chosen = np.flatnonzero((at >= after[owner]) & self.header_known(rows[owner], at))
        owner, at = owner[chosen], at[chosen]
        block = gather_block(heads.octets, at, HEADER)
        following = at + HEADER + _length(block)
        second = self.header_known(rows[owner], following)
        next_block = gather_block(heads.octets, np.where(second, following, 0), HEADER)
        good = np.flatnonzero(_plausible(block) & (~second | _plausible(next_block)))
        first, where = np.unique(owner[good], return_index=True)
        return rows[first], at[good[where]]

    def walk(self, rows: I64, at: I64, *, gap: bool) -> None:
        """Walk on from `at`, all `rows` together; `gap` marks the first record of each."""
        self.end[rows] = WalkEnd.END
        self.at[rows] = at
        first = True
        while rows.shape[0]:
            at = self.at[rows]
            known = self.header_known(rows, at)
            inside = at + HEADER <= self.stop[rows]
            self.end[rows[inside & ~known]] = WalkEnd.GAP
            rows, at = rows[known], at[known]
            block = gather_block(self.heads.octets, at, HEADER)
            ssl2 = _ssl2_hello(block) & (self.count[rows] == 0)
            good = _plausible(block) | ssl2
            self.end[rows[~good]] = WalkEnd.MALFORMED
            full = good & (self.count[rows] >= MAX_RECORDS)
            self.end[rows[full]] = WalkEnd.LIMIT
            enough = good & ~full & (self.data_count[rows] >= ENOUGH_DATA)
            self.end[rows[enough]] = WalkEnd.ENOUGH
            keep = np.flatnonzero(good & ~full & ~enough)
            rows = rows[keep]
            self._emit(rows, at[keep], block[keep], ssl2[keep], gap and first)
            first = False

    def _emit(self, rows: I64, at: I64, block: U8, ssl2: Mask, gap: bool) -> None:
        start = at + np.where(ssl2, 2, HEADER)
        stop = start + np.where(ssl2, _ssl2_length(block), _length(block))
        captured = np.minimum(stop, self.stop[rows])
        known = self.extents.known_until(start, np.maximum(start, captured))
        version = (block[:, 1].astype(np.uint16) << np.uint16(8)) | block[:, 2]
        part = Records(
            rows,
            np.where(ssl2, SSL2_HELLO, block[:, 0]).astype(np.uint8),
            np.where(ssl2, 2, version).astype(np.uint16),
            at,
            start,
            stop,
            np.minimum(known, stop),
            np.full(rows.shape[0], gap),
        )
        self.parts.append((self.count[rows].copy(), part))
        self.count[rows] += 1
        self.data_count[rows] += block[:, 0] == APPLICATION_DATA
        self.at[rows] = stop

    def result(self) -> RecordWalk:
        """Bring the parts into the order of the streams."""
        begin = np.zeros(self.streams.shape[0] + 1, np.int64)
        np.cumsum(self.count, out=begin[1:])
        nothing = np.empty(0, np.int64)
        none = Records(
            nothing,
            np.empty(0, np.uint8),
            np.empty(0, np.uint16),
            nothing,
            nothing,
            nothing,
            nothing,
            np.empty(0, bool),
        )
        joined = Records.concatenate([none, *(part for _, part in self.parts)])
        number = np.concatenate([nothing, *(number for number, _ in self.parts)])
        order = np.empty(len(joined), np.int64)
        order[begin[joined.row] + number] = np.arange(len(joined))
        return RecordWalk(joined.take(order), begin, self.end)


def _length(block: U8) -> I64:
    return (block[:, 3].astype(np.int64) << 8) | block[:, 4]


def _plausible(block: U8) -> Mask:
    """Record headers: a known content type, major version 3, a length within bounds."""
    kind = (block[:, 0] >= CHANGE_CIPHER_SPEC) & (block[:, 0] <= APPLICATION_DATA + 1)
    good: Mask = kind & (block[:, 1] == 3) & (block[:, 2] <= 4) & (_length(block) <= MAX_LENGTH)
    return good


def _ssl2_length(block: U8) -> I64:
    return ((block[:, 0].astype(np.int64) & 0x7F) << 8) | block[:, 1]


def _ssl2_hello(block: U8) -> Mask:
    """A two-octet SSL 2.0 record header, client-hello (1), and a version of SSL 3.0 or later (RFC 5246 E.2)."""
    good: Mask = (block[:, 0] >= 0x80) & (block[:, 2] == 1) & (block[:, 3] == 3) & (block[:, 4] <= 4)
    return good & (_ssl2_length(block) >= 9)
