"""Inputs that are still being made: a file somebody writes to, and a PCAP-over-IP server.

Both end when nothing has come for a while, when the other side says so, or when the user interrupts; what was read
until then is reported.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Callable
from typing import BinaryIO, Final

from analyzer.capture.stream import PAUSE_S
from analyzer.errors import InputError

POLL_S: Final = 0.1
"""Seconds between two looks at a file that had nothing new."""

CONNECT_S: Final = 10.0

_ADDRESS: Final = re.compile(r"(?:tcp://|TCP@)(?:\[([^\]]+)\]|([^:/\[\]]+)):([0-9]{1,5})/?", re.IGNORECASE)
"""``tcp://host:port``, and Wireshark's ``TCP@host:port`` (wireshark(1), -i)."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


class GrowingSource:
    """An `OctetSource` over a file that is being written: at its end it waits for more.

    Parameters
    ----------
    stream : BinaryIO
        A regular file, opened unbuffered; closed with this source.
    idle_s : float or None
        Seconds without a new octet after which the input has ended; None = never.
    stopped : callable
        Asked while waiting: True ends the input.
    """

    size = None

    def __init__(self, stream: BinaryIO, idle_s: float | None, stopped: Callable[[], bool] = never) -> None:
        self.octets_read = 0
        self.problem = ""
        self._stream: Final = stream
        self._idle_s: Final = idle_s
        self._stopped: Final = stopped

    def readinto(self, target: memoryview) -> int:
        """See `OctetSource`."""
        deadline = None if self._idle_s is None else time.monotonic() + self._idle_s
        while not (count := self._read(target)) and not self.problem:
            if self._stopped() or (deadline is not None and time.monotonic() >= deadline):
                return 0
            time.sleep(POLL_S)
        return count

    def waits(self, seconds: float) -> bool:
        """See `OctetSource`."""
        until = time.monotonic() + max(seconds, 0.0)
        while not self._more():
            if time.monotonic() >= until or self._stopped():
                return True
            time.sleep(min(POLL_S, max(until - time.monotonic(), 0.0)))
        return False

    def close(self) -> None:
        """See `OctetSource`."""
        self._stream.close()

    def _more(self) -> bool:
        try:
            return os.fstat(self._stream.fileno()).st_size != self.octets_read
        except OSError:
            return True

    def _read(self, target: memoryview) -> int:
        try:
            if os.fstat(self._stream.fileno()).st_size < self.octets_read:
                self.problem = "the file became shorter while it was followed; name the new one"
                return 0
            count = int(self._stream.readinto(target) or 0)  # type: ignore[attr-defined]
        except OSError as error:
            self.problem = f"reading failed: {error.strerror or error}"
            return 0
        self.octets_read += count
        return count


class SocketSource:
    """An `OctetSource` over a connected socket.

    Parameters
    ----------
    connection : socket
        Closed with this source.
    idle_s : float or None
        As for `GrowingSource`.
    stopped : callable
    """

    size = None

    def __init__(self, connection: socket.socket, idle_s: float | None, stopped: Callable[[], bool] = never) -> None:
        self.octets_read = 0
        self.problem = ""
        self._socket: Final = connection
        self._idle_s: Final = idle_s
        self._stopped: Final = stopped

    def readinto(self, target: memoryview) -> int:
        """See `OctetSource`."""
        deadline = None if self._idle_s is None else time.monotonic() + self._idle_s
        while self.waits(PAUSE_S):
            if self._stopped() or (deadline is not None and time.monotonic() >= deadline):
                return 0
        try:
            count = self._socket.recv_into(target)
        except OSError as error:
            self.problem = f"the connection failed: {error.strerror or error}"
            return 0
        self.octets_read += count
        return count

    def waits(self, seconds: float) -> bool:
        """See `OctetSource`."""
        try:
            return not select.select([self._socket], [], [], max(seconds, 0.0))[0]
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """See `OctetSource`."""
        self._socket.close()


def parse_address(text: str) -> tuple[str, int] | None:
    """Host and port of ``tcp://host:port`` or ``TCP@host:port``; None where `text` is something else.

    Raises
    ------
    InputError
        It begins like one and names no host and port.
    """
    if not text.lower().startswith(("tcp://", "tcp@")):
        return None
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match[3]) < 65536:
        raise InputError(text, "expected tcp://HOST:PORT with a port from 1 to 65535")
    return match[1] or match[2], int(match[3])


def connect(name: str, address: tuple[str, int], idle_s: float | None, stopped: Callable[[], bool]) -> SocketSource:
    """Connect to a PCAP-over-IP server: it sends a capture as it is made, from the file header on.

    Raises
    ------
    InputError
        Nobody answers there.
    """
    try:
        connection = socket.create_connection(address, CONNECT_S)
    except OSError as error:
        raise InputError(name, f"cannot connect: {error.strerror or error}") from None
    connection.settimeout(None)
    return SocketSource(connection, idle_s, stopped)
