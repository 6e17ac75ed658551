"""Write pcapng: the few blocks that a capture needs, in the order and form of the draft.

Section numbers are those of https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.capture.blocks import SECTION_HEADER
from analyzer.capture.options import OPT_COMMENT
from analyzer.copying import copy_ranges
from analyzer.schema import I64, U8, CaptureChunk, Interface

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
_IF_FILTER: Final = 11
_LIBPCAP_EXPRESSION: Final = b"\0"
_IF_OS: Final = 12
_STATISTICS: Final = 5
_ISB_IFRECV: Final = 4
_ISB_OSDROP: Final = 7
_EPB_HEADER_LEN: Final = 28
_EPB_LEN: Final = 32
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
    out = bytearray(section_block(comment, application))
    for interface in interfaces:
        out += interface_block(interface)
    for text in secrets:
        out += _block(_SECRETS, struct.pack("<II", _TLS_KEY_LOG, len(text)) + _padded(text))
    for frame in frames:
        head = struct.pack(
            "<IIIII",
            frame.interface,
            *_halves(frame.time_ns),
            len(frame.octets),
            frame.wire_len,
        )
        body = head + _padded(frame.octets)
        out += _block(_ENHANCED, body + _options(_option(_COMMENT, frame.comment.encode())))
    return bytes(out)


def section_block(comment: str = "", application: str = "") -> bytes:
    """Return a Section Header Block (4.1), little-endian, of unknown length."""
    options = _option(_COMMENT, comment.encode()) + _option(_SHB_USERAPPL, application.encode())
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN) + _options(options))


def interface_block(interface: Interface) -> bytes:
    """Return an Interface Description Block (4.2)."""
    options = _option(_IF_NAME, interface.name.encode("utf-8", "replace"))
    options += _option(_IF_DESCRIPTION, interface.description.encode("utf-8", "replace"))
    if interface.filter:
        options += _option(_IF_FILTER, _LIBPCAP_EXPRESSION + interface.filter.encode("utf-8", "replace"))
    options += _option(_IF_OS, interface.system.encode("utf-8", "replace"))
    options += _option(_IF_TSRESOL, _NANOSECONDS)
    return _block(_INTERFACE, struct.pack("<HHI", interface.link_type, 0, interface.snaplen) + _options(options))


def statistics_block(number: int, interface: Interface, time_ns: int) -> bytes:
    """Return an Interface Statistics Block (4.6) with what is known of frames received and dropped."""
    options = b""
    for code, count in ((_ISB_IFRECV, interface.received), (_ISB_OSDROP, interface.dropped)):
        options += _option(code, struct.pack("<Q", count)) if count is not None else b""
    return _block(_STATISTICS, struct.pack("<III", number, *_halves(time_ns)) + _options(options))


def packet_blocks(chunk: CaptureChunk) -> tuple[U8, I64]:
    """Write every frame of a chunk as an Enhanced Packet Block (4.3), all together.

    Returns
    -------
    octets : (B,) uint8
    end : (N,) int64
        Offset in `octets` at which each block ends.
    """
    length = chunk.captured_len
    end = np.cumsum(_EPB_LEN + (length + 3 & ~3))
    size = int(end[-1]) if end.shape[0] else 0
    begin = end - (_EPB_LEN + (length + 3 & ~3))
    octets = copy_ranges(chunk.octets, chunk.start, length, begin + _EPB_HEADER_LEN, size)
    words = octets.view("<u4")
    # What was copied behind a frame, up to its padding: keep the octets of its last word that are its own.
    ragged = np.flatnonzero(length & 3)
    words[(end[ragged] >> 2) - 2] &= ((1 << 8 * (length[ragged] & 3)) - 1).astype(np.uint32)
    time = chunk.time_ns.astype(np.uint64)
    header = np.empty((length.shape[0], _EPB_HEADER_LEN // 4), "<u4")
    header[:, 0] = _ENHANCED
    header[:, 1] = end - begin
    header[:, 2] = chunk.interface
    header[:, 3] = time >> np.uint64(32)
    header[:, 4] = time & np.uint64(0xFFFFFFFF)
    header[:, 5] = length
    header[:, 6] = chunk.wire_len
    words[(begin >> 2)[:, np.newaxis] + np.arange(header.shape[1])] = header
    words[(end >> 2) - 1] = header[:, 1]
    return octets, end


def _halves(number: int) -> tuple[int, int]:
    """High and low 32 bits."""
    return number >> 32 & 0xFFFFFFFF, number & 0xFFFFFFFF


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
