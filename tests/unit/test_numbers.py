"""Columns of numbers: the same answers as numpy's own functions, or a plain loop, give."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analyzer import numbers as module
from analyzer.numbers import (
    among,
    distinct,
    distinct_numbers,
    either,
    grown,
    run_begins,
    run_lengths,
    run_starts,
    without,
)
from analyzer.schema import I64

numbers = arrays(np.int64, st.integers(0, 20), elements=st.one_of(st.integers(0, 9), st.integers(-(2**63), 2**63 - 1)))


@given(numbers, numbers)
def test_they_agree_with_numpy(one: I64, other: I64) -> None:
    assert distinct(one).tolist() == np.unique(one).tolist()
    assert either(one, other).tolist() == np.union1d(one, other).tolist()
    assert without(one, other).tolist() == np.setdiff1d(one, other).tolist()
    assert among(one, other).tolist() == np.isin(one, other).tolist()
    for found in (distinct(one), either(one, other), without(one, other)):
        assert found.dtype == np.int64


WORDS = st.integers(0, (1 << 64) - 1)


@given(st.lists(st.integers(0, 5) | WORDS, max_size=60))
def test_equal_numbers_get_one_number(values: list[int]) -> None:
    check_numbers(values)


def check_numbers(values: list[int]) -> None:
    ids, first = distinct_numbers(np.array(values, np.uint64))
    assert sorted(values[row] for row in first.tolist()) == sorted(set(values))
    assert [values[first[number]] for number in ids.tolist()] == values


def test_numbers_that_meet_in_every_table_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TURNS", np.zeros(3, np.uint64))
    check_numbers([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5])


@given(numbers)
def test_runs_are_what_a_loop_finds(group: I64) -> None:
    runs = [(key, len(list(rows))) for key, rows in itertools.groupby(group.tolist())]
    starts = run_starts(group)
    assert [group[row] for row in starts.tolist()] == [key for key, _ in runs]
    assert run_lengths(starts, group.shape[0]).tolist() == [length for _, length in runs]
    assert np.flatnonzero(run_begins(group)).tolist() == starts.tolist()


@given(numbers, st.integers(0, 50), st.integers(-2, 2))
def test_room_is_made_and_nothing_lost(column: I64, count: int, fill: int) -> None:
    longer = grown(column, count, fill)
    assert longer.shape[0] >= max(count, column.shape[0])
    assert longer[: column.shape[0]].tolist() == column.tolist()
    assert set(longer[column.shape[0] :].tolist()) <= {fill}
    assert longer.dtype == column.dtype
    assert (longer is column) == (count <= column.shape[0])
