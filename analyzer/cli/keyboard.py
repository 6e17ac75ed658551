"""Keys of a terminal as they are pressed, without waiting for a line, and without echo."""

from __future__ import annotations

import codecs
import os
import select
import sys
from contextlib import suppress
from typing import Final

_NAMES: Final[dict[bytes, str]] = {
    b"A": "up", b"B": "down", b"C": "right", b"D": "left", b"H": "home", b"F": "end", b"Z": "tab",
    b"1~": "home", b"4~": "end", b"5~": "pageup", b"6~": "pagedown", b"7~": "home", b"8~": "end",
}  # fmt: skip
"""What follows ``ESC [`` or ``ESC O`` (ECMA-48 5.4 and xterm's control sequences), without parameters."""
_SINGLE: Final = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace"}
_ESCAPE: Final = 0x1B
_PATIENCE_S: Final = 0.03
"""Seconds after which an escape octet was the key and not the begin of a sequence."""


def decode(octets: bytes, decoder: codecs.IncrementalDecoder | None = None) -> list[str]:
    """Return the keys that a terminal sent: printable characters as they are, others by name, unknown ones left out.

    Parameters
    ----------
    octets : bytes
        Whole sequences.
    decoder : codecs.IncrementalDecoder, optional
        Keeps the begin of a character whose rest has not come yet.
    """
    decoder = decoder or codecs.getincrementaldecoder("utf-8")("ignore")
    keys: list[str] = []
    at = 0
    while at < len(octets):
        if octets[at] != _ESCAPE:
            for character in decoder.decode(octets[at : at + 1]):
                name = _SINGLE.get(character, character)
                keys += [name] if len(name) > 1 or name.isprintable() else []
            at += 1
        elif octets[at + 1 : at + 2] in (b"[", b"O"):
            stop = at + 2
            while stop < len(octets) and not 0x40 <= octets[stop] <= 0x7E:
                stop += 1
            body = octets[at + 2 : stop + 1]
            # Modifiers stand between the number and the final octet: ESC [ 1 ; 5 A.
            plain = body[-1:] if body[-1:] != b"~" else body.split(b";")[0].rstrip(b"~") + b"~"
            keys += [_NAMES[plain]] if plain in _NAMES else []
            at = stop + 1
        else:
            keys.append("escape")
            at += 1
    return keys


class Keyboard:
    """The keyboard of the terminal that the program runs in, whatever its standard input is.

    `open` and `close` may be called again and again; where there is no terminal there are no keys.
    """

    def __init__(self) -> None:
        self._fd: int | None = None
        self._owned = False
        self._before: list[object] | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def open(self) -> None:
        """Have keys come one by one; signals from keys (Ctrl-C, Ctrl-Z) stay."""
        try:
            import termios
            import tty

            if sys.stdin is not None and sys.stdin.isatty():
                self._fd, self._owned = sys.stdin.fileno(), False
            else:
                self._fd, self._owned = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY), True
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd, termios.TCSANOW)
        except (ImportError, OSError, ValueError):
            self._drop()

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._fd is not None and self._before is not None:
            import termios

            with suppress(OSError, termios.error):  # the terminal is gone
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)  # type: ignore[arg-type]
        self._drop()

    def _drop(self) -> None:
        if self._owned and self._fd is not None:
            os.close(self._fd)
        self._fd, self._owned, self._before = None, False, None

    def keys(self) -> list[str]:
        """Return the keys pressed since the last call, without waiting."""
        octets = self._read(0.0)
        if octets.endswith((b"\x1b", b"\x1b[", b"\x1bO")):
            octets += self._read(_PATIENCE_S)
        return decode(octets, self._decoder)

    def _read(self, wait_s: float) -> bytes:
        if self._fd is None:
            return b""
        try:
            if not select.select([self._fd], [], [], wait_s)[0]:
                return b""
            octets = os.read(self._fd, 1024)
        except OSError:
            octets = b""
        if not octets:  # the terminal is gone
            self._drop()
        return octets
