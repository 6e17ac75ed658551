"""Columns of texts: what every row gets is what a loop over the rows would give it, and each text is made once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.report.sections.texts import Texts, named, picked


@given(st.lists(st.text(), min_size=1), st.data())
def test_rows_get_their_text(texts: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1)))
    assert picked(texts, np.array(rows, np.int64)) == [texts[row] for row in rows]


def test_a_place_counted_from_the_end_is_the_last() -> None:
    assert picked(["a", "b", ""], np.array([0, -1, 1])) == ["a", "", "b"]


def test_no_texts_make_no_rows() -> None:
    assert picked([], np.zeros(0, np.int64)) == []


@given(st.lists(st.integers(-(2**40), 2**40)))
def test_each_text_is_made_once(values: list[int]) -> None:
    asked: list[int] = []

    def make(value: int) -> str:
        asked.append(value)
        return f"<{value}>"

    texts = Texts(make)
    for _ in range(2):
        assert named(texts, np.array(values, np.int64)) == [f"<{value}>" for value in values]
    assert sorted(asked) == sorted(set(values))
