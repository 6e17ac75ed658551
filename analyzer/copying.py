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


_BLOCK_BITS = 8
COPY_BLOCK = 1 << _BLOCK_BITS
"""Octets moved at a time by `copy_ranges`."""
_COPY_SLICE = 2048


def expand(counts: I64) -> tuple[I64, I64]:
    """For rows repeated `counts` times: the row, and the number within it; both (sum of counts,) int64."""
    row = np.repeat(np.arange(counts.shape[0]), counts)
    return row, np.arange(row.shape[0]) - np.repeat(np.cumsum(counts) - counts, counts)


def copy_ranges(octets: U8, start: I64, length: I64, target: I64, size: int, out: U8 | None = None) -> U8:
    """Copy ranges of `octets` to `target` offsets of an array of `size` octets.

    Parameters
    ----------
    octets : (B,) uint8
    start, length : (N,) int64
        Source ranges; octets past the end of `octets` read as zero.
    target : (N,) int64
        Ascending. A range may not reach past the next target.
    size : int
        Octets of the result.
    out : (``size + COPY_BLOCK`` or more,) uint8, optional
        What to write to; a fresh array where it is not given.

    Notes
    -----
    Whole blocks are copied, so each write may spill up to 255 octets past its range. Ranges are written in ascending
    order, so the next one overwrites the spill; what lies between ranges is arbitrary: the caller clears it.
    """
    out = np.empty(size + COPY_BLOCK, np.uint8) if out is None else out
    counts = -(-length // COPY_BLOCK)
    before = (np.cumsum(counts) - counts) * COPY_BLOCK
    within = np.arange(int(counts.sum())) * COPY_BLOCK
    source, sink = (np.repeat(first - before, counts) + within for first in (start, target))
    item = np.dtype((np.void, COPY_BLOCK))
    windows: Items = np.ndarray((size + 1,), item, buffer=out, strides=(1,))
    # Blocks that stand at multiples of their size are rows of a table, which numpy picks faster than windows.
    rows = octets.reshape(-1, COPY_BLOCK).view(item)[:, 0] if _stand_in_rows(octets, start) else None
    room = np.empty(_COPY_SLICE, item)
    # In slices, so that what is gathered is still in the cache when it is written.
    for at in range(0, source.shape[0], _COPY_SLICE):
        part = source[at : at + _COPY_SLICE]
        if rows is None:
            blocks = gather_items(octets, part, COPY_BLOCK)
        else:
            blocks = rows.take(part >> _BLOCK_BITS, out=room[: part.shape[0]], mode="clip")
        windows[sink[at : at + _COPY_SLICE]] = blocks
    return out[:size]


def _stand_in_rows(octets: U8, start: I64) -> bool:
    """Whether ranges from `start` are whole blocks of `octets`, but for their ends."""
    return octets.shape[0] % COPY_BLOCK == 0 and octets.flags.c_contiguous and not (start % COPY_BLOCK).any()
