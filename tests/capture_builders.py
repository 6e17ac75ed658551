"""Capture files made in the test, and what a reader of them should find."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from analyzer.capture.source import FileReader, open_capture


@dataclass(frozen=True)
class Frame:
    """One frame, as it goes into a file and as it should come out of a reader."""

    octets: bytes
    time_ns: int = 1_700_000_000_123_456_000
    wire_len: int | None = None
    interface: int = 0
    link_type: int = 1
    number: int = 0

    @property
    def row(self) -> tuple[bytes, int, int, int, int]:
        wire_len = len(self.octets) if self.wire_len is None else max(self.wire_len, len(self.octets))
        return self.octets, wire_len, self.time_ns, self.interface, self.link_type


def rows(frames: Iterable[Frame]) -> list[tuple[bytes, int, int, int, int]]:
    return [frame.row for frame in frames]


def frames_in(reader: FileReader) -> list[tuple[bytes, int, int, int, int]]:
    """Read everything; checks on the way what `CaptureChunk` promises."""
    found: list[tuple[bytes, int, int, int, int]] = []
    for chunk in reader:
        assert len(chunk) > 0
        assert chunk.first_frame == len(found) + 1
        assert int((chunk.start + chunk.captured_len).max()) <= chunk.octets.shape[0]
        columns = (chunk.start, chunk.captured_len, chunk.wire_len, chunk.time_ns, chunk.interface, chunk.link_type)
        assert [column.dtype for column in columns] == [np.dtype(np.int64)] * 4 + [np.dtype(np.int32)] * 2
        for start, length, wire, time, interface, link in zip(*(c.tolist() for c in columns), strict=True):
            found.append((chunk.octets[start : start + length].tobytes(), wire, time, interface, link))
    return found


def reading(content: bytes | BinaryIO, chunk_octets: int = 8 << 20) -> FileReader:
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    return open_capture("-", chunk_octets=chunk_octets, stdin=stream)


class Trickle(io.RawIOBase):
    """A pipe that delivers the given numbers of octets, over and over."""

    def __init__(self, content: bytes, counts: Sequence[int]) -> None:
        self._content = content
        self._counts = counts
        self._reads = 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: object) -> int:
        view = memoryview(target)  # type: ignore[arg-type]
        count = min(len(view), self._counts[self._reads % len(self._counts)])
        self._reads += 1
        piece = self._content[self._at : self._at + count]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


# ------------------------------------------------------------------------------------------------ pcap


def pcap_header(
    byte_order: str = "<",
    magic: int = 0xA1B2C3D4,
    *,
    version: tuple[int, int] = (2, 4),
    snaplen: int = 262_144,
    link_field: int = 1,
) -> bytes:
    return struct.pack(f"{byte_order}IHHIIII", magic, *version, 0, 0, snaplen, link_field)


def pcap_record(frame: Frame, byte_order: str = "<", *, tick_ns: int = 1000, extra: bytes = b"") -> bytes:
    seconds, rest = divmod(frame.time_ns, 1_000_000_000)
    wire_len = len(frame.octets) if frame.wire_len is None else frame.wire_len
    return struct.pack(f"{byte_order}4I", seconds, rest // tick_ns, len(frame.octets), wire_len) + extra + frame.octets


def pcap_file(frames: Iterable[Frame], byte_order: str = "<", *, tick_ns: int = 1000) -> bytes:
    magic = 0xA1B2C3D4 if tick_ns == 1000 else 0xA1B23C4D
    records = b"".join(pcap_record(frame, byte_order, tick_ns=tick_ns) for frame in frames)
    return pcap_header(byte_order, magic) + records


# ---------------------------------------------------------------------------------------------- pcapng


def block(kind: int, body: bytes, byte_order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    total = struct.pack(f"{byte_order}I", 12 + len(body))
    return struct.pack(f"{byte_order}I", kind) + total + body + total


def options(pairs: Iterable[tuple[int, bytes]], byte_order: str = "<", *, end: bool = True) -> bytes:
    encoded = b"".join(
        struct.pack(f"{byte_order}HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in pairs
    )
    return encoded + bytes(4) if encoded and end else encoded


def section(byte_order: str = "<", opts: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{byte_order}IHHq", 0x1A2B3C4D, *version, -1) + opts, byte_order)


def interface(byte_order: str = "<", link_type: int = 1, snaplen: int = 0, opts: bytes = b"") -> bytes:
    return block(1, struct.pack(f"{byte_order}HHI", link_type, 0, snaplen) + opts, byte_order)


def enhanced(
    octets: bytes,
    ticks: int = 0,
    number: int = 0,
    wire_len: int | None = None,
    byte_order: str = "<",
    opts: bytes = b"",
) -> bytes:
    wire = len(octets) if wire_len is None else wire_len
    body = struct.pack(f"{byte_order}5I", number, ticks >> 32, ticks & 0xFFFFFFFF, len(octets), wire)
    return block(6, body + octets + bytes(-len(octets) % 4) + opts, byte_order)


def obsolete(octets: bytes, ticks: int = 0, number: int = 0, byte_order: str = "<", opts: bytes = b"") -> bytes:
    body = struct.pack(f"{byte_order}HH4I", number, 7, ticks >> 32, ticks & 0xFFFFFFFF, len(octets), len(octets))
    return block(2, body + octets + bytes(-len(octets) % 4) + opts, byte_order)


def simple(octets: bytes, wire_len: int | None = None, byte_order: str = "<") -> bytes:
    wire = len(octets) if wire_len is None else wire_len
    return block(3, struct.pack(f"{byte_order}I", wire) + octets, byte_order)


def statistics(number: int, opts: bytes, byte_order: str = "<") -> bytes:
    return block(5, struct.pack(f"{byte_order}III", number, 0, 0) + opts, byte_order)


def pcapng_file(frames: Iterable[Frame], byte_order: str = "<") -> bytes:
    """One section, one Ethernet interface, microseconds."""
    packets = (enhanced(f.octets, f.time_ns // 1000, 0, f.wire_len, byte_order) for f in frames)
    return section(byte_order) + interface(byte_order) + b"".join(packets)
