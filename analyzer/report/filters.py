"""Wireshark display filters that hold frames by number beside the fields of a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BETWEEN: Final = ") || frame.number in {"


def with_frames(around: str, frames: Sequence[int]) -> str:
    """The filter `around`, and besides what it selects the `frames` of one capture."""
    return f"({around}{_BETWEEN}{', '.join(map(str, frames))}}}" if frames else around


def without_frames(display_filter: str) -> str:
    """The part of a filter that holds in any capture."""
    around, between, _ = display_filter.rpartition(_BETWEEN)
    return around[1:] if between else display_filter
