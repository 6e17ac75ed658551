"""Captured text made inert: what a hostile peer wrote may be read in an output, never acted upon by it."""

from __future__ import annotations

from typing import Final

# OWASP "CSV Injection": the ASCII triggers, and the full-width forms that Excel also takes for formulas.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    r"""Return `text` with every character that does not print replaced by its escape.

    Parameters
    ----------
    text : str
        Text that may come from the capture: names, headers, certificate subjects.

    Returns
    -------
    str
        C0 and C1 controls as ``\x1b``; bidirectional overrides, zero-width characters, separators and lone
        surrogates as ``\u202e``. A terminal cannot be driven, and the order and length of what is read cannot be
        faked (Unicode Technical Report 36, 2.1 and 3.1); the result can always be encoded in UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def spreadsheet_safe(text: str) -> str:
    """Return `visible` text that no spreadsheet takes for a formula: a leading apostrophe says "this is text"."""
    return "'" + visible(text) if text.startswith(_FORMULA_STARTS) else visible(text)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts node-2 before node-10."""
    runs: list[str] = [""]
    for character in text:
        if character.isdecimal() != runs[-1][-1:].isdecimal():
            runs.append("")
        runs[-1] += character
    return tuple((0, int(run), "") if run.isdecimal() else (1, 0, run) for run in runs if run)


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
