"""Konnectivity (apiserver-network-proxy), in clear or after decryption: who asks whom, and the connections inside.

Paths and messages: konnectivity-client/proto/client/client.proto and proto/agent/agent.proto; HTTP mode: CONNECT
(RFC 9110 9.3.6). One gRPC stream carries packets of many connections: a DIAL_REQ names the address, the DIAL_RSP to it
the connection's number, and DATA packets of that number its octets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from analyzer.protocols.grpc import read_messages
from analyzer.protocols.http2 import read_data, read_paths
from analyzer.protocols.stream import Piece, Stream, text
from analyzer.schema import HttpMessage

AGENT_CONNECT: Final = "/AgentService/Connect"
"""An agent's connection to the proxy server (agent.proto)."""
PROXY: Final = "/ProxyService/Proxy"
"""The API server's request to the proxy server (client.proto)."""


class Tunnel(NamedTuple):
    """A CONNECT request: whereto, and what it was answered."""

    flow: int
    frame: int
    host: str
    port: int
    status: int  #: of the answer; 0 = none was seen


def is_agent_connect(message: HttpMessage) -> bool:
    """Whether the request opens an agent's connection."""
    return message.from_client and message.version == "2" and message.target == AGENT_CONNECT


def is_proxy_request(message: HttpMessage) -> bool:
    """Whether the request asks a proxy server for a connection by gRPC."""
    return message.from_client and message.version == "2" and message.target == PROXY


def split_authority(authority: str) -> tuple[str, int] | None:
    """Split ``host:port`` (RFC 9110 7.1); brackets of an IPv6 address are taken off. None where it is neither."""
    host, colon, port = authority.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not colon or not host or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        return None
    return host, int(port)


def connect_target(message: HttpMessage) -> tuple[str, int] | None:
    """Host and port a CONNECT request names; None for any other message (RFC 9112 3.2.3, RFC 9113 8.5)."""
    if not message.from_client or message.method != "CONNECT":
        return None
    return split_authority(message.target or message.host)


def tunnels(messages: Sequence[HttpMessage]) -> list[Tunnel]:
    """Tunnels that the HTTP/1 messages ask for, in their order.

    Parameters
    ----------
    messages : sequence of HttpMessage
        As `read_http1` orders them.
    """
    final: dict[int, list[HttpMessage]] = {}
    for message in messages:
        if not message.from_client and message.status >= 200:
            final.setdefault(message.flow, []).append(message)
    found: list[Tunnel] = []
    for message in messages:
        target = connect_target(message)
        if target is None:
            continue
        answers = final.get(message.flow, [])
        status = next((answer.status for answer in answers if answer.frame >= message.frame), 0)
        found.append(Tunnel(message.flow, message.frame, *target, status))
    return found


def agent_flows(messages: Iterable[HttpMessage]) -> frozenset[int]:
    """Flows on which an agent connects to a proxy server."""
    return frozenset(message.flow for message in messages if is_agent_connect(message))


def proxy_flows(messages: Iterable[HttpMessage]) -> frozenset[int]:
    """Flows on which an API server asks a proxy server for connections, by gRPC or by CONNECT."""
    return frozenset(m.flow for m in messages if is_proxy_request(m) or connect_target(m) is not None)


# ------------------------------------------------------------------------------------- connections inside

MAX_DIALS: Final = 256
"""Connections read of one tunnel."""
_DIAL_REQ, _DIAL_RSP, _DATA = 0, 1, 4  # client.proto PacketType
_DIAL_REQUEST, _DIAL_RESPONSE, _DATA_FIELD = 2, 3, 4  # client.proto Packet


@dataclass(slots=True)
class Dial:
    """One connection through a tunnel.

    Attributes
    ----------
    frame : int
        Frame of the DIAL_REQ.
    address : bytes
        ``host:port`` as asked for.
    by_client : bool
        The tunnel's client dials (an API server); False: its server does (it tells the agent to).
    answered : bool
    error : str
        Why the far end could not connect.
    sent, received : list of Piece
        Octets from whoever dials, and to it.
    """

    frame: int
    address: bytes
    by_client: bool
    answered: bool = False
    error: str = ""
    sent: list[Piece] = field(default_factory=list)
    received: list[Piece] = field(default_factory=list)


