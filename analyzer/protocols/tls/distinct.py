"""Distinct octet ranges: number them in a few numpy steps, so that Python looks at each content once.

A 64-bit hash finds candidates; the octets decide. Crafted collisions cost time in a dictionary, never a wrong answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.numbers import ODD, distinct, distinct_numbers
from analyzer.schema import I64, U8, U64

_BLOCK_OCTETS: Final = 1 << 22
"""Octets gathered at a time, which bounds the memory whatever the ranges are."""
_WORD: Final = 8
_STEP: Final = 64
_MAX_SPAN: Final = 1 << 62
_SMALL: Final = np.array([8, *(max(8, 1 << (length - 1).bit_length()) for length in range(1, _STEP + 1))], np.int64)
"""Width by length, up to 64 octets."""
_KEEP: Final = np.array([(1 << 8 * octets) - 1 for octets in range(_WORD + 1)], np.uint64)
"""What is kept of a word of which so many octets are the range's: the low ones."""


def distinct_ranges(octets: U8, start: I64, stop: I64) -> tuple[I64, I64]:
    """Number ranges by content.

    Parameters
    ----------
    octets : (B,) uint8
    start, stop : (N,) int64
        Half-open ranges, ``0 <= start <= stop <= B``.

    Returns
    -------
    ids : (N,) int64
        Equal for two ranges if and only if their octets are equal; from 0 to D - 1.
    first : (D,) int64
        Row of one range of each content.
    """
    length = stop - start
    ids, begins, count = np.empty(start.shape[0], np.int64), [np.empty(0, np.int64)], 0
    # Ranges of different widths are of different lengths.
    for width, rows in _by_width(length):
        number = _numbered if rows.shape[0] * width <= _BLOCK_OCTETS else _numbered_in_pieces
        own, begin = number(octets, start[rows], length[rows], width)
        ids[rows] = own + count
        begins.append(rows[begin])
        count += begin.shape[0]
    return ids, np.concatenate(begins)


def _numbered(octets: U8, start: I64, length: I64, width: int) -> tuple[I64, I64]:
    """`distinct_ranges` of ranges of one width, from octets that are gathered once."""
    words = _words(octets, start, length, width)
    ids, first = distinct_numbers(_hash(words, length))
    like = first[ids]
    return _told_apart(
        octets, start, length, ids, first, _differ(words, length, words.take(like, axis=0), length[like])
    )


def _numbered_in_pieces(octets: U8, start: I64, length: I64, width: int) -> tuple[I64, I64]:
    """The same of so many that their octets are gathered piece by piece, and again to compare them."""
    hashes = np.empty(start.shape[0], np.uint64)
    step = max(1, _BLOCK_OCTETS // width)
    pieces = [slice(at, at + step) for at in range(0, start.shape[0], step)]
    for rows in pieces:
        hashes[rows] = _hash(_words(octets, start[rows], length[rows], width), length[rows])
    ids, first = distinct_numbers(hashes)
    differ = [np.empty(0, np.int64)]
    for rows in pieces:
        like = first[ids[rows]]
        left = _words(octets, start[rows], length[rows], width)
        right = _words(octets, start[like], length[like], width)
        differ.append(_differ(left, length[rows], right, length[like]) + rows.start)
    return _told_apart(octets, start, length, ids, first, np.concatenate(differ))


def _differ(words: U64, length: I64, others: U64, other_length: I64) -> I64:
    """Rows of which the octets are not those of the others: where two hashes are equal, hardly ever any."""
    differ = length != other_length
    unequal = words != others
    if unequal.any():
        differ |= unequal.any(axis=1)
    return np.flatnonzero(differ)


def distinct_rows(*columns: I64) -> tuple[I64, I64]:
    """Number rows of equal-length integer columns by value: ids (N,) and one row of each value (D,).

    Each column may span at most 2**31 values.
    """
    rows, span = np.zeros(columns[0].shape[0], np.int64), 1
    for column in columns:
        low = int(column.min(initial=0))
        width = int(column.max(initial=0)) - low + 1
        if span * width > _MAX_SPAN:
            _, rows = np.unique(rows, return_inverse=True)
            rows = rows.reshape(-1).astype(np.int64)
            span = int(rows.max(initial=0)) + 1
        rows = rows * width + (column - low)
        span *= width
    return distinct_numbers(rows.view(np.uint64))


def _by_width(length: I64) -> list[tuple[int, I64]]:
    """Rows by a width that holds each length: a power of two up to 64, then a multiple of 64; few different ones."""
    widths = np.where(length <= _STEP, _SMALL[np.minimum(length, _STEP)], -(-length // _STEP) * _STEP)
    return [(width, np.flatnonzero(widths == width)) for width in distinct(widths).tolist()]


def _words(octets: U8, start: I64, length: I64, width: int) -> U64:
    """The ranges as rows of 64-bit words, zero past their ends."""
    words: U64 = gather_block(octets, start, width).view("<u8").astype(np.uint64, copy=False)
    # No range ends before the last step of its width.
    last = np.arange(max(0, width - _STEP), width, _WORD)
    words[:, -last.shape[0] :] &= _KEEP[np.clip(length[:, None] - last, 0, _WORD)]
    return words


def _hash(words: U64, length: I64) -> U64:
    mixed = words ^ (words >> np.uint64(32))
    factors = (np.arange(1, words.shape[1] + 1, dtype=np.uint64) * ODD) | np.uint64(1)
    hashes: U64 = length.astype(np.uint64) * ODD ^ mixed @ factors
    return hashes


def _told_apart(octets: U8, start: I64, length: I64, ids: I64, first: I64, rows: I64) -> tuple[I64, I64]:
    """Give `rows`, whose hash collided with another content's, an id of their own content."""
    known: dict[bytes, int] = {}
    added: list[int] = []
    for row in rows.tolist():
        content = octets[int(start[row]) : int(start[row] + length[row])].tobytes()
        if content not in known:
            known[content] = first.shape[0] + len(added)
            added.append(row)
        ids[row] = known[content]
    return ids, np.concatenate([first, np.array(added, np.int64)])
