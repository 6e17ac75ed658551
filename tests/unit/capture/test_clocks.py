"""Time stamps against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analyzer.capture.clocks import to_nanoseconds

LIMIT = 2**62 - 1


@given(
    ticks=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5),
    resolution=st.integers(0, 255),
    offset_s=st.integers(-(2**63), 2**63 - 1),
)
@example(ticks=[2**64 - 1, 0], resolution=0, offset_s=0)
@example(ticks=[2**64 - 1, 0], resolution=0x80, offset_s=2**63 - 1)
@example(ticks=[2**64 - 1], resolution=28, offset_s=-(2**63))
@example(ticks=[2**64 - 1], resolution=29, offset_s=0)
@example(ticks=[2**64 - 1], resolution=0x80 | 31, offset_s=0)
@example(ticks=[2**64 - 1], resolution=0x80 | 32, offset_s=0)
def test_exact(ticks: list[int], resolution: int, offset_s: int) -> None:
    base = 2 if resolution & 0x80 else 10
    unit = Fraction(10**9, base ** (resolution & 0x7F))
    offset_ns = min(max(offset_s * 10**9, -LIMIT), LIMIT)
    expected = [min(int(tick * unit), LIMIT) + offset_ns for tick in ticks]
    assert to_nanoseconds(np.array(ticks, np.uint64), resolution, offset_s).tolist() == expected


@pytest.mark.parametrize(
    ("tick", "resolution", "ns"),
    [
        (1_700_000_000_123_456, 6, 1_700_000_000_123_456_000),
        (1_700_000_000_123_456_789, 9, 1_700_000_000_123_456_789),
        (1_700_000_000, 0, 1_700_000_000_000_000_000),
        (17_000_000_001_234_567_899, 10, 1_700_000_000_123_456_789),
        ((1_700_000_000 << 10) + 512, 0x8A, 1_700_000_000_500_000_000),
    ],
)
def test_by_hand(tick: int, resolution: int, ns: int) -> None:
    ticks = np.array([tick], np.uint64)
    assert to_nanoseconds(ticks, resolution, 0).tolist() == [ns]
    assert to_nanoseconds(ticks, resolution, -3600).tolist() == [ns - 3600 * 10**9]
