"""Numbers in few characters, and the rows around a selected one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.report.live_channels import short, window


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999.4, "999"), (999.6, "1.0k"), (1234, "1.2k"), (34_000, "34k"), (999_600, "1.0M"), (5e15, "5000T")],
)
def test_numbers_in_few_characters(value: float, text: str) -> None:
    assert short(value) == text


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 49))
def test_the_selected_row_is_always_in_the_window(count: int, size: int, row: int) -> None:
    shown = window(count, size, min(row, count - 1))
    assert len(shown) == min(size, count)
    assert shown.start >= 0
    assert shown.stop <= count
    assert not shown or min(row, count - 1) in shown
