"""Write pcapng: the few blocks that a cut-out capture needs, in the order and form of the draft.

Section numbers are those of https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from analyzer.capture.blocks import SECTION_HEADER
from analyzer.capture.options import OPT_COMMENT
from analyzer.schema import Interface

_SECTION: Final = SECTION_HEADER
_INTERFACE: Final = 1
_ENHANCED: Final = 6
_SECRETS: Final = 10
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_LENGTH_UNKNOWN: Final = -1
_END: Final = 0
_COMMENT: Final = OPT_COMMENT
_SHB_USERAPPL: Final = 4
_IF_NAME: Final = 2
_IF_DESCRIPTION: Final = 3
_IF_TSRESOL: Final = 9
_NANOSECONDS: Final = b"\x09"
_TLS_KEY_LOG: Final = 0x544C534B
_MAX_OPTION: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class WrittenFrame:
    """One frame as it goes into the file."""

    octets: bytes
    wire_len: int
    time_ns: int
    interface: int
    comment: str = ""


def pcapng_octets(
    interfaces: Sequence[Interface],
    frames: Iterable[WrittenFrame],
    *,
    comment: str = "",
    application: str = "",
    secrets: Sequence[bytes] = (),
) -> bytes:
    """Return one section: header (4.1), interfaces (4.2), secrets (4.7), frames (4.3); times in nanoseconds."""
    out = bytearray()
    options = _option(_COMMENT, comment.encode()) + _option(_SHB_USERAPPL, application.encode())
    out += _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN) + _options(options))
    for interface in interfaces:
        options = _option(_IF_NAME, interface.name.encode("utf-8", "replace"))
        options += _option(_IF_DESCRIPTION, interface.description.encode("utf-8", "replace"))
        options += _option(_IF_TSRESOL, _NANOSECONDS)
        out += _block(_INTERFACE, struct.pack("<HHI", interface.link_type, 0, interface.snaplen) + _options(options))
    for text in secrets:
        out += _block(_SECRETS, struct.pack("<II", _TLS_KEY_LOG, len(text)) + _padded(text))
    for frame in frames:
        head = struct.pack(
            "<IIIII",
            frame.interface,
            frame.time_ns >> 32 & 0xFFFFFFFF,
            frame.time_ns & 0xFFFFFFFF,
            len(frame.octets),
            frame.wire_len,
        )
        body = head + _padded(frame.octets)
        out += _block(_ENHANCED, body + _options(_option(_COMMENT, frame.comment.encode())))
    return bytes(out)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _option(code: int, value: bytes) -> bytes:
    """Encode an option (3.5); an empty value is left out."""
    value = value[:_MAX_OPTION].decode("utf-8", "ignore").encode() if code == _COMMENT else value[:_MAX_OPTION]
    return struct.pack("<HH", code, len(value)) + _padded(value) if value else b""


def _options(options: bytes) -> bytes:
    return options + struct.pack("<HH", _END, 0) if options else b""


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)
