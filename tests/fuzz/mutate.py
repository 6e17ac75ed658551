"""Mutations of octets: what tells parsers most, chosen at random from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

_NUMBERS_8: Final = (0, 1, 3, 4, 6, 17, 20, 22, 23, 43, 44, 60, 0x45, 0x4F, 0x60, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS_16: Final = (0, 1, 4, 8, 20, 0x0100, 0x0300, 0x0304, 0x0800, 0x4000, 0x7FFF, 0x8000, 0x8100, 0x86DD, 0xFFFF)
_NUMBERS_32: Final = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00FFFFFF, 0x01000000, 0x0A0D0D0A, 0xA1B2C3D4)
_MOST: Final = 4096
"""Octets an insertion may add."""


def mutate(seed: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """`seed` after one to six mutations; `others` are what it may be spliced with."""
    octets = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 6))):
        _one(octets, others, rng)
    return bytes(octets)


def _one(octets: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    size = len(octets)
    kind = rng.randrange(12)
    at = rng.randrange(size) if size else 0
    # Headers stand at the front: half of all mutations aim there.
    if rng.random() < 0.5:
        at = min(at, rng.randrange(80))
    if kind <= 2 and size:
        octets[at] ^= 1 << rng.randrange(8)
    elif kind == 3 and size:
        octets[at] = rng.choice(_NUMBERS_8)
    elif kind == 4 and size >= 2:
        number, order = rng.choice(_NUMBERS_16), rng.choice(("big", "little"))
        octets[min(at, size - 2) : min(at, size - 2) + 2] = number.to_bytes(2, "big" if order == "big" else "little")
    elif kind == 5 and size >= 4:
        at = min(at, size - 4)
        octets[at : at + 4] = rng.choice(_NUMBERS_32).to_bytes(4, rng.choice(("big", "little")))
    elif kind == 6 and size:
        octets[at] = (octets[at] + rng.choice((-2, -1, 1, 2))) & 255
    elif kind == 7:
        del octets[at:]
    elif kind == 8 and size:
        del octets[at : at + rng.randrange(1, 16)]
    elif kind == 9:
        octets[at:at] = rng.randbytes(rng.randrange(1, 32))
    elif kind == 10 and size:
        # A run again and again: nesting, and chains that do not end.
        run = bytes(octets[at : at + rng.randrange(1, 40)])
        octets[at:at] = (run * rng.randrange(1, 64))[:_MOST]
    elif others:
        other = rng.choice(others)
        cut = rng.randrange(len(other)) if other else 0
        octets[at:] = other[cut : cut + 2 * _MOST]
