"""Octets of many places at once: gathered as rows of one width, or copied range by range.

The one place where offsets that come from a capture become memory reads, so that the bounds are argued once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.schema import I64, U8

Items = NDArray[np.void]


def gather_items(octets: U8, start: I64, width: int) -> Items:
    """Copy `width` octets from each `start`; octets past the end of `octets` read as zero.

    Parameters
    ----------
    octets : (B,) uint8
    start : (N,) int64
        ``0 <= start``; may lie past the end.
    width : int
        Octets per item.

    Returns
    -------
    (N,) void of `width` octets
        A fresh, contiguous array. The caller compares against its own stop offsets: the zeros are filler.
    """
    size = octets.shape[0]
    item = np.dtype((np.void, width))
    if size < width:
        octets = np.concatenate([octets, np.zeros(width - size, np.uint8)])
        size = width
    # One item for every offset at which a whole one fits: an overlapping view, never a copy.
    windows: Items = np.ndarray((size - width + 1,), item, buffer=np.ascontiguousarray(octets), strides=(1,))
    if start.shape[0] == 0:
        return np.empty(0, item)
    last = size - width
    if int(start.max()) <= last:
        items: Items = windows[start]
        return items
    items = windows[np.minimum(start, last)]
    for row in np.flatnonzero(start > last):
        tail = octets[int(start[row]) :].tobytes()[:width]
        items[row] = np.void(tail.ljust(width, b"\0"))
    return items


COPY_BLOCK = 256
"""Octets moved at a time by `copy_ranges`."""
_COPY_SLICE = 2048


def expand(counts: I64) -> tuple[I64, I64]:
    """For rows repeated `counts` times: the row, and the number within it; both (sum of counts,) int64."""
    row = np.repeat(np.arange(counts.shape[0]), counts)
    return row, np.arange(row.shape[0]) - np.repeat(np.cumsum(counts) - counts, counts)


def copy_ranges(octets: U8, start: I64, length: I64, target: I64, size: int) -> U8:
    """Copy ranges of `octets` to `target` offsets of a fresh array of `size` octets.

    Parameters
    ----------
    octets : (B,) uint8
    start, length : (N,) int64
        Source ranges; octets past the end of `octets` read as zero.
    target : (N,) int64
        Ascending. A range may not reach past the next target.
    size : int
        Octets of the result.

    Notes
    -----
    Whole blocks are copied, so each write may spill up to 255 octets past its range. Ranges are written in ascending
    order, so the next one overwrites the spill; what lies between ranges is arbitrary: the caller clears it.
    """
    out = np.empty(size + COPY_BLOCK, np.uint8)
    row, number = expand(-(-length // COPY_BLOCK))
    windows: Items = np.ndarray((size + 1,), np.dtype((np.void, COPY_BLOCK)), buffer=out, strides=(1,))
    source, sink = start[row] + number * COPY_BLOCK, target[row] + number * COPY_BLOCK
    # In slices, so that what is gathered is still in the cache when it is written.
    for at in range(0, row.shape[0], _COPY_SLICE):
        part = slice(at, at + _COPY_SLICE)
        windows[sink[part]] = gather_items(octets, source[part], COPY_BLOCK)
    return out[:size]
