"""Reading ahead: a thread takes octets in while those before are analysed.

For inputs that cost time to get: what is compressed is decompressed beside the analysis (the libraries let other
threads run meanwhile), and a pipe is drained while connections are read, so that the program that captures need not
drop packets. A plain file is copied from memory faster than from one thread to another: it is read directly.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from analyzer.capture.stream import OctetSource

_DIRECT: Final = 8 << 20
"""Octets read without a thread: most captures of an archive, and all that is only looked at, need none."""
_ROOM: Final = 32 << 20
"""Octets held at most: a quarter of a second of a 1 Gbit/s link."""
_PIECE: Final = 1 << 20
_PATIENCE_S: Final = 1.0
"""Seconds to wait at the end for a thread that hangs in a read."""


class AheadSource:
    """An `OctetSource` that reads another one ahead.

    Parameters
    ----------
    source : OctetSource
        Read by a thread of this object once `direct` octets have been read; nothing else may read it then.
    direct, room : int
        Octets read without a thread, and octets held at most.
    """

    def __init__(self, source: OctetSource, *, direct: int = _DIRECT, room: int = _ROOM) -> None:
        self._source: Final = source
        self._direct = direct
        self._room: Final = room
        self._changed: Final = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._held = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._buffer = memoryview(b"")

    @property
    def octets_read(self) -> int:
        """See `OctetSource`; those that are held are read."""
        return self._source.octets_read

    @property
    def size(self) -> int | None:
        """See `OctetSource`."""
        return self._source.size

    @property
    def problem(self) -> str:
        """See `OctetSource`. It comes behind the octets that were read before it."""
        return "" if self._thread is not None and (self._pieces or not self._ended) else self._source.problem

    def readinto(self, target: memoryview) -> int:
        """See `OctetSource`."""
        if self._thread is None:
            if self._direct > 0:
                count = self._source.readinto(target)
                self._direct -= count
                return count
            self._buffer = memoryview(bytearray(_PIECE))
            self._thread = threading.Thread(target=self._read, name="reading ahead", daemon=True)
            self._thread.start()
        with self._changed:
            self._changed.wait_for(self._has_something)
            if not self._pieces:
                if self._error is not None:
                    raise self._error
                return 0
            piece = self._pieces.popleft()
            count = min(len(piece), len(target))
            if count < len(piece):
                self._pieces.appendleft(piece[count:])
            self._held -= count
            self._changed.notify()
        target[:count] = piece[:count]
        return count

    def waits(self, seconds: float) -> bool:
        """See `OctetSource`."""
        if self._thread is None:
            return self._source.waits(seconds)
        with self._changed:
            return not self._changed.wait_for(self._has_something, max(seconds, 0.0))

    def close(self) -> None:
        """See `OctetSource`."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
        self._source.close()

    def _has_something(self) -> bool:
        return bool(self._pieces) or self._ended

    def _read(self) -> None:
        """Read until the source ends or nobody wants more (the thread)."""
        try:
            while (piece := self._piece()) is not None:
                with self._changed:
                    self._pieces.append(piece)
                    self._held += len(piece)
                    self._changed.notify()
                    self._changed.wait_for(lambda: self._held < self._room or self._stopped)
                    if self._stopped:
                        return
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _piece(self) -> memoryview | None:
        """Read a piece, less where the source pauses; None at its end."""
        filled = 0
        while filled < _PIECE and not (filled and self._source.waits(0.0)):
            count = self._source.readinto(self._buffer[filled:])
            if not count:
                break
            filled += count
        # As large as what is in it: a pipe fills little of a buffer before it pauses.
        return memoryview(bytes(self._buffer[:filled])) if filled else None
