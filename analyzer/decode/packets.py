"""The decoder: one `CaptureChunk` in, one `PacketTable` out.

All packets take each step together: link layer, tags, network, transport; then the packets found inside tunnels take
the same steps again, one nesting level at a time.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final, NamedTuple

import numpy as np

from analyzer.decode.ip import IpColumns, decode_ipv4, decode_ipv6
from analyzer.decode.link import ETHERTYPE_IPV4, ETHERTYPE_IPV6, read_link
from analyzer.decode.plain import decode_plain
from analyzer.decode.transport import UDP, decode_transport
from analyzer.decode.tunnel import NAMES, find_inner
from analyzer.registries import Decode
from analyzer.schema import I32, I64, U8, CaptureChunk, Mask, PacketTable

MAX_TUNNEL_DEPTH: Final = 4
"""Packets inside packets followed per frame. Real clusters nest two (an overlay over IPsec over a cloud's tunnel)."""
MAX_PATHS: Final = 4096
"""Distinct encapsulation paths told apart; past it, further ones share the path ``other``."""


class _Level(NamedTuple):
    """The packets of one nesting level, before decoding."""

    frame_row: I64  # row in the chunk
    start: I64
    stop: I64
    wire_stop: I64
    link_type: I32
    encapsulation: I32

    def take(self, rows: I64) -> _Level:
        """Return the packets of the given rows."""
        return _Level(
            self.frame_row[rows],
            self.start[rows],
            self.stop[rows],
            self.wire_stop[rows],
            self.link_type[rows],
            self.encapsulation[rows],
        )


class Decoder:
    """Decode chunks, with the list of encapsulation paths carried from one to the next.

    Attributes
    ----------
    paths : list of str
        Encapsulation paths by index: ``""`` for packets outside any tunnel, ``"vxlan:1"``, ``"ipip/geneve:7"``.
    """

    def __init__(self) -> None:
        self.paths: list[str] = [""]
        self._index: dict[str, int] = {"": 0}

    def _path(self, parent: int, kind: int, identifier: int) -> int:
        step = NAMES[kind] if identifier < 0 else f"{NAMES[kind]}:{identifier}"
        path = f"{self.paths[parent]}/{step}" if parent else step
        known = self._index.get(path)
        if known is None:
            if len(self.paths) >= MAX_PATHS:
                return self._index.setdefault("other", len(self.paths) - 1)
            known = self._index[path] = len(self.paths)
            self.paths.append(path)
        return known

    def _paths(self, parent: I32, kind: I32, identifier: I64) -> I32:
        """Path index of each inner packet, asked once per distinct (parent, kind, identifier)."""
        key = (parent.astype(np.int64) << 32) | (kind.astype(np.int64) << 28) | (identifier + 1)
        distinct, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        named = [self._path(int(parent[i]), int(kind[i]), int(identifier[i])) for i in first[: distinct.shape[0]]]
        path: I32 = np.array(named, np.int32)[inverse.reshape(-1)]
        return path

    def decode(self, chunk: CaptureChunk) -> PacketTable:
        """Decode every frame of `chunk`.

        Returns
        -------
        PacketTable
            Rows of depth 0 come first, one a frame in capture order; inner packets follow, each level in order.
        """
        rows = np.arange(len(chunk), dtype=np.int64)
        stop = chunk.start + chunk.captured_len
        level = _Level(
            rows, chunk.start, stop, chunk.start + chunk.wire_len, chunk.link_type, np.zeros(len(chunk), np.int32)
        )
        tables: list[PacketTable] = []
        for depth in range(MAX_TUNNEL_DEPTH + 1):
            table = _decode_level(chunk, level, depth) if depth else _decode_frames(chunk, level)
            if depth == MAX_TUNNEL_DEPTH:
                tables.append(table)
                break
            inner = find_inner(
                chunk.octets,
                np.where(table.status <= Decode.OTHER_TRANSPORT, table.protocol, np.uint8(255)),
                table.dst_port,
                table.payload_start,
                table.payload_stop,
            )
            tables.append(table)
            if inner.row.shape[0] == 0:
                break
            carrier = inner.row
            level = _Level(
                level.frame_row[carrier],
                inner.start,
                table.payload_stop[carrier],
                table.payload_start[carrier] + table.payload_len[carrier],
                inner.link_type,
                self._paths(table.encapsulation[carrier], inner.kind, inner.identifier),
            )
        return PacketTable.concatenate(tables)


def _network(octets: U8, level: _Level, ethertype: I32, start: I64) -> IpColumns:
    """Decode the network layer of every packet of a level, whichever IP version it has."""
    is_v4, is_v6 = ethertype == ETHERTYPE_IPV4, ethertype == ETHERTYPE_IPV6
    if not is_v6.any():
        columns = decode_ipv4(octets, start, level.stop, level.wire_stop)
        columns.status[~is_v4] = Decode.NOT_IP
        return columns
    n = start.shape[0]
    zero64 = np.zeros(n, np.int64)
    columns = IpColumns(
        np.full(n, Decode.NOT_IP, np.uint8),
        np.zeros(n, np.uint8),
        np.zeros((n, 16), np.uint8),
        np.zeros((n, 16), np.uint8),
        start.copy(),
        level.stop.copy(),
        level.wire_stop.copy(),
        zero64,
        np.zeros(n, bool),
        np.zeros(n, bool),
    )
    for mask, reader in ((is_v4, decode_ipv4), (is_v6, decode_ipv6)):
        rows = np.flatnonzero(mask)
        if rows.shape[0]:
            part = reader(octets, start[rows], level.stop[rows], level.wire_stop[rows])
            for name in IpColumns._fields:
                getattr(columns, name)[rows] = getattr(part, name)
    return columns


_OF_THE_FRAME: Final = ("frame", "time_ns", "interface", "depth", "wire_len")
"""Columns that are the same for a frame whatever it holds."""


def _decode_frames(chunk: CaptureChunk, level: _Level) -> PacketTable:
    """Decode the outermost packets: plain ones in one step, the others the general way."""
    plain = decode_plain(chunk)
    if plain is None:
        return _decode_level(chunk, level, 0)
    table, others = plain
    if others.shape[0]:
        part = _decode_level(chunk, level.take(others), 0)
        for field in fields(PacketTable):
            if field.name not in _OF_THE_FRAME:
                getattr(table, field.name)[others] = getattr(part, field.name)
    return table


def _decode_level(chunk: CaptureChunk, level: _Level, depth: int) -> PacketTable:
    octets = chunk.octets
    link = read_link(octets, level.start, level.stop, level.link_type)
    ip = _network(octets, level, link.ethertype, link.start)
    status = ip.status.copy()
    status[ip.later_fragment & (status == Decode.OK)] = Decode.LATER_FRAGMENT
    # A frame that is neither IPv4 nor IPv6 by its link header is NOT_IP, unless the header itself was cut.
    status[link.cut] = Decode.TRUNCATED_LINK
    status[link.unsupported] = Decode.UNSUPPORTED_LINK
    readable: Mask = status == Decode.OK
    transport = decode_transport(
        octets, np.where(readable, ip.protocol, np.uint8(255)), ip.start, ip.stop, np.maximum(ip.end, ip.start)
    )
    # The first of several fragments ends before the datagram does: its header may claim more than it carries.
    bad_first = ip.fragment & (transport.status == Decode.BAD_TRANSPORT)
    status = np.where(readable, transport.status, status).astype(np.uint8)
    status[readable & bad_first & (status == Decode.BAD_TRANSPORT)] = Decode.TRUNCATED_TRANSPORT
    addressed = status <= Decode.LATER_FRAGMENT
    payload_start = np.where(addressed, transport.payload_start, 0)
    payload_stop = np.where(addressed, np.maximum(ip.stop, transport.payload_start), 0)
    payload_end = np.where(addressed, np.maximum(ip.end, transport.payload_start), 0)
    if (ip.protocol == UDP).any():
        payload_end, payload_stop = _udp_length(octets, ip, status, payload_start, payload_stop, payload_end)
    zero = np.uint8(0)
    src, dst = ip.src, ip.dst
    unaddressed = np.flatnonzero(~addressed)
    src[unaddressed] = zero
    dst[unaddressed] = zero
    rows = level.frame_row
    return PacketTable(
        frame=rows + chunk.first_frame,
        time_ns=chunk.time_ns[rows],
        interface=chunk.interface[rows],
        depth=np.full(rows.shape[0], depth, np.uint8),
        encapsulation=level.encapsulation,
        status=status,
        wire_len=chunk.wire_len[rows] if depth == 0 else np.where(addressed, ip.length, 0),
        protocol=np.where(addressed, ip.protocol, zero),
        src=src,
        dst=dst,
        src_port=transport.src_port,
        dst_port=transport.dst_port,
        payload_start=payload_start,
        payload_stop=payload_stop,
        payload_len=payload_end - payload_start,
        seq=transport.seq,
        ack=transport.ack,
        tcp_flags=transport.flags,
    )


def _udp_length(
    octets: U8, ip: IpColumns, status: U8, payload_start: I64, payload_stop: I64, payload_end: I64
) -> tuple[I64, I64]:
    """Cut UDP payloads to the UDP Length field (RFC 768), where it is smaller than what IP delivers."""
    rows = np.flatnonzero((ip.protocol == UDP) & (status == Decode.OK) & ~ip.fragment)
    at = payload_start[rows] - 4
    block = np.stack([octets[at], octets[at + 1]], axis=1)
    claimed = block[:, 0].astype(np.int64) << 8 | block[:, 1]
    end = np.where(claimed >= 8, payload_start[rows] - 8 + claimed, payload_end[rows])
    payload_end = payload_end.copy()
    payload_end[rows] = np.minimum(end, payload_end[rows])
    payload_stop = payload_stop.copy()
    payload_stop[rows] = np.minimum(payload_stop[rows], payload_end[rows])
    return payload_end, payload_stop
