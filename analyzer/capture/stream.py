"""Octets of an input, in order and in bounded memory: files, pipes, and the buffer that chunks are cut from.

Files are read into one buffer, not mapped. Mapping was measured to save a tenth of the time of this package, but a
file that is truncated while it is read (a capture in rotation), or a disk that fails, would then end the process with
SIGBUS instead of a line in the report.
"""

from __future__ import annotations

import os
import select
import stat
import time
from io import BufferedReader, RawIOBase, UnsupportedOperation
from typing import BinaryIO, Final
from typing import Protocol as TypingProtocol

import numpy as np

from analyzer.schema import U8

PAUSE_S: Final = 0.25
"""Seconds a pipe may keep back what already arrived: a chunk is handed out after that even if it could hold more."""


class OctetSource(TypingProtocol):
    """A sequential input. Reading never raises: what goes wrong ends the input and stands in `problem`."""

    @property
    def octets_read(self) -> int:
        """Octets of the input read so far, before decompression."""

    @property
    def size(self) -> int | None:
        """Octets of the input, before decompression; None where it is not known (pipes)."""

    @property
    def problem(self) -> str:
        """What went wrong; empty while all is well."""

    def readinto(self, target: memoryview) -> int:
        """Fill the beginning of `target` with what there is, at least one octet; 0 = the input has ended."""

    def waits(self, seconds: float) -> bool:
        """Tell whether no octet arrives within so many seconds."""

    def close(self) -> None:
        """Release what was opened."""


class FileSource:
    """An `OctetSource` over a file, a pipe or any binary stream.

    Parameters
    ----------
    stream : RawIOBase or BinaryIO
    owned : bool
        Close `stream` with this source.
    """

    def __init__(self, stream: RawIOBase | BinaryIO, *, owned: bool) -> None:
        self.octets_read = 0
        self.problem = ""
        self.size: int | None = None
        self._stream: Final = stream
        self._owned: Final = owned
        self._descriptor: int | None = None  # set where select() can tell that nothing has arrived yet
        # One read(2) and no more, where the stream is buffered: what a pipe holds now, not what it may hold later.
        self._readinto = getattr(stream, "readinto1", None) or getattr(stream, "readinto", None)
        try:
            descriptor = stream.fileno()
            mode = os.fstat(descriptor)
        except (OSError, AttributeError, UnsupportedOperation):
            return
        if stat.S_ISREG(mode.st_mode):
            self.size = mode.st_size
        elif os.name == "posix":
            self._descriptor = descriptor
            # For large targets readinto1 waits for more even where its buffer holds something. Nobody has read from
            # the stream yet, so that its buffer is empty.
            if isinstance(stream, BufferedReader):
                self._readinto = stream.raw.readinto

    @property
    def reopens(self) -> bool:
        """Whether it is a regular file that was opened by its name, and can be again."""
        return self._owned and self.size is not None

    def readinto(self, target: memoryview) -> int:
        """See `OctetSource`."""
        try:
            count = self._read(target)
            while count is None:  # a descriptor somebody set to non-blocking
                self.waits(PAUSE_S)
                count = self._read(target)
        except (OSError, ValueError) as error:
            self.problem = f"reading failed: {getattr(error, 'strerror', None) or error}"
            return 0
        self.octets_read += count
        return count

    def descriptor(self) -> int:
        """Number of the open file.

        Raises
        ------
        OSError
            There is none.
        """
        return self._stream.fileno()

    def skip_to(self, offset: int) -> None:
        """Go on at `offset` of a regular file, of which what lies before was read by others."""
        self._stream.seek(offset)
        self.octets_read = offset

    def waits(self, seconds: float) -> bool:
        """See `OctetSource`. Regular files and streams without a descriptor never wait."""
        if self._descriptor is None:
            return False
        try:
            return not select.select([self._descriptor], [], [], max(seconds, 0.0))[0]
        except (OSError, ValueError):  # a descriptor past FD_SETSIZE
            return False

    def close(self) -> None:
        """See `OctetSource`."""
        if self._owned:
            self._stream.close()

    def _read(self, target: memoryview) -> int | None:
        if self._readinto is not None:
            count: int | None = self._readinto(target)
            return count
        octets = self._stream.read(len(target))
        if octets is None:
            return None
        target[: len(octets)] = octets
        return len(octets)


class PrefixedSource:
    """An `OctetSource` whose first octets were read already, to see what it is."""

    def __init__(self, prefix: bytes, source: OctetSource) -> None:
        self._prefix = prefix
        self._source: Final = source

    @property
    def octets_read(self) -> int:
        """See `OctetSource`."""
        return self._source.octets_read

    @property
    def size(self) -> int | None:
        """See `OctetSource`."""
        return self._source.size

    @property
    def problem(self) -> str:
        """See `OctetSource`."""
        return self._source.problem

    def readinto(self, target: memoryview) -> int:
        """See `OctetSource`."""
        if not self._prefix:
            return self._source.readinto(target)
        count = min(len(self._prefix), len(target))
        target[:count] = self._prefix[:count]
        self._prefix = self._prefix[count:]
        return count

    def waits(self, seconds: float) -> bool:
        """See `OctetSource`."""
        return not self._prefix and self._source.waits(seconds)

    def close(self) -> None:
        """See `OctetSource`."""
        self._source.close()


def read_prefix(source: OctetSource, count: int) -> bytes:
    """Read `count` octets, fewer only where the input has no more."""
    target = memoryview(bytearray(count))
    filled = 0
    while filled < count and (got := source.readinto(target[filled:])):
        filled += got
    return bytes(target[:filled])


class ChunkBuffer:
    """The buffer that whole records are parsed from; what is left of an incomplete one moves to its beginning.

    Parameters
    ----------
    source : OctetSource
    capacity : int
        Octets; grows only where one record needs more.
    """

    def __init__(self, source: OctetSource, capacity: int) -> None:
        self.ended = False
        self.offset = 0  #: of the first octet of the buffer in the (decompressed) input
        self._source: Final = source
        self._octets: U8 = np.empty(capacity, np.uint8)
        self._filled = 0

    @property
    def octets(self) -> U8:
        """What is there: (B,) uint8, aligned to 4 octets, valid until `fill`."""
        return self._octets[: self._filled]

    def fill(self, consumed: int, needed: int) -> None:
        """Drop the first `consumed` octets, make room for `needed`, and read until full or the source pauses.

        At least one octet is added unless the source has ended.
        """
        left = self._filled - consumed
        needed = max(needed, left + 1)
        target = self._octets if needed <= self._octets.shape[0] else np.empty(needed, np.uint8)
        if left:
            # The two may overlap, so numpy copies by way of a temporary.
            target[:left] = self._octets[consumed : self._filled]
        self._octets, self._filled = target, left
        self.offset += consumed
        view = self._octets.data
        deadline: float | None = None
        while self._filled < len(view):
            if deadline is not None and self._source.waits(deadline - time.monotonic()):
                return
            count = self._source.readinto(view[self._filled :])
            if not count:
                self.ended = True
                return
            self._filled += count
            deadline = deadline or time.monotonic() + PAUSE_S