class _Packet(NamedTuple):
    frame: int
    from_client: bool
    kind: int
    fields: dict[int, int | bytes]


def demultiplex(client: Stream, server: Stream) -> list[Dial]:
    """Find the connections that a konnectivity tunnel in HTTP/2 carries, in order of their requests.

    Parameters
    ----------
    client, server : Stream
        Both directions of the tunnel, from their first octets.
    """
    tunnels = {
        number for number, path in read_paths(client).items() if path in (AGENT_CONNECT.encode(), PROXY.encode())
    }
    dials: list[Dial] = []
    for number in sorted(tunnels):
        pieces = (read_data(client, from_client=True).get(number), read_data(server, from_client=False).get(number))
        packets = [
            packet
            for from_client, carried in zip((True, False), pieces, strict=True)
            for packet in _packets(carried or [], from_client=from_client)
        ]
        dials += _joined(packets)[: MAX_DIALS - len(dials)]
    return sorted(dials, key=lambda dial: dial.frame)


def _packets(carried: Sequence[Piece], *, from_client: bool) -> Iterator[_Packet]:
    for frame, message in read_messages(carried):
        packet = _protobuf(message)
        kind = packet.get(1, _DIAL_REQ)  # proto3 leaves out what is zero
        payload = {_DIAL_REQ: _DIAL_REQUEST, _DIAL_RSP: _DIAL_RESPONSE, _DATA: _DATA_FIELD}.get(int(kind or 0))
        inner = packet.get(payload) if payload and isinstance(kind, int) else None
        if isinstance(inner, bytes):
            yield _Packet(frame, from_client, int(kind or 0), _protobuf(inner))


def _joined(packets: Sequence[_Packet]) -> list[Dial]:
    """Join requests, answers and data; a direction's packets are in order, and the answer names its request."""
    requested: dict[tuple[bool, int | bytes], Dial] = {}
    connected: dict[tuple[bool, int | bytes], Dial] = {}
    for packet in packets:
        address = packet.fields.get(2, b"")
        if packet.kind == _DIAL_REQ and isinstance(address, bytes):
            key = (packet.from_client, packet.fields.get(3, 0))
            requested.setdefault(key, Dial(packet.frame, address, packet.from_client))
    for packet in packets:
        if packet.kind == _DIAL_RSP:
            dial = requested.get((not packet.from_client, packet.fields.get(3, 0)))
            if dial is None or dial.answered:
                continue
            error = packet.fields.get(1, b"")
            dial.answered, dial.error = True, text(error) if isinstance(error, bytes) else ""
            if not dial.error:
                connected.setdefault((dial.by_client, packet.fields.get(2, 0)), dial)
    for packet in packets:
        content = packet.fields.get(3, b"")
        if packet.kind == _DATA and isinstance(content, bytes) and content:
            number = packet.fields.get(1, 0)
            sent, received = (
                connected.get((packet.from_client, number)),
                connected.get((not packet.from_client, number)),
            )
            if sent is not None:
                sent.sent.append(Piece(packet.frame, content))
            elif received is not None:
                received.received.append(Piece(packet.frame, content))
    return list(requested.values())


def _protobuf(octets: bytes) -> dict[int, int | bytes]:
    """Fields of a message by number, of repeated ones the last; up to the end or to nonsense.

    protobuf.dev/programming-guides/encoding. The content of the last field may be cut.
    """
    fields: dict[int, int | bytes] = {}
    at = 0
    while at < len(octets):
        key, at = _varint(octets, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            fields[number], at = _varint(octets, at)
        elif wire == 2:
            length, at = _varint(octets, at)
            if at < 0 or length > MAX_PACKET:
                break
            fields[number] = octets[at : at + length]
            at += length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            break
        if at < 0:
            fields.pop(number, None)
            break
    return fields


MAX_PACKET: Final = 4 << 20
"""Octets of one field; grpc-go's default limit of a whole message."""


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    """Value, and the position behind it: -1 where it is cut or longer than ten octets."""
    value = 0
    for place, octet in enumerate(octets[at : at + 10] if at >= 0 else b""):
        value |= (octet & 0x7F) << (7 * place)
        if octet < 0x80:
            return value, at + place + 1
    return 0, -1
