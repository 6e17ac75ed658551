"""Distinct ranges against a dictionary of contents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.tls import distinct
from analyzer.protocols.tls.distinct import distinct_ranges, distinct_rows

RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200)), max_size=30)


def check(octets: bytes, ranges: list[tuple[int, int]]) -> None:
    starts = [min(a, len(octets)) for a, _ in ranges]
    stops = [min(a + n, len(octets)) for a, (_, n) in zip(starts, ranges, strict=True)]
    content = [octets[a:b] for a, b in zip(starts, stops, strict=True)]
    ids, first = distinct_ranges(np.frombuffer(octets, np.uint8), np.array(starts, np.int64), np.array(stops, np.int64))
    assert first.shape[0] == len(set(content))
    for row, value in zip(ids.tolist(), content, strict=True):
        assert content[first[row]] == value


@given(st.binary(max_size=400) | st.integers(0, 400).map(bytes), RANGES)
def test_equal_ids_are_equal_contents(octets: bytes, ranges: list[tuple[int, int]]) -> None:
    check(octets, ranges)


def test_crafted_collisions_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "_hash", lambda words, length: np.zeros(length.shape[0], np.uint64))
    check(bytes(range(256)), [(i, n) for n in (0, 1, 7, 8, 9, 64, 65) for i in (0, 3, 3, 90)])


@given(st.binary(max_size=400), RANGES)
def test_ranges_of_more_octets_than_are_gathered_at_a_time(octets: bytes, ranges: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct, "_BLOCK_OCTETS", 100)
        check(octets, ranges)


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 1 << 30), st.integers(0, 1 << 30)), max_size=30))
def test_rows(rows: list[tuple[int, int, int]]) -> None:
    columns = [np.array([row[i] for row in rows], np.int64) for i in range(3)]
    ids, first = distinct_rows(*columns, *columns)
    assert first.shape[0] == len(set(rows))
    assert [rows[first[i]] for i in ids.tolist()] == rows
