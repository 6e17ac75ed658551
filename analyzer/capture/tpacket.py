"""What the Linux kernel writes into a TPACKET_V3 ring, as columns (linux/if_packet.h, packet_mmap.rst).

A ring is blocks; a block is a header and packets; a packet is a header, the socket address and the octets. Packets of
a block are a chain: each tells how far the next one is. They are not walked. A header is 8-aligned and carries its
time, so all places whose time is one of the block are looked up at once; then every link of the chain is checked: each
place leads to the next, and there are as many as the block says. What does not hold that (somebody sends octets that
look like a header) is walked one by one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.schema import I64, U8, U32, Mask, Table

STATUS_KERNEL: Final = 0
STATUS_USER: Final = 1
BLOCK_STATUS_AT: Final = 8
_BLOCK_PACKETS_AT: Final = 12
_BLOCK_FIRST_AT: Final = 16
_BLOCK_USED_AT: Final = 20
_BLOCK_FIRST_SECOND_AT: Final = 32
_BLOCK_LAST_SECOND_AT: Final = 40

_HEADER: Final = np.dtype(
    {
        "names": [
            "next", "sec", "nsec", "snaplen", "len", "status", "mac", "vlan_tci", "vlan_tpid",
            "protocol", "ifindex", "hatype", "pkttype", "halen", "address",
        ],
        "formats": [
            "=u4", "=u4", "=u4", "=u4", "=u4", "=u4", "=u2", "=u4", "=u2",
            ">u2", "=u4", "=u2", "u1", "u1", ("u1", (8,)),
        ],
        "offsets": [0, 4, 8, 12, 16, 20, 24, 32, 36, 50, 52, 56, 58, 59, 60],
        "itemsize": 68,
    }
)  # fmt: skip
"""``struct tpacket3_hdr``, and behind it ``struct sockaddr_ll``."""

_VLAN_VALID: Final = 1 << 4
_VLAN_TPID_VALID: Final = 1 << 6
_TAG_8021Q: Final = 0x8100
_TAG_LEN: Final = 4
_ADDRESSES_LEN: Final = 12
_BILLION: Final = 1_000_000_000

_WHOLE: Final = np.dtype((np.void, _HEADER.itemsize))


@dataclass(frozen=True, slots=True)
class Packets(Table):
    """Packets of a ring.

    Attributes
    ----------
    start : (N,) int64
        Offset of the first captured octet.
    captured_len, wire_len, time_ns : (N,) int64
    vlan : (N,) int64
        Tag that the kernel keeps beside the packet: TPID << 16 | TCI; -1 = none.
    header : (N,) structured
        Headers, for what only cooked packets need.
    """

    start: I64
    captured_len: I64
    wire_len: I64
    time_ns: I64
    vlan: I64
    header: np.ndarray[tuple[int], np.dtype[np.void]]


def block_counts(octets: U8, blocks: I64) -> tuple[I64, I64]:
    """Packets of each block, and octets in use: two (K,) int64. `blocks` are offsets of blocks, multiples of 8."""
    words = octets.view(np.uint32)
    return (
        words[(blocks + _BLOCK_PACKETS_AT) >> 2].astype(np.int64),
        words[(blocks + _BLOCK_USED_AT) >> 2].astype(np.int64),
    )


def find_packets(octets: U8, blocks: I64) -> I64:
    """Find the header of every packet of some blocks, block by block in order.

    Parameters
    ----------
    octets : (B,) uint8
        The ring; its start is aligned to 8 octets.
    blocks : (K,) int64
        Offsets of the blocks, which the kernel has handed over.

    Returns
    -------
    (N,) int64
    """
    words = octets.view(np.uint32)
    counts, used = block_counts(octets, blocks)
    first = blocks + words[(blocks + _BLOCK_FIRST_AT) >> 2]
    found = []
    for row, (begin, stop, count) in enumerate(
        zip(first.tolist(), (blocks + used).tolist(), counts.tolist(), strict=True)
    ):
        if not count:
            continue
        at = int(blocks[row])
        least, most = int(words[(at + _BLOCK_FIRST_SECOND_AT) >> 2]), int(words[(at + _BLOCK_LAST_SECOND_AT) >> 2])
        positions = _candidates(words, begin, stop, least, most)
        if not _is_chain(words, positions, begin, count):
            positions = _walked(octets, begin, stop, count)
        found.append(positions)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _candidates(words: U32, begin: int, stop: int, least: int, most: int) -> I64:
    """Places whose second is one of the block's."""
    seconds = words[(begin >> 2) + 1 : stop >> 2 : 2]
    hits: Mask = seconds == least if least == most else seconds - np.uint32(min(least, most)) <= abs(most - least)
    return begin + 8 * np.flatnonzero(hits)


def _is_chain(words: U32, positions: I64, begin: int, count: int) -> bool:
    """Whether these are the packets: each leads to the next, from the first to the last of the block."""
    if positions.shape[0] != count or int(positions[0]) != begin:
        return False
    leap = words[positions[:-1] >> 2]
    return bool((leap == positions[1:] - positions[:-1]).all())


