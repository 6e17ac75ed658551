"""Clear handshake messages of many streams.

Most records hold whole messages, which are read where they stand. Where a message spans records (RFC 8446 5.1) the
handshake octets of that stream are copied together first; only those streams pay for it. So a message lies in one of
two buffers: the heads themselves, or the spliced copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.copying import copy_ranges
from analyzer.numbers import run_begins, run_starts
from analyzer.protocols.tls.extents import u24
from analyzer.protocols.tls.records import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    SSL2_HELLO,
    RecordWalk,
)
from analyzer.schema import I64, U8, Mask, Table

CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
NEW_SESSION_TICKET: Final = 4
CERTIFICATE: Final = 11
SERVER_KEY_EXCHANGE: Final = 12
CERTIFICATE_REQUEST: Final = 13
SERVER_HELLO_DONE: Final = 14
CERTIFICATE_VERIFY: Final = 15
CLIENT_KEY_EXCHANGE: Final = 16
_CLEAR_KINDS: Final = (
    CERTIFICATE,
    SERVER_KEY_EXCHANGE,
    CERTIFICATE_REQUEST,
    SERVER_HELLO_DONE,
    CERTIFICATE_VERIFY,
    CLIENT_KEY_EXCHANGE,
)
_MAJOR: Final = 3

HEADER: Final = 4
MAX_MESSAGES: Final = 32
"""Messages read of one stream; a full handshake has at most seven in clear (RFC 5246 7.3)."""


@dataclass(frozen=True, slots=True)
class Messages(Table):
    """Clear handshake messages, ascending by stream, then in the order of the octets.

    Attributes
    ----------
    row : (N,) int64
        Index into the list of streams.
    kind : (N,) uint8
        HandshakeType (RFC 8446 4, RFC 5246 7.4).
    record : (N,) int64
        Row of the record in which the message begins.
    header : (N,) int64
        Absolute offset of the message's first octet in the heads: for frame numbers.
    spliced : (N,) bool
        The body stands in ``MessageWalk.spliced`` instead of the heads.
    start, stop : (N,) int64
        Body, half-open, by the message's length field, in its buffer.
    known : (N,) int64
        First octet of the body that is not known, ``stop`` where all are.
    ssl2 : (N,) bool
        An SSL 2.0 ClientHello: the body begins with the message type.
    """

    row: I64
    kind: U8
    record: I64
    header: I64
    spliced: Mask
    start: I64
    stop: I64
    known: I64
    ssl2: Mask


@dataclass(frozen=True, slots=True)
class MessageWalk:
    """Messages with the buffer of the spliced ones, and the streams in which the walk lost its way."""

    messages: Messages
    spliced: U8
    lost: Mask  #: (S,) a message header lies in a hole, or the octets are no handshake messages


def walk_messages(octets: U8, walk: RecordWalk) -> MessageWalk:
    """Read the clear handshake messages of every stream that was walked.

    Parameters
    ----------
    octets : (B,) uint8
        ``heads.octets``.
    walk : RecordWalk
        Records of S streams.

    Notes
    -----
    A stream's handshake is clear up to its first ChangeCipherSpec or application data record. Later, and after a gap,
    only a record that holds exactly one whole message of a known type is taken for clear: the second hello after a
    HelloRetryRequest (RFC 8446 D.4) is; an encrypted Finished passes the test once in 2**32.
    """
    chain, alone = _clear(octets, walk)
    chains = _Chains(octets, walk, np.flatnonzero(chain))
    fast, splice, lost = chains.walk()
    spliced, slow = chains.splice(splice)
    single = _single(octets, walk, np.flatnonzero(alone))
    messages = Messages.concatenate([fast, slow, single])
    order = np.lexsort((messages.header, messages.row))
    return MessageWalk(messages.take(order), spliced, lost)


def _clear(octets: U8, walk: RecordWalk) -> tuple[Mask, Mask]:
    """Records of the unbroken clear handshake at the start of each stream, and single clear ones later."""
    records = walk.records
    if len(records) == 0:
        return np.zeros(0, bool), np.zeros(0, bool)
    first = walk.begin[records.row]
    breaks = (records.kind == CHANGE_CIPHER_SPEC) | (records.kind == APPLICATION_DATA)
    breaks |= records.gap & ~_opens_with_hello(octets, walk)
    before = np.cumsum(breaks)
    broken = before - before[first] + breaks[first] > 0
    handshake = (records.kind == HANDSHAKE) | (records.kind == SSL2_HELLO)
    later = np.flatnonzero(handshake & broken & (records.kind == HANDSHAKE))
    later = later[records.known[later] >= records.start[later] + HEADER]
    start = records.start[later]
    fits = u24(octets, start + 1) + HEADER == records.stop[later] - start
    ciphered = np.cumsum((records.kind == CHANGE_CIPHER_SPEC) | (records.kind == APPLICATION_DATA))
    ciphered = (ciphered - ciphered[first] + (records.kind[first] == CHANGE_CIPHER_SPEC))[later] > 0
    hello = (octets[start] == CLIENT_HELLO) | (octets[start] == SERVER_HELLO)
    known = hello | (~ciphered & np.isin(octets[start], _CLEAR_KINDS))
    alone = np.zeros(len(records), bool)
    alone[later[fits & known]] = True
    return handshake & ~broken, alone


def _opens_with_hello(octets: U8, walk: RecordWalk) -> Mask:
    """First records of streams whose SYN was missed, but not their hello."""
    records = walk.records
    opens = np.zeros(len(records), bool)
    first = walk.begin[:-1][walk.begin[1:] > walk.begin[:-1]]
    first = first[(records.kind[first] == HANDSHAKE) & (records.known[first] > records.start[first] + HEADER)]
    start = records.start[first]
    hello = (octets[start] == CLIENT_HELLO) | (octets[start] == SERVER_HELLO)
    opens[first] = hello & (octets[start + 1] == 0) & (octets[start + HEADER] == _MAJOR)
    return opens


def _single(octets: U8, walk: RecordWalk, record: I64) -> Messages:
    records = walk.records
    start = records.start[record]
    return Messages(
        records.row[record],
        octets[start],
        record,
        start,
        np.zeros(record.shape[0], bool),
        start + HEADER,
        records.stop[record],
        np.maximum(records.known[record], start + HEADER),
        np.zeros(record.shape[0], bool),
    )


class _Chains:
    """The unbroken handshake records of each stream, as links ``record[link]`` in order."""

    def __init__(self, octets: U8, walk: RecordWalk, record: I64) -> None:
        records = walk.records
        self.octets, self.record, self.streams = octets, record, walk.end.shape[0]
        self.row = records.row[record]
        self.start, self.stop, self.known = records.start[record], records.stop[record], records.known[record]
        self.ssl2 = records.kind[record] == SSL2_HELLO
        count = record.shape[0]
        self.has_next = np.zeros(count, bool)
        if count:
            self.has_next[:-1] = self.row[1:] == self.row[:-1]

    def walk(self) -> tuple[Messages, I64, Mask]:
        """Messages of streams without one that spans records; the other streams; streams that lost their way."""
        lost = np.zeros(self.streams, bool)
        spans = np.zeros(self.streams, bool)
        link = np.flatnonzero(~np.concatenate([[False], self.has_next[:-1]])) if self.row.shape[0] else self.record
        at = self.start[link]
        parts = [self._ssl2(link[self.ssl2[link]])]
        parts[0:0] = [_empty()]
        link, at = self._advance(link, np.where(self.ssl2[link], self.stop[link], at))
        for _ in range(MAX_MESSAGES):
            if link.shape[0] == 0:
                break
            spanning = (at + HEADER > self.stop[link]) & self.has_next[link]
            known = at + HEADER <= self.known[link]
            lost[self.row[link[~known & ~spanning]]] = True
            spans[self.row[link[spanning]]] = True
            good = known & ~spanning
            link, at = link[good], at[good]
            end = at + HEADER + u24(self.octets, at + 1)
            spanning = (end > self.stop[link]) & self.has_next[link]
            spans[self.row[link[spanning]]] = True
            link, at, end = link[~spanning], at[~spanning], end[~spanning]
            known_stop = np.minimum(self.known[link], end)
            parts.append(
                Messages(
                    self.row[link],
                    self.octets[at],
                    self.record[link],
                    at,
                    np.zeros(link.shape[0], bool),
                    at + HEADER,
                    end,
                    np.maximum(known_stop, at + HEADER),
                    np.zeros(link.shape[0], bool),
                )
            )
            link, at = self._advance(link, end)
        messages = Messages.concatenate(parts)
        return messages.take(~spans[messages.row]), np.flatnonzero(spans), lost & ~spans

    def _advance(self, link: I64, at: I64) -> tuple[I64, I64]:
        """Move to the next link where a message ended with its record; drop what is at its end."""
        # A message that claims more than its record, with no record after it, ends its stream.
        ended = at >= self.stop[link]
        go = ~ended | self.has_next[link]
        link, at, ended = link[go], at[go], ended[go]
        link = link + ended
        at = np.where(ended, self.start[link], at)
        # Empty fragments are not allowed (RFC 8446 5.1); a stream that sends one is not read further.
        full = at < self.stop[link]
        return link[full], at[full]

    def _ssl2(self, link: I64) -> Messages:
        return Messages(
            self.row[link],
            np.full(link.shape[0], CLIENT_HELLO, np.uint8),
            self.record[link],
            self.start[link],
            np.zeros(link.shape[0], bool),
            self.start[link],
            self.stop[link],
            self.known[link],
            np.ones(link.shape[0], bool),
        )

    def splice(self, rows: I64) -> tuple[U8, Messages]:
        """Copy the handshake octets of `rows` together and read their messages from the copy."""
        nothing = np.empty(0, np.uint8)
        link = np.flatnonzero(np.isin(self.row, rows) & ~self.ssl2)
        if link.shape[0] == 0:
            return nothing, _empty()
        whole = self.known[link] == self.stop[link]
        row = self.row[link]
        edge = run_begins(row)
        # Octets after the first one missing have no place any more: a stream's copy ends there.
        missing = np.cumsum(~whole)
        before = missing - ~whole
        usable = before == np.maximum.accumulate(np.where(edge, before, 0))
        link, row = link[usable], row[usable]
        length = self.known[link] - self.start[link]
        target = np.cumsum(length) - length
        size = int(length.sum())
        spliced = copy_ranges(self.octets, self.start[link], length, target, size)
        first = run_starts(row)
        stop = np.append(target[first[1:]], size)
        return spliced, self._walk_spliced(spliced, row[first], target[first], stop, target, link)

    def _walk_spliced(self, spliced: U8, row: I64, at: I64, stop: I64, target: I64, link: I64) -> Messages:
        parts = [_empty()]
        for _ in range(MAX_MESSAGES):
            good = np.flatnonzero(at + HEADER <= stop)
            if good.shape[0] == 0:
                break
            row, at, stop = row[good], at[good], stop[good]
            end = at + HEADER + u24(spliced, at + 1)
            piece = np.searchsorted(target, at, side="right") - 1
            parts.append(
                Messages(
                    row,
                    spliced[at],
                    self.record[link[piece]],
                    self.start[link[piece]] + at - target[piece],
                    np.ones(row.shape[0], bool),
                    at + HEADER,
                    end,
                    np.minimum(end, stop),
                    np.zeros(row.shape[0], bool),
                )
            )
            at = end
        return Messages.concatenate(parts)


def _empty() -> Messages:
    none, no = np.empty(0, np.int64), np.empty(0, bool)
    return Messages(none, np.empty(0, np.uint8), none, none, no, none, none, none, no)
