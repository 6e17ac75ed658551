"""Compressed inputs: gzip, xz, bzip2, zstd and lz4, recognised by content and read as a stream.

Every format is a sequence of members; each member is one run of its decompressor. An input that ends inside a member
or holds something else after one is damaged: what was decompressed before is delivered.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final, cast
from typing import Protocol as TypingProtocol

from analyzer.bounds import MAX_EXPANSION
from analyzer.capture.stream import OctetSource, read_prefix

_XZ_MEMORY: Final = 128 << 20
"""xz -9 needs 65 MiB (xz(1)); more only a hand-made file asks for."""

_ZSTD_WINDOW: Final = 128 << 20
"""What zstd(1) accepts without --long."""

_ZSTD_SLICE: Final = 1024
"""Compressed octets handed to zstd at a time. A block of 4 octets can stand for 128 KiB (RFC 8878 3.1.1.2.2), and the
binding returns all that its input holds at once: this bounds it to 32 MiB."""


FREE_EXPANSION: Final = 1 << 30
"""Octets that any input may expand to: whatever the ratio, this much is read in seconds and in bounded memory."""


class MissingPackage(ImportError):
    """A decompressor is not installed; the text says how to mend that."""


class Member(TypingProtocol):
    """A decompressor for one member, as `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool:
        """Tell whether the end of the member was reached."""

    @property
    def needs_input(self) -> bool:
        """Tell whether `decompress` can do nothing more without further input."""

    @property
    def unused_data(self) -> bytes | None:
        """Return the octets after the member; lz4 says None where there are none."""

    def decompress(self, data: bytes, max_length: int) -> bytes | memoryview:
        """Take in all of `data` and return at most `max_length` octets."""


class _Zlib(TypingProtocol):
    """`zlib.decompressobj`, whose class has no public name."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _GzipMember:
    """zlib with the interface of `Member`."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._failure: zlib.error | None = None
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        before = self._zlib.copy()
        data = self._zlib.unconsumed_tail + data
        try:
            octets = self._zlib.decompress(data, max_length)
        except zlib.error as error:
            self._failure, self.needs_input = error, False
            return _decompress_until_failure(before, data, max_length)
        # zlib may hold output back without holding input back: only when it could have given more, it is empty.
        self.needs_input = len(octets) < max_length
        return octets


def _decompress_until_failure(member: _Zlib, data: bytes, max_length: int) -> bytes:
    """Return what zlib makes of `data` before the octet that it refuses; that is less than `max_length` octets."""
    octets = bytearray()
    for at in range(len(data)):
        try:
            octets += member.decompress(data[at : at + 1], max_length)
        except zlib.error:
            break
    return bytes(octets)


class _ZstdMember:
    """zstandard with the interface of `Member`."""

    def __init__(self, zstandard: ModuleType) -> None:
        self._error: Final = zstandard.ZstdError
        self._zstd = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._input = b""
        self._output = memoryview(b"")

    @property
    def eof(self) -> bool:
        return bool(self._zstd.eof) and not self._output

    @property
    def needs_input(self) -> bool:
        return not self._input and not self._output

    @property
    def unused_data(self) -> bytes:
        return bytes(self._zstd.unused_data) + self._input

    def decompress(self, data: bytes, max_length: int) -> memoryview:
        self._input += data
        while not self._output and self._input and not self._zstd.eof:
            piece, self._input = self._input[:_ZSTD_SLICE], self._input[_ZSTD_SLICE:]
            try:
                self._output = memoryview(self._zstd.decompress(piece))
            except self._error as error:
                raise ValueError(str(error)) from None
        octets, self._output = self._output[:max_length], self._output[max_length:]
        return octets


@dataclass(frozen=True, slots=True)
class Compression:
    """One compressed format.

    Attributes
    ----------
    name : str
    suffix : str
        Of `schema.CaptureReader.format`.
    magics : tuple of bytes
        What a member starts with.
    start : callable
        Makes the decompressor of a member.
    feed : int
        Compressed octets given to it at a time.
    """

    name: str
    suffix: str
    magics: tuple[bytes, ...]
    start: Callable[[], Member]
    feed: int = 4096


def _package(name: str, kind: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        distribution = name.partition(".")[0]
        raise MissingPackage(
            f"it is compressed with {kind}, which needs a package that is not installed: pip install {distribution}"
        ) from None


# RFC 8878 3.1.2 and the lz4 frame format: frames of metadata that a decompressor skips. pzstd starts with one.
_SKIPPABLE: Final = tuple(bytes([0x50 + n, 0x2A, 0x4D, 0x18]) for n in range(16))

# A level, then the magic of a block or, where there is none, that of the end of the stream.
_BZIP2: Final = tuple(
    b"BZh%d" % level + magic for level in range(1, 10) for magic in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
)

COMPRESSIONS: Final = (
    Compression("gzip", "gz", (b"\x1f\x8b\x08",), _GzipMember, feed=65536),
    Compression(
        "zstd",
        "zst",
        (b"\x28\xb5\x2f\xfd", *_SKIPPABLE),
        lambda: _ZstdMember(_package("zstandard", "zstd")),
    ),
    Compression("xz", "xz", (b"\xfd7zXZ\x00",), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)),
    Compression("bzip2", "bz2", _BZIP2, bz2.BZ2Decompressor),
    Compression(
        "lz4",
        "lz4",
        (b"\x04\x22\x4d\x18", *_SKIPPABLE),
        lambda: cast(Member, _package("lz4.frame", "lz4").LZ4FrameDecompressor()),
    ),
)
"""In the order they are tried."""

MAGIC_LEN: Final = max(len(magic) for compression in COMPRESSIONS for magic in compression.magics)


def recognise(prefix: bytes) -> Compression | None:
    """Return the format that starts like `prefix`."""
    for compression in COMPRESSIONS:
        if prefix.startswith(compression.magics):
            return compression
    return None


_STEP: Final = 65536
"""Octets decompressed at a time. Where the data are corrupt this much before is lost (with zstd a block, which is twice
as much; with gzip nothing): the libraries either return what they have or raise."""

_REFUSALS: Final = (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError, RuntimeError)
"""What the five libraries raise for corrupt data."""


class DecompressedSource:
    """An `OctetSource` of what another one holds compressed.

    Parameters
    ----------
    source : OctetSource
    compression : Compression
    max_expansion : int
        See `bounds.MAX_EXPANSION`; past it the input ends with a problem.

    Raises
    ------
    MissingPackage
        The decompressor is not installed.
    """

    def __init__(self, source: OctetSource, compression: Compression, max_expansion: int = MAX_EXPANSION) -> None:
        self._max_expansion: Final = max_expansion
        self._made = 0
        self._source: Final = source
        self._compression: Final = compression
        self._member: Member | None = compression.start()
        self._feed: Final = memoryview(bytearray(compression.feed))
        self._rest = b""  # read, but not yet given to the member
        self.problem = ""

    @property
    def octets_read(self) -> int:
        """See `OctetSource`."""
        return self._source.octets_read

    @property
    def size(self) -> int | None:
        """See `OctetSource`."""
        return self._source.size

    def readinto(self, target: memoryview) -> int:
        """See `OctetSource`."""
        while self._member is not None and not self.problem:
            octets = self._decompress(self._member, len(target))
            if octets:
                target[: len(octets)] = octets
                self._made += len(octets)
                if self._made > FREE_EXPANSION and self._made > self._max_expansion * self._source.octets_read:
                    self.problem = (
                        f"it expands more than {self._max_expansion} times, past {FREE_EXPANSION} octets, as a "
                        "decompression bomb does: reading stops here; --max-expansion sets the limit"
                    )
                return len(octets)
        return 0

    def waits(self, seconds: float) -> bool:
        """See `OctetSource`. What a decompressor holds back is not known, so it is asked first."""
        member = self._member
        return member is not None and member.needs_input and not member.eof and self._source.waits(seconds)

    def close(self) -> None:
        """See `OctetSource`."""
        self._source.close()

    def _decompress(self, member: Member, limit: int) -> bytes | memoryview:
        """Take one step; no octets and no problem means: take another."""
        if member.eof:
            self._next_member(member.unused_data or b"")
            return b""
        data, self._rest = self._rest, b""
        if not data and member.needs_input:
            data = bytes(self._feed[: self._source.readinto(self._feed)])
            if not data:
                name = self._compression.name
                self.problem = self._source.problem or f"the file is cut short inside its {name} data"
                return b""
        return self._advance(member, data, min(limit, _STEP))

    def _advance(self, member: Member, data: bytes, limit: int) -> bytes | memoryview:
        try:
            return member.decompress(data, limit)
        except _REFUSALS as error:
            self.problem = f"the {self._compression.name} data are corrupt: {str(error)[:200]!r}"
            return b""

    def _next_member(self, rest: bytes) -> None:
        """Start the member after the one that ended; `rest` is what was read of it."""
        self._member = None
        rest = self._without_padding(rest)
        if not rest:
            self.problem = self._source.problem
            return
        rest += read_prefix(self._source, max(MAGIC_LEN - len(rest), 0))
        if not rest.startswith(self._compression.magics):
            self.problem = f"what follows the {self._compression.name} data is not {self._compression.name}"
            return
        self._member = self._compression.start()
        self._rest = rest

    def _without_padding(self, rest: bytes) -> bytes:
        """Skip zeros: tape blocks for gzip(1), stream padding for xz (xz file format 2.2)."""
        rest = rest.lstrip(b"\0")
        while not rest and (count := self._source.readinto(self._feed)):
            rest = bytes(self._feed[:count]).lstrip(b"\0")
        return rest
