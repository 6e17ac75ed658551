"""Frames and chunks made from the names the RFCs use; the only place where tests lay out octets."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from analyzer.registries import LinkType
from analyzer.schema import CaptureChunk

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
CLIENT, SERVER = "10.0.0.10", "10.0.0.11"


def address(text: str) -> bytes:
    """An address as tables hold it: 16 octets, IPv4 mapped (RFC 4291 2.5.5.2)."""
    parsed = ipaddress.ip_address(text)
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


def ethernet(payload: bytes, ethertype: int = 0x0800) -> bytes:
    return bytes.fromhex("020000000001020000000002") + struct.pack(">H", ethertype) + payload


def vlan(payload: bytes, ethertype: int = 0x0800, tag: int = 100) -> bytes:
    """What follows an EtherType of 0x8100."""
    return struct.pack(">HH", tag, ethertype) + payload


def ipv4(
    payload: bytes,
    src: str = CLIENT,
    dst: str = SERVER,
    protocol: int = 6,
    *,
    options: bytes = b"",
    flags_offset: int = 0,
    identification: int = 1,
    total: int | None = None,
) -> bytes:
    header_len = 20 + len(options)
    length = header_len + len(payload) if total is None else total
    return (
        struct.pack(">BBHHHBBH", 0x40 | header_len // 4, 0, length, identification, flags_offset, 64, protocol, 0)
        + ipaddress.IPv4Address(src).packed
        + ipaddress.IPv4Address(dst).packed
        + options
        + payload
    )


def ipv6(
    payload: bytes, src: str = "fd00::1", dst: str = "fd00::2", next_header: int = 6, *, length: int | None = None
) -> bytes:
    return (
        struct.pack(">IHBB", 6 << 28, len(payload) if length is None else length, next_header, 64)
        + ipaddress.IPv6Address(src).packed
        + ipaddress.IPv6Address(dst).packed
        + payload
    )


def tcp(
    payload: bytes = b"",
    sport: int = 40000,
    dport: int = 6443,
    seq: int = 1000,
    ack: int = 0,
    flags: int = ACK,
    options: bytes = b"",
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    return (
        struct.pack(">HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset, flags, 65535, 0, 0)
        + options
        + payload
    )


def udp(payload: bytes = b"", sport: int = 40000, dport: int = 53, length: int | None = None) -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(payload) if length is None else length, 0) + payload


def vxlan(frame: bytes, vni: int = 1) -> bytes:
    return bytes([8, 0, 0, 0]) + vni.to_bytes(3, "big") + b"\0" + frame


def geneve(packet: bytes, vni: int = 7, protocol: int = 0x6558, options: bytes = b"") -> bytes:
    return (
        bytes([len(options) // 4, 0]) + struct.pack(">H", protocol) + vni.to_bytes(3, "big") + b"\0" + options + packet
    )


def chunk(
    frames: Sequence[bytes],
    link_type: int = LinkType.ETHERNET,
    *,
    first_frame: int = 1,
    wire_lens: Sequence[int] | None = None,
    times_ns: Sequence[int] | None = None,
    gap: bytes = b"",
) -> CaptureChunk:
    """Frames back to back, `gap` before each (as record headers are)."""
    octets = bytearray()
    start: list[int] = []
    for frame in frames:
        octets += gap
        start.append(len(octets))
        octets += frame
    n = len(frames)
    captured = np.array([len(f) for f in frames], np.int64)
    return CaptureChunk(
        np.frombuffer(bytes(octets), np.uint8),
        np.array(start, np.int64),
        captured,
        captured if wire_lens is None else np.array(wire_lens, np.int64),
        np.arange(n, dtype=np.int64) * 1_000_000 + 1_700_000_000_000_000_000
        if times_ns is None
        else np.array(times_ns, np.int64),
        np.zeros(n, np.int32),
        np.full(n, link_type, np.int32),
        first_frame,
    )


@dataclass
class Conversation:
    """A TCP connection that sends what it is told; `frames` holds what a capture of it would."""

    client: str = CLIENT
    server: str = SERVER
    sport: int = 40000
    dport: int = 6443
    isn: tuple[int, int] = (1000, 5000)
    mss: int = 1448
    frames: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seq = [self.isn[0], self.isn[1]]

    def _segment(self, side: int, flags: int, payload: bytes = b"") -> bytes:
        ends = ((self.client, self.sport), (self.server, self.dport))
        (src, sport), (dst, dport) = ends[side], ends[1 - side]
        segment = tcp(payload, sport, dport, self.seq[side], self.seq[1 - side] if flags & ACK else 0, flags)
        return ethernet(ipv6(segment, src, dst), 0x86DD) if ":" in src else ethernet(ipv4(segment, src, dst))

    def open(self) -> Conversation:
        """SYN, SYN+ACK, ACK."""
        self.frames.append(self._segment(0, SYN))
        self.seq[0] += 1
        self.frames.append(self._segment(1, SYN | ACK))
        self.seq[1] += 1
        self.frames.append(self._segment(0, ACK))
        return self

    def send(self, side: int, payload: bytes) -> Conversation:
        """Send `payload` from the client (0) or the server (1), in segments."""
        for at in range(0, len(payload), self.mss):
            part = payload[at : at + self.mss]
            self.frames.append(self._segment(side, ACK | PSH, part))
            self.seq[side] += len(part)
        return self

    def close(self, side: int = 0, flags: int = FIN | ACK) -> Conversation:
        """FIN (or RST) from one side."""
        self.frames.append(self._segment(side, flags))
        self.seq[side] += 1
        return self


def frames_of(conversations: Iterable[Conversation]) -> list[bytes]:
    """All frames of several conversations, one conversation after the other."""
    return [frame for conversation in conversations for frame in conversation.frames]


def chunks_cut_at(
    frames: Sequence[bytes], cuts: Sequence[int] = (), wire_lens: Sequence[int] | None = None
) -> Iterable[CaptureChunk]:
    """The frames as chunks that end before the frames numbered `cuts`, from 0; no chunk is empty."""
    for rows in np.split(np.arange(len(frames)), sorted(set(cuts))):
        if rows.shape[0]:
            first = int(rows[0])
            lens = None if wire_lens is None else list(wire_lens[first : first + rows.shape[0]])
            yield chunk([frames[i] for i in rows], first_frame=first + 1, wire_lens=lens)
