"""HTTP/2 frames (RFC 9113 4 and 6), one at a time: what a frame header says, and what can be one."""

from __future__ import annotations

from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 3.4."""
# Frame types (RFC 9113 6) and flags.
DATA, HEADERS, SETTINGS, PUSH_PROMISE, _PING, GOAWAY, _WINDOW_UPDATE, CONTINUATION = 0, 1, 4, 5, 6, 7, 8, 9
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20
FRAME_HEADER: Final = 9
"""Octets of a frame header."""
PRIORITY_UPDATE: Final = 16
"""RFC 9218 7, the highest registered type."""
FIXED_LENGTH: Final = {2: 5, 3: 4, _PING: 8, _WINDOW_UPDATE: 4}
"""Payload lengths that RFC 9113 6 fixes: PRIORITY, RST_STREAM, PING, WINDOW_UPDATE."""
ON_CONNECTION: Final = frozenset({SETTINGS, _PING, GOAWAY})
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
