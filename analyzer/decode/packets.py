"""The decoder: one `CaptureChunk` in, one `PacketTable` out.

All packets take each step together: link layer, tags, network, transport; then the packets found inside tunnels take
the same steps again, one nesting level at a time. Datagrams put together from fragments are laid behind the chunk's
octets and read there.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.decode.fragments import Completed, Opening, Reassembler, find_fragments
from analyzer.decode.ip import IpColumns, decode_ipv4, decode_ipv6
from analyzer.decode.link import ETHERTYPE_IPV4, ETHERTYPE_IPV6, read_link
from analyzer.decode.plain import decode_plain
from analyzer.decode.sightings import SightingFinder
from analyzer.decode.transport import TCP, UDP, decode_transport
from analyzer.decode.tunnel import NAMES, TRANSPORT, InnerPackets, find_inner
from analyzer.registries import Decode, LinkType
from analyzer.schema import I32, I64, NO_LINK, U8, CaptureChunk, Mask, PacketTable

MAX_TUNNEL_DEPTH: Final = 6
"""Packets inside packets followed per frame. Real clusters nest two (an overlay over IPsec over a cloud's tunnel). At
most 6: the order of flows counts frames in eighths, and what is one level too deep is counted too."""
MAX_PATHS: Final = 4096
"""Distinct encapsulation paths at most, the last of them ``other``, which all further ones share."""

_SYN, _ACK = 2, 16
_NOTHING: Final = np.uint8(255)
"""A reserved protocol number (IANA): for packets there is nothing to look for in."""


class _Level(NamedTuple):
    """The packets of one nesting level, before decoding."""

    frame_row: I64  # row in the chunk
    start: I64
    stop: I64
    wire_stop: I64
    link_type: I32
    encapsulation: I32
    carried: tuple[I64, IpColumns] | None = None
    """Rows without a network header of their own (`tunnel.TRANSPORT`), and what their carrier says in its place."""


class Decoder:
    """Decode chunks, with encapsulation paths and unfinished fragments carried from one to the next.

    Attributes
    ----------
    paths : list of str
        Encapsulation paths by index: ``""`` for packets outside any tunnel, ``"vxlan:1"``, ``"ipip/geneve:7"``.
    octets : (B,) uint8
        What the payload offsets of the last table point into: the chunk's octets, with the datagrams that were
        completed in it behind them.
    fragments : Reassembler
    sightings : SightingFinder
    """

    def __init__(self) -> None:
        self.paths: list[str] = [""]
        self.octets: U8 = np.empty(0, np.uint8)
        self.fragments = Reassembler()
        self.sightings = SightingFinder()
        self._index: dict[str, int] = {"": 0}

    def afresh(self) -> Decoder:
        """A decoder that knows the same paths and remembers no packet."""
        other = Decoder()
        other.paths, other._index = self.paths, self._index
        other.fragments.counts = self.fragments.counts
        other.fragments.counts.given_up += self.fragments.incomplete
        return other

    def _path(self, parent: int, kind: int, identifier: int) -> int:
        step = NAMES[kind] if identifier < 0 else f"{NAMES[kind]}:{identifier}"
        path = f"{self.paths[parent]}/{step}" if parent else step
        known = self._index.get(path)
        if known is None:
            if len(self.paths) >= MAX_PATHS - 1:
                path = "other"
                if path in self._index:
                    return self._index[path]
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
        self.octets = chunk.octets
        again = self.sightings.find(chunk)
        plain = decode_plain(chunk)
        if plain is None and again.shape[0] == 0:
            return PacketTable.concatenate(self._decode_frames(chunk, np.arange(len(chunk))))
        rows = np.arange(len(chunk))
        table, others = plain or (_unread(chunk, rows, 0, np.zeros(len(chunk), np.int32), Decode.REPEATED), rows)
        if again.shape[0]:
            others = others[~np.isin(others, again)]
            for name in (*_PATCHED, "src", "dst"):
                getattr(table, name)[again] = 0
            table.status[again] = Decode.REPEATED
        if others.shape[0] == 0:
            return table
        outer, *inside = self._decode_frames(chunk, others)
        for field in fields(PacketTable):
            if field.name not in _OF_THE_FRAME:
                getattr(table, field.name)[others] = getattr(outer, field.name)
        return PacketTable.concatenate([table, *inside])

    def _decode_frames(self, chunk: CaptureChunk, rows: I64) -> list[PacketTable]:
        """Decode the frames `rows`: the outermost packets, then those inside, a table for each level."""
        start = chunk.start[rows]
        level = _Level(
            rows,
            start,
            start + chunk.captured_len[rows],
            start + chunk.wire_len[rows],
            chunk.link_type[rows],
            np.zeros(rows.shape[0], np.int32),
        )
        tables: list[PacketTable] = []
        for depth in range(MAX_TUNNEL_DEPTH + 1):
            table, ip, header = _decode_level(chunk, self.octets, level, depth)
            whole = (table.payload_start, table.payload_stop, table.payload_len)
            protocol = np.where(table.status <= Decode.OTHER_TRANSPORT, table.protocol, _NOTHING)
            if (parts := np.flatnonzero(ip.fragment & (ip.status == Decode.OK))).shape[0]:
                table, whole, protocol = self._join(chunk, level, table, ip, header, parts)
            tables.append(table)
            inner = find_inner(self.octets, protocol, table.src_port, table.dst_port, whole[0], whole[1])
            if inner.row.shape[0] == 0:
                break
            if depth == MAX_TUNNEL_DEPTH:
                rows, path = level.frame_row[inner.row], level.encapsulation[inner.row]
                tables.append(_unread(chunk, rows, depth + 1, path, Decode.TOO_DEEP))
                break
            level = self._inside(level, table, inner, whole)
        return tables

    def _inside(self, level: _Level, table: PacketTable, inner: InnerPackets, whole: tuple[I64, I64, I64]) -> _Level:
        """The packets found inside those of a level."""
        carrier = inner.row
        stop = whole[1][carrier]
        wire_stop = whole[0][carrier] + whole[2][carrier]
        carried = None
        rows = np.flatnonzero(inner.link_type == TRANSPORT)
        if rows.shape[0]:
            false = np.zeros(rows.shape[0], bool)
            start = inner.start[rows]
            carried = (
                rows,
                IpColumns(
                    status=np.full(rows.shape[0], Decode.OK, np.uint8),
                    protocol=inner.protocol[rows],
                    src=table.src[carrier[rows]],
                    dst=table.dst[carrier[rows]],
                    start=start,
                    stop=stop[rows],
                    end=wire_stop[rows],
                    length=wire_stop[rows] - start,
                    later_fragment=false,
                    fragment=false,
                ),
            )
        path = self._paths(table.encapsulation[carrier], inner.kind, inner.identifier)
        return _Level(level.frame_row[carrier], inner.start, stop, wire_stop, inner.link_type, path, carried)

    def _join(
        self, chunk: CaptureChunk, level: _Level, table: PacketTable, ip: IpColumns, header: I64, rows: I64
    ) -> tuple[PacketTable, tuple[I64, I64, I64], U8]:
        """Put the fragments of a level, which are its `rows`, together; see `fragments`.

        Returns
        -------
        PacketTable
            With ports for later fragments, and the rest of its datagram's payload for each that completes one.
        tuple of (N,) int64
            Start, captured stop and claimed octets of the payload that may hold a packet: whole datagrams.
        (N,) uint8
            Protocol to look for tunnels by; none for what is a part.
        """
        columns = {name: getattr(table, name).copy() for name in _PATCHED}
        protocol = np.where(table.status <= Decode.OTHER_TRANSPORT, table.protocol, _NOTHING)
        protocol[rows] = _NOTHING
        path = level.encapsulation[rows].astype(np.int64)
        fragments = find_fragments(self.octets, header[rows], ip.end[rows], ip.stop[rows], path)
        openings = _openings(table, rows, fragments.offset == 0)
        known, completed = self.fragments.add(self.octets, fragments, openings, table.time_ns[rows])
        _name(columns, rows, known)
        whole = (columns["payload_start"].copy(), columns["payload_stop"].copy(), columns["payload_len"].copy())
        if completed:
            at = rows[[datagram.row for datagram in completed]]
            self._read_whole(chunk, level, at, completed, columns, whole, protocol)
        return replace(table, **columns), whole, protocol

    def _read_whole(
        self,
        chunk: CaptureChunk,
        level: _Level,
        at: I64,
        completed: list[Completed],
        columns: dict[str, NDArray[Any]],
        whole: tuple[I64, I64, I64],
        protocol: U8,
    ) -> None:
        """Read completed datagrams from behind the chunk's octets into the rows `at` that completed them."""
        lengths = np.array([len(datagram.packet) for datagram in completed], np.int64)
        missing = np.array([datagram.missing for datagram in completed], np.int64)
        start = self.octets.shape[0] + np.cumsum(lengths) - lengths
        added = np.frombuffer(b"".join(datagram.packet for datagram in completed), np.uint8)
        self.octets = np.concatenate([self.octets, added])
        stop = start + lengths
        raw = np.full(at.shape[0], LinkType.RAW, np.int32)
        part = _Level(level.frame_row[at], start, stop, stop + missing, raw, level.encapsulation[at])
        table, _, _ = _decode_level(chunk, self.octets, part, 1)
        for name, column in zip(("payload_start", "payload_stop", "payload_len"), whole, strict=True):
            column[at] = getattr(table, name)
        protocol[at] = np.where(table.status <= Decode.OTHER_TRANSPORT, table.protocol, _NOTHING)
        for name in _PATCHED:
            columns[name][at] = getattr(table, name)
        # The first fragment has been counted with its own payload: here follows the rest. That of a UDP datagram would
        # pass for another one: it is known by its beginning.
        openings = [datagram.opening for datagram in completed]
        i = np.flatnonzero(np.array([said is not None for said in openings]) & (table.status == Decode.OK))
        payload = np.array([0 if said is None else said.payload for said in openings], np.int64)[i]
        seq = np.array([0 if said is None else said.seq for said in openings], np.int64)[i]
        tcp = table.protocol[i] == TCP
        brought = np.where(tcp, np.minimum(payload, table.payload_len[i]), table.payload_len[i])
        captured = np.maximum(table.payload_stop[i], table.payload_start[i])
        columns["payload_start"][at[i]] = np.minimum(table.payload_start[i] + brought, captured)
        columns["payload_len"][at[i]] = table.payload_len[i] - brought
        columns["seq"][at[i[tcp]]] = seq[tcp]
        columns["tcp_flags"][at[i[tcp]]] &= np.uint8(~_SYN & 0xFF)


_OF_THE_FRAME: Final = ("frame", "time_ns", "interface", "depth", "wire_len")
"""Columns that are the same for a frame whatever it holds."""

_PATCHED: Final = (
    "status",
    "protocol",
    "src_port",
    "dst_port",
    "payload_start",
    "payload_stop",
    "payload_len",
    "seq",
    "ack",
    "tcp_flags",
)
"""Columns that joining fragments may change."""


_OPENING: Final = ("status", "protocol", "src_port", "dst_port", "seq", "ack", "payload_len", "tcp_flags")


def _openings(table: PacketTable, rows: I64, first: Mask) -> list[Opening | None]:
    """What each first fragment among `rows` says for the later ones; None for those, and where it cannot be read."""
    columns = [getattr(table, name)[rows].tolist() for name in _OPENING]
    said: list[Opening | None] = []
    for opens, status, protocol, src_port, dst_port, seq, ack, payload, flags in zip(
        first.tolist(), *columns, strict=True
    ):
        readable = opens and status <= Decode.OTHER_TRANSPORT
        behind = (seq + payload + bool(flags & _SYN)) & 0xFFFFFFFF
        said.append(Opening(status, protocol, src_port, dst_port, behind, ack, payload) if readable else None)
    return said


def _name(columns: dict[str, NDArray[Any]], rows: I64, known: list[Opening | None]) -> None:
    """Give later fragments the ports of their datagrams; the payload is counted where a datagram is complete."""
    named = np.flatnonzero([said is not None for said in known])
    named = named[columns["status"][rows[named]] == Decode.LATER_FRAGMENT]
    if named.shape[0] == 0:
        return
    at = rows[named]
    status, protocol, src_port, dst_port, seq, ack, _ = np.array([known[i] for i in named.tolist()], np.int64).T
    columns["status"][at], columns["protocol"][at] = status, protocol
    columns["src_port"][at], columns["dst_port"][at] = src_port, dst_port
    columns["payload_stop"][at] = columns["payload_start"][at]
    columns["payload_len"][at] = 0
    tcp = protocol == TCP
    columns["seq"][at[tcp]], columns["ack"][at[tcp]], columns["tcp_flags"][at[tcp]] = seq[tcp], ack[tcp], _ACK


def _unread(chunk: CaptureChunk, rows: I64, depth: int, path: I32, status: Decode) -> PacketTable:
    """Rows for packets of the frames `rows` of which nothing but the status is said."""
    n = rows.shape[0]
    zeros = {f.name: np.zeros(n, getattr(np, _DTYPES[f.name])) for f in fields(PacketTable) if f.name in _DTYPES}
    return PacketTable(
        frame=rows + chunk.first_frame,
        time_ns=chunk.time_ns[rows],
        interface=chunk.interface[rows],
        depth=np.full(n, depth, np.uint8),
        encapsulation=path,
        status=np.full(n, status, np.uint8),
        wire_len=chunk.wire_len[rows] if depth == 0 else np.zeros(n, np.int64),
        src=np.zeros((n, 16), np.uint8),
        dst=np.zeros((n, 16), np.uint8),
        **zeros,
    )


_DTYPES: Final = {
    "protocol": "uint8",
    "src_port": "uint16",
    "dst_port": "uint16",
    "payload_start": "int64",
    "payload_stop": "int64",
    "payload_len": "int64",
    "seq": "uint32",
    "ack": "uint32",
    "tcp_flags": "uint8",
}


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


def _decode_level(chunk: CaptureChunk, octets: U8, level: _Level, depth: int) -> tuple[PacketTable, IpColumns, I64]:
    """The packets of one level, with their network columns and where their network headers begin."""
    link = read_link(octets, level.start, level.stop, level.link_type)
    ip = _network(octets, level, link.ethertype, link.start)
    if level.carried is not None:
        at, columns = level.carried
        for name in IpColumns._fields:
            getattr(ip, name)[at] = getattr(columns, name)
        link.unsupported[at] = link.cut[at] = False
    status = ip.status.copy()
    status[ip.later_fragment & (status == Decode.OK)] = Decode.LATER_FRAGMENT
    # A frame that is neither IPv4 nor IPv6 by its link header is NOT_IP, unless the header itself was cut.
    status[link.cut] = Decode.TRUNCATED_LINK
    if link.unsupported.any():
        status[link.unsupported] = Decode.UNSUPPORTED_LINK
        status[level.link_type == NO_LINK] = Decode.NOT_A_PACKET
    status[link.deep] = Decode.TOO_DEEP
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
    table = PacketTable(
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
    return table, ip, link.start


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
