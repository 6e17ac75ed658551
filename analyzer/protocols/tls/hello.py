"""ClientHello and ServerHello, read in lockstep: all hellos advance by one extension a step.

Every field has its own "known": a hello cut by the snap length still gives the fields before the cut. Octets that
contradict the structure end the reading of that hello and are never an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from analyzer.copying import gather_items
from analyzer.decode.gather import gather_block
from analyzer.protocols.tls.extents import u8, u16
from analyzer.schema import I64, U8, Mask, Table

SERVER_NAME: Final = 0
SUPPORTED_GROUPS: Final = 10
POINT_FORMATS: Final = 11
SIGNATURE_ALGORITHMS: Final = 13
ALPN: Final = 16
PRE_SHARED_KEY: Final = 41
EARLY_DATA: Final = 42
SUPPORTED_VERSIONS: Final = 43
KEY_SHARE: Final = 51
"""Extension types, IANA registry "TLS ExtensionType Values"."""

MAX_EXTENSIONS: Final = 128
"""Extensions read of one hello; the registry has some seventy types, and none may come twice (RFC 8446 4.2)."""
RANDOM: Final = 32
HELLO_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""Random of a HelloRetryRequest, RFC 8446 4.1.3."""
_DRAFT: Final = 0x7F
"""First octet of the versions of TLS 1.3 drafts; up to draft 21 the ServerHello's own version field held it, and the
session id and compression fields were left out (draft-ietf-tls-tls13-18 4.1.3)."""


class HelloEnd(IntEnum):
    """How far a hello could be read."""

    WHOLE = 0
    CUT = 1  #: octets are missing
    MALFORMED = 2  #: a length contradicts the one around it


@dataclass(frozen=True, slots=True)
class Extensions(Table):
    """Extensions, ascending by hello, then in the order of the octets; ``stop <= known octets`` always.

    ``row`` (E,) int64 hello; ``kind`` (E,) int64 ExtensionType; ``start``, ``stop`` (E,) int64 content.
    """

    row: I64
    kind: I64
    start: I64
    stop: I64

    def pick(self, kind: int, hellos: int) -> tuple[I64, I64]:
        """Content of the first extension of type `kind` in each hello: start, stop (hellos,); -1 where none."""
        start, stop = np.full(hellos, -1, np.int64), np.full(hellos, -1, np.int64)
        chosen = np.flatnonzero(self.kind == kind)[::-1]  # written last = the first one
        start[self.row[chosen]] = self.start[chosen]
        stop[self.row[chosen]] = self.stop[chosen]
        return start, stop


@dataclass(frozen=True, slots=True)
class Hellos:
    """N hellos of one buffer.

    Attributes
    ----------
    octets : (B,) uint8
        The buffer all offsets count in.
    end : (N,) uint8
        `HelloEnd`. `WHOLE` is needed to say that something is *not* in a hello.
    version : (N,) int64
        legacy_version; 0 = not known.
    cipher : (N,) int64
        ServerHello: the suite chosen; -1 = not known. ClientHello: -1.
    ciphers_start, ciphers_stop : (N,) int64
        ClientHello: the suites offered; -1 = not known.
    cipher_width : (N,) int64
        Octets of each: 2, or 3 in an SSL 2.0 ClientHello.
    extensions : Extensions
    """

    octets: U8
    end: U8
    version: I64
    cipher: I64
    ciphers_start: I64
    ciphers_stop: I64
    cipher_width: I64
    extensions: Extensions

    def __len__(self) -> int:
        return int(self.end.shape[0])


