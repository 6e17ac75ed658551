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
from analyzer.decode.transport import TCP, UDP
from analyzer.registries import LinkType
from analyzer.schema import I64, U8, CaptureChunk, Mask, Table

WINDOW_NS: Final = 2_000_000
"""Between two sightings of one packet: a packet crosses a host's interfaces in microseconds."""
WINDOW_PACKETS: Final = 512
"""Frames between two sightings; also what is kept from one chunk to the next."""
COMPARED: Final = 96
"""Octets compared: IPv6 and TCP with all options, IPv4 with ten words of options and the rest of TCP."""

_MULTIPLIERS: Final = np.array([0x9E3779B97F4A7C15 + 2 * 0x1F83D9AB * i for i in range(COMPARED // 8)], np.uint64)
_TCP_CHECKSUM: Final = 16
_UDP_CHECKSUM: Final = 6


@dataclass(frozen=True, slots=True)
class _Sightings(Table):
    """IP packets as they were seen; ``compared`` (N, 96) uint8, ``place`` (N,) uint64 tells interfaces apart."""

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

    def find(
        self, chunk: CaptureChunk, octets: U8, header: I64, transport: I64, stop: I64, protocol: U8, is_ip: Mask
    ) -> I64:
        """Rows of the chunk that repeat an earlier packet, ascending.

        Parameters
        ----------
        chunk : CaptureChunk
        octets : (B,) uint8
        header, transport, stop : (N,) int64
            First octet of each IP header and of what it carries, and the captured end.
        protocol : (N,) uint8
        is_ip : (N,) bool
            The others repeat nothing.
        """
        cooked = np.isin(chunk.link_type, (LinkType.LINUX_SLL, LinkType.LINUX_SLL2))
        if len(chunk):
            first = int(chunk.interface[0])
            self._several |= bool((chunk.interface != first).any()) or self._interface not in (-1, first)
            self._interface = first
        looking = self._several or bool(cooked.any())
        # Alone on its interface so far, the end of the chunk is kept: the next one may come from another.
        begin = 0 if looking else max(0, len(chunk) - WINDOW_PACKETS)
        rows = begin + np.flatnonzero(is_ip[begin:])
        seen = self._look(chunk, octets, rows, header, transport, stop, protocol, cooked)
        again = np.empty(0, np.int64)
        if looking:
            before = 0
            if self._recent is not None:
                before = len(self._recent)
                seen = _Sightings.concatenate([self._recent, seen])
            repeated = np.flatnonzero(_repeats(seen))
            again = rows[repeated[repeated >= before] - before]
        last = chunk.first_frame + len(chunk) - 1
        self._recent = seen.take(seen.order > last - WINDOW_PACKETS)
        return again

    @staticmethod
    def _look(
        chunk: CaptureChunk,
        octets: U8,
        rows: I64,
        header: I64,
        transport: I64,
        stop: I64,
        protocol: U8,
        cooked: Mask,
    ) -> _Sightings:
        at = header[rows]
        compared = gather_block(octets, at, COMPARED)
        column = np.arange(COMPARED)
        hidden = column >= (stop[rows] - at)[:, None]
        is_v6 = compared[:, 0] >> 4 == 6
        hidden[is_v6, 7] = True
        for changed in (8, 10, 11):
            hidden[~is_v6, changed] = True
        checksum = transport[rows] - at + np.where(protocol[rows] == TCP, _TCP_CHECKSUM, _UDP_CHECKSUM)
        ported = np.flatnonzero(
            ((protocol[rows] == TCP) | (protocol[rows] == UDP)) & (checksum >= 0) & (checksum < COMPARED - 1)
        )
        hidden[ported, checksum[ported]] = hidden[ported, checksum[ported] + 1] = True
        identification = np.where(is_v6, 0, be16(compared, 4))
        compared[hidden] = 0
        place = chunk.interface[rows].astype(np.int64)
        if cooked.any():
            place = _cooked_place(chunk, octets, rows, place, identification)
        return _Sightings(rows + chunk.first_frame, chunk.time_ns[rows], place, compared)


def _cooked_place(chunk: CaptureChunk, octets: U8, rows: I64, place: I64, identification: I64) -> I64:
    """A number for where each packet was seen, by the cooked headers' interface, direction and address."""
    kind, start = chunk.link_type[rows], chunk.start[rows]
    block = gather_block(octets, start, 24).astype(np.uint64)
    weights = _MULTIPLIERS[np.arange(24) % _MULTIPLIERS.shape[0]] * np.arange(1, 48, 2, dtype=np.uint64)
    mixed = block * weights
    # LINKTYPE_LINUX_SLL: packet type, ARPHRD, address; _SLL2: interface index, ARPHRD, packet type, address.
    sll, sll2 = mixed[:, :14].sum(axis=1), mixed[:, 4:20].sum(axis=1)
    salt = place.astype(np.uint64) * np.uint64(0x2545F4914F6CDD1D)
    cooked = np.where(kind == LinkType.LINUX_SLL2, sll2, sll) + salt
    named = np.isin(kind, (LinkType.LINUX_SLL, LinkType.LINUX_SLL2))
    result = np.where(named, cooked.view(np.int64), place)
    # No interface in the header, and an identification no other packet has: each sighting counts as another place.
    alone = np.flatnonzero((kind == LinkType.LINUX_SLL) & (identification != 0))
    result[alone] = -1 - (rows[alone] + chunk.first_frame)
    return result


def _repeats(seen: _Sightings) -> Mask:
    """Packets that an earlier one, at another place, is the same as: (N,) bool."""
    words = seen.compared.view(np.uint64).reshape(len(seen), COMPARED // 8)
    mixed = (words ^ words >> np.uint64(31)) @ _MULTIPLIERS
    order = np.lexsort((seen.order, mixed))
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
