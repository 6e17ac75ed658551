"""Sets of whole numbers, as columns in ascending order.

numpy's own functions ask whether their argument is masked, for which they load numpy.ma: 8 ms of every run.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from analyzer.schema import Mask

_Whole = TypeVar("_Whole", bound=np.integer)


def distinct(values: NDArray[_Whole]) -> NDArray[_Whole]:
    """Every value once: (N,) -> (D,), as `np.unique`."""
    ordered = np.sort(values)
    new = np.ones(ordered.shape[0], bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return ordered[new]


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
