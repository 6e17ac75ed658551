"""IPv4 and IPv6 fragments put together (RFC 791 3.2, RFC 8200 4.5), within stated limits.

Every fragment stays a packet of its own. What a datagram's first fragment says about ports holds for the fragments
captured after it, and the one that completes the datagram carries it whole: it is handed back as an IP packet without
fragmentation, and the decoder reads it as it reads any other.

Fragments are rare (Kubernetes overlays set the MTU so that there are none), and each depends on those before it, so
they are taken one at a time; nothing here costs a packet that is no fragment.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from analyzer.decode.gather import be16, gather_block
from analyzer.schema import I64, U8, Mask

TIMEOUT_NS: Final = 30_000_000_000
"""A fragment this much later belongs to another datagram (Linux net.ipv4.ipfrag_time; RFC 8200 4.5 allows 60 s)."""
MAX_DATAGRAMS: Final = 4096
"""Incomplete datagrams held; past it the oldest is given up."""
MAX_OCTETS: Final = 16 << 20
"""Octets of fragments held; past it the oldest datagram is given up. Linux holds 4 MiB (ipfrag_high_thresh)."""
MAX_LENGTH: Final = 65_535
"""Octets behind the IP header at most (RFC 791 3.1, RFC 8200 4.5); a fragment that reaches past it is not taken."""
MAX_PARTS: Final = 8192
"""Fragments of one datagram at most: 65,535 octets in the smallest pieces, of 8."""

_OVERHEAD: Final = 128
"""Octets a fragment counts for besides its own: what keeping it costs, however short it was cut."""
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_IPV6_HEADER: Final = 40
_WALK: Final = 16


class Fragments(NamedTuple):
    """The fragments among the packets of one nesting level, in frame order; (K,) columns.

    ``identity`` (K, 48) uint8: addresses, identification, protocol, version, encapsulation path; ``offset``,
    ``length`` int64 the place in the datagram and the octets there by the header; ``more`` bool; ``start``,
    ``captured`` int64 where these octets are, and how many of them; ``header`` int64 first octet of the IP header;
    ``protocol`` uint8 of the datagram, for IPv6 of what follows the fragment header; ``is_v6`` bool.
    """

    identity: U8
    offset: I64
    length: I64
    more: Mask
    start: I64
    captured: I64
    header: I64
    protocol: U8
    is_v6: Mask


class Opening(NamedTuple):
    """What a first fragment said: row of the `Joined` caller's choosing, and how much payload it brought itself."""

    status: int
    protocol: int
    src_port: int
    dst_port: int
    seq: int  #: of the octet behind its payload
    ack: int
    payload: int  #: octets


@dataclass
class _Datagram:
    """One datagram under way; ``parts`` are disjoint and ascending: offset, stop, octets (fewer where cut short)."""

    since_ns: int
    parts: list[tuple[int, int, bytes]] = field(default_factory=list)
    header: bytes = b""
    opening: Opening | None = None
    total: int = -1
    held: int = 0
    covered: int = 0


@dataclass
class FragmentCounts:
    """What became of datagrams that came in fragments."""

    joined: int = 0  #: complete
    given_up: int = 0  #: incomplete after `TIMEOUT_NS`, or past a limit
    conflicts: int = 0  #: two fragments had different octets for one place; the first copy was kept
    refused: int = 0  #: fragments past `MAX_LENGTH` or `MAX_PARTS`


class Completed(NamedTuple):
    """A datagram that fragment ``row`` completed.

    ``packet`` is it as an IP packet without fragmentation, as far as captured without a gap; ``missing`` octets that
    were sent behind that; ``opening`` what an earlier fragment has already been counted with, None where there is
    none.
    """

    row: int
    packet: bytes
    missing: int
    opening: Opening | None


