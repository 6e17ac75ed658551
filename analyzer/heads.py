"""The first octets of each direction of each flow, put in order by sequence number.

Segments are kept as blocks of fixed width, so that picking them out of a chunk and laying them into a head are both
plain block copies. Overlap is resolved for the first copy; what was sent but not captured stays a hole with its range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from analyzer.copying import COPY_BLOCK, copy_ranges, expand
from analyzer.decode.gather import gather_block
from analyzer.decode.transport import TCP
from analyzer.flows import SENT_TLS_HELLO, FlowBuilder, FlowRows, place_of, sequence_difference
from analyzer.numbers import grown, run_lengths, run_starts
from analyzer.registries import HeadStop
from analyzer.schema import I64, U8, Mask, PacketTable, StreamHeads, Table

HEAD_LIMIT: Final = 16 * 1024
"""Octets kept of each direction. The largest TLS handshakes of clusters (long chains) stay below 10 KiB; node.js and
Tomcat bound an HTTP/1 head at 16 and 8 KiB."""
HANDSHAKE_LIMIT: Final = 10 * 1024
"""Octets kept of each direction once a TLS hello was seen in either: what follows the handshake is not readable."""
KEYED_LIMIT: Final = 256 * 1024
"""The same where keys were given: what follows the handshake is then readable."""
DATAGRAM_LIMIT: Final = 4
"""Datagrams kept of each direction of a flow without sequence numbers."""
REORDER_WINDOW: Final = 1 << 16
"""Octets before the first segment seen that a late segment may still be placed at (an unscaled TCP window)."""


@dataclass(frozen=True, slots=True)
class _Segments(Table):
    """Segments as they arrived: ``(K,)`` columns; ``block`` is the first of ``ceil(captured / 256)`` blocks."""

    stream: I64
    position: I64  # from the stream's origin; negative for a segment that arrived late
    captured: I64
    claimed: I64
    frame: I64
    block: I64


_ROOM: Final = 1 << 20
"""Blocks there is room for, 256 MiB: more than is held (`pipeline.HEADS_BUDGET`) and comes in one epoch."""
_STORE_SLICE: Final = 1024
"""Blocks copied at a time."""

_SPAN: Final = 1 << 40
"""Above any position in a head: stream and position in one ascending number."""


def _empty_segments() -> _Segments:
    none = np.empty(0, np.int64)
    return _Segments(none, none, none, none, none, none)


def _ranks(group: I64) -> I64:
    """How many earlier rows have the same group, per row."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    begins = run_starts(ordered)
    ranks = np.empty_like(group)
    ranks[order] = np.arange(group.shape[0]) - np.repeat(begins, run_lengths(begins, group.shape[0]))
    return ranks


