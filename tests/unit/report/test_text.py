"""Captured text: visible, inert, and still what was captured."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analyzer.report.text import spreadsheet_safe, visible

ANY_TEXT = st.text(st.characters(codec=None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kubelet", "kubelet"),
        ("größe ✓", "größe ✓"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x9b31m", "\\x9b31m"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_does_not_print_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY_TEXT)
@example("\ud800\x00\u2066")
def test_visible_text_prints_encodes_and_stays(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert visible(shown) == shown
    assert text.isprintable() == (shown == text)


@given(ANY_TEXT)
@example("=1+1")
@example("\t=1+1")
@example("\uff1d1")
def test_no_cell_is_a_formula_after_a_csv_round_trip(text: str) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([spreadsheet_safe(text), "next"])
    (row,) = csv.reader(io.StringIO(out.getvalue()))
    assert row[1] == "next"
    # NFKC folds the full-width forms that Excel takes for formulas as well into the plain ones.
    assert not unicodedata.normalize("NFKC", row[0][:1]).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert row[0].removeprefix("'") == visible(text).removeprefix("'")