class _Reading:
    """One position per hello; a hello whose next field is not there leaves the reading with a reason."""

    def __init__(self, octets: U8, start: I64, stop: I64, known: I64) -> None:
        self.octets, self.stop, self.known = octets, stop, np.minimum(known, octets.shape[0])
        self.at = start.copy()
        self.end = np.full(start.shape[0], HelloEnd.WHOLE, np.uint8)
        self.live = np.arange(start.shape[0])

    def need(self, width: int | I64) -> Mask:
        """Keep the hellos in which `width` more octets are known, and say which: `width` one number or one each."""
        until = self.at[self.live] + width
        kept: Mask = until <= np.minimum(self.stop[self.live], self.known[self.live])
        if not kept.all():
            self.leave(self.live[~kept], until[~kept])
            self.live = self.live[kept]
        return kept

    def leave(self, rows: I64, until: I64) -> None:
        """Note why the reading of `rows` ends, which want the octets up to `until`."""
        self.end[rows] = np.where(until > self.stop[rows], HelloEnd.MALFORMED, HelloEnd.CUT)

    def skip(self, width: int | I64) -> None:
        """Step over `width` octets, known or not."""
        self.at[self.live] += width

    def u8(self) -> I64:
        """Read a number of one octet from every live hello and step over it."""
        self.need(1)
        value = u8(self.octets, self.at[self.live])
        self.skip(1)
        return value

    def u16(self) -> I64:
        """Read a number of two octets from every live hello and step over it."""
        self.need(2)
        value = u16(self.octets, self.at[self.live])
        self.skip(2)
        return value


def read_client_hellos(octets: U8, start: I64, stop: I64, known: I64) -> Hellos:
    """Read ClientHello bodies.

    Parameters
    ----------
    octets : (B,) uint8
    start, stop : (N,) int64
        Body of each, without the four octets of the handshake header.
    known : (N,) int64
        First octet not known.

    Notes
    -----
    RFC 8446 4.1.2; the same layout since SSL 3.0 (RFC 6101 5.6.1.2).
    """
    count = start.shape[0]
    reading = _Reading(octets, start, stop, known)
    version = np.zeros(count, np.int64)
    value = reading.u16()
    version[reading.live] = value
    reading.skip(RANDOM)
    length = reading.u8()
    reading.skip(length)
    ciphers_start, ciphers_stop = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    length = reading.u16()
    begin = reading.at[reading.live]
    kept = reading.need(length)
    ciphers_start[reading.live] = begin[kept]
    ciphers_stop[reading.live] = begin[kept] + (length[kept] & ~1)
    reading.skip(length[kept])
    length = reading.u8()
    reading.skip(length)
    extensions = _read_extensions(reading)
    return Hellos(
        octets,
        reading.end,
        version,
        np.full(count, -1, np.int64),
        ciphers_start,
        ciphers_stop,
        np.full(count, 2, np.int64),
        extensions,
    )


def read_ssl2_hellos(octets: U8, start: I64, stop: I64, known: I64) -> Hellos:
    """Read SSL 2.0 ClientHellos that offer SSL 3.0 or later (RFC 5246 E.2); `start` is at the message type."""
    count = start.shape[0]
    reading = _Reading(octets, start, stop, known)
    reading.skip(1)
    version = np.zeros(count, np.int64)
    value = reading.u16()
    version[reading.live] = value
    length = reading.u16()
    length = length[reading.need(4)]
    reading.skip(4)
    begin = reading.at[reading.live]
    kept = reading.need(length)
    ciphers_start, ciphers_stop = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    ciphers_start[reading.live] = begin[kept]
    ciphers_stop[reading.live] = begin[kept] + length[kept] - length[kept] % 3
    none = np.empty(0, np.int64)
    return Hellos(
        octets,
        reading.end,
        version,
        np.full(count, -1, np.int64),
        ciphers_start,
        ciphers_stop,
        np.full(count, 3, np.int64),
        Extensions(none, none, none, none),
    )


def read_server_hellos(octets: U8, start: I64, stop: I64, known: I64) -> Hellos:
    """Read ServerHello bodies (RFC 8446 4.1.3); parameters as for `read_client_hellos`."""
    count = start.shape[0]
    reading = _Reading(octets, start, stop, known)
    version = np.zeros(count, np.int64)
    value = reading.u16()
    version[reading.live] = value
    reading.need(RANDOM)
    reading.skip(RANDOM)
    draft = version >> 8 == _DRAFT
    reading.need(np.where(draft[reading.live], 0, 1))
    short = draft[reading.live]
    session = np.where(short, 0, u8(octets, np.minimum(reading.at[reading.live], octets.shape[0] - 1)) + 1)
    reading.skip(session)
    cipher = np.full(count, -1, np.int64)
    value = reading.u16()
    cipher[reading.live] = value
    reading.need(np.where(draft[reading.live], 0, 1))
    reading.skip(np.where(draft[reading.live], 0, 1))
    extensions = _read_extensions(reading)
    none = np.full(count, -1, np.int64)
    return Hellos(octets, reading.end, version, cipher, none, none, np.full(count, 2, np.int64), extensions)


