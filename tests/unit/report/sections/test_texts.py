"""Columns of texts: what every row gets is what a loop over the rows would give it, and each text is made once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.report.audit_result import YEAR_10000_NS, time_text
from analyzer.report.sections.texts import Texts, joined_numbers, named, picked, seconds, time_texts


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


ns = st.one_of(
    st.integers(0, 2**63 - 1),
    st.integers(0, 10**7).map(lambda us: us * 1000 + 500),  # halves
    st.integers(-(10**6), 10**6),
    st.sampled_from([YEAR_10000_NS - 1, YEAR_10000_NS, 2**52 - 1, 2**52, 951782400 * 10**9, 10**9 - 1]),
)


@given(st.lists(ns))
def test_times_are_those_of_single_values(times: list[int]) -> None:
    assert time_texts(np.array(times, np.int64)) == [time_text(time) for time in times]


@given(st.lists(ns))
def test_durations_are_rounded_as_by_python(durations: list[int]) -> None:
    found = seconds(np.array(durations, np.int64))
    assert list(map(repr, found)) == [repr(round(one / 1e9, 6)) for one in durations]


@given(st.lists(st.lists(st.one_of(st.integers(0, 1200), st.integers(0, 10**18 - 1)), max_size=5)))
def test_numbers_are_joined_row_by_row(rows: list[list[int]]) -> None:
    numbers = np.array([number for row in rows for number in row], np.int64)
    counts = np.array([len(row) for row in rows], np.int64)
    assert joined_numbers(numbers, counts) == [" ".join(map(str, row)) for row in rows]
