"""What the connections inside connections say: the same readers, on the streams a tunnel carries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analyzer.protocols.http1 import read_http1
from analyzer.protocols.http2 import read_http2
from analyzer.protocols.identify import openings
from analyzer.protocols.ssh import read_ssh
from analyzer.protocols.tls import read_tls, read_tls_with_keys
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.protocols.tunnelled import Tunnelled, as_heads
from analyzer.registries import Protocol
from analyzer.schema import I64, U8, HttpMessage, SshFacts, StreamHeads, TlsReading


@dataclass(frozen=True, slots=True)
class InnerReading:
    """K connections found inside others; facts and messages name them by their place in ``connections``.

    ``protocol`` (K,) uint8 `Protocol`; ``frame`` (K,) int64 the frame that shows it.
    """

    connections: tuple[Tunnelled, ...]
    protocol: U8
    frame: I64
    tls: TlsReading
    http: tuple[HttpMessage, ...]
    ssh: tuple[SshFacts, ...]

    def of(self, outers: Collection[int]) -> InnerReading:
        """Those inside the connections `outers`."""
        rows = np.array([row for row, one in enumerate(self.connections) if one.outer in outers], np.int64)
        place = {int(row): new for new, row in enumerate(rows.tolist())}
        facts = self.tls.facts.take(np.isin(self.tls.facts.flow, rows))
        numbers = np.array([place[int(flow)] for flow in facts.flow], np.int64)
        return InnerReading(
            tuple(self.connections[row] for row in rows.tolist()),
            self.protocol[rows],
            self.frame[rows],
            replace(
                self.tls,
                facts=replace(facts, flow=numbers),
                requested_names=tuple((place[f], given) for f, given in self.tls.requested_names if f in place),
            ),
            tuple(replace(m, flow=place[m.flow]) for m in self.http if m.flow in place),
            tuple(replace(s, flow=place[s.flow]) for s in self.ssh if s.flow in place),
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
    return InnerReading(tuple(connections), protocol, frame, tls, tuple(http + clear), tuple(ssh))


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
