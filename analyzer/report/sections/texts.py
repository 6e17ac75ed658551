"""Columns of texts, each text made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Texts(dict[int, str]):
    """Texts of numbers, made when they are asked for."""

    def __init__(self, make: Callable[[int], str]) -> None:
        self._make = make

    def __missing__(self, value: int) -> str:
        text = self[value] = self._make(value)
        return text


def named(names: Mapping[Any, str], values: NDArray[np.integer[Any]]) -> list[str]:
    """Text of each value; the values are turned to members of their enumeration once each, not once a row."""
    distinct, rows = np.unique(values, return_inverse=True)
    return picked([names[value] for value in distinct.tolist()], rows)


def picked(texts: Sequence[str], rows: NDArray[np.integer[Any]]) -> list[str]:
    """The text of each row: an array of the texts themselves is read three times as fast as a list, row by row."""
    if not texts:
        return []
    known = np.empty(len(texts), object)
    known[:] = texts
    picked: list[str] = known.take(rows).tolist()
    return picked
