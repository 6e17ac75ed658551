"""A TPACKET_V3 ring as the kernel fills it (af_packet.c, linux/if_packet.h), written packet by packet."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyzer.schema import I64, U8

BLOCK_HEADER = 48
PACKET_HEADER = 48
VLAN_VALID = 1 << 4
VLAN_TPID_VALID = 1 << 6


@dataclass(frozen=True)
class Packet:
    octets: bytes
    time_ns: int = 1_700_000_000_123_456_789
    wire_len: int | None = None
    tag: tuple[int, int] | None = None  #: TPID and TCI that the card took off
    protocol: int = 0x0800
    interface: int = 3
    hardware: int = 1
    kind: int = 0
    address: bytes = b"\2\0\0\0\0\1"


def _aligned(length: int, to: int) -> int:
    return -(-length // to) * to


def _packet(packet: Packet, *, cooked: bool, last: bool) -> bytes:
    """One packet with its header, to the next one's place."""
    mac = _aligned(PACKET_HEADER + 20, 16) + 16 if cooked else _aligned(PACKET_HEADER + 20 + 16, 16) - 14
    size = _aligned(mac + len(packet.octets), 8)
    seconds, nanoseconds = divmod(packet.time_ns, 10**9)
    wire = len(packet.octets) if packet.wire_len is None else packet.wire_len
    tpid, tci = packet.tag or (0, 0)
    status = 1 | (VLAN_VALID | VLAN_TPID_VALID if packet.tag else 0)
    header = struct.pack(
        "=IIIIIIHHIIHH8x",
        0 if last else size, seconds, nanoseconds, len(packet.octets), wire, status, mac, mac, 0xDEADBEEF, tci, tpid, 0,
    )  # fmt: skip
    header += struct.pack("=H", 17) + struct.pack(">H", packet.protocol)
    header += struct.pack(
        "=iHBB8s", packet.interface, packet.hardware, packet.kind, len(packet.address), packet.address
    )
    return (header.ljust(mac, b"\xaa") + packet.octets).ljust(size, b"\xbb")


def ring(blocks: Sequence[Sequence[Packet]], *, cooked: bool = False, block_octets: int = 1 << 14) -> tuple[U8, I64]:
    """The octets of a ring, and where its blocks are; each block is handed over."""
    made = []
    for packets in blocks:
        body = b"".join(_packet(p, cooked=cooked, last=p is packets[-1]) for p in packets)
        first, last = (packets[0].time_ns, packets[-1].time_ns) if packets else (0, 0)
        header = struct.pack("=IIIIII", 3, 0, 1, len(packets), BLOCK_HEADER, BLOCK_HEADER + len(body))
        header += struct.pack("=QIIII", 7, *divmod(first, 10**9), *divmod(last, 10**9))
        assert len(header) + len(body) <= block_octets
        made.append((header + body).ljust(block_octets, b"\xcc"))
    octets = np.frombuffer(bytearray(b"".join(made)), np.uint8)
    return octets, np.arange(len(made), dtype=np.int64) * block_octets
