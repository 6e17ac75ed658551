"""Sets of numbers: the same answers as numpy's own functions give."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analyzer.numbers import among, distinct, either, without
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
