"""One packet recorded more than once: on each interface it crossed, as ``tcpdump -i any`` does.

A packet is seen again when, within `WINDOW_NS` and `WINDOW_PACKETS`, one with the same network and transport octets
comes from another interface. Compared are the first `COMPARED` octets from the IP header on, without what hosts and
network cards change on the way: TTL or hop limit, and the checksums (a card fills them in after the capture,
https://www.tcpdump.org/linktypes.html and `packet(7)` give the interface; editcap(1) ``-w`` has the same window idea).
So the IPv4 identification, sequence and acknowledgement numbers, options with their timestamps, and the lengths all
agree.

A retransmission is no second sighting: it comes from the interface the packet was already seen on, so the n-th packet
on one interface answers to the n-th on another. The shortest retransmission timers are longer than the window too
(RFC 6298 2.4: 1 s; Linux: 200 ms, tail loss probes 2 jiffies).

LINKTYPE_LINUX_SLL names no interface. Direction and address tell some apart; where they are equal too, an IPv4
identification other than 0 has to agree (a retransmission gets a new one; RFC 6864 4.1 lets senders leave it 0).

Captures of one interface are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.decode.gather import be16, gather_block
from analyzer.decode.link import ETHERTYPE_IPV4, ETHERTYPE_IPV6, read_link
from analyzer.decode.transport import TCP, UDP
from analyzer.registries import LinkType
from analyzer.schema import I32, I64, U8, CaptureChunk, Mask, Table

WINDOW_NS: Final = 2_000_000
"""Between two sightings of one packet: a packet crosses a host's interfaces in microseconds."""
WINDOW_PACKETS: Final = 512
"""Frames between two sightings; also what is kept from one chunk to the next."""
COMPARED: Final = 96
"""Octets compared: IPv6 and TCP with all options, IPv4 with ten words of options and the rest of TCP."""

