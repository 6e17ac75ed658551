"""HTTP/2 (RFC 9113) in clear: the header blocks of both directions, decoded by `hpack` (RFC 7541).

A connection joined in the middle, or behind a gap, is taken up where a segment begins a chain of frames. Its dynamic
table is unknown then: fields of the static table, literals, and whatever was added since are exact, because the table
numbers its newest entry first; fields that refer to anything older are counted and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from analyzer.protocols.header_blocks import BlockReader, HeaderBlock
from analyzer.protocols.stream import Piece, Stream, read_streams
from analyzer.schema import I64, HttpMessage, StreamHeads

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 3.4."""
MAX_RESUME: Final = 256
"""Segments tried for a place to join a connection."""

# Frame types (RFC 9113 6) and flags.
_DATA, HEADERS, _SETTINGS, PUSH_PROMISE, _PING, GOAWAY, _WINDOW_UPDATE, CONTINUATION = 0, 1, 4, 5, 6, 7, 8, 9
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20
FRAME_HEADER: Final = 9
"""Octets of a frame header."""
PRIORITY_UPDATE: Final = 16
"""RFC 9218 7, the highest registered type."""
FIXED_LENGTH: Final = {2: 5, 3: 4, _PING: 8, _WINDOW_UPDATE: 4}
"""Payload lengths that RFC 9113 6 fixes: PRIORITY, RST_STREAM, PING, WINDOW_UPDATE."""
ON_CONNECTION: Final = frozenset({_SETTINGS, _PING, GOAWAY})
"""Frames of the connection, which no stream carries."""
MAX_FRAME_SIZE: Final = 1 << 14
"""SETTINGS_MAX_FRAME_SIZE as it stands until raised (RFC 9113 6.5.2)."""


class Frame(NamedTuple):
    """A frame (RFC 9113 4.1) and where it begins."""

    position: int
    kind: int
    flags: int
    stream_id: int
    payload: bytes


class _Block(NamedTuple):
    """A header block: where its HEADERS frame begins, its stream, and what it says."""

    position: int
    stream_id: int
    said: HeaderBlock


def read_http2(
    heads: StreamHeads, flows: I64, names: I64 | None = None, *, limit_messages: int = 64
) -> list[HttpMessage]:
    """Read the header blocks at the head of each cleartext HTTP/2 flow, up to the first gap.

    Parameters
    ----------
    heads : StreamHeads
    flows : (K,) int64
        Flows whose content is HTTP/2, by their place in `heads`.
    names : (K,) int64, optional
        Rows of the flow table, where they are not the same: what `HttpMessage.flow` is to hold.
    limit_messages : int
        Messages read of each direction of a flow.

    Returns
    -------
    list of HttpMessage
        In the order of `flows`; those of one flow by frame. ``host`` is :authority, or the Host field where there is
        none; ``upgrade`` is :protocol of an extended CONNECT (RFC 8441 4). Trailers and pushed requests are left out.

    Notes
    -----
    Framing: RFC 9113 4 and 6; a frame that breaks it, or a header block that cannot be decoded, ends that direction.
    """
    messages: list[HttpMessage] = []
    for flow, client, server in read_streams(heads, flows, names):
        messages += read_connection(flow, client, server, limit_messages=limit_messages)
    return messages


def read_connection(flow: int, client: Stream, server: Stream, *, limit_messages: int = 64) -> list[HttpMessage]:
    """As `read_http2`, of one connection; each stretch behind a gap is joined like a connection in its middle."""
    found: list[HttpMessage] = []
    for stream, from_client in ((client, True), (server, False)):
        count = 0
        for run in (stream, *stream.later):
            for block in _blocks(run, _first_frame(run, from_client=from_client)):
                message = block.said.message(flow, run.frame_at(block.position), from_client=from_client)
                if message is not None and count < limit_messages:
                    found.append(message)
                    count += 1
                if count >= limit_messages:
                    break
    return sorted(found, key=lambda message: message.frame)


def read_data(stream: Stream, *, from_client: bool) -> dict[int, list[Piece]]:
    """Octets that each HTTP/2 stream carries in DATA frames of one direction (RFC 9113 6.1), by stream identifier."""
    carried: dict[int, list[Piece]] = {}
    at = _first_frame(stream, from_client=from_client)
    for frame in _frames(stream.octets, at, cut=True) if at is not None else ():
        content = _content(frame) if frame.kind == _DATA else b""
        if content:
            carried.setdefault(frame.stream_id, []).append(Piece(stream.frame_at(frame.position), content))
    return carried


def read_paths(stream: Stream) -> dict[int, bytes]:
    """Path each HTTP/2 stream of a client asks for, by stream identifier."""
    paths: dict[int, bytes] = {}
    for block in _blocks(stream, _first_frame(stream, from_client=True)):
        path = next((value for name, value in block.said.fields if name == b":path"), None)
        if path is not None:
            paths.setdefault(block.stream_id, path)
    return paths


