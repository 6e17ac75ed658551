"""Words, marks and colours that every terminal output shares; nothing is said by colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from analyzer.report.schema_document import GRADES, QUESTIONS

VERDICT_STYLES: Final = {
    "at-risk": "bold red",
    "undecidable": "yellow",
    "sound": "green",
    "informational": "dim",
}
_MARKS: Final = {"at-risk": "✗", "undecidable": "?", "sound": "✓", "informational": "·"}
_ASCII_MARKS: Final = {"at-risk": "x", "undecidable": "?", "sound": "+", "informational": "-"}
_GOOD: Final = frozenset({"encrypted", "presented", "verified", "refused"})
_BAD: Final = frozenset({"cleartext", "unverified"})
SEVERITY_STYLES: Final = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "yellow",
    "low": "cyan",
    "info": "dim",
}
QUESTION_TITLES: Final = {
    "encryption": "Encryption",
    "client_certificate": "Client cert.",
    "server_verification": "Server check",
}
_WORSE_FIRST: Final = (
    "cleartext",
    "unverified",
    "undecidable",
    "absent",
    "refused",
    "presented",
    "encrypted",
    "verified",
)


Dominant = tuple[str, str, int, int]
"""A channel's commonest answer to a question, its commonest grade, the answer's count, and the count of all."""


def dominant(channel: Mapping[str, Any], question: str) -> Dominant:
    """Return what most connections of a report's channel answer."""
    return dominant_of(channel[question], channel["grades"][question], question)


def dominant_of(counts: Mapping[str, int], grades: Mapping[str, int], question: str) -> Dominant:
    """Return what most connections answer.

    The worse answer wins a tie, so that "half in cleartext" is not shown as encrypted.
    """
    value = max(sorted(counts, key=_WORSE_FIRST.index), key=lambda name: int(counts[name]))
    grade = max(GRADES, key=lambda name: int(grades[name]))
    return value, grade, int(counts[value]), sum(int(counts[name]) for name in QUESTIONS[question])


def answer_text(answer: Dominant, marks: Mapping[str, str], separator: str) -> Text:
    """Return the answer with its mark, then the grade, and the share where not all connections agree."""
    value, grade, count, total = answer
    kind = "sound" if value in _GOOD else "at-risk" if value in _BAD else "undecidable"
    kind = "informational" if value == "absent" else kind
    text = Text(f"{value} {marks[kind]}", style=VERDICT_STYLES[kind])
    if count < total:
        grade = f"{count} of {total}, {grade}"
    text.append(separator + grade, style="dim")
    return text


def marks_for(console: Console) -> Mapping[str, str]:
    """Return the marks of verdicts that the console can show."""
    return _MARKS if console.encoding.lower().startswith("utf") else _ASCII_MARKS


def duration_text(seconds: float) -> str:
    """Return a duration as a person says it: ``250 ms``, ``2.5 s``, ``4 min 10 s``, ``3 h 12 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def number_text(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
