"""TCP conversations of a capture by dpkt: the tests' own road from a capture to stream heads."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dpkt
import numpy as np

from analyzer.schema import U8, StreamHeads
from tests.heads_builder import build_heads

HEAD_LIMIT = 16384
ROOT = Path(__file__).parents[4]
PUBLIC = ROOT / "../shared/captures/public"
_LAB = (ROOT / "captures", ROOT / "../shared/captures/k8s")


def lab(name: str) -> Path:
    """A file of the lab: the repository's own, else the larger set that may lie beside it."""
    return next((folder / name for folder in _LAB if (folder / name).exists()), _LAB[0] / name)


def lab_names(pattern: str) -> list[str]:
    """Names of all files of the lab that are here."""
    return sorted({path.name for folder in _LAB if folder.is_dir() for path in folder.glob(pattern)})


@dataclass
class Conversation:
    """One TCP connection: `key` is (client address, port, server address, port)."""

    key: tuple[bytes, int, bytes, int]
    isn: list[int | None] = field(default_factory=lambda: [None, None])
    segments: list[list[tuple[int, bytes, int, int]]] = field(default_factory=lambda: [[], []])
    flags: list[int] = field(default_factory=lambda: [0, 0])


def _frames(path: Path) -> Iterator[tuple[bytes, int]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        reader = dpkt.pcap.UniversalReader(io.BytesIO(raw))
        for _, octets in reader:
            yield octets, reader.datalink()
    except (dpkt.Error, ValueError, EOFError):  # cut files: what was read stands
        return


def _network(octets: bytes, link: int) -> tuple[int, bytes]:
    """EtherType and network-layer octets of a frame, through VLAN tags; (0, b"") for other link types."""
    if link == 101:
        return {4: 0x0800, 6: 0x86DD}.get(octets[0] >> 4 if octets else 0, 0), octets
    if link == 0 and len(octets) > 4:
        return {4: 0x0800, 6: 0x86DD}.get(octets[4] >> 4, 0), octets[4:]
    start = {1: 14, 113: 16, 276: 20}.get(link)
    if start is None or len(octets) < start:
        return 0, b""
    kind = int.from_bytes(octets[0:2] if link == 276 else octets[start - 2 : start])
    while kind in (0x8100, 0x88A8) and len(octets) >= start + 4:
        kind = int.from_bytes(octets[start + 2 : start + 4])
        start += 4
    return kind, octets[start:]


def _segment(kind: int, packet: bytes) -> tuple[bytes, bytes, bytes, int] | None:
    """(src, dst, captured TCP octets, TCP length by the IP header) of an unfragmented packet."""
    if kind == 0x0800 and len(packet) >= 20 and packet[9] == 6 and not int.from_bytes(packet[6:8]) & 0x3FFF:
        ihl, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4])
        total = total or len(packet)
        return packet[12:16], packet[16:20], packet[ihl:total], total - ihl
    if kind == 0x86DD and len(packet) >= 40 and packet[6] == 6:
        total = int.from_bytes(packet[4:6]) or len(packet) - 40
        return packet[8:24], packet[24:40], packet[40 : 40 + total], total
    return None


def conversations(path: Path) -> list[Conversation]:
    """Every TCP connection of a capture in order of appearance; a new SYN opens a new one."""
    live: dict[tuple[bytes, int, bytes, int], Conversation] = {}
    found: list[Conversation] = []
    for frame, (octets, link) in enumerate(_frames(path), 1):
        segment = _segment(*_network(octets, link))
        if segment is None or len(segment[2]) < 20:
            continue
        src, dst, tcp, tcp_len = segment
        sport, dport, seq = int.from_bytes(tcp[:2]), int.from_bytes(tcp[2:4]), int.from_bytes(tcp[4:8])
        header, flags = (tcp[12] >> 4) * 4, tcp[13]
        key, back = (src, sport, dst, dport), (dst, dport, src, sport)
        known = live.get(key)
        if flags & 0x12 == 0x02 and known is not None and known.isn[known.key != key] not in (None, seq):
            del live[known.key], live[(*known.key[2:], *known.key[:2])]
            known = None
        if known is None:
            client = key if flags & 0x12 == 0x02 or (flags & 0x12 != 0x12 and sport >= dport) else back
            known = Conversation(client)
            live[key] = live[back] = known
            found.append(known)
        side = int(known.key != key)
        known.flags[side] |= flags
        if flags & 0x02:
            known.isn[side] = seq
            seq = (seq + 1) & 0xFFFFFFFF
        length = tcp_len - header
        if length > 0:
            known.segments[side].append((seq, tcp[header:], length, frame))
    return found


def _head(
    isn: int | None, segments: Sequence[tuple[int, bytes, int, int]], limit: int
) -> tuple[bytes, list[tuple[int, int]], list[tuple[int, int]]]:
    """Octets, holes and segment starts of one direction; first copy wins."""
    if not segments:
        return b"", [], []
    base = (
        (isn + 1) & 0xFFFFFFFF
        if isn is not None
        else min((s for s, *_ in segments), key=lambda s: (s - segments[0][0] + 0x80000000) & 0xFFFFFFFF)
    )
    placed = [((seq - base) & 0xFFFFFFFF, octets, length, frame) for seq, octets, length, frame in segments]
    placed = [p for p in placed if p[0] < limit]
    size = max((min(limit, at + length) for at, _, length, _ in placed), default=0)
    head, seen, owner = bytearray(size), bytearray(size), [0] * size
    for at, octets, _, frame in placed:
        for i, octet in enumerate(octets[: size - at], at):
            if not seen[i]:
                head[i], seen[i], owner[i] = octet, 1, frame
    edges = np.flatnonzero(np.diff(np.concatenate([[1], np.frombuffer(bytes(seen), np.uint8), [1]])))
    holes = [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
    begins = [(i, owner[i]) for i in range(size) if seen[i] and (i == 0 or owner[i] != owner[i - 1])]
    return bytes(head), holes, begins


def heads_of(found: Sequence[Conversation], limit: int = HEAD_LIMIT) -> tuple[StreamHeads, U8]:
    """Heads of the conversations, one flow each, and the flags (n, 2) each side sent."""
    streams, holes, segments, mid = {}, {}, {}, set()
    for row, conversation in enumerate(found):
        for side in (0, 1):
            stream = 2 * row + side
            streams[stream], holes[stream], segments[stream] = _head(
                conversation.isn[side], conversation.segments[side], limit
            )
            if conversation.isn[side] is None:
                mid.add(stream)
    heads = build_heads(streams, holes=holes, segments=segments, mid_connection=mid, flows=len(found))
    return heads, np.array([c.flags for c in found], np.uint8).reshape(-1, 2)


def looks_like_tls(conversation: Conversation) -> bool:
    """Some segment of each direction, or of the only one, begins with a TLS record header."""
    return any(
        len(octets) >= 3 and 20 <= octets[0] <= 23 and octets[1] == 3 and octets[2] <= 4
        for side in conversation.segments
        for _, octets, _, _ in side
    )