def _content(frame: Frame) -> bytes:
    """Data without padding (RFC 9113 6.1); empty where it does not fit."""
    if not frame.flags & PADDED:
        return frame.payload
    stop = len(frame.payload) - frame.payload[0] if frame.payload else 0
    return frame.payload[1:stop]


def _first_frame(stream: Stream, *, from_client: bool) -> int | None:
    """Position of the first frame to read; None where there is none."""
    if from_client and stream.octets.startswith(PREFACE):
        return len(PREFACE)
    if stream.from_start:
        # RFC 9113 3.4: the server's first frame is SETTINGS.
        settings = not from_client and header_at(stream.octets, 0)[1:2] == (_SETTINGS,)
        return 0 if settings else None
    starts = stream.segment_starts()[:MAX_RESUME]
    return next((at for at in starts if is_chain(stream.octets, at)), None)


def header_at(octets: bytes, at: int) -> tuple[int, ...]:
    """(length, type, flags, stream identifier with its reserved bit) of the frame header at `at`; empty where cut."""
    if at + FRAME_HEADER > len(octets):
        return ()
    word = int.from_bytes(octets[at : at + FRAME_HEADER], "big")
    return word >> 48, (word >> 40) & 0xFF, (word >> 32) & 0xFF, word & 0xFFFFFFFF


def is_chain(octets: bytes, at: int) -> bool:
    """Three valid frame headers one after the other, or two that end exactly where the octets do."""
    for headers in range(3):
        header = header_at(octets, at)
        if not header:
            return headers == 2 and at == len(octets)
        if not is_frame(header, strict=True):
            return False
        at += FRAME_HEADER + header[0]
    return True


def is_frame(header: tuple[int, ...], *, strict: bool) -> bool:
    """Whether this can be the header of a frame; `strict` where one is looked for: no extension, no long frame."""
    length, kind, _, stream_id = header
    placed = stream_id == 0 if kind in ON_CONNECTION else stream_id > 0 or kind >= GOAWAY
    sized = length == FIXED_LENGTH.get(kind, length) and (length <= MAX_FRAME_SIZE or not strict)
    # The reserved bit is to be sent as 0 (RFC 9113 4.1).
    return (kind <= PRIORITY_UPDATE or not strict) and not stream_id >> 31 and placed and sized


_OF_BLOCKS: Final = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION})
_ANY: Final = frozenset(range(256))


def _frames(octets: bytes, at: int, kinds: frozenset[int] = _ANY, *, cut: bool = False) -> Iterator[Frame]:
    """Yield the complete frames of some kinds from `at` on; with `cut` also the one that is not, as far as it goes."""
    size = len(octets)
    while at + FRAME_HEADER <= size:
        length, kind, flags, stream_id = header_at(octets, at)
        stop = at + FRAME_HEADER + length
        if stop > size and not cut:
            return
        if kind not in kinds:
            at = stop
            continue
        yield Frame(at, kind, flags, stream_id & 0x7FFFFFFF, octets[at + FRAME_HEADER : stop])
        at = stop


def _blocks(stream: Stream, at: int | None) -> Iterator[_Block]:
    """Yield the decoded header blocks from position `at` on, until one cannot be."""
    if at is None:
        return
    reader = BlockReader(joined=not (stream.from_start or stream.octets.startswith(PREFACE)))
    opening: Frame | None = None
    fragments: list[bytes] = []
    following = 0
    for frame in _frames(stream.octets, at, _OF_BLOCKS):
        if opening is not None:
            # RFC 9113 6.10: nothing may come between HEADERS and its CONTINUATION frames.
            if frame.kind != CONTINUATION or frame.stream_id != opening.stream_id or frame.position != following:
                return
            fragments.append(frame.payload)
        elif frame.kind in (HEADERS, PUSH_PROMISE):
            fragment = fragment_of(frame)
            if fragment is None:
                return
            opening, fragments = frame, [fragment]
        elif frame.kind == CONTINUATION:
            return
        following = frame.position + FRAME_HEADER + len(frame.payload)
        if opening is None or not frame.flags & END_HEADERS:
            continue
        said = reader.decode(b"".join(fragments))
        if said is None:
            return
        if opening.kind == HEADERS:
            yield _Block(opening.position, opening.stream_id, said)
        opening = None


def fragment_of(frame: Frame) -> bytes | None:
    """Field block fragment without padding and priority (RFC 9113 6.2, 6.6); None where they do not fit."""
    start = 1 if frame.flags & PADDED else 0
    padding = frame.payload[0] if start and frame.payload else 0
    if frame.kind == PUSH_PROMISE:
        start += 4
    elif frame.flags & PRIORITY:
        start += 5
    stop = len(frame.payload) - padding
    return frame.payload[start:stop] if frame.stream_id and start <= stop else None
