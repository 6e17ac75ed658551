"""pcapng time stamps: ticks of an interface's clock to nanoseconds since the epoch."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.schema import I64, U64

_BILLION: Final = 1_000_000_000
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
    unsigned = _binary(ticks, exponent) if resolution & 0x80 else _decimal(ticks, exponent)
    ns: I64 = np.minimum(unsigned, np.uint64(_LIMIT)).astype(np.int64)
    ns += np.int64(min(max(offset_s * _BILLION, -_LIMIT), _LIMIT))
    return ns


def _decimal(ticks: U64, exponent: int) -> U64:
    if exponent > 9:
        # From 10 ** 20 on a tick is too short for 64 bits of them to make a nanosecond.
        return ticks // np.uint64(10 ** (exponent - 9)) if exponent < 29 else np.zeros_like(ticks)
    factor = 10 ** (9 - exponent)
    ns = ticks * np.uint64(factor)
    ns[ticks > np.uint64(_LIMIT // factor)] = _LIMIT
    return ns


def _binary(ticks: U64, exponent: int) -> U64:
    billion, half = np.uint64(_BILLION), np.uint64(32)
    if exponent < 32:
        shift = np.uint64(exponent)
        seconds = ticks >> shift
        fraction = ticks & np.uint64((1 << exponent) - 1)
        ns = seconds * billion + ((fraction * billion) >> shift)
        ns[seconds > np.uint64(_LIMIT // _BILLION)] = _LIMIT
        return ns
    # ticks * 10 ** 9 needs 94 bits: take it in two halves, of which the sum is floor(ticks * 10 ** 9 / 2 ** 32).
    scaled = (ticks >> half) * billion + (((ticks & np.uint64(0xFFFFFFFF)) * billion) >> half)
    return scaled >> np.uint64(min(exponent - 32, 63))
