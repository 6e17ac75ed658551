"""Text of captured octets, and the pool that string columns index."""

from __future__ import annotations

import numpy as np

from analyzer.schema import I32, I64


def printable(text: str) -> str:
    r"""`text` with every character that is not printable written as an escape (``\x00``), and backslashes doubled.

    Names come from strangers: what reaches a terminal or a page must not steer it.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode("ascii") for c in text)


def text_of(octets: bytes) -> str:
    """ASCII octets as text; all others as escapes."""
    return printable(octets.decode("latin-1")) if octets.isascii() else octets.decode("ascii", "backslashreplace")


class StringPool:
    """Distinct strings, numbered in the order they are first used."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        """Index of `text`; -1 for None."""
        return -1 if text is None else self._known.setdefault(text, len(self._known))

    def column(self, texts: list[str | None], ids: I64) -> I32:
        """Index of ``texts[ids]``: (N,) int32."""
        numbers = np.full(len(texts) + 1, -1, np.int32)
        used = np.zeros(len(texts), bool)
        used[ids] = True
        for row in np.flatnonzero(used).tolist():
            numbers[row] = self.number(texts[row])
        return numbers[ids]

    def strings(self) -> tuple[str, ...]:
        """All strings, by index."""
        return tuple(self._known)
