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
    return gather_items(octets, start, 8).view(">u8").astype(np.uint64)
