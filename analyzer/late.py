"""HTTP/1 messages behind the head: segments late in a connection that begin with a request or status line.

A connection that is kept alive for hours shows its most telling request when it likes. Such segments are kept, with
what follows them up to the end of their field section; each distinct one once, so that a probe repeated for days takes
the room of one and memory follows the number of connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from analyzer.decode.transport import TCP
from analyzer.flows import FlowRows, place_of
from analyzer.heads import HeadCollector
from analyzer.schema import I64, U8, LateMessage, PacketTable

LATE_REQUESTS: Final = 64
"""Distinct requests kept behind the head of a direction; as many as are read of the head."""
LATE_RESPONSES: Final = 16
"""Distinct status lines kept likewise; Kubernetes components answer with fewer."""
LATE_OCTETS: Final = 8 * 1024
"""Octets kept of one message: Apache, nginx and many proxies bound a field line at 8 KiB."""
_IDENTITY: Final = 1024
"""Octets that, with the length of the segment, tell one request from another."""
_STATUS_IDENTITY: Final = 12
"""Octets that tell one status line from another: ``HTTP/1.1 403``."""
_PATIENCE: Final = 8
"""Segments of the same direction that may come before the one in which a message goes on."""


@dataclass(slots=True)
class _Open:
    """A message whose field section goes on in a segment to come, at sequence number ``expects``."""

    stream: int
    frame: int
    octets: bytearray
    expects: int
    patience: int = _PATIENCE


class LateCollector:
    """Collect late message starts table after table; `take` hands over what is complete.

    Parameters
    ----------
    heads : HeadCollector
        Has the octets up to its limit: what begins behind that is late.
    """

    def __init__(self, heads: HeadCollector) -> None:
        self._heads = heads
        self._seen: dict[int, tuple[set[bytes], set[bytes]]] = {}  # stream -> identities of requests, of responses
        self._done: list[LateMessage] = []
        self._open: list[_Open] = []
        self._full: set[int] = set()
        self.pending_octets = 0

    def add(self, packets: PacketTable, rows: FlowRows, octets: U8) -> None:
        """Keep the late message starts among `packets`; to be called once the heads have been given them."""
        starts = self._late_starts(packets, rows)
        if starts.shape[0] == 0 and not self._open:
            return
        segments = _Segments(packets, rows, octets)
        self._open = [m for m in self._open if self._follow(m, segments, -1)]
        for row, stream, place in zip(
            starts.tolist(), rows.stream[starts].tolist(), segments.places(starts), strict=True
        ):
            opened = self._begin(stream, place, segments)
            if opened is not None and self._follow(opened, segments, row):
                self._open.append(opened)

    def take(self, *, all_of_them: bool = False) -> list[LateMessage]:
        """Hand over the messages kept, and forget their octets; with `all_of_them` also those still going on."""
        if all_of_them:
            for message in self._open:
                self._finish(message.stream, message.frame, bytes(message.octets))
            self._open = []
        taken, self._done = self._done, []
        self.pending_octets = 0
        return taken

    def under_way(self) -> list[LateMessage]:
        """Messages that still go on, as far as they came; they stay."""
        return [LateMessage(message.stream, message.frame, bytes(message.octets)) for message in self._open]

    def full_streams(self) -> I64:
        """Streams in which a message found no room, ascending: (K,) int64."""
        return np.array(sorted(self._full), np.int64)

    def keep(self, kept: I64, count: int) -> None:
        """Forget all of the `count` flows but `kept`, ascending; flow ``kept[i]`` is flow i from now on.

        What was kept of their messages must have been taken.
        """
        place: list[int] = place_of(kept, count).tolist()

        def renumbered(stream: int) -> int:
            return place[stream >> 1] * 2 + (stream & 1)

        self._seen = {renumbered(s): seen for s, seen in self._seen.items() if place[s >> 1] >= 0}
        self._full = {renumbered(s) for s in self._full if place[s >> 1] >= 0}
        self._open = [message for message in self._open if place[message.stream >> 1] >= 0]
        for message in self._open:
            message.stream = renumbered(message.stream)

    def _late_starts(self, packets: PacketTable, rows: FlowRows) -> I64:
        """Indices into `rows` of starts behind the heads of streams that have room, ascending."""
        starts: I64 = rows.http[packets.protocol[rows.packet[rows.http]] == TCP]
        if starts.shape[0] == 0:
            return starts
        stream = rows.stream[starts]
        late = self._heads.is_behind(stream, packets.seq[rows.packet[starts]].astype(np.int64))
        if self._full:
            late &= ~np.isin(stream, self.full_streams())
        return starts[late]

    def _begin(self, stream: int, place: _Place, segments: _Segments) -> _Open | None:
        """Keep the start of a message where it is new and there is room; the message, where it goes on."""
        begin, stop = place[0], min(place[1], place[0] + LATE_OCTETS)
        seen = self._seen.get(stream)
        if seen is None:
            seen = self._seen[stream] = (set(), set())
        identity = segments.octets(begin, min(stop, begin + _IDENTITY))
        if identity.startswith(b"HTTP/"):
            known, identity, room = seen[1], identity[:_STATUS_IDENTITY], LATE_RESPONSES
        else:
            known, identity, room = seen[0], (stop - begin).to_bytes(4) + identity, LATE_REQUESTS
        if identity in known:
            return None
        if len(known) >= room:
            self._full.add(stream)
            return None
        known.add(identity)
        segment = segments.at(place)
        if _is_over(segment.octets, segment):
            self._finish(stream, segment.frame, segment.octets)
            return None
        return _Open(stream, segment.frame, bytearray(segment.octets), segment.end)

    def _follow(self, message: _Open, segments: _Segments, after: int) -> bool:
        """Add to `message` what the segments past row `after` hold of it; whether it still goes on."""
        for segment in map(segments.at, segments.places(segments.of_stream(message.stream, after))):
            if segment.seq != message.expects:
                message.patience -= 1
                if not message.patience:
                    self._finish(message.stream, message.frame, bytes(message.octets))
                    return False
                continue
            message.octets += segment.octets[: LATE_OCTETS - len(message.octets)]
            message.expects, message.patience = segment.end, _PATIENCE
            if _is_over(message.octets, segment):
                self._finish(message.stream, message.frame, bytes(message.octets))
                return False
        return True

    def _finish(self, stream: int, frame: int, octets: bytes) -> None:
        self._done.append(LateMessage(stream, frame, octets))
        self.pending_octets += len(octets)


def _is_over(octets: bytes | bytearray, last: _Segment) -> bool:
    """Whether a message, of which these octets are there, up to those of segment `last`, is not followed further."""
    return b"\r\n\r\n" in octets or b"\n\n" in octets or not last.whole or len(octets) >= LATE_OCTETS


_Place = tuple[int, int, int, int, int]
"""Of one segment: where its captured octets begin and stop, octets it claims, sequence number, frame."""


class _Segment(NamedTuple):
    """One segment: its octets as far as they can be kept, and the sequence numbers of its first and past its last."""

    seq: int
    end: int
    frame: int
    octets: bytes
    whole: bool  # the snap length cut nothing off


class _Segments:
    """The segments of one table, by row of its `FlowRows`, and by stream when that is asked for."""

    def __init__(self, packets: PacketTable, rows: FlowRows, octets: U8) -> None:
        self._packets, self._rows, self._octets = packets, rows, octets.data
        self._order: I64 | None = None
        self._ordered: I64 = rows.stream

    def of_stream(self, stream: int, after: int) -> I64:
        """Rows of `stream` past row `after` that carry payload, in order."""
        if self._order is None:
            packet, streams = self._rows.packet, self._rows.stream
            payload = np.flatnonzero(self._packets.payload_stop[packet] > self._packets.payload_start[packet])
            self._order = payload[np.argsort(streams[payload], kind="stable")]
            self._ordered = streams[self._order]
        low, high = np.searchsorted(self._ordered, [stream, stream + 1]).tolist()
        first = low + int(np.searchsorted(self._order[low:high], after, side="right"))
        return self._order[first:high]

    def places(self, rows: I64) -> Iterator[_Place]:
        """What `at` makes a segment of, of each of these rows: most starts are known by their first octets alone."""
        packets, packet = self._packets, self._rows.packet[rows]
        columns = (packets.payload_start, packets.payload_stop, packets.payload_len, packets.seq, packets.frame)
        return zip(*(column[packet].tolist() for column in columns), strict=True)

    def octets(self, begin: int, stop: int) -> bytes:
        return bytes(self._octets[begin:stop])

    def at(self, place: _Place) -> _Segment:
        """The segment itself."""
        begin, stop, length, seq, frame = place
        octets = self.octets(begin, min(stop, begin + LATE_OCTETS))
        return _Segment(seq, (seq + length) & 0xFFFFFFFF, frame, octets, stop - begin == length)
