"""Which octets of the heads were captured, and reads of numbers at known places.

Every offset below is absolute: it counts from the first octet of ``heads.octets``, in which the heads stand back to
back. Holes are sorted by stream and position, so in absolute offsets they ascend over all streams together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from analyzer.schema import I64, U8, StreamHeads


@dataclass(frozen=True, slots=True)
class Extents:
    """Ranges of known octets.

    Attributes
    ----------
    hole_start, hole_stop : (H,) int64
        Absolute half-open ranges that were not captured, ascending.
    """

    hole_start: I64
    hole_stop: I64

    @classmethod
    def of(cls, heads: StreamHeads) -> Self:
        """Extents of all heads."""
        base = heads.offsets[heads.holes_stream]
        return cls(base + heads.holes_start, base + heads.holes_stop)

    def known_until(self, start: I64, stop: I64) -> I64:
        """First octet in ``[start, stop)`` that was not captured, `stop` where all were: (N,) int64.

        Parameters
        ----------
        start, stop : (N,) int64
            Absolute offsets; each range lies in one head.
        """
        if self.hole_start.shape[0] == 0:
            return np.maximum(start, stop)
        row = np.searchsorted(self.hole_stop, start, side="right")
        following = np.append(self.hole_start, np.iinfo(np.int64).max)[row]
        known: I64 = np.maximum(start, np.minimum(stop, following))
        return known


def u8(octets: U8, at: I64) -> I64:
    """The octet at each `at`: (N,) int64. The caller has checked ``at < octets.size``."""
    return octets[at].astype(np.int64)


def u16(octets: U8, at: I64) -> I64:
    """The big-endian 16-bit number at each `at`: (N,) int64. The caller has checked ``at + 2 <= octets.size``."""
    number: I64 = (u8(octets, at) << 8) | octets[at + 1]
    return number


def u24(octets: U8, at: I64) -> I64:
    """The big-endian 24-bit number at each `at`: (N,) int64. The caller has checked ``at + 3 <= octets.size``."""
    number: I64 = (u16(octets, at) << 8) | octets[at + 2]
    return number