def find_fragments(octets: U8, header: I64, end: I64, stop: I64, path: I64) -> Fragments:
    """Read the fragmentation fields of packets known to be fragments.

    Parameters
    ----------
    octets : (B,) uint8
    header, end, stop : (K,) int64
        First octet of each IP header, the end it claims, and its captured end.
    path : (K,) int64
        Encapsulation path: datagrams of two tunnels are not mixed.
    """
    block = gather_block(octets, header, _IPV6_HEADER)
    is_v6 = block[:, 0] >> 4 == 6
    flags_offset = be16(block, 6).astype(np.int64)
    offset, more = (flags_offset & 0x1FFF) * 8, (flags_offset & 0x2000) != 0
    identification = be16(block, 4).astype(np.int64)
    protocol = block[:, 9].copy()
    start = header + (block[:, 0] & 15).astype(np.int64) * 4
    rows = np.flatnonzero(is_v6)
    if rows.shape[0]:
        at, following = _fragment_header(octets, header[rows])
        field6 = gather_block(octets, at, 8)
        place = be16(field6, 2).astype(np.int64)
        offset[rows], more[rows] = place & 0xFFF8, (place & 1) != 0
        identification[rows] = be16(field6, 4).astype(np.int64) << 16 | be16(field6, 6)
        protocol[rows] = following
        start[rows] = at + 8
    identity = np.zeros((header.shape[0], 48), np.uint8)
    identity[:, :32] = np.where(is_v6[:, None], block[:, 8:40], 0)
    identity[~is_v6, :8] = block[~is_v6, 12:20]
    # RFC 791 2.3: source, destination, protocol and identification; RFC 8200 4.5 leaves the protocol out.
    identity[:, 32:40] = (identification << 8 | np.where(is_v6, 0, protocol))[:, None].view(np.uint8)
    identity[:, 40:] = (path << 1 | is_v6)[:, None].view(np.uint8)
    length, captured = np.maximum(end - start, 0), np.maximum(stop - start, 0)
    return Fragments(identity, offset, length, more, start, captured, header, protocol, is_v6)


def _fragment_header(octets: U8, header: I64) -> tuple[I64, U8]:
    """Offset of each IPv6 packet's fragment header, which is there, and the next header it names."""
    at = header + _IPV6_HEADER
    kind = gather_block(octets, header, 8)[:, 6].copy()
    for _ in range(_WALK):
        rows = np.flatnonzero(kind != _FRAGMENT)
        if rows.shape[0] == 0:
            break
        block = gather_block(octets, at[rows], 2)
        units = block[:, 1].astype(np.int64)
        at[rows] += np.where(kind[rows] == _AUTHENTICATION, (units + 2) * 4, (units + 1) * 8)
        kind[rows] = block[:, 0]
    return at, gather_block(octets, at, 1)[:, 0]