def is_retry(octets: U8, start: I64, known: I64) -> Mask:
    """ServerHello bodies that are a HelloRetryRequest, by their random (RFC 8446 4.1.3): (N,) bool."""
    random = gather_block(octets, start + 2, RANDOM)
    retry: Mask = (start + 2 + RANDOM <= known) & (random == np.frombuffer(HELLO_RETRY, np.uint8)).all(axis=1)
    return retry


def _read_extensions(reading: _Reading) -> Extensions:
    """Walk the extension lists, all hellos together; a hello that ends before its list has none."""
    octets = reading.octets
    has_list = reading.at[reading.live] != reading.stop[reading.live]
    reading.live = reading.live[has_list]
    length = reading.u16()
    list_stop = reading.stop.copy()
    list_stop[reading.live] = np.minimum(reading.at[reading.live] + length, reading.stop[reading.live])
    reading.end[reading.live[reading.at[reading.live] + length > reading.stop[reading.live]]] = HelloEnd.MALFORMED
    reading.stop = list_stop
    live = reading.live
    at, stop, limit = reading.at[live], list_stop[live], np.minimum(list_stop, reading.known)[live]
    parts: list[tuple[I64, I64, I64, I64]] = []
    for _ in range(MAX_EXTENSIONS):
        live, at, stop, limit = _where(at < stop, live, at, stop, limit)
        known = at + 4 <= limit
        if not known.all():
            reading.leave(live[~known], at[~known] + 4)
            live, at, stop, limit = _where(known, live, at, stop, limit)
        if live.shape[0] == 0:
            break
        header = gather_items(octets, at, 4).view(">u4").astype(np.int64)
        kind, start = header >> 16, at + 4
        at = start + (header & 0xFFFF)
        known = at <= limit
        if not known.all():
            reading.leave(live[~known], at[~known])
            live, at, stop, limit, kind, start = _where(known, live, at, stop, limit, kind, start)
        parts.append((live, kind, start, at))
    reading.end[live[at < stop]] = HelloEnd.MALFORMED
    return _in_order(parts, list_stop.shape[0])


def _where(chosen: Mask, *columns: I64) -> tuple[I64, ...]:
    """The chosen rows of columns; the very same where all are."""
    if chosen.all():
        return columns
    rows = np.flatnonzero(chosen)
    return tuple(column.take(rows) for column in columns)


def _in_order(parts: list[tuple[I64, I64, I64, I64]], hellos: int) -> Extensions:
    """The extensions of all hellos, of which part k holds each one's k-th."""
    none = np.empty(0, np.int64)
    row, kind, start, stop = (np.concatenate([none, *(part[column] for part in parts)]) for column in range(4))
    number = np.repeat(np.arange(len(parts)), [part[0].shape[0] for part in parts])
    counts = np.bincount(row, minlength=hellos)
    order = np.empty(row.shape[0], np.int64)
    order[(np.cumsum(counts) - counts)[row] + number] = np.arange(row.shape[0])
    return Extensions(row, kind, start, stop).take(order)


def first_name(octets: U8, start: I64, stop: I64) -> tuple[I64, I64]:
    """The first host name of server_name contents (RFC 6066 3): start, stop (N,); -1 where there is none.

    `start` -1 marks a hello without the extension.
    """
    good = np.flatnonzero((start >= 0) & (start + 5 <= stop))
    at = start[good]
    length = u16(octets, at + 3)
    fits = (octets[at + 2] == 0) & (at + 2 + u16(octets, at) <= stop[good])
    fits &= (at + 5 + length <= stop[good]) & (length > 0)
    begin, end = np.full(start.shape[0], -1, np.int64), np.full(start.shape[0], -1, np.int64)
    begin[good[fits]] = at[fits] + 5
    end[good[fits]] = at[fits] + 5 + length[fits]
    return begin, end


def number_at(octets: U8, start: I64, stop: I64) -> I64:
    """The 16-bit number that extension contents begin with: (N,) int64; -1 where there is none."""
    value = np.full(start.shape[0], -1, np.int64)
    good = np.flatnonzero((start >= 0) & (start + 2 <= stop))
    value[good] = u16(octets, start[good])
    return value
