"""The TLS record layer: all streams walk their records together.

A record's header says how far the next one is, so a body that was not captured is stepped over; a header that was not
captured ends the walk of that stream, and the reason is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.schema import I64, U8, U16, Mask, StreamHeads, Table

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
"""ContentType (RFC 8446 B.1)."""

MAX_RECORDS: Final = 48
"""Records walked per stream; a handshake needs at most about a dozen."""
MAX_RECORD_LEN: Final = (1 << 14) + 2048
"""RFC 5246 6.2.3; RFC 8446 5.2 allows 256 octets of expansion instead of 2048."""
RESYNC_SEGMENTS: Final = 8
"""Segment starts tried as a record boundary in a stream joined mid-connection."""


@dataclass(frozen=True, slots=True)
class RecordTable(Table):
    """Records in order of stream, then position.

    ``stream`` (R,) int64; ``number`` (R,) int64 within the stream; ``kind`` (R,) uint8; ``version`` (R,) uint16;
    ``length`` (R,) int64 octets of the body by the header; ``start`` (R,) int64 of the body in ``heads.octets``;
    ``known`` (R,) int64 octets of the body readable without a gap.
    """

    stream: I64
    number: I64
    kind: U8
    version: U16
    length: I64
    start: I64
    known: I64


class Holes:
    """Answers where captured octets are missing, in offsets of ``heads.octets``."""

    def __init__(self, heads: StreamHeads) -> None:
        self.start = heads.offsets[heads.holes_stream] + heads.holes_start
        self.stop = heads.offsets[heads.holes_stream] + heads.holes_stop

    def first_in(self, start: I64, stop: I64) -> I64:
        """First missing octet in each ``[start, stop)``, `stop` where none is: (N,) int64."""
        if self.start.shape[0] == 0:
            return stop
        at = np.searchsorted(self.stop, start, side="right")
        inside = at < self.start.shape[0]
        begins = np.maximum(self.start[np.minimum(at, self.start.shape[0] - 1)], start)
        return np.where(inside & (begins < stop), begins, stop)


def _plausible(block: U8) -> Mask:
    length = block[:, 3].astype(np.int64) << 8 | block[:, 4]
    fits: Mask = (
        (block[:, 0] >= CHANGE_CIPHER_SPEC)
        & (block[:, 0] <= 24)
        & (block[:, 1] == 3)
        & (block[:, 2] <= 4)
        & (length <= MAX_RECORD_LEN)
    )
    return fits


def _ssl2_hello_len(octets: U8, at: I64, stop: I64) -> I64:
    """Octets of a ClientHello in SSL 2.0 framing at each `at`, 0 where there is none (RFC 5246 E.2)."""
    block = gather_block(octets, at, 5)
    is_hello = (
        (block[:, 0] & 0x80 != 0) & (block[:, 2] == 1) & (block[:, 3] == 3) & (block[:, 4] <= 4) & (at + 5 <= stop)
    )
    return np.where(is_hello, 2 + ((block[:, 0].astype(np.int64) & 0x7F) << 8 | block[:, 1]), 0)


def _first_boundary(heads: StreamHeads, streams: I64) -> I64:
    """Offset at which each stream's first whole record begins: its start, or a segment start mid-connection."""
    at = heads.offsets[streams].copy()
    middle = np.flatnonzero(~heads.from_start[streams])
    if middle.shape[0] == 0:
        return at
    origin, stop = heads.offsets[streams[middle]], heads.offsets[streams[middle] + 1]
    first, last = heads.segments_offsets[streams[middle]], heads.segments_offsets[streams[middle] + 1]
    found = np.zeros(middle.shape[0], bool)
    for turn in range(RESYNC_SEGMENTS):
        rows = np.flatnonzero(~found & (first + turn < last))
        if rows.shape[0] == 0:
            break
        candidate = origin[rows] + heads.segment_position[first[rows] + turn]
        fits = _plausible(gather_block(heads.octets, candidate, 5)) & (candidate + 5 <= stop[rows])
        at[middle[rows[fits]]] = candidate[fits]
        found[rows[fits]] = True
    return at


def walk_records(heads: StreamHeads, streams: I64) -> RecordTable:
    """Walk the records of `streams` ((M,) int64 rows of `heads`), at most `MAX_RECORDS` each."""
    holes = Holes(heads)
    at = _first_boundary(heads, streams)
    stop = heads.offsets[streams + 1]
    at += np.where(heads.from_start[streams], _ssl2_hello_len(heads.octets, at, stop), 0)
    alive = np.arange(streams.shape[0])
    parts: list[tuple[I64, I64, U8, U16, I64, I64]] = []
    for number in range(MAX_RECORDS):
        alive = alive[at[alive] + 5 <= stop[alive]]
        alive = alive[holes.first_in(at[alive], at[alive] + 5) == at[alive] + 5]
        block = gather_block(heads.octets, at[alive], 5)
        fits = _plausible(block)
        alive, block = alive[fits], block[fits]
        if alive.shape[0] == 0:
            break
        length = block[:, 3].astype(np.int64) << 8 | block[:, 4]
        version = (block[:, 1].astype(np.uint16) << 8 | block[:, 2]).astype(np.uint16)
        parts.append(
            (alive, np.full(alive.shape[0], number, np.int64), block[:, 0].copy(), version, length, at[alive] + 5)
        )
        at[alive] += 5 + length
    if not parts:
        none = np.empty(0, np.int64)
        return RecordTable(none, none, np.empty(0, np.uint8), np.empty(0, np.uint16), none, none, none)
    row, numbers, kind, versions, lengths, start = (np.concatenate(c) for c in zip(*parts, strict=True))
    order = np.lexsort((numbers, row))
    row, start, lengths = row[order], start[order], lengths[order]
    captured = np.minimum(start + lengths, stop[row])
    known = holes.first_in(start, np.maximum(captured, start)) - start
    return RecordTable(streams[row], numbers[order], kind[order], versions[order], lengths, start, known)
