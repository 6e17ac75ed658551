"""Fields of headers, gathered for many packets in one numpy step; see `copying` for the bounds."""

from __future__ import annotations

import numpy as np

from analyzer.copying import gather_items
from analyzer.schema import I32, I64, U8, U64


def be16(block: U8, column: int) -> I32:
    """Big-endian 16-bit field at `column` of gathered rows: (N, width) uint8 -> (N,) int32."""
    field: I32 = block[:, column].astype(np.int32) << 8 | block[:, column + 1]
    return field


def gather_block(octets: U8, start: I64, width: int) -> U8:
    """Copy `width` octets from each `start` as rows: (N, width) uint8. See `gather_items`."""
    block: U8 = gather_items(octets, start, width).view(np.uint8).reshape(start.shape[0], width)
    return block


def gather_words(octets: U8, start: I64) -> U64:
    """Read eight octets from each `start` as big-endian numbers: (N,) uint64. See `gather_items`."""
    whole = octets.shape[0] >> 3
    if start.shape[0] == 0 or octets.ctypes.data & 7 or int(start.max()) + 16 > whole * 8:
        return gather_items(octets, start, 8).view(">u8").astype(np.uint64)
    words = octets[: whole * 8].view("<u8")
    at = start >> 3
    low = words.take(at)
    at += 1
    high = words.take(at)
    shift = (start & 7).view(np.uint64)
    shift <<= np.uint64(3)
    low >>= shift
    high <<= np.uint64(8)
    np.subtract(np.uint64(56), shift, out=shift)
    high <<= shift
    low |= high
    return low.byteswap(inplace=True)
