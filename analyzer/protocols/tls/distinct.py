"""Distinct octet ranges: number them in a few numpy steps, so that Python looks at each content once.

A 64-bit hash finds candidates; the octets decide. Crafted collisions cost time in a dictionary, never a wrong answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.schema import I64, U8, U64, Mask

_BLOCK_OCTETS: Final = 1 << 22
"""Octets gathered at a time, which bounds the memory whatever the ranges are."""
_WORD: Final = 8
_STEP: Final = 64
_MAX_SPAN: Final = 1 << 62
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)


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
    if start.shape[0] == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    length = stop - start
    hashes = _hash(octets, start, length)
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    ids: I64 = inverse.reshape(-1).astype(np.int64)
    differs = np.flatnonzero(~_equal(octets, start, length, start[first[ids]], length[first[ids]]))
    if differs.shape[0] == 0:
        return ids, first.astype(np.int64)
    return _by_content(octets, start, stop, ids, first.astype(np.int64), differs)


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
    _, first, ids = np.unique(rows, return_index=True, return_inverse=True)
    return ids.reshape(-1).astype(np.int64), first.astype(np.int64)


def _widths(length: I64) -> I64:
    """A width that holds each length: a power of two up to 64, then a multiple of 64; few different ones."""
    small = np.int64(1) << np.ceil(np.log2(np.clip(length, 8, 64))).astype(np.int64)
    return np.where(length <= _STEP, small, -(-length // _STEP) * _STEP)


def _blocks(length: I64) -> list[tuple[int, I64]]:
    """Rows by width, in pieces of at most `_BLOCK_OCTETS`."""
    widths = _widths(length)
    pieces: list[tuple[int, I64]] = []
    for width in np.unique(widths).tolist():
        rows = np.flatnonzero(widths == width)
        step = max(1, _BLOCK_OCTETS // width)
        pieces.extend((width, rows[i : i + step]) for i in range(0, rows.shape[0], step))
    return pieces


def _words(octets: U8, start: I64, length: I64, width: int) -> U64:
    """The ranges as rows of 64-bit words, zero past their ends."""
    words: U64 = gather_block(octets, start, width).view("<u8").astype(np.uint64, copy=False)
    # Whole words past the end, then the octets past the end of the last word, which are its high ones.
    last = length // _WORD
    words[np.arange(width // _WORD) > last[:, None]] = 0
    partial = np.flatnonzero(last < width // _WORD)
    keep = (np.uint64(1) << (8 * (length[partial] % _WORD)).astype(np.uint64)) - np.uint64(1)
    words[partial, last[partial]] &= keep
    return words


def _hash(octets: U8, start: I64, length: I64) -> U64:
    hashes = length.astype(np.uint64) * _ODD
    for width, rows in _blocks(length):
        words = _words(octets, start[rows], length[rows], width)
        words ^= words >> np.uint64(32)
        factors = (np.arange(1, width // 8 + 1, dtype=np.uint64) * _ODD) | np.uint64(1)
        hashes[rows] ^= (words * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _equal(octets: U8, start: I64, length: I64, other: I64, other_length: I64) -> Mask:
    same: Mask = length == other_length
    check = np.flatnonzero(same & (start != other))
    for width, rows in _blocks(length[check]):
        chosen = check[rows]
        left = _words(octets, start[chosen], length[chosen], width)
        right = _words(octets, other[chosen], length[chosen], width)
        same[chosen] = (left == right).all(axis=1)
    return same


def _by_content(octets: U8, start: I64, stop: I64, ids: I64, first: I64, rows: I64) -> tuple[I64, I64]:
    """Give rows whose hash collided with another content an id of their own content."""
    known: dict[bytes, int] = {}
    added: list[int] = []
    for row in rows.tolist():
        content = octets[int(start[row]) : int(stop[row])].tobytes()
        if content not in known:
            known[content] = first.shape[0] + len(added)
            added.append(row)
        ids[row] = known[content]
    return ids, np.concatenate([first, np.array(added, np.int64)])
