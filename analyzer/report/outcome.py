"""What a document means for the exit status: the one place where findings, suppressions and damage become a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

CLEAN: Final = 0
FINDINGS: Final = 1
INCOMPLETE: Final = 4

LIVE: Final = "live"
"""Format of a capture that was made on interfaces, and cannot be read again."""

THRESHOLDS: Final = ("info", "low", "medium", "high", "critical", "never")
"""What ``--fail-on`` takes, mildest first."""


def reaches(severity: str, fail_on: str) -> bool:
    """Tell whether a severity is at or above the threshold; nothing reaches ``never``."""
    return THRESHOLDS.index(severity) >= THRESHOLDS.index(fail_on)


def exit_status(document: Mapping[str, Any], fail_on: str) -> int:
    """Status of the process: findings that nobody accepted first, then incomplete input, else 0."""
    if any(f["suppression"] is None and reaches(f["severity"], fail_on) for f in document["findings"]):
        return FINDINGS
    return INCOMPLETE if incomplete(document) else CLEAN


def incomplete(document: Mapping[str, Any]) -> bool:
    """Tell whether something of what the user named was not read, or the capture says that it lacks frames."""
    damaged = any(item["damage"] for item in document["captures"])
    unread = any(one["named"] for one in document["skipped"]["files"])
    left_out = bool(document["ledger"]["left_out"]["packets"])
    return damaged or unread or left_out or bool(document["quality"]["dropped"])
