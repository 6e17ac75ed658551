"""Fields of headers, gathered for many packets in one numpy step; see `copying` for the bounds."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.copying import gather_items
from analyzer.schema import I32, I64, U8, U64

_WORD: Final = 8
_LITTLE: Final = np.dtype("<u8").isnative


def be16(block: U8, column: int) -> I32:
    """Big-endian 16-bit field at `column` of gathered rows: (N, width) uint8 -> (N,) int32."""
    field: I32 = block[:, column].astype(np.int32) << 8 | block[:, column + 1]
    return field


def gather_block(octets: U8, start: I64, width: int) -> U8:
    """Copy `width` octets from each `start` as rows: (N, width) uint8. See `gather_items`."""
    block: U8 = gather_items(octets, start, width).view(np.uint8).reshape(start.shape[0], width)
    return block


def gather_words(octets: U8, start: I64) -> U64:
    """Read eight octets from each `start` as big-endian numbers: (N,) uint64. See `gather_numbers`."""
    return gather_numbers(octets, start).byteswap(inplace=True)


def gather_numbers(octets: U8, start: I64) -> U64:
    """Read eight octets from each `start` as little-endian numbers: (N,) uint64. See `gather_items`.

    Made for octets that are not in the cache: as two aligned words, which numpy picks from there twice as fast.
    """
    words = octets[: octets.shape[0] // _WORD * _WORD]
    aligned = words.flags.c_contiguous and words.ctypes.data % _WORD == 0
    if not (_LITTLE and aligned) or int(start.max(initial=0)) > words.shape[0] - 2 * _WORD:
        return gather_items(octets, start, _WORD).view("<u8").astype(np.uint64, copy=False)
    row, bits = start >> 3, ((start & 7) << 3).view(np.uint64)
    low, high = (words.view(np.uint64).take(at, mode="clip") for at in (row, row + 1))
    # In numpy a shift by all 64 bits gives 0, which is what is wanted where the first word is enough.
    return (low >> bits) | (high << (np.uint64(64) - bits))
