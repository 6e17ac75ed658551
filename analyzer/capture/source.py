"""Open a capture file or standard input, whatever its format: recognised by its first octets, never by its name."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import BinaryIO, Final, Self

import numpy as np

from analyzer.bounds import MAX_EXPANSION
from analyzer.capture import compressed, pcap, pcapng
from analyzer.capture.ahead import AheadSource
from analyzer.capture.blocks import SECTION_HEADER
from analyzer.capture.facts import CaptureFacts
from analyzer.capture.growing import GrowingSource, connect, never, parse_address
from analyzer.capture.records import RecordParser
from analyzer.capture.remote import BLOCK_OCTETS, RemoteFile, RemoteSource
from analyzer.capture.stream import ChunkBuffer, FileSource, OctetSource, PrefixedSource, read_prefix
from analyzer.errors import CaptureFormatError, InputError
from analyzer.schema import CaptureChunk, Damage, Interface
from analyzer.team import GivenUp, Team

CHUNK_OCTETS: Final = 8 << 20
_LEAST_CHUNK: Final = 64

_FOREIGN: Final = (
    (b"PK\x03\x04", "a ZIP archive: unpack it and name the capture in it"),
    (b"snoop\0\0\0", "a Solaris snoop capture: convert it with editcap -F pcapng"),
    (b"btsnoop\0", "a btsnoop capture, which holds Bluetooth"),
    (b"GMBU", "a NetMon capture: convert it with editcap -F pcapng"),
    (b"RTSS", "a NetMon capture: convert it with editcap -F pcapng"),
    (b"TRSNIFF", "a Sniffer capture: convert it with editcap -F pcapng"),
    (b"XCP\0", "a NetXRay capture: convert it with editcap -F pcapng"),
    (b"\x7fELF", "a program, not a capture"),
    (b"Rar!", "a RAR archive: unpack it and name the capture in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it and name the capture in it"),
)
"""What users hand over by mistake, by its first octets."""

_TAR_MAGIC: Final = b"ustar"
_TAR_MAGIC_AT: Final = 257
_PREFIX_LEN: Final = _TAR_MAGIC_AT + len(_TAR_MAGIC)

_EXPECTED: Final = "expected pcap or pcapng, plain or compressed with gzip, zstd, xz, bzip2 or lz4"


@dataclass(frozen=True, slots=True)
class _Recognised:
    """A source whose format is known, at its first record; no parser where the file header is cut."""

    format: str
    source: OctetSource
    parser: RecordParser | None
    offset: int
    damage: Damage | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """How inputs are opened.

    Attributes
    ----------
    chunk_octets : int
        Octets of the buffer that chunks are cut from; at least 64 are used. A larger record makes it grow.
    stdin : BinaryIO, optional
        What ``-`` stands for; `sys.stdin.buffer` if not given. It is not closed.
    follow : bool
        A file is read as it grows, until it has been idle or `stopped` says so.
    idle_s : float or None
        Seconds without an octet that end a followed file or a connection; None = never.
    stopped : callable
        Asked while such an input has nothing: True ends it.
    max_expansion : int
        See `bounds.MAX_EXPANSION`.
    """

    chunk_octets: int = CHUNK_OCTETS
    stdin: BinaryIO | None = None
    follow: bool = False
    idle_s: float | None = None
    stopped: Callable[[], bool] = never
    max_expansion: int = MAX_EXPANSION


@dataclass(frozen=True, slots=True)
class TarStream:
    """An input that turned out to be a tar archive, at its first octet, decompressed."""

    source: OctetSource
    compression: compressed.Compression | None


def open_capture(path: str, *, chunk_octets: int = CHUNK_OCTETS, stdin: BinaryIO | None = None) -> FileReader:
    """Open a capture and read its file header.

    Parameters
    ----------
    path : str
        A file or named pipe; ``-`` for standard input.
    chunk_octets : int
        Octets of the buffer that chunks are cut from; at least 64 are used. A larger record makes it grow.
    stdin : BinaryIO, optional
        What ``-`` stands for; `sys.stdin.buffer` if not given. It is not closed.

    Returns
    -------
    FileReader
        Satisfies `schema.CaptureReader`; close it, or use it as a context manager.

    Raises
    ------
    InputError
        The input cannot be opened.
    CaptureFormatError
        It is empty or not a capture. A capture that is cut or corrupt does not raise: see `FileReader.damage`.
    """
    opening = Opening(chunk_octets, stdin)
    found = open_source(path, open_octets(path, opening), opening)
    if isinstance(found, TarStream):
        found.source.close()
        inside = f"inside its {found.compression.name} data " if found.compression is not None else ""
        raise CaptureFormatError(path, 0, f"{inside}it is a tar archive, which holds captures and is none")
    return found


def open_source(name: str, source: OctetSource, opening: Opening) -> FileReader | TarStream:
    """Recognise what `source` holds; `open_capture` for an input that is open already.

    Raises
    ------
    CaptureFormatError
        It is empty or neither a capture nor a tar archive; `source` is closed then.
    """
    try:
        facts = CaptureFacts()
        recognised = _recognise(name, source, facts, opening.max_expansion)
        if isinstance(recognised, TarStream):
            return recognised
        # Members of archives share their source with what follows them: no thread may read on in it.
        apart = isinstance(source, FileSource) and (source.size is None or "." in recognised.format)
        if apart or isinstance(source, RemoteSource):
            recognised = replace(recognised, source=AheadSource(recognised.source))
        # What is compressed would be decompressed by each.
        plain = isinstance(source, FileSource) and source.reopens and "." not in recognised.format
        file = source if isinstance(source, FileSource) and plain else None
        return FileReader(name, recognised, facts, max(opening.chunk_octets, _LEAST_CHUNK), file)
    except BaseException:
        source.close()
        raise


class FileReader:
    """A `schema.CaptureReader` over a file or pipe; see `open_capture`. It can be iterated once.

    Attributes
    ----------
    size : int or None
        Octets of the input, before decompression; None where it is not known (pipes).
    team : Team or None
        Processes that each have opened this capture, and read it together by ranges where it is a plain pcap file; to
        be set before the iteration. See `ranges`.
    """

    def __init__(
        self,
        name: str,
        recognised: _Recognised,
        facts: CaptureFacts,
        chunk_octets: int,
        file: FileSource | None = None,
    ) -> None:
        self.name: str = name
        self.format: str = recognised.format
        self.interfaces: list[Interface] = facts.interfaces
        self.damage: list[Damage] = facts.damage
        self.secrets: list[bytes] = facts.secrets
        self.names: list[tuple[str, str]] = facts.names
        self.comments: list[tuple[int, str]] = facts.comments
        self.octets_read: int = recognised.source.octets_read
        self.size: int | None = recognised.source.size
        self._source: Final = recognised.source
        self._file: Final = file
        self.team: Team | None = None
        self._chunks: Final = self._read(recognised, chunk_octets)

    @property
    def shareable(self) -> bool:
        """Whether several processes may open the input and read it, each for itself: a plain file."""
        return self._file is not None

    def __iter__(self) -> Iterator[CaptureChunk]:
        return self._chunks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the input; iteration ends."""
        self._chunks.close()
        self._source.close()

    def _read(self, recognised: _Recognised, chunk_octets: int) -> Generator[CaptureChunk, None, None]:
        if recognised.damage is not None:
            self.damage.append(recognised.damage)
        if recognised.parser is None:
            return
        parser = recognised.parser
        _keep_freed_memory()
        offset, first_frame = recognised.offset, 1
        if self.team is not None and self._file is not None:
            _agree(self._file, self.team)
            if isinstance(parser, pcap.PcapParser):
                offset, first_frame = yield from self._read_ranges(self._file, self.team, parser, offset)
        # Of a chunk each process of a team takes a share only, and calls cost the same for few packets.
        buffer = ChunkBuffer(self._source, chunk_octets * (1 if self.team is None else min(self.team.size, 4)))
        buffer.offset = offset
        consumed, needed = 0, 0
        while True:
            buffer.fill(consumed, needed)
            self.octets_read = self._source.octets_read
            stretch = parser.parse(buffer.octets, buffer.offset, first_frame)
            if len(stretch.frames):
                frames = stretch.frames
                yield CaptureChunk(
                    octets=buffer.octets[: stretch.consumed],
                    start=frames.start,
                    captured_len=frames.captured_len,
                    wire_len=frames.wire_len,
                    time_ns=frames.time_ns,
                    interface=frames.interface,
                    link_type=frames.link_type,
                    first_frame=first_frame,
                )
                first_frame += len(frames)
            consumed, needed = stretch.consumed, stretch.needed
            if stretch.damage is not None:
                self.damage.append(stretch.damage)
                if "." not in self.format:
                    # How far the buffer was filled depends on how the input was cut; nothing behind this was used.
                    self.octets_read = stretch.damage.offset
                return
            if buffer.ended:
                self._end(parser, buffer, consumed, first_frame)
                return

    def _read_ranges(
        self, source: FileSource, team: Team, parser: pcap.PcapParser, offset: int
    ) -> Generator[CaptureChunk, None, tuple[int, int]]:
        """Yield what the team reads; returns where and with which frame the rest of the file begins."""
        from analyzer.capture.ranges import TURN_OCTETS, RangeReader

        first_frame = 1
        ranges = RangeReader(source.descriptor(), parser, offset, source.size or 0, team, TURN_OCTETS)
        for octets, frames in ranges:
            self.octets_read = ranges.position
            yield CaptureChunk(
                octets,
                frames.start,
                frames.captured_len,
                frames.wire_len,
                frames.time_ns,
                frames.interface,
                frames.link_type,
                first_frame,
            )
            first_frame += len(frames)
        source.skip_to(ranges.position)
        return ranges.position, first_frame

    def _end(self, parser: RecordParser, buffer: ChunkBuffer, consumed: int, next_frame: int) -> None:
        """Say why the input ended where it did, unless it ended well."""
        left = buffer.octets[consumed:]
        problem = self._source.problem
        if left.shape[0]:
            cut = parser.describe_cut(left, next_frame)
            self.damage.append(Damage(buffer.offset + consumed, f"{problem}: {cut}" if problem else cut))
        elif problem:
            self.damage.append(Damage(buffer.offset + consumed, f"{problem}, after frame {next_frame - 1}"))


