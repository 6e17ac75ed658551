"""From a capture to stream heads by dpkt and a plain loop: the road of these tests, apart from the program's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import dpkt

from analyzer.schema import StreamHeads
from tests.heads_builder import build_heads

CAPTURES = Path(__file__).parents[4] / "shared" / "captures"
LAB = CAPTURES / "k8s"
PUBLIC = CAPTURES / "public"
HEAD_LIMIT = 16384


@dataclass
class Connection:
    """One TCP connection, numbered as tshark's tcp.stream: (address, port) of the client, and segments a side."""

    client: tuple[bytes, int]
    origin: list[int | None] = field(default_factory=lambda: [None, None])
    segments: list[list[tuple[int, bytes, int]]] = field(default_factory=lambda: [[], []])


def connections(path: Path) -> list[Connection]:
    """TCP connections in order of appearance, a new SYN opening a new one; neither fragments nor tunnels are read."""
    found: list[Connection] = []
    live: dict[frozenset[tuple[bytes, int]], Connection] = {}
    with path.open("rb") as file:
        reader = dpkt.pcap.UniversalReader(file)
        link = dpkt.sll.SLL if reader.datalink() == dpkt.pcap.DLT_LINUX_SLL else dpkt.ethernet.Ethernet
        for frame, (_, octets) in enumerate(reader, 1):
            packet = link(octets).data
            segment = getattr(packet, "data", None)
            if not isinstance(segment, dpkt.tcp.TCP):
                continue
            sender, receiver = (packet.src, segment.sport), (packet.dst, segment.dport)
            opening = segment.flags & (dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK) == dpkt.tcp.TH_SYN
            client = sender if opening or segment.sport >= segment.dport else receiver
            origin = (segment.seq + 1) & 0xFFFFFFFF
            key = frozenset((sender, receiver))
            if key not in live or (opening and live[key].origin[0] not in (None, origin)):
                live[key] = Connection(client)
                found.append(live[key])
            connection = live[key]
            side = int(connection.client != sender)
            if segment.flags & dpkt.tcp.TH_SYN:
                connection.origin[side] = origin
            if segment.data:
                connection.segments[side].append((segment.seq, bytes(segment.data), frame))
    return found


def heads_of(found: list[Connection]) -> StreamHeads:
    """Heads of the connections; octets between what was captured are holes, of one octet where a cut hides more."""
    streams: dict[int, bytes] = {}
    rows: dict[int, list[tuple[int, int]]] = {}
    holes: dict[int, list[tuple[int, int]]] = {}
    middle: set[int] = set()
    for number, connection in enumerate(found):
        for side in (0, 1):
            stream, segments = 2 * number + side, connection.segments[side]
            origin = connection.origin[side]
            if origin is None:
                middle.add(stream)
                origin = segments[0][0] if segments else 0
            streams[stream], rows[stream], holes[stream] = _lay_out(origin, segments)
    return build_heads(streams, holes=holes, segments=rows, mid_connection=middle, flows=len(found))


def _lay_out(
    origin: int, segments: list[tuple[int, bytes, int]]
) -> tuple[bytes, list[tuple[int, int]], list[tuple[int, int]]]:
    """Octets, (position, frame) of the segments, and holes of one direction."""
    octets: dict[int, int] = {}
    frames: dict[int, int] = {}
    for seq, data, frame in segments:
        position = (seq - origin) & 0xFFFFFFFF
        if position < HEAD_LIMIT:
            if position not in octets:
                frames[position] = frame
            for at, octet in enumerate(data[: HEAD_LIMIT - position], position):
                octets.setdefault(at, octet)
    size = max(octets, default=-1) + 1
    missing = [at for at in range(size) if at not in octets]
    return bytes(octets.get(at, 0) for at in range(size)), sorted(frames.items()), [(at, at + 1) for at in missing]
