"""HTTP/2 (RFC 9113) in clear: the header blocks of both directions, decoded by `hpack` (RFC 7541).

A connection joined in the middle, or behind a gap, is taken up where a segment begins a chain of frames. Its dynamic
table is unknown then: fields of the static table, literals, and whatever was added since are exact, because the table
numbers its newest entry first; fields that refer to anything older are counted and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from analyzer.copying import expand
from analyzer.protocols.header_blocks import BlockReader, HeaderBlock
from analyzer.protocols.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    FRAME_HEADER,
    HEADERS,
    PADDED,
    PREFACE,
    PUSH_PROMISE,
    SETTINGS,
    Frame,
    fragment_of,
    header_at,
    is_chain,
)
from analyzer.protocols.http2_lockstep import begin_with_preface, whole_blocks
from analyzer.protocols.stream import Piece, Stream, read_streams
from analyzer.schema import I64, HttpMessage, Mask, StreamHeads

MAX_RESUME: Final = 256
"""Segments tried for a place to join a connection."""
_MANY: Final = 16
"""Connections from which on reading them together costs less."""


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
    names = flows if names is None else names
    plain, found = _read_plain(heads, flows, names, limit_messages)
    others = np.flatnonzero(~plain)
    for row, (flow, client, server) in zip(
        others.tolist(), read_streams(heads, flows[others], names[others]), strict=True
    ):
        found[row] = read_connection(flow, client, server, limit_messages=limit_messages)
    return [message for row in sorted(found) for message in found[row]]


def _read_plain(
    heads: StreamHeads, flows: I64, names: I64, limit_messages: int
) -> tuple[Mask, dict[int, list[HttpMessage]]]:
    """Which of the flows are plain, by their place in `flows`, and the messages of those: frames walked in lockstep.

    Plain is a connection seen from its beginning and without a hole, of which every header block lies in a frame of
    its own. For the others `read_connection` has the rules, and it would say the same of these.
    """
    if flows.shape[0] < _MANY:
        return np.zeros(flows.shape[0], bool), {}
    stream: I64 = (2 * flows[:, None] + np.arange(2)).reshape(-1)
    begin, end = heads.offsets[stream], heads.offsets[stream + 1]
    from_client = np.arange(stream.shape[0]) & 1 == 0
    preface = from_client & begin_with_preface(heads.octets, begin, end)
    odd = ~(heads.from_start[stream] | preface)
    odd |= np.isin(stream, heads.holes_stream)
    opened = end - begin >= FRAME_HEADER
    settings_frame = heads.octets[np.where(opened, begin + 3, 0)] == SETTINGS if opened.any() else opened
    reads = preface | (~from_client & opened & settings_frame)
    rows = np.flatnonzero(reads & ~odd)
    blocks, whole = whole_blocks(heads.octets, begin[rows] + np.where(preface[rows], len(PREFACE), 0), end[rows])
    odd[rows[~whole]] = True
    odd[rows[np.bincount(blocks.stretch, minlength=rows.shape[0]) > limit_messages]] = True
    plain: Mask = ~(odd[0::2] | odd[1::2])
    blocks = blocks.take(plain[rows[blocks.stretch] >> 1])
    row = rows[blocks.stretch]
    frame = _frames_of(heads, stream, row, blocks.header - begin[row])
    view = np.ascontiguousarray(heads.octets).data
    found: dict[int, list[HttpMessage]] = {}
    now, reader = -1, None
    place, columns = row >> 1, (names[row >> 1], frame, blocks.start, blocks.stop)
    for side, flow, name, carrier, first, stop in zip(
        row.tolist(), place.tolist(), *(column.tolist() for column in columns), strict=True
    ):
        if side != now:
            now, reader = side, BlockReader(joined=False)
        said = reader.decode(bytes(view[first:stop])) if reader is not None else None
        if said is None:
            reader = None  # no later one can be decoded
            continue
        message = said.message(name, carrier, from_client=not side & 1)
        if message is not None:
            found.setdefault(flow, []).append(message)
    for messages in found.values():
        messages.sort(key=_by_frame)
    return plain, found


def _frames_of(heads: StreamHeads, stream: I64, row: I64, position: I64) -> I64:
    """Frames that carried the octets at `position` in the heads ``stream[row]``, ascending; 0 where none did."""
    first = heads.segments_offsets[stream]
    owner, number = expand(heads.segments_offsets[stream + 1] - first)
    segment = first[owner] + number
    if segment.shape[0] == 0:
        return np.zeros(row.shape[0], np.int64)
    begins = (owner << 40) + heads.segment_position[segment]
    at = np.searchsorted(begins, (row << 40) + position, side="right") - 1
    carried = (at >= 0) & (owner[at] == row)
    frame: I64 = np.where(carried, heads.segment_frame[segment[at]], 0)
    return frame


def _by_frame(message: HttpMessage) -> int:
    return message.frame


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
    return sorted(found, key=_by_frame)


def read_data(stream: Stream, *, from_client: bool) -> dict[int, list[Piece]]:
    """Octets that each HTTP/2 stream carries in DATA frames of one direction (RFC 9113 6.1), by stream identifier."""
    carried: dict[int, list[Piece]] = {}
    at = _first_frame(stream, from_client=from_client)
    for frame in _frames(stream.octets, at, cut=True) if at is not None else ():
        content = _content(frame) if frame.kind == DATA else b""
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
        settings = not from_client and header_at(stream.octets, 0)[1:2] == (SETTINGS,)
        return 0 if settings else None
    starts = stream.segment_starts()[:MAX_RESUME]
    return next((at for at in starts if is_chain(stream.octets, at)), None)


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