def _agree(file: FileSource, team: Team) -> None:
    """Have the processes of a team look whether all of them have opened the same file, of the same length.

    Raises
    ------
    GivenUp
        It was replaced or has grown meanwhile.
    """
    status = os.fstat(file.descriptor())
    mine = zlib.crc32(repr((status.st_dev, status.st_ino, file.size)).encode())
    if team.total(mine) != mine * team.size:
        raise GivenUp


def _keep_freed_memory() -> None:
    """Have the C library keep the memory of one chunk's columns for the next.

    glibc gives blocks above 128 KiB back to the system when they are freed, and the page faults of getting them again
    cost more than the arithmetic on them (measured: 0.70 against 0.27 ms for the columns of 19,509 records). Freeing
    one large block raises that limit to its size (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does nothing.

    A block below the limit is of the heap, and numpy asks for huge pages for one so large (madvise(2), MADV_HUGEPAGE).
    They stay when it is freed: the buffer and the columns that come to lie there need no page tables of their own,
    which saves three to seven hundredths of the time of whatever is done to each packet.
    """
    np.empty(24 << 20, np.uint8)
    np.empty(23 << 20, np.uint8)


def give_back_freed_memory() -> None:
    """Give what the C library holds freed back to the system: for a process that lives on after it let go of much.

    An audit that ends has no use for it: the peak is the same, and the pages are got again (malloc_trim(3); elsewhere
    than on glibc this does nothing).
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def open_octets(path: str | RemoteFile, opening: Opening) -> OctetSource:
    """Open a file, a pipe, ``-``, ``tcp://host:port`` or a file in a storage, whatever is in it.

    Raises
    ------
    InputError
        It cannot be opened.
    """
    if isinstance(path, RemoteFile):
        return RemoteSource(path, max(min(opening.chunk_octets, BLOCK_OCTETS), 1 << 16))
    if path == "-":
        return FileSource(sys.stdin.buffer if opening.stdin is None else opening.stdin, owned=False)
    if (address := parse_address(path)) is not None:
        return connect(path, address, opening.idle_s, opening.stopped)
    try:
        if opening.follow and stat.S_ISREG(os.stat(path).st_mode):
            return GrowingSource(open(path, "rb", buffering=0), opening.idle_s, opening.stopped)
        return FileSource(open(path, "rb", buffering=0), owned=True)
    except FileNotFoundError:
        reason = "no such file"
    except IsADirectoryError:
        reason = "is a directory; name a capture file in it"
    except PermissionError:
        reason = "permission denied; captures made by root are often readable by root only"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise InputError(path, reason)


def _recognise(path: str, source: OctetSource, facts: CaptureFacts, max_expansion: int) -> _Recognised | TarStream:
    """Look through compression, then at the file header."""
    prefix = read_prefix(source, compressed.MAGIC_LEN)
    compression = compressed.recognise(prefix)
    suffix = ""
    source = PrefixedSource(prefix, source)
    if compression is not None:
        suffix = f".{compression.suffix}"
        try:
            source = compressed.DecompressedSource(source, compression, max_expansion)
        except compressed.MissingPackage as error:
            raise CaptureFormatError(path, 0, str(error)) from None
    header = read_prefix(source, 4)
    if len(header) == 4 and (known := pcap.recognise(header)) is not None:
        return _open_pcap(path, suffix, source, header, *known, facts)
    if header == SECTION_HEADER.to_bytes(4, "little"):
        return _open_pcapng(path, suffix, source, header, facts)
    header += read_prefix(source, _PREFIX_LEN - len(header))
    if header[_TAR_MAGIC_AT:] == _TAR_MAGIC:
        return TarStream(PrefixedSource(header, source), compression)
    raise CaptureFormatError(path, 0, _describe_stranger(header, source.problem, compression))


def _open_pcap(
    path: str,
    suffix: str,
    source: OctetSource,
    magic: bytes,
    byte_order: str,
    variant: pcap.Variant,
    facts: CaptureFacts,
) -> _Recognised:
    header = magic + read_prefix(source, variant.file_header - len(magic))
    if len(header) < variant.file_header:
        return _cut_header(f"pcap{suffix}", source, len(header), variant.file_header)
    try:
        parser = pcap.PcapParser(header, byte_order, variant)
    except pcap.UnsupportedHeader as error:
        raise CaptureFormatError(path, error.offset, error.reason) from None
    facts.interfaces.append(parser.interface)
    return _Recognised(f"pcap{suffix}", source, parser, variant.file_header)


def _open_pcapng(path: str, suffix: str, source: OctetSource, magic: bytes, facts: CaptureFacts) -> _Recognised:
    header = magic + read_prefix(source, 16 - len(magic))
    if len(header) < 16:
        return _cut_header(f"pcapng{suffix}", source, len(header), 28)
    if problem := pcapng.section_problem(header):
        raise CaptureFormatError(path, 8, problem)
    return _Recognised(f"pcapng{suffix}", PrefixedSource(header, source), pcapng.PcapngParser(facts), 0)


def _cut_header(file_format: str, source: OctetSource, length: int, whole: int) -> _Recognised:
    reason = f"the file is cut inside its file header: {length} of {whole} octets are there"
    if source.problem:
        reason = f"{source.problem}: {reason}"
    return _Recognised(file_format, source, None, 0, Damage(0, reason))


def _describe_stranger(header: bytes, problem: str, compression: compressed.Compression | None) -> str:
    """Say what an input that is not a capture looks like, and what to do."""
    inside = f"inside its {compression.name} data " if compression is not None else ""
    if problem:
        return f"{problem}; nothing could be read"
    if not header:
        return f"{inside}it is empty; was the capture started with enough rights, and did it see a packet?".lstrip()
    if compression is not None and (again := compressed.recognise(header)) is not None:
        return f"it is compressed twice, {again.name} inside {compression.name}: decompress it once"
    for magic, what in _FOREIGN:
        if header.startswith(magic):
            return f"{inside}it is {what}"
    if len(header) < 4:
        return f"{inside}it has {len(header)} octets, too few to be a capture; {_EXPECTED}"
    start = header[:8]
    if all(0x20 <= octet < 0x7F or octet in b"\t\r\n" for octet in start):
        return f"{inside}it starts with {start.decode('ascii')!r}, which is text; {_EXPECTED}"
    return f"{inside}it starts with the octets {start.hex(' ')}; {_EXPECTED}"
