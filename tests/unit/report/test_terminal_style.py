"""Words that every terminal output shares."""

from __future__ import annotations

import pytest

from analyzer.report.terminal_style import dominant_of, duration_text, number_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250 ms"), (2.5, "2.5 s"), (59.94, "59.9 s"), (60, "1 min"), (250, "4 min 10 s"), (11520, "3 h 12 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_numbers() -> None:
    assert [number_text(n, "frame") for n in (0, 1, 1234)] == ["0 frames", "1 frame", "1,234 frames"]


def test_the_worse_answer_wins_a_tie() -> None:
    grades = {"observed": 3, "inferred": 1, "declared": 0, "default": 0, "none": 0}
    counts = {"verified": 2, "unverified": 2, "refused": 0, "undecidable": 0}
    assert dominant_of(counts, grades, "server_verification") == ("unverified", "observed", 2, 4)
