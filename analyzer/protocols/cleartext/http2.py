"""HTTP/2 (RFC 9113) in cleartext: header blocks of both directions, decoded by `hpack`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from analyzer.protocols.cleartext.fields import make_message
from analyzer.schema import I64, HttpMessage, StreamHeads

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, PUSH_PROMISE, CONTINUATION = 1, 5, 9
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
MAX_MESSAGES: Final = 64
MAX_FRAMES: Final = 4096
MAX_HEADER_LIST: Final = 64 * 1024
"""Octets of one decoded header list; grpc-go's default limit is 16 MiB, net/http's 1 MiB."""
MAX_TABLE: Final = 64 * 1024


def _frames(octets: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """(position, type, flags, stream identifier, payload) of each whole frame (RFC 9113 4.1)."""
    at = len(PREFACE) if octets.startswith(PREFACE) else 0
    for _ in range(MAX_FRAMES):
        if at + 9 > len(octets):
            return
        length = int.from_bytes(octets[at : at + 3], "big")
        if octets[at + 3] > 16 or at + 9 + length > len(octets):
            return
        identifier = int.from_bytes(octets[at + 5 : at + 9], "big") & 0x7FFFFFFF
        yield at, octets[at + 3], octets[at + 4], identifier, octets[at + 9 : at + 9 + length]
        at += 9 + length


def _fragment(kind: int, flags: int, payload: bytes) -> bytes:
    """Field block fragment of a HEADERS frame, without padding and priority (RFC 9113 6.2)."""
    if kind != HEADERS:
        return payload
    padding = payload[0] if flags & _PADDED and payload else 0
    start = (1 if flags & _PADDED else 0) + (5 if flags & _PRIORITY else 0)
    return payload[start : len(payload) - padding]


def _read_stream(octets: bytes) -> list[tuple[int, list[tuple[str, str]]]]:
    """(position, fields) of each header block of one direction.

    A stream joined mid-connection refers to fields that were sent before: decoding ends at the first such block.
    """
    from hpack import Decoder
    from hpack.exceptions import HPACKError

    decoder = Decoder(max_header_list_size=MAX_HEADER_LIST)
    decoder.max_allowed_table_size = MAX_TABLE
    blocks: list[tuple[int, list[tuple[str, str]]]] = []
    begun: tuple[int, bytes] | None = None
    for at, kind, flags, _, payload in _frames(octets):
        if kind == HEADERS:
            begun = (at, _fragment(kind, flags, payload))
        elif kind == CONTINUATION and begun is not None:
            begun = (begun[0], begun[1] + payload)
        else:
            continue
        if len(begun[1]) > MAX_HEADER_LIST:
            break
        if not flags & _END_HEADERS:
            continue
        try:
            decoded = decoder.decode(begun[1], raw=True)
        except (HPACKError, ValueError, IndexError, OverflowError):
            break
        blocks.append((begun[0], [(_text(n).lower(), _text(v)) for n, v, *_ in decoded]))
        begun = None
        if len(blocks) >= MAX_MESSAGES:
            break
    return blocks


def _text(octets: bytes) -> str:
    return bytes(octets).decode("latin-1")


def read_http2(heads: StreamHeads, flows: I64, names: I64) -> list[HttpMessage]:
    """Read the HTTP/2 header blocks of the given flows; see `http1.read_http1` for the parameters."""
    known = heads.known_until()
    found: list[tuple[int, int, int, list[tuple[str, str]]]] = []
    for flow, name in zip(flows.tolist(), names.tolist(), strict=True):
        for stream in (2 * flow, 2 * flow + 1):
            octets = heads.head(stream)[: int(known[stream])].tobytes()
            found += [(stream, name, at, fields) for at, fields in _read_stream(octets)]
    frames = heads.frames_at(
        np.array([stream for stream, *_ in found], np.int64), np.array([at for _, _, at, _ in found], np.int64)
    )
    messages: list[HttpMessage] = []
    for frame, (stream, name, _, fields) in zip(frames.tolist(), found, strict=True):
        pseudo = dict(reversed([f for f in fields if f[0].startswith(":")]))
        if not pseudo:
            continue  # trailers
        status = pseudo.get(":status", "")
        messages.append(
            make_message(
                name,
                frame,
                from_client=stream % 2 == 0,
                version="2",
                headers=fields,
                method=pseudo.get(":method", ""),
                target=pseudo.get(":path", ""),
                status=int(status) if status.isdecimal() and len(status) == 3 else 0,
            )
        )
    return messages