class Reassembler:
    """Fragments in, datagrams out; what is incomplete is kept from one chunk to the next.

    Attributes
    ----------
    counts : FragmentCounts
    """

    def __init__(self) -> None:
        self.counts = FragmentCounts()
        self._pending: dict[bytes, _Datagram] = {}
        self._held = 0

    @property
    def incomplete(self) -> int:
        """Datagrams under way."""
        return len(self._pending)

    def add(
        self, octets: U8, fragments: Fragments, openings: list[Opening | None], time_ns: I64
    ) -> tuple[list[Opening | None], list[Completed]]:
        """Take the fragments of one level.

        Parameters
        ----------
        octets : (B,) uint8
        fragments : Fragments
        openings : list, one a fragment
            For first fragments whose transport header was read, what it says.
        time_ns : (K,) int64

        Returns
        -------
        list, one a fragment
            For each later fragment what its datagram's first fragment said, where that was captured before it.
        list of Completed
        """
        known: list[Opening | None] = []
        completed: list[Completed] = []
        columns = (
            fragments.offset,
            fragments.length,
            fragments.more,
            fragments.start,
            fragments.captured,
            fragments.header,
            fragments.protocol,
            fragments.is_v6,
            time_ns,
        )
        identities, width = fragments.identity.tobytes(), fragments.identity.shape[1]
        held = np.ascontiguousarray(octets).data
        rows = zip(openings, *(column.tolist() for column in columns), strict=True)
        for row, (said, offset, length, more, start, captured, header, protocol, is_v6, when) in enumerate(rows):
            key = identities[row * width : (row + 1) * width]
            datagram = self._find(key, when)
            earlier = datagram.opening
            known.append(earlier)
            if length <= 0 or offset + length > MAX_LENGTH or len(datagram.parts) >= MAX_PARTS:
                self.counts.refused += 1
                continue
            content = bytes(held[start : start + min(captured, length)])
            before = datagram.held
            self._cover(datagram, offset, offset + length, content)
            self._held += datagram.held - before
            if not more and datagram.total < 0:
                datagram.total = offset + length
            if offset == 0 and not datagram.header:
                datagram.header = _plain_header(bytes(held[header : header + _IPV6_HEADER]), protocol, is_v6)
                datagram.opening = said
            if 0 <= datagram.total == datagram.covered and datagram.header:
                completed.append(_complete(row, datagram, earlier))
                self._drop(key)
                self.counts.joined += 1
            while self._held > MAX_OCTETS:
                self._give_up(next(iter(self._pending)))
        return known, completed

    def _find(self, key: bytes, when: int) -> _Datagram:
        datagram = self._pending.get(key)
        if datagram is not None and abs(when - datagram.since_ns) > TIMEOUT_NS:
            self._give_up(key)
            datagram = None
        if datagram is None:
            if len(self._pending) >= MAX_DATAGRAMS:
                self._give_up(next(iter(self._pending)))
            datagram = self._pending[key] = _Datagram(when)
        return datagram

    def _drop(self, key: bytes) -> None:
        self._held -= self._pending.pop(key).held

    def _give_up(self, key: bytes) -> None:
        self._drop(key)
        self.counts.given_up += 1

    def _cover(self, datagram: _Datagram, start: int, stop: int, content: bytes) -> None:
        """Add what of ``[start, stop)`` is not there yet; where it is there and differs, the first copy stays."""
        parts = datagram.parts
        if not parts or start >= parts[-1][1]:  # in order, as nearly all are
            parts.append((start, stop, content))
            datagram.held += len(content) + _OVERHEAD
            datagram.covered += stop - start
            return
        at = bisect_right(parts, start, key=lambda part: part[0])
        at -= at > 0 and parts[at - 1][1] > start  # the first part that overlaps, if any does
        begin = start
        fresh: list[tuple[int, int, bytes]] = []
        last = at
        while last < len(parts) and parts[last][0] < stop:
            have_start, have_stop, have = parts[last]
            low, high = max(start, have_start), min(stop, have_stop)
            mine, theirs = content[low - start : high - start], have[low - have_start : high - have_start]
            shared = min(len(mine), len(theirs))
            self.counts.conflicts += mine[:shared] != theirs[:shared]
            if begin < have_start:
                fresh.append((begin, have_start, content[begin - start : have_start - start]))
            fresh.append(parts[last])
            begin = have_stop
            last += 1
        if begin < stop:
            fresh.append((begin, stop, content[begin - start :]))
        added = fresh if last == at else [part for part in fresh if part not in parts[at:last]]
        parts[at:last] = fresh
        for part in added:
            datagram.held += len(part[2]) + _OVERHEAD
            datagram.covered += part[1] - part[0]


def _plain_header(header: bytes, protocol: int, is_v6: bool) -> bytes:
    """The header of the whole datagram: no options, no extension headers, no fragmentation; its length comes later."""
    if is_v6:
        return header[:6] + bytes([protocol]) + header[7:40]
    return b"\x45" + header[1:6] + b"\0\0" + header[8:20]


def _complete(row: int, datagram: _Datagram, earlier: Opening | None) -> Completed:
    content = bytearray()
    for start, stop, piece in datagram.parts:
        if start != len(content):
            break  # the snap length cut the part before
        content += piece[: stop - start]
    content = content[: datagram.total]
    header = bytearray(datagram.header)
    if header[0] >> 4 == 6:
        struct.pack_into(">H", header, 4, datagram.total)
    else:
        # Up to 20 octets more than the field holds: 0 has the decoder go by the octets that are there.
        whole = len(header) + datagram.total
        struct.pack_into(">H", header, 2, whole if whole <= MAX_LENGTH else 0)
    return Completed(row, bytes(header + content), datagram.total - len(content), earlier)