class HeadCollector:
    """Collect candidate segments from packet tables; `assemble` gives heads and `release` frees them.

    Parameters
    ----------
    flows : FlowBuilder
        The same object that numbered the flows: it knows where each stream begins.
    limit : int
        Octets kept of each direction.
    """

    _COLUMNS: Final = ("_finished", "_datagrams", "_sent", "_decided", "_reach", "_holding")

    def __init__(self, flows: FlowBuilder, limit: int = HEAD_LIMIT) -> None:
        self._flows = flows
        self._limit = limit
        self._handshake_limit = limit * HANDSHAKE_LIMIT // HEAD_LIMIT
        self._segments: list[_Segments] = []
        # Address space, not memory, until it is written to: to grow means to copy, which costs more than to fill it.
        self._blocks: U8 = np.empty((_ROOM, COPY_BLOCK), np.uint8)
        self._used = 0
        self._alive = 0  # blocks of segments that are not released
        self._touched: list[I64] = []
        self._finished: Mask = np.zeros(1 << 10, bool)
        self._datagrams: I64 = np.zeros(1 << 10, np.int64)
        self._sent: I64 = np.zeros(1 << 10, np.int64)
        self._decided: I64 = np.zeros(1 << 10, np.int64)  # limits of the streams that have come so far; 0: not yet
        self._reach: I64 = np.zeros(1 << 10, np.int64)  # where the head of a finished stream ended
        self._holding: Mask = np.zeros(1 << 10, bool)  # streams of which segments are held
        self._noted = 0  # so many of the lists of segments are noted in those two

    def keep_protected(self) -> None:
        """Keep `KEYED_LIMIT` octets of TLS connections from now on: there are keys to read them with."""
        self._handshake_limit = max(self._limit, KEYED_LIMIT)

    @property
    def pending_octets(self) -> int:
        """Octets of segments held."""
        return self._alive * COPY_BLOCK

    def _limits(self, streams: I64) -> I64:
        """Octets kept of each stream: (M,) int64."""
        opening, decided = self._flows.state.opening.reshape(-1), self._decided.take(streams)
        hello = (opening.take(streams) | opening.take(streams ^ 1)) & SENT_TLS_HELLO
        return np.where(decided != 0, decided, np.where(hello != 0, self._handshake_limit, self._limit))

    def _decide(self, streams: I64, frame: I64) -> None:
        """Let the limits of `streams`, of which segments in `frame` come to the smaller one, be what they are then.

        A limit that moved later, with what looks like a hello inside the data of another protocol, would have octets
        counted to the head that it has not kept, and those would be read by nobody.
        """
        hello = self._flows.state.hello_frame[streams >> 1]
        limits = np.where((hello > 0) & (hello <= frame), self._handshake_limit, self._limit)
        self._decided[streams[::-1]] = limits[::-1]  # backwards: the first segment decides

    def _reserve(self, count: int | None = None) -> None:
        need = (len(self._flows) if count is None else count) * 2
        if need > self._finished.shape[0]:
            for name in self._COLUMNS:
                setattr(self, name, grown(getattr(self, name), need))

    def add(self, packets: PacketTable, rows: FlowRows, octets: U8) -> None:
        """Keep the segments of `packets` that fall into a head still being collected."""
        self._reserve()
        length = packets.payload_len.take(rows.packet)
        wanted = np.flatnonzero((length > 0) & ~self._finished.take(rows.stream))
        if wanted.shape[0] == 0:
            return
        stream, packet = rows.stream[wanted], rows.packet[wanted]
        tcp = packets.protocol[packet] == TCP
        origin = self._flows.state.origin.reshape(-1).take(stream)
        origin -= (packets.tcp_flags[packet] & 2) != 0
        position = sequence_difference(packets.seq[packet] - origin)
        keep = tcp & (position > -REORDER_WINDOW) & (position < max(self._limit, self._handshake_limit))
        # Most segments of long connections lie past any head: the limit of their own is asked for the others alone.
        near = np.flatnonzero(keep)
        deciding = near[position[near] + length[wanted[near]] >= min(self._limit, self._handshake_limit)]
        deciding = deciding[self._decided[stream[deciding]] == 0]
        self._decide(stream[deciding], packets.frame[packet[deciding]])
        keep[near] = position[near] < self._limits(stream[near])
        datagrams = np.flatnonzero(~tcp)
        if datagrams.shape[0]:
            self._place_datagrams(stream, length[wanted], datagrams, position, keep)
        kept = np.flatnonzero(keep)
        if kept.shape[0]:
            stream = stream[kept]
            self._store(packets, packet[kept], stream, position[kept], self._limits(stream), octets)

    def _place_datagrams(self, stream: I64, length: I64, rows: I64, position: I64, keep: Mask) -> None:
        """Lay the first datagrams of each stream one behind the other."""
        stream, length = stream[rows], length[rows]
        self._decided[stream] = self._limit
        rank = self._datagrams[stream] + _ranks(stream)
        first = np.flatnonzero(rank < DATAGRAM_LIMIT)
        for turn in range(DATAGRAM_LIMIT):
            these = first[rank[first] == turn]
            position[rows[these]] = self._sent[stream[these]]
            self._sent[stream[these]] += length[these]
        keep[rows[first]] = position[rows[first]] < self._limit
        np.add.at(self._datagrams, stream, 1)

    def _store(self, packets: PacketTable, packet: I64, stream: I64, position: I64, limits: I64, octets: U8) -> None:
        start = packets.payload_start[packet]
        claimed = np.minimum(packets.payload_len[packet], limits - position)
        captured = np.minimum(packets.payload_stop[packet] - start, claimed)
        counts = -(-captured // COPY_BLOCK)
        first = np.cumsum(counts) - counts
        stop = self._used + int(counts.sum())
        if stop > self._blocks.shape[0]:
            larger = np.empty((max(stop, self._blocks.shape[0] * 3 // 2), COPY_BLOCK), np.uint8)
            larger[: self._used] = self._blocks[: self._used]
            self._blocks = larger
        source = np.repeat(start - first * COPY_BLOCK, counts) + np.arange(stop - self._used) * COPY_BLOCK
        # In slices, so that what is gathered is still in the cache when it is stored.
        for at in range(0, source.shape[0], _STORE_SLICE):
            part = gather_block(octets, source[at : at + _STORE_SLICE], COPY_BLOCK)
            self._blocks[self._used + at : self._used + at + part.shape[0]] = part
        first += self._used
        self._alive += stop - self._used
        self._used = stop
        self._segments.append(_Segments(stream, position, captured, claimed, packets.frame[packet], first))
        self._touched.append(stream >> 1)

    def is_behind(self, streams: I64, seq: I64) -> Mask:
        """Whether the segments at sequence numbers `seq` lie behind the heads of their TCP streams: (K,) bool."""
        self._reserve()
        position = sequence_difference(seq - self._flows.state.origin[streams >> 1, streams & 1])
        end = np.where(self._finished[streams], self._reach[streams], self._limits(streams))
        # So far before the head that no segment can have been late: the sequence numbers have gone round.
        behind: Mask = (position >= end) | (position <= -REORDER_WINDOW)
        return behind

    def lies_behind(self, stream: int, seq: int) -> bool:
        """`is_behind`, of one segment: in plain numbers that costs a tenth."""
        self._reserve()
        origin = int(self._flows.state.origin[stream >> 1, stream & 1])
        position = sequence_difference(seq - origin)
        # Where the limit is not decided, nothing came that lies between the one and the other.
        limit = int(self._decided[stream]) or self._limit
        end = int(self._reach[stream]) if self._finished[stream] else limit
        return position >= end or position <= -REORDER_WINDOW

    def touched(self) -> I64:
        """Flows that got a segment since this was last asked, ascending: (K,) int64."""
        touched = np.zeros(len(self._flows), bool)
        for flow in self._touched:
            touched[flow] = True
        self._touched.clear()
        flows = np.flatnonzero(touched)
        return flows[~self._finished[2 * flows]]

    def held(self, *, finished: bool = False) -> I64:
        """Flows of which segments are held, those still collected or those finished: (K,) int64, ascending."""
        self._note()
        count = 2 * len(self._flows)
        flows = np.flatnonzero(self._holding[0:count:2] | self._holding[1:count:2])
        ended = self._finished[2 * flows]
        return flows[ended if finished else ~ended]

    def _note(self) -> None:
        """Note where the segments that came since the last time belong, and how far their heads reach."""
        self._reserve()
        for segments in self._segments[self._noted :]:
            self._holding[segments.stream] = True
            np.maximum.at(self._reach, segments.stream, segments.position + segments.claimed)
        self._noted = len(self._segments)

    def finish(self, flows: I64) -> None:
        """Collect no more of `flows`; what is held of them can still be assembled."""
        self._note()
        for side in (0, 1):
            self._finished[flows * 2 + side] = True

    def release(self, flows: I64) -> None:
        """Drop the segments of `flows`, and of those finished before, and collect no more of them."""
        self.finish(flows)
        if not self._segments:
            return
        segments = _Segments.concatenate(self._segments)
        segments = segments.take(~self._finished[segments.stream])
        self._holding[:] = False
        self._holding[segments.stream] = True
        self._segments, self._noted = [segments], 1
        self._give_up_blocks()

    def _give_up_blocks(self) -> None:
        """Count the blocks of the segments that are left, and move them together where that pays."""
        (segments,) = self._segments
        counts = -(-segments.captured // COPY_BLOCK)
        before = np.concatenate([[0], np.cumsum(counts)])
        self._alive = alive = int(before[-1])
        # Move what lies behind the first segment that has as many free blocks behind it as there are to move: what the
        # rounds before have left, and moved together, mostly stays where it is.
        ends = np.concatenate([[0], segments.block + counts])
        free = self._used - ends - (alive - before)
        first = int(np.argmax(free >= alive - before))  # true at the end, where nothing is moved
        base = int(ends[first]) - int(before[first])
        self._used = base + alive
        source = np.repeat(segments.block[first:] - before[first:-1], counts[first:]) + np.arange(before[first], alive)
        target, room = int(ends[first]), np.empty((_STORE_SLICE, COPY_BLOCK), np.uint8)
        # Blocks move down only, in order: what is written was read before.
        for at in range(0, source.shape[0], _STORE_SLICE):
            these = source[at : at + _STORE_SLICE]
            part = self._blocks.take(these, axis=0, out=room[: these.shape[0]], mode="clip")
            self._blocks[target + at : target + at + part.shape[0]] = part
        block = segments.block.copy()
        block[first:] = base + before[first:-1]
        self._segments = [replace(segments, block=block)]

    def keep(self, kept: I64, count: int) -> None:
        """Forget all of the `count` flows but `kept`, ascending; flow ``kept[i]`` is flow i from now on."""
        self._note()
        self._reserve(count)
        streams: I64 = (kept[:, None] * 2 + np.arange(2)).reshape(-1)
        place = place_of(streams, count * 2)
        for name in self._COLUMNS:
            column = getattr(self, name)
            renumbered = np.zeros(max(1 << 10, streams.shape[0] * 2), column.dtype)
            renumbered[: streams.shape[0]] = column[streams]
            setattr(self, name, renumbered)
        touched = place[np.concatenate([*self._touched, kept[:0]]) * 2]
        self._touched = [np.unique(touched[touched >= 0] >> 1)]
        if not self._segments:
            return
        segments = _Segments.concatenate(self._segments)
        segments = replace(segments, stream=place[segments.stream])
        self._segments, self._noted = [segments.take(segments.stream >= 0)], 1
        self._give_up_blocks()

    def assemble(self, streams: I64) -> StreamHeads:
        """Put the held segments of `streams` in order.

        Parameters
        ----------
        streams : (M,) int64
            Stream numbers (``flow * 2 + side``), each at most once; row m of the result is ``streams[m]``.

        Returns
        -------
        StreamHeads
            Its octets stand until segments are added or this is called again.
        """
        local = np.full(len(self._flows) * 2, -1, np.int64)
        local[streams] = np.arange(streams.shape[0])
        chosen = [part.take(local.take(part.stream) >= 0) for part in self._segments]
        segments = _Segments.concatenate(chosen) if chosen else _empty_segments()
        # Arrival order is kept among segments at the same position, so the first copy comes first.
        segments = segments.take(_order(local.take(segments.stream), segments.position))
        stream = local.take(segments.stream)
        start, from_start = self._starts(streams, stream, segments)
        position = segments.position - start.take(stream)
        # What lies before the start (keep-alive octets, RFC 9293 3.8.4) or past the limit is not of the head.
        skip = np.maximum(-position, 0)
        limits = self._limits(streams)
        room = np.maximum(limits.take(stream) - position, 0)
        claimed = np.minimum(segments.claimed, room) - skip
        captured = np.minimum(segments.captured, room) - skip
        pieces = _Pieces(
            stream,
            position + skip,
            np.maximum(captured, 0),
            claimed,
            segments.frame,
            segments.block * COPY_BLOCK + skip,
        )
        within = claimed > 0
        if not within.all():
            pieces = pieces.take(within)
        if skip.any():
            # Those cut at the start begin together now: the first to arrive goes first there too.
            pieces = pieces.take(np.lexsort((pieces.frame, pieces.position, pieces.stream)))
        return _lay_out(pieces, self._blocks.reshape(-1), streams.shape[0], from_start, limits, self._room)

    def _room(self, octets: int) -> U8:
        """Memory to lay heads out in: what lies behind the blocks, which they soon take; fresh memory costs more."""
        free = self._blocks[self._used :].reshape(-1)
        return free if free.shape[0] >= octets else np.empty(octets, np.uint8)

    def _starts(self, streams: I64, stream: I64, segments: _Segments) -> tuple[I64, Mask]:
        """Position, from the origin, of each stream's first octet, and whether a handshake shows that it is.

        ``stream`` ascends, and in each stream ``segments.position``.
        """
        state = self._flows.state
        flow, side = streams >> 1, streams & 1
        syn = np.where(state.syn_seq[flow, side] >= 0, state.syn_seq[flow, side], state.syn_ack_of[flow, side])
        known = syn >= 0
        distance = sequence_difference(syn + 1 - state.origin[flow, side])
        # Without the handshake the earliest segment seen begins the head.
        earliest = np.zeros(streams.shape[0], np.int64)
        first = run_starts(stream)
        earliest[stream[first]] = segments.position[first]
        near = known & (np.abs(distance) < REORDER_WINDOW) & (state.origin[flow, side] >= 0)
        return np.where(near, distance, earliest), near | (self._flows.protocols(flow) != TCP)


def _order(stream: I64, position: I64) -> I64:
    """Rows by stream and position, those of one position in their order: (K,) int64."""
    # Numbers of 16 bits are what numpy sorts by radix, in a quarter of the time.
    order = np.argsort((stream & 0xFFFF).astype(np.uint16), kind="stable")
    if int(stream.max(initial=0)) > 0xFFFF:
        order = order.take(np.argsort(stream.take(order) >> 16, kind="stable"))
    key = stream.take(order) * _SPAN + position.take(order)
    # In each stream segments arrive mostly in order, and what is nearly sorted is soon sorted whole.
    return order if (key[1:] >= key[:-1]).all() else order.take(np.argsort(key, kind="stable"))


@dataclass(frozen=True, slots=True)
class _Pieces(Table):
    """Segments placed in their heads; ``source`` is the offset of the first octet in the flat blocks."""

    stream: I64
    position: I64
    captured: I64
    claimed: I64
    frame: I64
    source: I64


def _lay_out(
    pieces: _Pieces, flat: U8, n: int, from_start: Mask, limits: I64, room: Callable[[int], U8]
) -> StreamHeads:
    """Make heads of pieces that are sorted: resolve overlap, find the holes, copy the octets."""
    pieces, conflict = _resolve_overlap(pieces, flat, n)
    length = np.zeros(n, np.int64)
    if len(pieces):
        first = run_starts(pieces.stream)
        length[pieces.stream[first]] = np.maximum.reduceat(pieces.position + pieces.claimed, first)
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(length, out=offsets[1:])
    # What a block write spills past the last piece lies in holes, which are cleared below.
    size = int(offsets[-1])
    target = offsets.take(pieces.stream) + pieces.position
    octets = copy_ranges(flat, pieces.source, pieces.captured, target, size, room(size + COPY_BLOCK))
    counts = np.bincount(pieces.stream, minlength=n)
    segments_offsets = np.zeros(n + 1, np.int64)
    np.cumsum(counts, out=segments_offsets[1:])
    holes_stream, holes_start, holes_stop = _holes(pieces)
    _clear(octets, offsets[holes_stream] + holes_start, offsets[holes_stream] + holes_stop)
    return StreamHeads(
        octets,
        offsets,
        from_start,
        np.where(length >= limits, HeadStop.LIMIT, HeadStop.COMPLETE).astype(np.uint8),
        holes_stream,
        holes_start,
        holes_stop,
        segments_offsets,
        pieces.position,
        pieces.frame,
        conflict,
    )


def _covered_before(pieces: _Pieces) -> I64:
    """Furthest position that the pieces before each one, in its stream, have captured."""
    base = pieces.stream * _SPAN
    begin = base + pieces.position
    reach = begin + pieces.captured
    # Where each ends before the next begins, and that is nearly always, the piece before reaches furthest.
    if (reach[:-1] > begin[1:]).any():
        reach = np.maximum.accumulate(reach)
    before = np.zeros(len(pieces), np.int64)
    np.maximum(reach[:-1] - base[1:], 0, out=before[1:])
    return before


def _repeats(pieces: _Pieces, flat: U8, overlapping: Mask) -> Mask:
    """Retransmissions of exactly the piece before, octet for octet: (P,) bool."""
    repeats = np.zeros(len(pieces), bool)
    rows = np.flatnonzero(overlapping)
    same = rows[
        (pieces.stream[rows] == pieces.stream[rows - 1])
        & (pieces.position[rows] == pieces.position[rows - 1])
        & (pieces.captured[rows] == pieces.captured[rows - 1])
        & (pieces.claimed[rows] == pieces.claimed[rows - 1])
    ]
    row, number = expand(-(-pieces.captured[same] // COPY_BLOCK))
    at = number * COPY_BLOCK
    one = gather_block(flat, pieces.source[same][row] + at, COPY_BLOCK)
    other = gather_block(flat, pieces.source[same - 1][row] + at, COPY_BLOCK)
    behind = np.arange(COPY_BLOCK) + at[:, None] >= pieces.captured[same][row][:, None]
    differs = np.bincount(row, ((one != other) & ~behind).any(axis=1), minlength=same.shape[0])
    repeats[same[differs == 0]] = True
    return repeats


def _resolve_overlap(pieces: _Pieces, flat: U8, n: int) -> tuple[_Pieces, Mask]:
    """Cut pieces so that none overlaps another; where octets differ, the first copy captured stays."""
    conflict = np.zeros(n, bool)
    overlapping = _covered_before(pieces) > pieces.position
    if not overlapping.any():
        return pieces, conflict
    pieces = pieces.take(~_repeats(pieces, flat, overlapping))
    overlapping = _covered_before(pieces) > pieces.position
    if not overlapping.any():
        return pieces, conflict
    affected = np.zeros(n, bool)
    affected[pieces.stream[overlapping]] = True
    chosen = affected[pieces.stream]
    rows = np.flatnonzero(chosen)
    resolved: list[tuple[int, int, int, int, int, int]] = []
    bounds = np.flatnonzero(np.diff(pieces.stream[rows], prepend=-1))
    for first, last in zip(bounds, np.append(bounds[1:], rows.shape[0]), strict=True):
        part = pieces.take(rows[first:last])
        cut, differs = _resolve_stream(part, flat)
        resolved.extend(cut)
        conflict[part.stream[0]] |= differs
    table = np.array(resolved, np.int64).reshape(-1, 6)
    kept = pieces.take(np.flatnonzero(~chosen))
    merged = _Pieces.concatenate([kept, _Pieces(*(np.ascontiguousarray(table[:, i]) for i in range(6)))])
    return merged.take(np.lexsort((merged.position, merged.stream))), conflict


def _resolve_stream(part: _Pieces, flat: U8) -> tuple[list[tuple[int, int, int, int, int, int]], bool]:
    """One stream with overlap, plainly: its pieces in order of arrival, each cut to what is still uncovered."""
    size = int((part.position + part.claimed).max())
    content = np.zeros(size, np.uint8)
    covered = np.zeros(size, bool)
    claimed = np.zeros(size, bool)
    differs = False
    out: list[tuple[int, int, int, int, int, int]] = []
    for row in np.argsort(part.frame, kind="stable").tolist():
        start, have, frame = int(part.position[row]), int(part.captured[row]), int(part.frame[row])
        source, want = int(part.source[row]), int(part.claimed[row])
        claimed[start : start + want] = True
        if have == 0:
            continue
        mine = flat[source : source + have]
        seen = covered[start : start + have]
        differs |= bool((content[start : start + have] != mine)[seen].any())
        edges = np.flatnonzero(np.diff(np.concatenate([[True], seen, [True]])))
        for begin, stop in edges.reshape(-1, 2).tolist():
            out.append((int(part.stream[row]), start + begin, stop - begin, stop - begin, frame, source + begin))
            content[start + begin : start + stop] = mine[begin:stop]
        covered[start : start + have] = True
    # Sent but never captured: one piece without octets for each such range, so that the hole stays known.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], claimed & ~covered, [False]])))
    for begin, stop in edges.reshape(-1, 2).tolist():
        carrier = int(np.argmax((part.position <= begin) & (part.position + part.claimed > begin)))
        out.append((int(part.stream[0]), begin, 0, stop - begin, int(part.frame[carrier]), 0))
    return out, differs


def _clear(octets: U8, start: I64, stop: I64) -> None:
    """Zero the given ranges, so that no octet of one place can be read in another."""
    if start.shape[0]:
        edges = np.zeros(octets.shape[0] + 1, np.int8)
        np.add.at(edges, start, 1)
        np.add.at(edges, stop, -1)
        octets[np.cumsum(edges[:-1], dtype=np.int8) > 0] = 0


def _holes(pieces: _Pieces) -> tuple[I64, I64, I64]:
    """Ranges inside the heads that no piece captured, sorted by stream and position."""
    covered = _covered_before(pieces)
    gap = np.flatnonzero(covered < pieces.position)
    cut = np.flatnonzero(pieces.captured < pieces.claimed)
    # The tail of a piece that the snap length cut is a hole up to the next piece, which `gap` names if there is one.
    following = np.full(len(pieces), np.iinfo(np.int64).max)
    if len(pieces) > 1:
        same = pieces.stream[1:] == pieces.stream[:-1]
        following[:-1] = np.where(same, pieces.position[1:], following[:-1])
    tail_start = pieces.position[cut] + pieces.captured[cut]
    tail_stop = np.minimum(pieces.position[cut] + pieces.claimed[cut], following[cut])
    last = following[cut] == np.iinfo(np.int64).max
    stream = np.concatenate([pieces.stream[gap], pieces.stream[cut][last]])
    start = np.concatenate([covered[gap], tail_start[last]])
    stop = np.concatenate([pieces.position[gap], tail_stop[last]])
    order = np.lexsort((start, stream))
    return stream[order], start[order], stop[order]
