"""Connections inside connections: behind CONNECT, and in konnectivity's tunnels, as streams that every reader reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.protocols.http1 import read_switch
from analyzer.protocols.http2 import read_connection
from analyzer.protocols.konnectivity import AGENT_CONNECT, PROXY, connect_target, demultiplex, split_authority
from analyzer.protocols.stream import Piece, Stream, read_streams, text
from analyzer.registries import HeadStop
from analyzer.schema import I64, HttpMessage, StreamHeads

HEAD_LIMIT: Final = 16 * 1024
"""Octets read of each direction; as many as of any other connection."""
CONNECT, KONNECTIVITY = "connect", "konnectivity"
"""Steps of the encapsulation path."""


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """One connection inside another.

    Attributes
    ----------
    outer : int
        Flow that carries it, by the name given to the reader.
    kind : str
        `CONNECT` or `KONNECTIVITY`.
    host : str
        Whereto, as asked for: an address or a name. Untrusted.
    port : int
    by_client : bool
        The outer connection's client dials; False: its server does, through the client (a konnectivity agent).
    frame, last_frame : int
        Frame that asks for it, and the last one read of it.
    sent, received : tuple of Piece
        Octets from whoever dials, and to it.
    decrypted : bool
        The outer connection was opened with keys.
    """

    outer: int
    kind: str
    host: str
    port: int
    by_client: bool
    frame: int
    last_frame: int
    sent: tuple[Piece, ...]
    received: tuple[Piece, ...]
    decrypted: bool


def read_tunnelled(
    heads: StreamHeads, flows: I64, names: I64, messages: Sequence[HttpMessage], *, decrypted: bool
) -> tuple[list[Tunnelled], list[HttpMessage]]:
    """Find what the HTTP connections carry inside.

    Parameters
    ----------
    heads : StreamHeads
    flows, names : (K,) int64
        Flows by their place in `heads`, and their names.
    messages : sequence of HttpMessage
        What was read of these flows.
    decrypted : bool
        Whether `heads` were opened with keys.

    Returns
    -------
    list of Tunnelled
    list of HttpMessage
        What follows an upgrade to HTTP/2 (RFC 7540 3.2), which goes on as the same connection.
    """
    asking = {m.flow for m in messages if m.method == "CONNECT" or (m.from_client and "h2c" in m.upgrade.lower())}
    gathering = {m.flow for m in messages if m.version == "2" and m.from_client and m.target in (AGENT_CONNECT, PROXY)}
    chosen = np.array([name in asking or name in gathering for name in names.tolist()], bool)
    found: list[Tunnelled] = []
    upgraded: list[HttpMessage] = []
    for name, client, server in read_streams(heads, flows[chosen], names[chosen]) if chosen.any() else ():
        if name in gathering:
            found += _dialled(name, client, server, decrypted=decrypted)
        switch = read_switch(name, client, server) if name in asking else None
        if switch is None:
            continue
        inner_client, inner_server = client.behind(switch.client), server.behind(switch.server)
        target = connect_target(switch.request)
        if target is not None:
            sent, received = _bounded(inner_client.pieces()), _bounded(inner_server.pieces())
            found.append(_tunnelled(name, CONNECT, *target, True, switch.request.frame, sent, received, decrypted))
        elif switch.status == 101 and "h2c" in switch.request.upgrade.lower():
            upgraded += read_connection(name, inner_client, inner_server)
    return found, upgraded


def _dialled(name: int, client: Stream, server: Stream, *, decrypted: bool) -> list[Tunnelled]:
    return [
        _tunnelled(
            name,
            KONNECTIVITY,
            *(split_authority(dial.address.decode("latin-1")) or (text(dial.address), 0)),
            dial.by_client,
            dial.frame,
            _bounded(dial.sent),
            _bounded(dial.received),
            decrypted,
        )
        for dial in demultiplex(client, server)
    ]


def _tunnelled(
    outer: int,
    kind: str,
    host: str,
    port: int,
    by_client: bool,
    frame: int,
    sent: tuple[Piece, ...],
    received: tuple[Piece, ...],
    decrypted: bool,
) -> Tunnelled:
    last = max((piece.frame for piece in (*sent, *received)), default=frame)
    return Tunnelled(outer, kind, host, port, by_client, frame, max(frame, last), sent, received, decrypted)


def _bounded(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The first `HEAD_LIMIT` octets."""
    kept: list[Piece] = []
    room = HEAD_LIMIT
    for piece in pieces:
        kept.append(Piece(piece.frame, piece.octets[:room]))
        room -= len(kept[-1].octets)
        if room == 0:
            break
    return tuple(kept)


def as_heads(connections: Sequence[Tunnelled]) -> StreamHeads:
    """Stream heads of the connections: stream ``2 * k`` from whoever dials connection k, ``2 * k + 1`` to it."""
    streams = [pieces for connection in connections for pieces in (connection.sent, connection.received)]
    lengths = np.array([sum(len(piece.octets) for piece in pieces) for pieces in streams], np.int64)
    counts = np.array([len(pieces) for pieces in streams], np.int64)
    sizes = np.array([len(piece.octets) for pieces in streams for piece in pieces], np.int64)
    offsets, segments_offsets = np.zeros(len(streams) + 1, np.int64), np.zeros(len(streams) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    np.cumsum(counts, out=segments_offsets[1:])
    none = np.empty(0, np.int64)
    return StreamHeads(
        np.frombuffer(b"".join(piece.octets for pieces in streams for piece in pieces), np.uint8),
        offsets,
        np.ones(len(streams), bool),
        np.where(lengths >= HEAD_LIMIT, HeadStop.LIMIT, HeadStop.COMPLETE).astype(np.uint8),
        none,
        none,
        none,
        segments_offsets,
        (np.cumsum(sizes) - sizes) - np.repeat(offsets[:-1], counts),
        np.array([piece.frame for pieces in streams for piece in pieces], np.int64),
        np.zeros(len(streams), bool),
    )
