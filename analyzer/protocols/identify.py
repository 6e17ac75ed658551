"""What each flow carries, by its content: the head of each direction first, then how its later segments begin.

A port never decides. A flow of which nothing fits is `Protocol.UNKNOWN`, and stays so in every report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from typing import Protocol as TypingProtocol

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.decode.transport import TCP, UDP
from analyzer.decode.tunnel import GRE, IPV4_IN_IP, IPV6_IN_IP
from analyzer.flows import (
    AH,
    ESP,
    HTTP2_PREFACE,
    HTTP_REQUEST,
    HTTP_STATUS,
    SSH_BANNER,
    TLS_DATA,
    TLS_HANDSHAKE,
)
from analyzer.registries import Protocol
from analyzer.schema import I64, U8, U64, FlowTable, Mask, StreamHeads, Table

HTTP2_PREFACE_OCTETS: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 3.4."""

_BLOCK: Final = 24
_MAX_LINE: Final = 8192
"""Octets looked at for the end of a request line; as `http1` does."""
_USUAL_LINE: Final = 256
_METHODS: Final = (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS", b"CONNECT", b"TRACE")
_BEGINS_METHOD: Final = np.isin(np.arange(256), [method[0] for method in _METHODS])
_OCTETS_OF_32: Final = np.array([1 << 24, 1 << 16, 1 << 8, 1])

# RFC 9113 6: frame types 0 (DATA) to 9 (CONTINUATION); 10 to 16 are registered extensions.
_HTTP2_MAX_TYPE: Final = 16
_HTTP2_FRAMES: Final = 3

# WireGuard message types 1 to 4 (whitepaper 5.4): type octet, three zero octets, fixed sizes for the first three.
_WIREGUARD_SIZES: Final = {1: 148, 2: 92, 3: 64}
_WIREGUARD_DATA_MIN: Final = 32


class Settle(TypingProtocol):
    """Give `value` to the flows of `rows` that have no protocol yet, with the frame that shows it."""

    def __call__(self, rows: Mask, value: Protocol, evidence: I64, opening: bool) -> None:
        """`opening`: an opening was read, not a later segment."""


@dataclass(frozen=True, slots=True)
class Identification(Table):
    """What each flow carries.

    ``protocol`` (F,) uint8 `Protocol`; ``from_start`` (F,) bool: an opening was read, not a later segment;
    ``frame`` (F,) int64 the frame that shows it, 0 = none.
    """

    protocol: U8
    from_start: Mask
    frame: I64


def identify(flows: FlowTable, heads: StreamHeads, encapsulated: dict[int, Protocol]) -> Identification:
    """Recognise the protocol of every flow.

    Parameters
    ----------
    flows : FlowTable
        F flows.
    heads : StreamHeads
        Their heads, 2 * F streams; empty heads where nothing was kept.
    encapsulated : dict of int to Protocol
        Flows that carried packets the decoder found a tunnel header in, and which tunnel.
    """
    n = len(flows)
    protocol = np.full(n, Protocol.UNKNOWN, np.uint8)
    frame = np.zeros(n, np.int64)
    from_start = np.zeros(n, bool)
    silent = (flows.payload_octets.sum(axis=1) == 0) & np.isin(flows.protocol, (TCP, UDP))

    def settle(rows: Mask, value: Protocol, evidence: I64, opening: bool) -> None:
        fresh = rows & (protocol == Protocol.UNKNOWN)
        protocol[fresh] = value
        frame[fresh] = evidence[fresh]
        from_start[fresh] = opening

    tcp = flows.protocol == TCP
    opening = openings(heads)
    streams = np.arange(2 * n)
    first_frame = heads.frames_at(streams, np.zeros(2 * n, np.int64)).reshape(n, 2)
    for value, mask in opening.items():
        either = tcp & mask.reshape(n, 2).any(axis=1)
        side = np.argmax(mask.reshape(n, 2), axis=1)
        settle(either, value, first_frame[np.arange(n), side], True)
    _identify_later(flows, heads, tcp, settle, protocol)
    _identify_datagrams(flows, heads, settle)
    for number, value in (
        (ESP, Protocol.ESP),
        (AH, Protocol.AH),
        (GRE, Protocol.GRE),
        (IPV4_IN_IP, Protocol.IPIP),
        (IPV6_IN_IP, Protocol.IPIP),
    ):
        settle(flows.protocol == number, value, flows.first_frame, True)
    for row, value in encapsulated.items():
        protocol[row], frame[row], from_start[row] = value, flows.first_frame[row], True
    protocol[silent] = Protocol.NO_DATA
    return Identification(protocol, from_start, frame)


def _starts_with(words: U64, known: I64, text: bytes) -> Mask:
    """Where streams begin with `text`; `words` (M, 3) are their first octets as little-endian numbers."""
    matches = known >= len(text)
    for number in range(0, len(text), 8):
        part = text[number : number + 8]
        column = words[:, number // 8]
        if len(part) < 8:
            column = column & np.uint64((1 << 8 * len(part)) - 1)
        matches &= column == np.uint64(int.from_bytes(part, "little"))
    return matches


def openings(heads: StreamHeads) -> dict[Protocol, Mask]:
    """Which streams open as which protocol: (M,) bool each, in the order of trust."""
    block = gather_block(heads.octets, heads.offsets[:-1], _BLOCK)
    words: U64 = block.view("<u8").astype(np.uint64, copy=False)
    known = heads.known_until()
    kind, version, minor, fifth = block[:, 0], block[:, 1] == 3, block[:, 2] <= 4, block[:, 4]
    handshake = (kind == 22) & version & minor & ((block[:, 5] == 1) | (block[:, 5] == 2)) & (known >= 6)
    alert = (kind == 21) & version & minor & (block[:, 3] == 0) & (fifth == 2) & (known >= 7)
    # RFC 5246 appendix E.2: a ClientHello in SSL 2.0 framing that offers version 3 and up.
    ssl2 = (kind >= 0x80) & (block[:, 2] == 1) & (block[:, 3] == 3) & (fifth <= 4) & (known >= 5)
    return {
        Protocol.SSH: _starts_with(words, known, b"SSH-2.0-") | _starts_with(words, known, b"SSH-1.99-"),
        Protocol.HTTP2: _starts_with(words, known, HTTP2_PREFACE_OCTETS),
        Protocol.TLS: (handshake | alert | ssl2) & heads.from_start,
        Protocol.HTTP1: _starts_with(words, known, b"HTTP/1.") | _request_line(heads, block, words, known),
    }


def _request_line(heads: StreamHeads, block: U8, words: U64, known: I64) -> Mask:
    """A method token, one space, and a target that begins as RFC 9112 3.2 allows."""
    matches = np.zeros(len(heads), bool)
    rows = np.flatnonzero(_BEGINS_METHOD[block[:, 0]])
    block, words, known = block[rows], words[rows], known[rows]
    found = np.zeros(rows.shape[0], bool)
    for method in _METHODS:
        after = block[:, len(method) + 1]
        found |= _starts_with(words, known, method + b" ") & (after > 32) & (after < 127) & (known > len(method) + 1)
    # SIP, RTSP and Redis have commands of the same names: a line that is whole names HTTP (RFC 9112 3).
    octets = np.ascontiguousarray(heads.octets).data
    columns = rows[found], heads.offsets[rows[found]], np.minimum(known[found], _MAX_LINE)
    for stream, begin, length in zip(*(column.tolist() for column in columns), strict=True):
        line = bytes(octets[begin : begin + min(length, _USUAL_LINE)])
        if b"\n" not in line and length > _USUAL_LINE:
            line = bytes(octets[begin : begin + length])
        stop = line.find(b"\n")
        matches[stream] = stop < 0 or line.find(b" HTTP/1.", 0, stop) >= 0
    return matches


def _identify_later(flows: FlowTable, heads: StreamHeads, tcp: Mask, settle: Settle, protocol: U8) -> None:
    """Connections whose opening was not captured: how their segments begin, over the whole connection."""
    seen = flows.signature[:, 0] + flows.signature[:, 1]
    frames = np.where(flows.signature_frame > 0, flows.signature_frame, np.iinfo(np.int64).max)
    frames = np.minimum(frames[:, 0], frames[:, 1])
    http1 = tcp & ((seen[:, HTTP_REQUEST] > 0) | (seen[:, HTTP_STATUS] > 0))
    settle(tcp & (seen[:, HTTP2_PREFACE] > 0), Protocol.HTTP2, frames[:, HTTP2_PREFACE], False)
    settle(tcp & (seen[:, SSH_BANNER] > 0), Protocol.SSH, frames[:, SSH_BANNER], False)
    settle(http1, Protocol.HTTP1, np.minimum(frames[:, HTTP_REQUEST], frames[:, HTTP_STATUS]), False)
    records = seen[:, TLS_DATA] + seen[:, TLS_HANDSHAKE]
    settle(tcp & (records > 0), Protocol.TLS, np.minimum(frames[:, TLS_DATA], frames[:, TLS_HANDSHAKE]), False)
    undecided = tcp & (records == 0) & ~http1 & (protocol == Protocol.UNKNOWN)
    frames_ok = _http2_frames(heads, np.repeat(undecided, 2)).reshape(-1, 2)
    settle(frames_ok[:, 0] | frames_ok[:, 1], Protocol.HTTP2, flows.first_frame, False)


def _http2_frames(heads: StreamHeads, among: Mask) -> Mask:
    """Streams `among` all (M,) that are a chain of HTTP/2 frame headers from their first octet: (M,) bool.

    RFC 9113 4.1: length 24 bits, type 8, flags 8, one reserved bit 0, stream identifier 31. The chain must hold three
    headers, or end exactly where the head does after at least two, so that chance does not make one.
    """
    at = heads.offsets[:-1].copy()
    stop = heads.offsets[:-1] + heads.known_until()
    alive = among & (stop - at >= 9)
    headers = np.zeros(len(heads), np.int64)
    for _ in range(_HTTP2_FRAMES):
        rows = np.flatnonzero(alive & (stop - at >= 9))
        if rows.shape[0] == 0:
            break
        block = gather_block(heads.octets, at[rows], 9)
        length = block[:, 0].astype(np.int64) << 16 | block[:, 1].astype(np.int64) << 8 | block[:, 2]
        kind, stream_id = block[:, 3], block[:, 5:9].astype(np.int64) @ _OCTETS_OF_32
        fixed = np.select([kind == 3, kind == 6, kind == 8], [length == 4, length == 8, length == 4], True)
        on_connection = np.isin(kind, (4, 6, 7))
        placed = np.where(on_connection, stream_id == 0, True) & ((kind > 3) | (stream_id > 0))
        good = (kind <= _HTTP2_MAX_TYPE) & (block[:, 5] < 128) & (length <= 1 << 14) & fixed & placed
        headers[rows] += good
        alive[rows] = good
        at[rows] += 9 + length
    exact = alive & (headers >= 2) & (at == stop)
    chained: Mask = exact | (alive & (headers >= _HTTP2_FRAMES))
    return chained


def _identify_datagrams(flows: FlowTable, heads: StreamHeads, settle: Settle) -> None:
    """UDP: every datagram kept must fit, so that a short random payload does not pass for a protocol."""
    n = len(flows)
    udp = flows.protocol == UDP
    if not udp.any():
        return
    start = heads.offsets[:-1][np.repeat(np.arange(2 * n), np.diff(heads.segments_offsets))] + heads.segment_position
    stream = np.repeat(np.arange(2 * n), np.diff(heads.segments_offsets))
    stop = np.append(start[1:], 0)
    is_last = np.append(stream[1:] != stream[:-1], True) if stream.shape[0] else np.zeros(0, bool)
    stop = np.where(is_last, heads.offsets[1:][stream], stop)
    chosen = np.flatnonzero(udp[stream >> 1])
    if chosen.shape[0] == 0:
        return
    flow, size = stream[chosen] >> 1, (stop - start)[chosen]
    block = gather_block(heads.octets, start[chosen], _BLOCK)
    port = flows.port[flow]
    kind = block[:, 0]
    wireguard = (block[:, 1:4] == 0).all(axis=1) & (
        ((kind == 4) & (size >= _WIREGUARD_DATA_MIN) & (size % 16 == 0))
        | np.isin(kind.astype(np.int64) << 16 | size, [k << 16 | s for k, s in _WIREGUARD_SIZES.items()])
    )
    marker = (block[:, :4] == 0).all(axis=1)
    on_4500 = (port == 4500).any(axis=1)
    # RFC 7296 3.1: version 2.0 (or 1.0) at octet 17, a known exchange type at 18, both SPIs before.
    ike_at = np.where(marker & on_4500, 4, 0)
    ike_version = block[np.arange(chosen.shape[0]), ike_at + 17]
    ike = np.isin(ike_version, (0x10, 0x20)) & ((port == 500).any(axis=1) | (marker & on_4500)) & (size >= 28)
    # RFC 3948 2.2: ESP in UDP has a non-zero SPI where IKE has the four-octet marker; one octet ff is a keep-alive.
    esp = on_4500 & ~marker & (size >= 16)
    # A flow of NAT traversal carries both, and the keep-alives between them (RFC 3948 2.3).
    traversal = (ike & on_4500) | esp | (on_4500 & (size == 1) & (kind == 0xFF))
    traversal &= np.bincount(flow, esp, minlength=n)[flow] > 0
    quic = (kind & 0xC0 == 0xC0) & np.isin(
        block[:, 1:5].astype(np.int64) @ [1 << 24, 1 << 16, 1 << 8, 1], (1, 0x6B3343CF)
    )
    dns = (port == 53).any(axis=1) & (size >= 12) & (block[:, 4] == 0) & (block[:, 5] <= 8)
    for value, fits in (
        (Protocol.QUIC, quic),
        (Protocol.IKE, ike),
        (Protocol.ESP, traversal),
        (Protocol.WIREGUARD, wireguard),
        (Protocol.DNS, dns),
    ):
        total = np.bincount(flow, minlength=n)
        good = np.bincount(flow, fits, minlength=n)
        # QUIC's later datagrams have short headers: one long header of a known version is enough.
        enough = good > 0 if value == Protocol.QUIC else good == total
        settle(udp & (total > 0) & enough, value, flows.first_frame, True)
