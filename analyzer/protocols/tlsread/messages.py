"""Handshake messages in clear: records glued together per stream, then all streams walk their messages together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.decode.gather import copy_ranges, gather_block
from analyzer.protocols.tlsread.layer import APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, RecordTable
from analyzer.schema import I64, U8, Mask, Table

CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, CERTIFICATE = 1, 2, 4, 11
SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE, CERTIFICATE_VERIFY = 12, 13, 14, 15
CLIENT_KEY_EXCHANGE, FINISHED = 16, 20
"""HandshakeType (IANA TLS HandshakeType registry)."""

_KNOWN_TYPES: Final = np.array([0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20, 21, 22, 23, 67], np.uint8)
MAX_MESSAGES: Final = 16
"""Messages walked per stream before encryption; a full TLS 1.2 handshake has six each way."""
MAX_MESSAGE_LEN: Final = 1 << 17
"""Larger than any certificate chain in use; a larger claim is not a handshake message."""


@dataclass(frozen=True, slots=True)
class MessageTable(Table):
    """Messages in order of stream, then position.

    ``stream`` (K,) int64; ``kind`` (K,) uint8; ``length`` (K,) int64 octets of the body by its header; ``start``
    (K,) int64 of the body in `Handshakes.octets`; ``known`` (K,) int64 octets of the body readable; ``end_record``
    (K,) int64 row of the record that holds the last readable octet.
    """

    stream: I64
    kind: U8
    length: I64
    start: I64
    known: I64
    end_record: I64

    @property
    def complete(self) -> Mask:
        """Messages of which every octet is readable: (K,) bool."""
        whole: Mask = self.known == self.length
        return whole


@dataclass(frozen=True, slots=True)
class Handshakes:
    """Clear handshake octets of all streams back to back, and the messages in them."""

    octets: U8
    messages: MessageTable

    def first(self, kind: int, streams: int) -> I64:
        """Row of each stream's first message of `kind`, -1 = none: (streams,) int64."""
        return self._pick(kind, streams, first=True)

    def last(self, kind: int, streams: int) -> I64:
        """Row of each stream's last message of `kind`, -1 = none: (streams,) int64."""
        return self._pick(kind, streams, first=False)

    def _pick(self, kind: int, streams: int, *, first: bool) -> I64:
        rows = np.flatnonzero(self.messages.kind == kind)
        row_of = np.full(streams, -1, np.int64)
        chosen = rows[::-1] if first else rows
        row_of[self.messages.stream[chosen]] = chosen
        return row_of


def clear_records(records: RecordTable, through_ccs: Mask) -> Mask:
    """Records that hold clear handshake octets: those before the stream's cipher change.

    Parameters
    ----------
    records : RecordTable
    through_ccs : (streams,) bool
        Streams whose ChangeCipherSpec changes nothing (RFC 8446 D.4, after a HelloRetryRequest).
    """
    change = (records.kind == CHANGE_CIPHER_SPEC) & ~through_ccs[records.stream]
    ends = change | (records.kind == APPLICATION_DATA)
    # Ends seen so far in the same stream: a running sum, less what it was where the stream began.
    running = np.cumsum(ends)
    begins = records.number == 0
    base = np.maximum.accumulate(np.where(begins, running - ends, 0))
    clear: Mask = (records.kind == HANDSHAKE) & (running - base == 0)
    return clear


def read_messages(octets: U8, records: RecordTable, clear: Mask, streams: int) -> Handshakes:
    """Walk the handshake messages of all streams.

    Parameters
    ----------
    octets : (B,) uint8
        ``heads.octets``, which ``records.start`` points into.
    records : RecordTable
    clear : (R,) bool
        From `clear_records`.
    streams : int
        Number of streams that ``records.stream`` may name.
    """
    rows = np.flatnonzero(clear)
    part = records.take(rows)
    target = np.cumsum(part.length) - part.length
    total = int(part.length.sum())
    flat = copy_ranges(octets, part.start, part.known, target, total)
    counts = np.bincount(part.stream, part.length, minlength=streams).astype(np.int64)
    stop = np.cumsum(counts)
    start = stop - counts
    # A stream is readable up to the first octet missing from any of its records.
    limit = stop.copy()
    cut = part.known < part.length
    np.minimum.at(limit, part.stream[cut], (target + part.known)[cut])
    at, alive = start.copy(), np.flatnonzero(counts > 0)
    found: list[tuple[I64, U8, I64, I64]] = []
    for _ in range(MAX_MESSAGES):
        alive = alive[at[alive] + 4 <= limit[alive]]
        block = gather_block(flat, at[alive], 4)
        length = block[:, 1].astype(np.int64) << 16 | block[:, 2].astype(np.int64) << 8 | block[:, 3]
        fits = np.isin(block[:, 0], _KNOWN_TYPES) & (length <= MAX_MESSAGE_LEN)
        alive, block, length = alive[fits], block[fits], length[fits]
        if alive.shape[0] == 0:
            break
        found.append((alive, block[:, 0].copy(), length, at[alive] + 4))
        at[alive] += 4 + length
    if not found:
        none = np.empty(0, np.int64)
        return Handshakes(flat, MessageTable(none, np.empty(0, np.uint8), none, none, none, none))
    stream, kind, lengths, body = (np.concatenate(c) for c in zip(*found, strict=True))
    order = np.lexsort((body, stream))
    stream, kind, lengths, body = stream[order], kind[order], lengths[order], body[order]
    known = np.clip(limit[stream] - body, 0, lengths)
    last = np.searchsorted(target, body + np.maximum(known - 1, -4), side="right") - 1
    return Handshakes(flat, MessageTable(stream, kind, lengths, body, known, rows[np.maximum(last, 0)]))
