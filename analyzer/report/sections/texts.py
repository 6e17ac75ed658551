"""Columns of texts, each text made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.report.audit_result import YEAR_10000_NS
from analyzer.schema import I64, U8

_THOUSAND: Final = np.array([list(f"{number:03d}".encode()) for number in range(1000)], np.uint8)
"""The digits of every number below 1000."""


_MAX_CODES: Final = 1 << 16
"""Past this many possible values it is cheaper to sort."""


def decimals(values: I64, triples: int) -> U8:
    """Decimal digits as ASCII, zeros in front: (N,) int64, 0 or more -> (N, 3 * triples) uint8."""
    digits = np.empty((values.shape[0], triples, 3), np.uint8)
    for place in range(triples - 1, 0, -1):
        values, rest = np.divmod(values, 1000)
        digits[:, place] = _THOUSAND.take(rest, axis=0)
    digits[:, 0] = _THOUSAND.take(values, axis=0)
    return digits.reshape(-1, 3 * triples)


def lines(octets: U8) -> list[str]:
    """Texts in ASCII that end with a line end each."""
    return octets.tobytes().decode("ascii").split("\n")[:-1]


def joined_numbers(numbers: I64, counts: I64) -> list[str]:
    """Numbers as text, those of one row with a blank between them.

    Parameters
    ----------
    numbers : (M,) int64
        0 or more and below 10**18 each, row after row.
    counts : (N,) int64
        How many each row has.
    """
    triples = (len(str(numbers.max(initial=0))) + 2) // 3
    octets = np.full((numbers.shape[0], 3 * triples + 1), ord(" "), np.uint8)
    octets[:, :-1] = decimals(numbers, triples)
    octets[np.cumsum(counts)[counts > 0] - 1, -1] = ord("\n")
    shown = np.ones(octets.shape, bool)
    shown[:, : 3 * triples - 1] = numbers[:, None] >= 10 ** np.arange(3 * triples - 1, 0, -1)
    joined = np.full(counts.shape[0], "", object)
    joined[counts > 0] = lines(octets[shown])
    texts: list[str] = joined.tolist()
    return texts


def time_texts(times_ns: I64) -> list[str | None]:
    """`time_text` of a column."""
    known = (times_ns > 0) & (times_ns < YEAR_10000_NS)
    second, ns = np.divmod(np.where(known, times_ns, 0), 10**9)
    minute, second = np.divmod(second, 60)
    hour, minute = np.divmod(minute, 60)
    day, hour = np.divmod(hour, 24)
    dates, row = np.unique(day, return_inverse=True)
    octets = np.empty((times_ns.shape[0], len("YYYY-MM-DDThh:mm:ss.nnnnnnnnnZ\n")), np.uint8)
    date = np.datetime_as_string(dates.astype("datetime64[D]")).astype("S10")
    octets[:, :10] = date.view(np.uint8).reshape(-1, 10)[row]
    for at, before, number in ((10, "T", hour), (13, ":", minute), (16, ":", second)):
        octets[:, at] = ord(before)
        octets[:, at + 1 : at + 3] = _THOUSAND[:, 1:].take(number, axis=0)
    octets[:, 19] = ord(".")
    octets[:, 20:29] = decimals(ns, 3)
    octets[:, 29:] = (ord("Z"), ord("\n"))
    texts: list[str | None] = [*lines(octets)]
    for unknown in np.flatnonzero(~known).tolist():
        texts[unknown] = None
    return texts


def seconds(ns: I64) -> list[float]:
    """``round(ns / 1e9, 6)`` of a column."""
    rounded = (ns + 500) // 1000 / 1e6
    # Halves are rounded as the binary fraction behind them falls, and past 2**52 it falls anywhere.
    for row in np.flatnonzero((ns % 1000 == 500) | (ns < 0) | (ns >= 1 << 52)).tolist():
        rounded[row] = round(int(ns[row]) / 1e9, 6)
    whole: list[float] = rounded.tolist()
    return whole


class Texts(dict[int, str]):
    """Texts of numbers, made when they are asked for."""

    def __init__(self, make: Callable[[int], str]) -> None:
        self._make = make

    def __missing__(self, value: int) -> str:
        text = self[value] = self._make(value)
        return text


def named(names: Mapping[Any, str], values: NDArray[np.integer[Any]]) -> list[str]:
    """Text of each value; the values are turned to members of their enumeration once each, not once a row."""
    if values.shape[0] == 0:
        return []
    least, most = int(values.min()), int(values.max())
    if most - least > _MAX_CODES:
        distinct, rows = np.unique(values, return_inverse=True)
        return picked([names[value] for value in distinct.tolist()], rows)
    if most == least:
        return [names[least]] * values.shape[0]
    rows = values.astype(np.int64) - least
    there = np.flatnonzero(np.bincount(rows))
    texts = np.empty(most - least + 1, object)
    texts[there] = [names[value] for value in (there + least).tolist()]
    named: list[str] = texts.take(rows).tolist()
    return named


def picked(texts: Sequence[str], rows: NDArray[np.integer[Any]]) -> list[str]:
    """The text of each row: an array of the texts themselves is read three times as fast as a list, row by row."""
    if not texts:
        return []
    if rows.shape[0] and (rows == rows[0]).all():
        return [texts[rows[0]]] * rows.shape[0]
    known = np.empty(len(texts), object)
    known[:] = texts
    picked: list[str] = known.take(rows).tolist()
    return picked