def _walked(octets: U8, begin: int, stop: int, count: int) -> I64:
    """Walk a block packet by packet."""
    view, unpack = octets.data, struct.Struct("=I").unpack_from
    positions: list[int] = []
    at = begin
    while len(positions) < count and begin <= at < stop:
        positions.append(at)
        (leap,) = unpack(view, at)
        if not leap:
            break
        at += leap
    return np.array(positions, np.int64)


def read_packets(octets: U8, positions: I64) -> Packets:
    """Read the headers at `positions`: one gather, then columns."""
    windows = np.ndarray((octets.shape[0] - _HEADER.itemsize + 1,), _WHOLE, octets, strides=(1,))
    header = windows[positions].view(_HEADER)
    status = header["status"]
    tci, tpid = header["vlan_tci"].astype(np.int64), header["vlan_tpid"].astype(np.int64)
    vlan = np.full(positions.shape[0], -1, np.int64)
    rows = np.flatnonzero((tci != 0) | (status & _VLAN_VALID != 0))
    if rows.shape[0]:
        known = (tpid[rows] != 0) | (status[rows] & _VLAN_TPID_VALID != 0)
        vlan[rows] = np.where(known, tpid[rows], _TAG_8021Q) << 16 | tci[rows]
    return Packets(
        start=positions + header["mac"],
        captured_len=header["snaplen"].astype(np.int64),
        wire_len=header["len"].astype(np.int64),
        time_ns=header["sec"].astype(np.int64) * _BILLION + header["nsec"],
        vlan=vlan,
        header=header,
    )


def with_tags(octets: U8, packets: Packets) -> Packets:
    """Put VLAN tags back between the addresses and the EtherType of Ethernet frames, in place.

    As libpcap does (pcap-linux.c, pcap_handle_packet_mmap): the addresses move 4 octets to the front, over the header,
    which has been read.
    """
    rows = np.flatnonzero((packets.vlan >= 0) & (packets.captured_len >= _ADDRESSES_LEN))
    if not rows.shape[0]:
        return packets
    moved = np.empty((rows.shape[0], _ADDRESSES_LEN + _TAG_LEN), np.uint8)
    start = packets.start[rows]
    moved[:, :_ADDRESSES_LEN] = octets[start[:, np.newaxis] + np.arange(_ADDRESSES_LEN)]
    moved[:, _ADDRESSES_LEN:] = packets.vlan[rows].astype(">u4").view(np.uint8).reshape(-1, _TAG_LEN)
    _put(octets, start - _TAG_LEN, moved)
    longer = np.zeros(len(packets), np.int64)
    longer[rows] = _TAG_LEN
    return Packets(
        packets.start - longer,
        packets.captured_len + longer,
        packets.wire_len + longer,
        packets.time_ns,
        packets.vlan,
        packets.header,
    )


def with_cooked_header(octets: U8, packets: Packets, *, second_version: bool) -> Packets:
    """Put the header of LINKTYPE_LINUX_SLL or LINKTYPE_LINUX_SLL2 in front of each packet, in place.

    The kernel leaves 28 octets between what it tells of a packet of a SOCK_DGRAM socket and the packet
    (af_packet.c, tpacket_rcv). VLAN tags are left out of SLL2, as libpcap does; of SLL too, which only few interfaces
    use.
    """
    header = packets.header
    if second_version:
        made = np.zeros(len(packets), _SLL2)
        made["interface"] = header["ifindex"]
        made["pkttype"] = header["pkttype"]
    else:
        made = np.zeros(len(packets), _SLL)
        made["pkttype"] = header["pkttype"]
    for field in ("protocol", "hatype", "halen", "address"):
        made[field] = header[field]
    size = made.dtype.itemsize
    _put(octets, packets.start - size, made.view(np.uint8).reshape(-1, size))
    return Packets(
        packets.start - size,
        packets.captured_len + size,
        packets.wire_len + size,
        packets.time_ns,
        packets.vlan,
        packets.header,
    )


_SLL2: Final = np.dtype(
    [
        ("protocol", ">u2"), ("reserved", ">u2"), ("interface", ">u4"), ("hatype", ">u2"),
        ("pkttype", "u1"), ("halen", "u1"), ("address", "u1", (8,)),
    ]
)  # fmt: skip
_SLL: Final = np.dtype(
    [("pkttype", ">u2"), ("hatype", ">u2"), ("halen", ">u2"), ("address", "u1", (8,)), ("protocol", ">u2")]
)


def _put(octets: U8, start: I64, rows: U8) -> None:
    """Write each row at its place: (N,) int64 and (N, W) uint8."""
    item = np.dtype((np.void, rows.shape[1]))
    windows = np.ndarray((octets.shape[0] - rows.shape[1] + 1,), item, octets, strides=(1,))
    windows[start] = np.ascontiguousarray(rows).view(item)[:, 0]
