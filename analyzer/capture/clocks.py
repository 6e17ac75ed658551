"""pcapng time stamps: ticks of an interface's clock to nanoseconds since the epoch."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.schema import I64, U64

_LIMIT: Final = (1 << 62) - 1
"""Nanoseconds: the year 2116. Later times stay there; 64-bit ticks can say more than int64 nanoseconds hold."""


def to_nanoseconds(ticks: U64, resolution: int, offset_s: int) -> I64:
    """Convert ticks, rounding down.

    Parameters
    ----------
    ticks : (N,) uint64
    resolution : int
        if_tsresol: ticks are ``10 ** -resolution`` seconds or, with bit 7 set, ``2 ** -(resolution & 127)``
        (draft-ietf-opsawg-pcapng 4.2).
    offset_s : int
        if_tsoffset: seconds to add.

    Returns
    -------
    (N,) int64
        Nanoseconds since the epoch, at most 2 ** 62 - 1 before the offset is added.
    """
    exponent = resolution & 0x7F
    ns = _binary(ticks, exponent) if resolution & 0x80 else _decimal(ticks, exponent)
    ns += np.int64(min(max(offset_s * 1_000_000_000, -_LIMIT), _LIMIT))
    return ns


def _decimal(ticks: U64, exponent: int) -> I64:
    if exponent <= 9:
        factor = 10 ** (9 - exponent)
        ns = np.minimum(ticks, np.uint64(_LIMIT // factor)).astype(np.int64)
        ns *= factor
        return ns
    # 10 ** 20 exceeds 64 bits, and with it every count of ticks.
    divisor = np.uint64(min(10 ** (exponent - 9), (1 << 64) - 1))
    return np.minimum(ticks // divisor, np.uint64(_LIMIT)).astype(np.int64)


def _binary(ticks: U64, exponent: int) -> I64:
    billion = np.uint64(1_000_000_000)
    if exponent < 32:
        shift = np.uint64(exponent)
        seconds = np.minimum(ticks >> shift, np.uint64(_LIMIT // 1_000_000_000 - 1))
        fraction = ticks & np.uint64((1 << exponent) - 1)
        return (seconds * billion + ((fraction * billion) >> shift)).astype(np.int64)
    # ticks * 10 ** 9 needs 94 bits: take it in two halves, of which the sum is floor(ticks * 10 ** 9 / 2 ** 32).
    half = np.uint64(32)
    scaled = (ticks >> half) * billion + (((ticks & np.uint64(0xFFFFFFFF)) * billion) >> half)
    return np.minimum(scaled >> np.uint64(min(exponent - 32, 63)), np.uint64(_LIMIT)).astype(np.int64)
