"""TLS records of many streams, walked in lockstep: one numpy step advances every stream by one record.

A record's body may lie in a hole: its length is known, so the walk steps over it. A record *header* in a hole ends the
walk of that stream; it may go on at a later segment that begins with a plausible header, and the first record there
is marked: records may be missing before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np

from analyzer.copying import expand
from analyzer.decode.gather import gather_numbers
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

    def among(self, streams: I64) -> RecordWalk:
        """The same for `streams` (K,) of these alone, ascending, which are numbered anew."""
        counts = np.diff(self.begin)[streams]
        row, number = expand(counts)
        records = self.records.take(self.begin[streams][row] + number)
        return RecordWalk(replace(records, row=row), np.concatenate([[0], np.cumsum(counts)]), self.end[streams])


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
    opens = heads.from_start[streams] & walker.opens(np.arange(streams.shape[0]), opening)
    plain, others = np.flatnonzero(opens), np.flatnonzero(~opens)
    some = walker.stop[others] - opening[others] >= HEADER
    walker.end[others[some]] = WalkEnd.MALFORMED
    stuck, at = walker.next_opening(others, opening[others])
    gap = np.repeat([False, True], [plain.shape[0], stuck.shape[0]])
    walker.walk(np.concatenate([plain, stuck]), np.concatenate([opening[plain], at]), gap)
    for _ in range(_RESUMPTIONS):
        rows = np.flatnonzero(walker.end == WalkEnd.GAP)
        if rows.shape[0] == 0:
            break
        rows, at = walker.next_opening(rows, walker.at[rows] + 1)
        if rows.shape[0] == 0:
            break
        walker.walk(rows, at, np.ones(rows.shape[0], bool))
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
        # Of each step: stream, number of the record in it, offset, header; of some: streams with a gap before it.
        self.parts: list[tuple[I64, I64, I64, I64]] = []
        self.gaps: list[tuple[I64, I64]] = []

    def header_known(self, rows: I64, at: I64) -> Mask:
        """Where the octets of a record header from `at` are in the head and were captured."""
        known: Mask = (at + HEADER <= self.stop[rows]) & (self.extents.known_until(at, at + HEADER) == at + HEADER)
        return known

    def opens(self, rows: I64, at: I64) -> Mask:
        """Where a stream can begin at `at`: a record header, or an SSL 2.0 ClientHello."""
        header = _headers(self.heads.octets, at)
        return self.header_known(rows, at) & (_plausible(header) | _ssl2_hello(header))

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
        header = _headers(heads.octets, at)
        following = at + HEADER + _length(header)
        second = self.header_known(rows[owner], following)
        next_header = _headers(heads.octets, np.where(second, following, 0))
        good = np.flatnonzero(_plausible(header) & (~second | _plausible(next_header)))
        first, where = np.unique(owner[good], return_index=True)
        return rows[first], at[good[where]]

    def walk(self, rows: I64, at: I64, gap: Mask) -> None:
        """Walk on from `at`, all `rows` together; `gap` marks those whose first record has octets missing before it."""
        self.end[rows] = WalkEnd.END
        count, data = self.count[rows], self.data_count[rows]
        first = True
        while rows.shape[0]:
            known = self.header_known(rows, at)
            header = _headers(self.heads.octets, at)
            ssl2 = _ssl2_hello(header) & (count == 0)
            good = known & (_plausible(header) | ssl2)
            go = good & (count < MAX_RECORDS) & (data < ENOUGH_DATA)
            stay = np.flatnonzero(go)
            if stay.shape[0] < rows.shape[0]:
                left = np.flatnonzero(~go)
                last = rows[left]
                self.at[last], self.count[last], self.data_count[last] = at[left], count[left], data[left]
                # The last that applies: a head that ends ends its walk, whatever else.
                ends = np.full(left.shape[0], WalkEnd.ENOUGH, np.uint8)
                ends[count[left] >= MAX_RECORDS] = WalkEnd.LIMIT
                ends[~good[left]] = WalkEnd.MALFORMED
                ends[~known[left]] = WalkEnd.GAP
                ends[at[left] + HEADER > self.stop[last]] = WalkEnd.END
                self.end[last] = ends
                rows, at, header, ssl2 = rows[stay], at[stay], header[stay], ssl2[stay]
                count, data = count[stay], data[stay]
            self.parts.append((rows, count, at, header))
            if first:
                behind = gap[stay]
                self.gaps.append((rows[behind], count[behind]))
                first = False
            at = at + _octets(header, ssl2)
            count = count + 1
            data = data + ((header & 0xFF) == APPLICATION_DATA)

    def result(self) -> RecordWalk:
        """Bring the parts into the order of the streams."""
        begin = np.zeros(self.streams.shape[0] + 1, np.int64)
        np.cumsum(self.count, out=begin[1:])
        nothing = np.empty(0, np.int64)
        parts = [(nothing, nothing, nothing, nothing), *self.parts]
        of, number, *told = (np.concatenate([part[column] for part in parts]) for column in range(4))
        place = begin[of] + number
        at, header = np.empty_like(told[0]), np.empty_like(told[1])
        at[place], header[place] = told
        row = np.repeat(np.arange(self.streams.shape[0]), self.count)
        gap = np.zeros(row.shape[0], bool)
        for streams, numbers in self.gaps:
            gap[begin[streams] + numbers] = True
        # The first of a stream alone is taken for one that begins like no record.
        ssl2 = ~_plausible(header)
        start, stop = at + np.where(ssl2, 2, HEADER), at + _octets(header, ssl2)
        captured = np.minimum(stop, self.stop[row])
        known = self.extents.known_until(start, np.maximum(start, captured))
        version = (header & 0xFF00) | (header >> 16 & 0xFF)
        records = Records(
            row,
            np.where(ssl2, SSL2_HELLO, header & 0xFF).astype(np.uint8),
            np.where(ssl2, 2, version).astype(np.uint16),
            at,
            start,
            stop,
            np.minimum(known, stop),
            gap,
        )
        return RecordWalk(records, begin, self.end)


def _headers(octets: U8, at: I64) -> I64:
    """The five octets from each `at` as little-endian numbers: the content type is the lowest octet."""
    words = gather_numbers(octets, at) & np.uint64((1 << 8 * HEADER) - 1)
    return words.view(np.int64)


def _length(header: I64) -> I64:
    return (header >> 16 & 0xFF00) | header >> 32


def _plausible(header: I64) -> Mask:
    """Record headers: a known content type, major version 3, a length within bounds."""
    kind = header & 0xFF
    good: Mask = (kind >= CHANGE_CIPHER_SPEC) & (kind <= APPLICATION_DATA + 1) & (_length(header) <= MAX_LENGTH)
    good &= (header & 0xFF00 == 3 << 8) & (header & 0xFF0000 <= 4 << 16)
    return good


def _ssl2_length(header: I64) -> I64:
    return (header & 0x7F) << 8 | (header >> 8 & 0xFF)


def _ssl2_hello(header: I64) -> Mask:
    """A two-octet SSL 2.0 record header, client-hello (1), and a version of SSL 3.0 or later (RFC 5246 E.2)."""
    good: Mask = header & 0x80 != 0
    if good.any():
        good &= (header & 0xFFFF0000 == 3 << 24 | 1 << 16) & (header >> 32 <= 4) & (_ssl2_length(header) >= 9)
    return good


def _octets(header: I64, ssl2: Mask) -> I64:
    """Octets of each record, with its header."""
    plain: I64 = HEADER + _length(header)
    return np.where(ssl2, 2 + _ssl2_length(header), plain) if ssl2.any() else plain
