"""What the connections inside connections say: the same readers, on the streams a tunnel carries.

They become flows of their own, behind all others, without packets: those are counted where they were captured.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from analyzer.decode.transport import TCP
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.http1 import read_http1
from analyzer.protocols.http2 import read_http2
from analyzer.protocols.identify import Identification, openings
from analyzer.protocols.ssh import read_ssh
from analyzer.protocols.tls import read_tls, read_tls_with_keys
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.protocols.tunnelled import Tunnelled, as_heads
from analyzer.registries import InitiatorSource, Protocol
from analyzer.schema import I64, U8, CleartextReading, FlowTable, HttpMessage, SshFacts, StreamHeads, TlsReading


@dataclass(frozen=True, slots=True)
class InnerReading:
    """K connections found inside others; facts and messages name them by their place in ``connections``.

    ``connections`` without their octets, which have been read; ``protocol`` (K,) uint8 `Protocol`; ``frame`` (K,) int64
    the frame that shows it, 0 = none; ``payload`` (K, 2) int64 octets that were read of whoever dials, and of its peer.
    """

    connections: tuple[Tunnelled, ...] = ()
    protocol: U8 = field(default_factory=lambda: np.empty(0, np.uint8))
    frame: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    payload: I64 = field(default_factory=lambda: np.empty((0, 2), np.int64))
    tls: tuple[TlsReading, ...] = ()
    http: tuple[HttpMessage, ...] = ()
    ssh: tuple[SshFacts, ...] = ()

    def of(self, outers: Collection[int]) -> InnerReading:
        """Those inside the connections `outers`."""
        return self._take([k for k, one in enumerate(self.connections) if one.outer in outers])

    def renamed(self, rows: Mapping[int, int]) -> InnerReading:
        """The same with the carrying flows named by `rows`, in their order and by frame."""
        named = replace(self, connections=tuple(replace(one, outer=rows[one.outer]) for one in self.connections))
        order = sorted(
            range(len(named.connections)), key=lambda k: (named.connections[k].outer, named.connections[k].frame, k)
        )
        return named._take(order)

    @staticmethod
    def joined(parts: Sequence[InnerReading]) -> InnerReading:
        """All of several readings."""
        before = np.cumsum([0, *(len(part.connections) for part in parts)]).tolist()
        moved = [
            part._numbered({k: k + offset for k in range(len(part.connections))})
            for part, offset in zip(parts, before, strict=False)
        ]
        return InnerReading(
            tuple(one for part in parts for one in part.connections),
            np.concatenate([np.empty(0, np.uint8), *(part.protocol for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.frame for part in parts)]),
            np.concatenate([np.empty((0, 2), np.int64), *(part.payload for part in parts)]),
            tuple(tls for part in moved for tls in part.tls),
            tuple(message for part in moved for message in part.http),
            tuple(facts for part in moved for facts in part.ssh),
        )

    def _take(self, rows: list[int]) -> InnerReading:
        kept = self._numbered({old: new for new, old in enumerate(rows)})
        return replace(
            kept,
            connections=tuple(self.connections[row] for row in rows),
            protocol=self.protocol[rows],
            frame=self.frame[rows],
            payload=self.payload[rows],
        )

    def _numbered(self, place: Mapping[int, int]) -> InnerReading:
        """Facts and messages of the connections in `place`, by their new numbers."""
        tls = []
        for reading in self.tls:
            facts = reading.facts.take(np.array([int(f) in place for f in reading.facts.flow], bool))
            names = tuple((place[f], given) for f, given in reading.requested_names if f in place)
            flow = np.array([place[int(f)] for f in facts.flow], np.int64)
            tls.append(replace(reading, facts=replace(facts, flow=flow), requested_names=names))
        return replace(
            self,
            tls=tuple(tls),
            http=tuple(replace(m, flow=place[m.flow]) for m in self.http if m.flow in place),
            ssh=tuple(replace(s, flow=place[s.flow]) for s in self.ssh if s.flow in place),
        )


def read_inner(connections: Sequence[Tunnelled], keys: KeyLog | None) -> InnerReading:
    """Read the connections; with keys, also what TLS connections among them hold."""
    heads = as_heads(connections)
    rows = np.arange(len(connections))
    protocol, frame = _identified(heads)
    tls_rows = rows[protocol == Protocol.TLS]
    open_ends = np.zeros((tls_rows.shape[0], 2), np.uint8)
    http: list[HttpMessage] = []
    if keys is None:
        tls = read_tls(heads, tls_rows, open_ends)
    else:
        tls, opened = read_tls_with_keys(heads, tls_rows, open_ends, keys)
        inside, _ = _identified(opened.heads)
        names = tls_rows[opened.rows]
        for kind, reader in ((Protocol.HTTP1, read_http1), (Protocol.HTTP2, read_http2)):
            chosen = np.flatnonzero(inside == kind)
            http += reader(opened.heads, chosen, names[chosen])
        for message in http:
            message.decrypted = True
    clear: list[HttpMessage] = []
    for kind, reader in ((Protocol.HTTP1, read_http1), (Protocol.HTTP2, read_http2)):
        clear += reader(heads, rows[protocol == kind])
    for message in clear:
        message.decrypted = connections[message.flow].decrypted
    ssh = read_ssh(heads, rows[protocol == Protocol.SSH])
    payload = np.array(
        [[sum(len(piece.octets) for piece in pieces) for pieces in (one.sent, one.received)] for one in connections],
        np.int64,
    ).reshape(-1, 2)
    known = tuple(replace(one, sent=(), received=()) for one in connections)
    return InnerReading(known, protocol, frame, payload, (tls,), tuple(http + clear), tuple(ssh))


def _identified(heads: StreamHeads) -> tuple[U8, I64]:
    """Protocol of each connection, by how either direction opens, and the frame that shows it."""
    n = len(heads) // 2
    protocol = np.full(n, Protocol.UNKNOWN, np.uint8)
    frame = np.zeros(n, np.int64)
    first = heads.frames_at(np.arange(2 * n), np.zeros(2 * n, np.int64)).reshape(n, 2)
    for kind, streams in openings(heads).items():
        sides = streams.reshape(n, 2)
        fresh = sides.any(axis=1) & (protocol == Protocol.UNKNOWN)
        protocol[fresh] = kind
        frame[fresh] = first[np.arange(n), np.argmax(sides, axis=1)][fresh]
    protocol[np.diff(heads.offsets).reshape(n, 2).sum(axis=1) == 0] = Protocol.NO_DATA
    return protocol, frame


def add_inner(evidence: Evidence, inner: InnerReading) -> Evidence:
    """Return the evidence with the connections of `inner` behind all others; their TLS facts are the caller's to join.

    Parameters
    ----------
    evidence : Evidence
    inner : InnerReading
        Whose carrying flows are named by their rows (see `InnerReading.renamed`).
    """
    count, first = len(inner.connections), len(evidence)
    paths = list(evidence.paths)
    flows = FlowTable.concatenate([evidence.flows, _flow_rows(evidence, inner, paths)])
    shown = np.where(inner.frame > 0, inner.frame, flows.first_frame[first:])
    messages = sorted(
        (replace(m, flow=first + m.flow) for m in inner.http), key=lambda m: (m.flow, m.frame, not m.from_client)
    )
    ssh = sorted((replace(s, flow=first + s.flow) for s in inner.ssh), key=lambda s: s.flow)
    none = np.zeros(count, bool)
    return replace(
        evidence,
        flows=flows,
        paths=tuple(paths),
        identification=Identification.concatenate(
            [evidence.identification, Identification(inner.protocol, np.ones(count, bool), shown)]
        ),
        cleartext=CleartextReading((*evidence.cleartext.http, *messages), (*evidence.cleartext.ssh, *ssh)),
        leg_of=np.concatenate([evidence.leg_of, np.full(count, -1, np.int64)]),
        from_start=np.concatenate([evidence.from_start, np.ones((count, 2), bool)]),
        gap=np.concatenate([evidence.gap, none]),
        conflict=np.concatenate([evidence.conflict, none]),
        crowded=np.concatenate([evidence.crowded, none]),
        carriers=np.array([one.outer for one in inner.connections], np.int64),
    )


def _flow_rows(evidence: Evidence, inner: InnerReading, paths: list[str]) -> FlowTable:
    """Rows of the connections: no packets, their payload as far as it was read; new encapsulation paths are added."""
    connections, outer = inner.connections, evidence.flows
    rows = np.array([one.outer for one in connections], np.int64)
    dialler = np.array([0 if one.by_client else 1 for one in connections], np.int64)
    count = len(connections)
    columns: dict[str, Any] = {}
    for column in fields(FlowTable):
        like = getattr(outer, column.name)
        columns[column.name] = np.zeros((count, *like.shape[1:]), like.dtype)
    target = [_octets_of(one.host) for one in connections]
    columns["address"][:, 0] = outer.address[rows, dialler]
    columns["address"][:, 1] = np.frombuffer(b"".join(target), np.uint8).reshape(count, 16)
    # Whoever dials through its own connection to the proxy has its port there; an agent's server has none to show.
    columns["port"][:, 0] = np.where(dialler == 0, outer.port[rows, 0], 0)
    columns["port"][:, 1] = [one.port for one in connections]
    columns["protocol"][:] = TCP
    columns["initiator"][:] = InitiatorSource.CONTENT
    for name in ("vantage", "interfaces"):
        columns[name][:] = getattr(outer, name)[rows]
    columns["encapsulation"][:] = [
        _path(paths, evidence.paths[int(path)], one.kind)
        for path, one in zip(outer.encapsulation[rows], connections, strict=True)
    ]
    columns["first_frame"][:] = [one.frame for one in connections]
    columns["last_frame"][:] = [one.last_frame for one in connections]
    for name, frames in (("first_ns", columns["first_frame"]), ("last_ns", columns["last_frame"])):
        # Times are kept of every so many frames; between them the carrying connection bounds what is known.
        columns[name][:] = np.clip(evidence.frame_times.at(frames), outer.first_ns[rows], outer.last_ns[rows])
    columns["payload_octets"][:] = inner.payload
    columns["syn_seq"][:] = -1
    return FlowTable(**columns)


def _octets_of(host: str) -> bytes:
    """Address of a host as the tables hold it; unspecified (::) for a name, whose address nobody saw."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bytes(16)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def _path(paths: list[str], outer: str, kind: str) -> int:
    path = f"{outer}/{kind}" if outer else kind
    if path not in paths:
        paths.append(path)
    return paths.index(path)