_MULTIPLIERS: Final = np.array([0x9E3779B97F4A7C15 + 2 * 0x1F83D9AB * i for i in range(COMPARED // 8)], np.uint64)
_COOKED: Final = (int(LinkType.LINUX_SLL), int(LinkType.LINUX_SLL2))
_TAIL: Final = COMPARED + 96
"""Octets kept of a packet that may be repeated: what is compared, behind any usual link header."""
_TCP_CHECKSUM: Final = 16
_UDP_CHECKSUM: Final = 6


@dataclass(frozen=True, slots=True)
class _Sightings(Table):
    """IP packets as they were seen; ``compared`` (N, 96) uint8, ``place`` (N,) int64 tells interfaces apart."""

    order: I64
    time_ns: I64
    place: I64
    compared: U8


class SightingFinder:
    """Find packets seen before on another interface, chunk after chunk."""

    def __init__(self) -> None:
        self._recent: _Sightings | None = None
        self._interface = -1
        self._several = False
        self._tails: list[CaptureChunk] = []

    def find(self, chunk: CaptureChunk) -> I64:
        """Rows of the chunk that repeat an earlier packet, ascending: (K,) int64."""
        none = np.empty(0, np.int64)
        if len(chunk) == 0:
            return none
        first = int(chunk.interface[0])
        mixed = bool((chunk.interface != first).any())
        self._several |= mixed or self._interface not in (-1, first)
        self._interface = first
        if not self._several and int(chunk.link_type[0]) not in _COOKED:
            # Alone on its interface so far. The next chunk may come from another one.
            self._tails.append(_tail(chunk))
            while sum(len(tail) for tail in self._tails[1:]) >= WINDOW_PACKETS:
                del self._tails[0]
            return none
        before = 0
        if self._tails:
            seen_before = _Sightings.concatenate([_look_at(tail)[1] for tail in self._tails])
            self._recent, self._tails = seen_before.take(seen_before.order >= chunk.first_frame - WINDOW_PACKETS), []
        rows, seen = _look_at(chunk)
        if self._recent is not None:
            before = len(self._recent)
            seen = _Sightings.concatenate([self._recent, seen])
        repeated = np.flatnonzero(_repeats(seen))
        last = chunk.first_frame + len(chunk) - 1
        self._recent = seen.take(seen.order > last - WINDOW_PACKETS)
        return rows[repeated[repeated >= before] - before]


def _tail(chunk: CaptureChunk) -> CaptureChunk:
    """The last packets of a chunk that a later one may repeat, as far as is compared, in memory of their own."""
    part = slice(max(0, len(chunk) - WINDOW_PACKETS), len(chunk))
    octets = gather_block(chunk.octets, chunk.start[part], _TAIL)
    n = octets.shape[0]
    return CaptureChunk(
        octets=octets.reshape(-1),
        start=np.arange(n, dtype=np.int64) * _TAIL,
        captured_len=np.minimum(chunk.captured_len[part], _TAIL),
        wire_len=chunk.wire_len[part].copy(),
        time_ns=chunk.time_ns[part].copy(),
        interface=chunk.interface[part].copy(),
        link_type=chunk.link_type[part].copy(),
        first_frame=chunk.first_frame + part.start,
    )


def _look_at(chunk: CaptureChunk) -> tuple[I64, _Sightings]:
    """The IP packets of a chunk, with their rows."""
    stop = chunk.start + chunk.captured_len
    link = read_link(chunk.octets, chunk.start, stop, chunk.link_type)
    is_ip = ((link.ethertype == ETHERTYPE_IPV4) | (link.ethertype == ETHERTYPE_IPV6)) & (link.start < stop)
    rows = np.flatnonzero(is_ip)
    at = link.start[rows]
    compared = gather_block(chunk.octets, at, COMPARED)
    is_v6 = compared[:, 0] >> 4 == 6
    protocol = np.where(is_v6, compared[:, 6], compared[:, 9])
    transport = np.where(is_v6, 40, (compared[:, 0] & 15).astype(np.int64) * 4)
    checksum = transport + np.where(protocol == TCP, _TCP_CHECKSUM, _UDP_CHECKSUM)
    ported = np.flatnonzero((protocol == TCP) | (protocol == UDP))
    identification = np.where(is_v6, 0, be16(compared, 4))
    compared[ported, checksum[ported]] = compared[ported, checksum[ported] + 1] = 0
    for column, version in ((7, is_v6), (8, ~is_v6), (10, ~is_v6), (11, ~is_v6)):
        compared[version, column] = 0
    length = stop[rows] - at
    short = np.flatnonzero(length < COMPARED)
    compared[short] *= np.arange(COMPARED) < length[short, None]
    place = _place(chunk, rows, identification)
    return rows, _Sightings(rows + chunk.first_frame, chunk.time_ns[rows], place, compared)


def _place(chunk: CaptureChunk, rows: I64, identification: I32) -> I64:
    """A number for where each packet was seen: its interface, and what cooked headers say of it and of direction."""
    place = chunk.interface[rows].astype(np.int64)
    kind = chunk.link_type[rows]
    cooked = np.flatnonzero(np.isin(kind, _COOKED))
    if cooked.shape[0] == 0:
        return place
    block = gather_block(chunk.octets, chunk.start[rows[cooked]], 24).astype(np.uint64)
    weights = _MULTIPLIERS[np.arange(24) % _MULTIPLIERS.shape[0]] * np.arange(1, 48, 2, dtype=np.uint64)
    weighed = block * weights
    # LINKTYPE_LINUX_SLL: packet type, ARPHRD, address; _SLL2: interface index, ARPHRD, packet type, address.
    sll, sll2 = weighed[:, :14].sum(axis=1), weighed[:, 4:20].sum(axis=1)
    salt = place[cooked].astype(np.uint64) * np.uint64(0x2545F4914F6CDD1D)
    place[cooked] = (np.where(kind[cooked] == LinkType.LINUX_SLL2, sll2, sll) + salt).view(np.int64)
    # No interface in the header, and an identification no other packet has: each sighting counts as another place.
    alone = np.flatnonzero((kind == LinkType.LINUX_SLL) & (identification != 0))
    place[alone] = -1 - (rows[alone] + chunk.first_frame)
    return place


def _repeats(seen: _Sightings) -> Mask:
    """Packets that an earlier one, at another place, is the same as: (N,) bool."""
    words = seen.compared.view(np.uint64).reshape(len(seen), COMPARED // 8)
    mixed = (words ^ words >> np.uint64(31)) @ _MULTIPLIERS
    order = np.argsort(mixed, kind="stable")  # the rows are in the order of their frames
    ahead, behind = order[1:], order[:-1]
    near = (mixed[ahead] == mixed[behind]) & (np.abs(seen.time_ns[ahead] - seen.time_ns[behind]) <= WINDOW_NS)
    near &= seen.order[ahead] - seen.order[behind] <= WINDOW_PACKETS
    rows = np.flatnonzero(near)
    near[rows] = (words[ahead[rows]] == words[behind[rows]]).all(axis=1)
    again = np.zeros(len(seen), bool)
    if not near.any():
        return again
    run = np.cumsum(np.concatenate([[True], ~near]))  # of each packet in `order`
    # The n-th packet at its place, among those that are the same; then all but the first of each n.
    nth = _rank(run, seen.place[order])
    first = np.lexsort((seen.order[order], nth, run))
    later = (run[first][1:] == run[first][:-1]) & (nth[first][1:] == nth[first][:-1])
    again[order[first[1:][later]]] = True
    return again


def _rank(run: I64, place: I64) -> I64:
    """How many earlier rows have the same run and place, per row; rows of a run are in order."""
    order = np.lexsort((np.arange(run.shape[0]), place, run))
    new = np.concatenate([[True], (run[order][1:] != run[order][:-1]) | (place[order][1:] != place[order][:-1])])
    begins = np.flatnonzero(new)
    rank = np.empty_like(run)
    rank[order] = np.arange(run.shape[0]) - begins[np.cumsum(new) - 1]
    return rank
