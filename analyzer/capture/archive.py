"""Captures inside tar archives, read as they are: nothing is unpacked, and no name in an archive is a path here.

The standard library reads the format. What a hostile archive can make it hold in memory is bounded by looking at every
header before it is followed.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, cast

from analyzer.capture.stream import OctetSource

MAX_NAME: Final = 1 << 20
"""Octets of one extended header: names and attributes of a file (POSIX 1003.1 pax 4.1)."""

_BLOCK: Final = 256 << 10
_EXTENDED: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Reader:
    """The ``read`` that tarfile asks of a stream."""

    def __init__(self, source: OctetSource) -> None:
        self._source: Final = source

    def read(self, count: int) -> bytes:
        target = bytearray(count)
        view, filled = memoryview(target), 0
        while filled < count and (got := self._source.readinto(view[filled:])):
            filled += got
        return bytes(view[:filled])


class MemberSource:
    """An `OctetSource` over one file of an archive; valid until the next one is asked for."""

    def __init__(self, content: Any, size: int) -> None:  # noqa: ANN401 - tarfile's type for it differs by version
        self.octets_read = 0
        self.problem = ""
        self.size: int | None = size
        self._content: Final = content

    def readinto(self, target: memoryview) -> int:
        """See `OctetSource`."""
        try:
            count = int(self._content.readinto(target) or 0)
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            self.problem = f"the archive is damaged inside this file: {str(error)[:200]!r}"
            return 0
        self.octets_read += count
        if not count and self.octets_read < (self.size or 0):
            self.problem = "the archive is cut inside this file"
        return count

    def waits(self, seconds: float) -> bool:
        """See `OctetSource`. What a pipe behind an archive holds is not known."""
        del seconds
        return False

    def close(self) -> None:
        """See `OctetSource`."""


def read_members(source: OctetSource, report: Callable[[str], None]) -> Iterator[tuple[str, MemberSource | None]]:
    """Yield name and content of each file in a tar archive, in its order.

    Parameters
    ----------
    source : OctetSource
        The archive, decompressed.
    report : callable
        Told in one line why the archive ended where it did, unless it ended well.

    Yields
    ------
    name : str
        As the archive says: untrusted text.
    content : MemberSource or None
        None for a file with holes (GNU sparse), which can claim any size.
    """

    class Header(tarfile.TarInfo):
        """Refuses headers that would be read into memory without bound, and notes those that make no sense."""

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            try:
                header = super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as error:
                # Zeros end an archive; nothing at all ends a stream that forgot them.
                if any(buf):
                    report(f"a header in the archive makes no sense ({str(error)[:100]}): reading it stops there")
                raise
            if header.size < 0 or (header.type in _EXTENDED and header.size > MAX_NAME):
                report(f"a header in the archive claims {header.size} octets: reading it stops there")
                raise tarfile.ReadError("header too large")
            return header

    try:
        with tarfile.open(
            fileobj=cast(IO[bytes], _Reader(source)),
            mode="r|",
            bufsize=_BLOCK,
            tarinfo=Header,
            errors="surrogateescape",
        ) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # it would keep every header it met
                if not member.isreg():
                    continue
                if member.issparse():
                    yield member.name, None
                    continue
                yield member.name, MemberSource(archive.extractfile(member), member.size)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        report(source.problem or f"the archive is damaged: {str(error)[:200]!r}")
    if source.problem:
        report(source.problem)
