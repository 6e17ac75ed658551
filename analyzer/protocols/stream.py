"""One direction of one flow as plain octets, for the text protocols: what is known without a gap, in which frames."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from analyzer.numbers import among
from analyzer.schema import I64, StreamHeads

TEXT_LIMIT: Final = 512
"""Characters kept of any string taken from a capture."""


MAX_RUNS: Final = 64
"""Stretches between holes that are read of one direction."""


@dataclass(slots=True)
class Stream:
    """Octets of one direction up to the first hole, and the stretches behind it.

    Attributes
    ----------
    octets : bytes
        Positions 0 to the first hole, or to the end of the head.
    from_start : bool
        Position 0 is the first octet of the stream.
    segment_position, segment_frame : list of int
        Where each captured segment begins, ascending, and the frame that carried it.
    later : tuple of Stream
        What lies between one hole and the next, each counted from its own first octet.
    """

    octets: bytes
    from_start: bool
    segment_position: list[int]
    segment_frame: list[int]
    later: tuple[Stream, ...] = ()

    def frame_at(self, position: int) -> int:
        """Frame that carried the octet at `position`; 0 where no segment did."""
        row = bisect_right(self.segment_position, position) - 1
        return self.segment_frame[row] if row >= 0 else 0

    def segment_starts(self) -> list[int]:
        """Positions at which segments begin, ascending, inside `octets`."""
        return [position for position in self.segment_position if 0 <= position < len(self.octets)]

    def behind(self, at: int) -> Stream:
        """What follows position `at` up to the first hole, counted from there: a stream of its own."""
        first = max(bisect_right(self.segment_position, at) - 1, 0)
        places = [place - at for place in self.segment_position[first:]]
        return Stream(self.octets[at:], True, places, self.segment_frame[first:])

    def pieces(self) -> list[Piece]:
        """The octets as they lay in segments."""
        starts = self.segment_starts()
        edges = [*([0] if not starts or starts[0] else []), *starts, len(self.octets)]
        return [
            Piece(self.frame_at(start), self.octets[start:stop])
            for start, stop in itertools.pairwise(edges)
            if start < stop
        ]


class Piece(NamedTuple):
    """Octets that one frame carried."""

    frame: int
    octets: bytes


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
    octets = np.ascontiguousarray(heads.octets).data
    sides = []
    for side in (0, 1):
        # Columns as lists, once: a number out of an array costs ten times as much as one out of a list.
        stream = 2 * flows + side
        bounds = (heads.offsets[stream], heads.offsets[stream + 1])
        rows = (heads.segments_offsets[stream], heads.segments_offsets[stream + 1])
        columns = (stream, heads.from_start[stream], *bounds, *rows)
        sides.append(zip(*(column.tolist() for column in columns), strict=True))
    for name, client, server in zip((flows if names is None else names).tolist(), *sides, strict=True):
        yield name, _stream(heads, octets, holes, *client), _stream(heads, octets, holes, *server)


def _holes_of(heads: StreamHeads, flows: I64) -> dict[int, list[tuple[int, int]]]:
    """Holes of the streams of `flows`, which few streams have."""
    found: dict[int, list[tuple[int, int]]] = {}
    chosen = among(heads.holes_stream >> 1, flows)
    columns = (heads.holes_stream[chosen], heads.holes_start[chosen], heads.holes_stop[chosen])
    for stream, start, stop in zip(*(column.tolist() for column in columns), strict=True):
        found.setdefault(stream, []).append((start, stop))
    return found


def _stream(
    heads: StreamHeads,
    octets: memoryview,
    holes: dict[int, list[tuple[int, int]]],
    stream: int,
    from_start: bool,
    begin: int,
    end: int,
    first_row: int,
    last_row: int,
) -> Stream:
    position: list[int] = heads.segment_position[first_row:last_row].tolist()
    frame: list[int] = heads.segment_frame[first_row:last_row].tolist()
    ranges = holes.get(stream)
    if ranges is None:
        return Stream(bytes(octets[begin:end]), from_start, position, frame)
    edges = [0, *(edge for hole in ranges for edge in hole), end - begin]
    later = []
    for start, stop in zip(edges[2 : 2 * MAX_RUNS + 2 : 2], edges[3::2], strict=False):
        if start < stop:
            # The segment that carries the first octet may have begun before it, inside the hole.
            first = max(bisect_right(position, start) - 1, 0)
            last = bisect_left(position, stop)
            places = [place - start for place in position[first:last]]
            later.append(Stream(bytes(octets[begin + start : begin + stop]), False, places, frame[first:last]))
    return Stream(bytes(octets[begin : begin + edges[1]]), from_start, position, frame, tuple(later))


def text(octets: bytes) -> str:
    """Text of captured octets: ISO 8859-1, so that every octet survives, cut to `TEXT_LIMIT` characters."""
    return octets[:TEXT_LIMIT].decode("latin-1")
