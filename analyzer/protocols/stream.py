"""One direction of one flow as plain octets, for the text protocols: what is known without a gap, in which frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.schema import I64, StreamHeads

TEXT_LIMIT: Final = 512
"""Characters kept of any string taken from a capture."""


MAX_RUNS: Final = 64
"""Stretches between holes that are read of one direction."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Octets of one direction up to the first hole, and the stretches behind it.

    Attributes
    ----------
    octets : bytes
        Positions 0 to the first hole, or to the end of the head.
    from_start : bool
        Position 0 is the first octet of the stream.
    segment_position, segment_frame : (K,) int64
        Where each captured segment begins, ascending, and the frame that carried it.
    later : tuple of Stream
        What lies between one hole and the next, each counted from its own first octet.
    """

    octets: bytes
    from_start: bool
    segment_position: I64
    segment_frame: I64
    later: tuple[Stream, ...] = ()

    def frame_at(self, position: int) -> int:
        """Frame that carried the octet at `position`; 0 where no segment did."""
        row = int(self.segment_position.searchsorted(position, side="right")) - 1
        return int(self.segment_frame[row]) if row >= 0 else 0

    def segment_starts(self) -> list[int]:
        """Positions at which segments begin, ascending, inside `octets`."""
        starts: list[int] = self.segment_position.tolist()
        return [position for position in starts if 0 <= position < len(self.octets)]


def read_streams(heads: StreamHeads, flows: I64, names: I64 | None = None) -> Iterator[tuple[int, Stream, Stream]]:
    """Yield (name of the flow, client to server, server to client) for each of `flows`.

    Parameters
    ----------
    heads : StreamHeads
    flows : (K,) int64
        Flows by their place in `heads`.
    names : (K,) int64, optional
        Rows of the flow table, where they are not the same.
    """
    holes = _holes_of(heads, flows)
    for flow, name in zip(flows.tolist(), (flows if names is None else names).tolist(), strict=True):
        yield name, _stream(heads, holes, 2 * flow), _stream(heads, holes, 2 * flow + 1)


def _holes_of(heads: StreamHeads, flows: I64) -> dict[int, list[tuple[int, int]]]:
    """Holes of the streams of `flows`, which few streams have."""
    found: dict[int, list[tuple[int, int]]] = {}
    chosen = np.isin(heads.holes_stream >> 1, flows)
    columns = (heads.holes_stream[chosen], heads.holes_start[chosen], heads.holes_stop[chosen])
    for stream, start, stop in zip(*(column.tolist() for column in columns), strict=True):
        found.setdefault(stream, []).append((start, stop))
    return found


def _stream(heads: StreamHeads, holes: dict[int, list[tuple[int, int]]], stream: int) -> Stream:
    whole = heads.head(stream)
    rows = slice(int(heads.segments_offsets[stream]), int(heads.segments_offsets[stream + 1]))
    position, frame = heads.segment_position[rows], heads.segment_frame[rows]
    ranges = holes.get(stream, [])
    edges = [0, *(edge for hole in ranges for edge in hole), whole.shape[0]]
    later = []
    for start, stop in zip(edges[2 : 2 * MAX_RUNS + 2 : 2], edges[3::2], strict=False):
        if start < stop:
            # The segment that carries the first octet may have begun before it, inside the hole.
            first = max(int(position.searchsorted(start, side="right")) - 1, 0)
            last = int(position.searchsorted(stop))
            later.append(Stream(whole[start:stop].tobytes(), False, position[first:last] - start, frame[first:last]))
    return Stream(
        octets=whole[: edges[1]].tobytes(),
        from_start=bool(heads.from_start[stream]),
        segment_position=position,
        segment_frame=frame,
        later=tuple(later),
    )


def text(octets: bytes) -> str:
    """Text of captured octets: ISO 8859-1, so that every octet survives, cut to `TEXT_LIMIT` characters."""
    return octets[:TEXT_LIMIT].decode("latin-1")
