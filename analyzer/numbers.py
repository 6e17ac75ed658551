"""Columns of whole numbers: sets of them, ascending; equal ones, numbered; runs of equal ones; room for more.

For sets numpy's own functions ask whether their argument is masked, for which they load numpy.ma: 8 ms of every run.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from analyzer.schema import I64, U64, Mask

_Whole = TypeVar("_Whole", bound=np.integer)
_Column = TypeVar("_Column", bound=NDArray[Any])

ODD: Final = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio: products with it differ in their high bits."""
_TURNS: Final = np.array([pow(int(ODD), turn, 1 << 64) for turn in range(1, 9)], np.uint64)
"""By what bits rows look for their like before what is left is sorted: crafted numbers may meet in every table."""


def distinct(values: NDArray[_Whole]) -> NDArray[_Whole]:
    """Every value once: (N,) -> (D,), as `np.unique`."""
    ordered = np.sort(values)
    return ordered[run_begins(ordered)]


def either(one: NDArray[_Whole], other: NDArray[_Whole]) -> NDArray[_Whole]:
    """What is in one of two sets or in both, as `np.union1d`."""
    return distinct(np.concatenate([one, other]))


def without(values: NDArray[_Whole], others: NDArray[_Whole]) -> NDArray[_Whole]:
    """What is in the first set alone, as `np.setdiff1d`."""
    own = distinct(values)
    return own[~among(own, others)]


def among(values: NDArray[_Whole], others: NDArray[_Whole]) -> Mask:
    """Which of some values are among others: (N,) bool, as `np.isin` of ones that lie far apart."""
    known = np.sort(others)
    if known.shape[0] == 0:
        return np.zeros(values.shape[0], bool)
    place = np.minimum(np.searchsorted(known, values), known.shape[0] - 1)
    found: Mask = known[place] == values
    return found


def distinct_numbers(values: U64) -> tuple[I64, I64]:
    """Number equal numbers: ids (N,) and one row of each value (D,).

    Without sorting: each row looks for its like in a table by some of its bits, and those that find another there look
    again by other bits.
    """
    count = values.shape[0]
    like, left, sought = np.arange(count), np.arange(count), values
    bits = max(1, (2 * count).bit_length())
    table = np.empty(1 << bits, np.int64)
    for factor in _TURNS:
        place = (sought * factor >> np.uint64(64 - bits)).view(np.int64)
        table[place] = left
        other = table[place]
        other_than = np.flatnonzero(values[other] != sought)
        like[left] = other
        left, sought = left[other_than], sought[other_than]
        if left.shape[0] == 0:
            break
    else:
        _, first, inverse = np.unique(sought, return_index=True, return_inverse=True)
        like[left] = left[first[inverse.reshape(-1)]]
    first = np.flatnonzero(like == np.arange(count))
    number = np.empty(count, np.int64)
    number[first] = np.arange(first.shape[0])
    return number[like], first


def run_begins(group: NDArray[_Whole]) -> Mask:
    """Which rows are the first of a run of equal values: (N,) bool."""
    begins = np.ones(group.shape[0], bool)
    np.not_equal(group[1:], group[:-1], out=begins[1:])
    return begins


def run_starts(group: NDArray[_Whole]) -> I64:
    """Rows at which a run of equal values begins, ascending: (R,) int64."""
    return np.flatnonzero(run_begins(group))


def run_lengths(starts: I64, count: int) -> I64:
    """Rows of each run, of `count` rows in all: `numpy.diff` with something appended takes five times as long."""
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = count - starts[-1:]
    return lengths


def grown(column: _Column, count: int, fill: int = 0) -> _Column:
    """The same column where it has `count` rows, else a copy with half as many again, `fill` in the new ones."""
    if count <= column.shape[0]:
        return column
    longer = np.full(count * 3 // 2, fill, column.dtype)
    longer[: column.shape[0]] = column
    return longer  # type: ignore[return-value]
