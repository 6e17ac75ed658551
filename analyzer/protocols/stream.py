"""One direction of one flow as plain octets, for the text protocols: what is known without a gap, in which frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from analyzer.schema import I64, StreamHeads

TEXT_LIMIT: Final = 512
"""Characters kept of any string taken from a capture."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Octets of one direction up to the first hole.

    Attributes
    ----------
    octets : bytes
        Positions 0 to the first hole, or to the end of the head.
    from_start : bool
        Position 0 is the first octet of the stream.
    segment_position, segment_frame : (K,) int64
        Where each captured segment begins, ascending, and the frame that carried it.
    """

    octets: bytes
    from_start: bool
    segment_position: I64
    segment_frame: I64

    def frame_at(self, position: int) -> int:
        """Frame that carried the octet at `position`; 0 where no segment did."""
        row = int(self.segment_position.searchsorted(position, side="right")) - 1
        return int(self.segment_frame[row]) if row >= 0 else 0

    def segment_starts(self) -> list[int]:
        """Positions at which segments begin, ascending, inside `octets`."""
        starts: list[int] = self.segment_position.tolist()
        return [position for position in starts if position < len(self.octets)]


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
    known = heads.known_until()
    for flow, name in zip(flows.tolist(), (flows if names is None else names).tolist(), strict=True):
        yield name, _stream(heads, known, 2 * flow), _stream(heads, known, 2 * flow + 1)


def _stream(heads: StreamHeads, known: I64, stream: int) -> Stream:
    rows = slice(int(heads.segments_offsets[stream]), int(heads.segments_offsets[stream + 1]))
    return Stream(
        octets=heads.head(stream)[: int(known[stream])].tobytes(),
        from_start=bool(heads.from_start[stream]),
        segment_position=heads.segment_position[rows],
        segment_frame=heads.segment_frame[rows],
    )


def text(octets: bytes) -> str:
    """Text of captured octets: ISO 8859-1, so that every octet survives, cut to `TEXT_LIMIT` characters."""
    return octets[:TEXT_LIMIT].decode("latin-1")
