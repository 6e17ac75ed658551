"""The opinion of dpkt: a scalar decoder, packet after packet, that shares no code with the program's own.

It is handed the frames as the program reads them from the file; what it makes of them is its own. It opens no
tunnels and joins no fragments.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import dpkt

from analyzer.capture.source import open_capture
from analyzer.opinions.common import Conversation, Handshake, Opinion, conversation
from analyzer.protocols.tls import suite_name
from analyzer.registries import TlsVersion
from analyzer.report.text import visible

_HEAD: Final = 16384
_HELD: Final = 4 * _HEAD
"""Octets of a direction kept, whatever their order: what comes later is no handshake."""
_EXTENSION_SNI: Final = 0  # RFC 6066 3
_EXTENSION_SUPPORTED_VERSIONS: Final = 43  # RFC 8446 4.2.1
_HANDSHAKE: Final = 22
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def _raw(octets: bytes) -> Any:  # noqa: ANN401 - dpkt has no types
    return (dpkt.ip6.IP6 if octets[:1] and octets[0] >> 4 == 6 else dpkt.ip.IP)(octets)


def _behind(header: int) -> Callable[[bytes], Any]:
    return lambda octets: _raw(octets[header:])


_LINKS: Final[dict[int, Callable[[bytes], Any]]] = {
    0: _behind(4),  # BSD loopback
    1: lambda octets: dpkt.ethernet.Ethernet(octets).data,
    12: _raw,
    14: _raw,
    101: _raw,
    108: _behind(4),
    113: lambda octets: dpkt.sll.SLL(octets).data,
    228: _raw,
    229: _raw,
    276: lambda octets: dpkt.sll2.SLL2(octets).data,
}
"""LINKTYPE_ values that dpkt has a reader for, or that need none."""


@dataclass
class _Stream:
    """First octets of one TCP connection, by direction; the side of the first SYN is the client."""

    client: tuple[bytes, int] | None = None
    start: dict[bool, int] = field(default_factory=dict)
    held: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    segments: dict[bool, list[tuple[int, bytes]]] = field(default_factory=lambda: {True: [], False: []})


def dpkt_opinion(capture: str) -> Opinion:
    """Ask dpkt about a capture."""
    opinion = Opinion(f"dpkt {dpkt.__version__}", deepest=0)
    streams: dict[Conversation, list[_Stream]] = {}
    with open_capture(capture) as reader:
        for chunk in reader:
            rows = zip(
                chunk.start.tolist(), chunk.captured_len.tolist(), chunk.wire_len.tolist(), chunk.link_type.tolist(),
                strict=True,
            )  # fmt: skip
            for start, captured, wire, link in rows:
                opinion.frames += 1
                _frame(chunk.octets[start : start + captured].tobytes(), wire, link, opinion, streams)
    for one, found in streams.items():
        shaken = [h for h in map(_handshake, found) if h is not None]
        if shaken:
            opinion.handshakes[one] = shaken
    return opinion


def _frame(octets: bytes, wire: int, link: int, opinion: Opinion, streams: dict[Conversation, list[_Stream]]) -> None:
    make = _LINKS.get(link)
    if make is None:
        opinion.cannot[f"no reader for link type {link}"] += 1
        return
    try:
        packet = make(octets)
    # Whatever a hostile or cut frame makes dpkt stumble over is its answer, not our failure.
    except Exception as error:
        opinion.cannot[f"dpkt: {type(error).__name__}"] += 1
        return
    if not isinstance(packet, (dpkt.ip.IP, dpkt.ip6.IP6)):
        return
    segment = packet.data
    if not isinstance(segment, (dpkt.tcp.TCP, dpkt.udp.UDP)):
        number = getattr(packet, "p", 0)
        if number in (6, 17):
            opinion.cannot["later fragments name no ports, headers that are cut none either"] += 1
        return
    transport = "tcp" if isinstance(segment, dpkt.tcp.TCP) else "udp"
    sender, receiver = (packet.src, segment.sport), (packet.dst, segment.dport)
    one = conversation(0, transport, (_text(sender[0]), sender[1]), (_text(receiver[0]), receiver[1]))
    opinion.count(one, wire)
    if transport == "tcp":
        _collect(segment, sender, streams.setdefault(one, []))


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))


def _collect(segment: Any, sender: tuple[bytes, int], found: list[_Stream]) -> None:  # noqa: ANN401
    opening = segment.flags & (dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK) == dpkt.tcp.TH_SYN
    after = (segment.seq + 1) & 0xFFFFFFFF
    if not found or (opening and found[-1].client is not None and found[-1].start.get(True) not in (None, after)):
        found.append(_Stream())
    stream = found[-1]
    if opening:
        stream.client = sender
    if stream.client is None:
        # Joined in the middle: whoever spoke first stands in for the client.
        stream.client = sender
    mine = sender == stream.client
    if segment.flags & dpkt.tcp.TH_SYN:
        stream.start[mine] = after
    if segment.data and stream.held[mine] < _HELD:
        stream.segments[mine].append((segment.seq, bytes(segment.data)))
        stream.held[mine] += len(segment.data)


def _head(stream: _Stream, mine: bool) -> bytes:
    """Octets of one direction up to the first hole."""
    segments = stream.segments[mine]
    if not segments:
        return b""
    origin = stream.start.get(mine, segments[0][0])
    placed = sorted(((((seq - origin + (1 << 31)) & 0xFFFFFFFF) - (1 << 31), data) for seq, data in segments))
    head = bytearray()
    for position, data in placed:
        if position > len(head) or len(head) >= _HEAD:
            break
        head += data[max(0, len(head) - position) :] if position >= 0 else b""
    return bytes(head[:_HEAD])


def _messages(head: bytes) -> list[tuple[int, bytes]]:
    """Handshake messages that a stream begins with, each as (type, body); dpkt reads the records."""
    handshake, at = b"", 0
    while at + 5 <= len(head) and head[at] == _HANDSHAKE:
        try:
            record = dpkt.ssl.TLSRecord(head[at:])
        except Exception:
            break
        handshake += bytes(record.data)
        at += 5 + record.length
    found, at = [], 0
    while at + 4 <= len(handshake):
        length = int.from_bytes(handshake[at + 1 : at + 4], "big")
        if at + 4 + length > len(handshake):
            break
        found.append((handshake[at], handshake[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def _handshake(stream: _Stream) -> Handshake | None:
    """Read both hellos of a connection, whichever side the client is."""
    for mine in (True, False):
        name = ""
        client = [body for kind, body in _messages(_head(stream, mine)) if kind == 1]
        server = [body for kind, body in _messages(_head(stream, not mine)) if kind == 2]
        try:
            if client:
                name = _sni(dpkt.ssl.TLSClientHello(client[0]))
            hellos = [h for h in map(dpkt.ssl.TLSServerHello, server) if bytes(h.random) != _RETRY]
        except Exception:
            continue
        if hellos:
            return _settled(hellos[0], name)
    return None


def _settled(hello: Any, name: str) -> Handshake:  # noqa: ANN401
    version = hello.version
    for kind, body in getattr(hello, "extensions", ()):
        if kind == _EXTENSION_SUPPORTED_VERSIONS and len(body) == 2:
            version = int.from_bytes(body, "big")
    suite = hello.ciphersuite.code if hasattr(hello.ciphersuite, "code") else int(hello.ciphersuite)
    return Handshake(TlsVersion(version).label, suite_name(suite), visible(name))


def _sni(hello: Any) -> str:  # noqa: ANN401
    for kind, body in getattr(hello, "extensions", ()):
        if kind == _EXTENSION_SNI and len(body) >= 5:
            length = int.from_bytes(body[3:5], "big")
            return bytes(body[5 : 5 + length]).decode("ascii", "backslashreplace")
    return ""
