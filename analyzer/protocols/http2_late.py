"""HTTP/2 messages behind the head: cleartext connections walked frame by frame for as long as they last.

The connections of one cluster that speak HTTP/2 in clear are few (etcd, konnectivity, gRPC behind the API server's
proxy): the octets of all others are never looked at. Theirs are collected until a round is worth its while, and the
rounds of all directions are walked together. Each distinct message is kept once.
"""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.decode.transport import TCP
from analyzer.flows import HTTP2_PREFACE, SENT_PREFACE, TLS_DATA, FlowBuilder, FlowRows, place_of
from analyzer.heads import HeadCollector
from analyzer.late import LATE_REQUESTS, LATE_RESPONSES
from analyzer.numbers import grown, run_lengths, run_starts
from analyzer.protocols.header_blocks import MAX_HEADER_LIST, BlockReader, HeaderBlock
from analyzer.protocols.http2_lockstep import (
    Walked,
    begin_chains,
    begin_with_preface,
    walk_stretches,
)
from analyzer.protocols.http2_order import NO_ROWS, NO_SEGMENTS, Order, Segments, Standings, Store, put_in_order
from analyzer.protocols.http2_walk import FrameWalk, WalkedBlock
from analyzer.schema import I32, I64, U8, HttpMessage, Mask, PacketTable

HEAD_MESSAGES: Final = 64
"""Messages read of the head of a direction; what follows them is late, wherever it lies."""
ROUND_OCTETS: Final = 4 << 20
"""Octets of segments from which they are walked."""
ROUND_SEGMENTS: Final = 1 << 15
"""The same, in segments."""
_EITHER_PREFACE: Final = np.uint16(SENT_PREFACE | SENT_PREFACE << 8)
_PASSES: Final = 12
"""Times in a round that directions come back from a walk of their own; then each goes on so to the round's end."""
_FEW_SEGMENTS: Final = 200
"""Segments for which it is not worth it."""
_NEVER, _OVER = -1, -2  # in place of a slot: of connections that were never walked, and of those that are no more


@dataclass(slots=True)
class _Note:
    """What was read and kept of one direction."""

    reader: BlockReader | None = None
    in_head: int = 0
    behind: bool = False  # a message lies behind the head
    seen: set[str] = field(default_factory=set)


class Http2Collector:
    """Walk cleartext HTTP/2 connections round after round; `take` hands over the messages found behind the heads.

    Parameters
    ----------
    flows : FlowBuilder
    heads : HeadCollector
        Has what is read by its own reader: messages that end inside the heads are left to it.

    Notes
    -----
    What is found of a direction follows from its segments and their order alone, so that it does not matter when a
    round ends.
    """

    def __init__(self, flows: FlowBuilder, heads: HeadCollector) -> None:
        self._flows, self._heads = flows, heads
        self._slot: I32 = np.full(1 << 10, _NEVER, np.int32)  # by flow
        self._flow_of: I64 = np.full(1 << 8, -1, np.int64)  # by slot; -1: free
        self._free: list[int] = []
        self._slots = 0
        self._standings = Standings()
        self._notes: dict[int, _Note] = {}  # by walk
        self._alone: dict[int, FrameWalk] = {}  # by walk: those that are not plain
        self._collected: list[Store] = []
        self._octets = self._segments = 0  # of those
        self._held: list[Store] = []  # behind gaps
        self._done: list[HttpMessage] = []
        self._full: set[int] = set()
        self._spent: list[int] = []  # walks of those that have become so since a round began

    def __len__(self) -> int:
        """Directions walked."""
        return 2 * (self._slots - len(self._free))

    @property
    def pending(self) -> bool:
        """Whether `take` has something to hand over."""
        self._end_round()
        return bool(self._done)

    def add(self, packets: PacketTable, rows: FlowRows, octets: U8) -> None:
        """Collect the segments among `packets`; to be called once the heads have been given them."""
        chosen = self._candidates(packets, rows, octets)
        if chosen.shape[0]:
            chosen = chosen[self._walked(packets, rows, octets, chosen)]
        if chosen.shape[0] == 0:
            return
        packet = rows.packet[chosen]
        start = packets.payload_start[packet]
        segments = Segments(
            self._slot[rows.flow[chosen]] * np.int64(2) + rows.side[chosen],
            packets.seq[packet].astype(np.int64),
            packets.payload_len[packet].astype(np.int64),
            packets.payload_stop[packet] - start,
            packets.frame[packet],
            start,
        )
        self._collected.append(Store.packed(segments, octets))
        self._segments += len(segments)
        self._octets += self._collected[-1].octets.shape[0]
        if self._octets >= ROUND_OCTETS or self._segments >= ROUND_SEGMENTS:
            self._end_round()

    def take(self, *, all_of_them: bool = False) -> list[HttpMessage]:
        """Hand over the messages found, flows by builder number; with `all_of_them` no more segments come."""
        self._end_round()
        if all_of_them:
            slots = self._flow_of[: self._slots]
            self.close(np.sort(slots[slots >= 0]))
        taken, self._done = self._done, []
        return taken

    def under_way(self) -> list[HttpMessage]:
        """What could be said besides if no more segments came, flows by builder number; the walks go on."""
        self._end_round()
        apart = copy(self)
        apart._done, apart._full, apart._notes, apart._spent = [], set(self._full), {}, []
        walks = {walk: deepcopy(one) for walk, one in self._alone.items() if one.waits}
        waits = self._standings.waits
        held = self._held_of(waits)
        for row, walk in enumerate(held.segments.walk.tolist()):
            if walk not in walks:
                walks[walk] = FrameWalk(self._standings.of(walk), deepcopy(self._note(walk).reader))
            walks[walk].add(held.segment(row))
        for walk, one in walks.items():
            apart._notes[walk] = deepcopy(self._note(walk))
            apart._say_found(walk, one.finish())
        return apart._done

    def close(self, flows: I64) -> None:
        """Forget the connections among `flows`, of which nothing more is expected; what they said is kept."""
        self._end_round()
        self._reserve()
        slots = self._slot[flows].astype(np.int64)
        slots = slots[slots >= 0]
        if slots.shape[0] == 0:
            return
        over = np.zeros(self._standings.expects.shape[0], bool)
        over[2 * slots] = over[2 * slots + 1] = True
        held = self._held_of(over)
        self._forget_held(over)
        self._walk(self._wanted(held), ended=True)
        for walk in [walk for walk in self._alone if over[walk]]:
            self._say_found(walk, self._alone[walk].finish())
        self._give_up(slots, over)
        self._spent.clear()

    def keep(self, kept: I64, count: int) -> None:
        """Forget all of the `count` flows but `kept`, ascending; flow ``kept[i]`` is flow i from now on.

        What was found must have been taken.
        """
        self._reserve(count)
        place = place_of(kept, count)
        of = self._flow_of[: self._slots]
        named = np.where(of >= 0, place[of], -1)
        gone = np.flatnonzero((of >= 0) & (named < 0))
        over = np.zeros(self._standings.expects.shape[0], bool)
        over[2 * gone] = over[2 * gone + 1] = True
        self._forget_held(over)
        self._give_up(gone, over)
        self._flow_of[: self._slots] = named
        slot = np.full(max(1 << 10, kept.shape[0] * 2), _NEVER, np.int32)
        slot[: kept.shape[0]] = self._slot[kept]
        self._slot = slot
        self._full = {int(place[s >> 1]) * 2 + (s & 1) for s in self._full if place[s >> 1] >= 0}

    def full_streams(self) -> I64:
        """Streams in which a message found no room, ascending: (K,) int64."""
        self._end_round()
        return np.array(sorted(self._full), np.int64)

    # ---------------------------------------------------------------------------------- which segments

    def _reserve(self, count: int | None = None) -> None:
        count = len(self._flows) if count is None else count
        self._slot = grown(self._slot, count, _NEVER)

    def _candidates(self, packets: PacketTable, rows: FlowRows, octets: U8) -> I64:
        """Rows with payload of connections walked, and of those that may have to be."""
        self._reserve()
        state = self._flows.state
        # The bits of both sides in one number: most rows are told by it alone.
        opening = state.opening.view(np.uint16).reshape(-1).take(rows.flow)
        preface = (opening & _EITHER_PREFACE) != 0
        told = preface | (opening == 0)
        if len(self):
            told |= self._slot.take(rows.flow) >= 0
        row: I64 = np.flatnonzero(told)
        packet = rows.packet[row]
        row = row[(packets.protocol[packet] == TCP) & (packets.payload_stop[packet] > packets.payload_start[packet])]
        flow = rows.flow[row]
        slot = self._slot[flow]
        known = slot >= 0
        # A preface tells of what comes with it and after it, in whichever tables.
        opened = np.flatnonzero(preface[row] & (slot == _NEVER))
        first = state.signature_frame[flow[opened], :, HTTP2_PREFACE]
        sent = (first > 0) & (first <= packets.frame[rows.packet[row[opened]], None])
        known[opened] = sent.any(axis=1)
        kept = slot != _OVER
        others = np.flatnonzero(~known)
        if others.shape[0]:
            # Joined in its middle: of no other protocol, as far as that has been seen.
            theirs = flow[others]
            for side in (0, 1):
                kept[others] &= state.syn_seq[theirs, side] < 0
                kept[others] &= state.signature[theirs, side, TLS_DATA] == 0
        chosen = np.flatnonzero(kept)
        row, known, flow = row[chosen], known[chosen], flow[chosen]
        maybe = np.flatnonzero(~known)
        if maybe.shape[0] == 0:
            return row
        looks: Mask = np.ones(row.shape[0], bool)
        looks[maybe] = _may_be_frames(gather_block(octets, packets.payload_start[rows.packet[row[maybe]]], 8))
        # All rows of a flow with one that does: the walk begins at it and goes on with what follows.
        begun = np.zeros(len(self._flows), bool)
        begun[flow[looks]] = True
        going: I64 = row[begun[flow]]
        return going

    def _walked(self, packets: PacketTable, rows: FlowRows, octets: U8, chosen: I64) -> Mask:
        """Which of the candidates are walked: from the first of a connection on that begins a chain of frames.

        Row by row, so that the same segments are walked however the capture was cut into tables.
        """
        flow = rows.flow[chosen]
        walked: Mask = self._slot[flow] >= 0
        others = np.flatnonzero(~walked)
        if others.shape[0] == 0:
            return walked
        begun, first = np.unique(flow[others], return_index=True)
        first = others[first]
        at_first = self._begin_frames(packets, rows, octets, chosen[first])
        if not at_first.all():
            # Most connections begin with their first segment; of the others each is looked at.
            begun, first = begun[at_first], first[at_first]
            others = others[~np.isin(flow[others], begun)]
            others = others[self._begin_frames(packets, rows, octets, chosen[others])]
            later, place = np.unique(flow[others], return_index=True)
            begun, first = np.concatenate([begun, later]), np.concatenate([first, others[place]])
            order = np.argsort(begun)
            begun, first = begun[order], first[order]
        if begun.shape[0] == 0:
            return walked
        self._begin(begun)
        theirs = np.minimum(np.searchsorted(begun, flow), begun.shape[0] - 1)
        walked |= (begun[theirs] == flow) & (np.arange(flow.shape[0]) >= first[theirs])
        return walked

    @staticmethod
    def _begin_frames(packets: PacketTable, rows: FlowRows, octets: U8, chosen: I64) -> Mask:
        """Whether the payloads of these rows begin with the preface or a chain of frames."""
        packet = rows.packet[chosen]
        start, stop = packets.payload_start[packet], packets.payload_stop[packet]
        begin = begin_with_preface(octets, start, stop)
        others = np.flatnonzero(~begin)
        if others.shape[0]:
            begin[others] = begin_chains(octets, start[others], stop[others])
        return begin

    def _begin(self, flows: I64) -> None:
        """Walk these connections from now on."""
        reused = [self._free.pop() for _ in range(min(len(self._free), flows.shape[0]))]
        more = flows.shape[0] - len(reused)
        slots = np.concatenate([np.array(reused, np.int64), np.arange(self._slots, self._slots + more)])
        self._slots += more
        self._flow_of = grown(self._flow_of, self._slots, -1)
        self._standings.reserve(2 * self._slots)
        self._flow_of[slots] = flows
        self._slot[flows] = slots

    def _give_up(self, slots: I64, over: Mask) -> None:
        """Let the connections in `slots` go, whose walks are `over`."""
        walks = np.flatnonzero(over)
        for walk in walks.tolist():
            self._notes.pop(walk, None)
            self._alone.pop(walk, None)
        self._standings.reset(walks)
        self._slot[self._flow_of[slots]] = _OVER
        self._flow_of[slots] = -1
        self._free += slots.tolist()

    # ---------------------------------------------------------------------------------- segments behind gaps

    def _held_of(self, walks: Mask) -> Store:
        """What is held of these walks."""
        parts = [(store, np.flatnonzero(walks[store.segments.walk])) for store in self._held]
        stores = [Store.packed(store.segments.take(rows), store.octets) for store, rows in parts if rows.shape[0]]
        return Store.joined([*stores, NO_SEGMENTS])

    def _forget_held(self, walks: Mask) -> None:
        """Hold no more of these walks."""
        kept = []
        for store in self._held:
            gone = walks[store.segments.walk]
            if not gone.any():
                kept.append(store)
                continue
            segments = store.segments.take(~gone)
            if 2 * int(segments.captured.sum()) < store.octets.shape[0]:
                kept.append(Store.packed(segments, store.octets))
            else:
                kept.append(Store(segments, store.octets))
        self._held = [store for store in kept if len(store.segments)]

    def _wanted(self, store: Store) -> Store:
        """Without the segments of directions that have no more room."""
        if not self._full or not len(store.segments):
            return store
        walk = store.segments.walk
        stream = self._flow_of[walk >> 1] * 2 + (walk & 1)
        return replace(store, segments=store.segments.take(~np.isin(stream, list(self._full))))

    # ---------------------------------------------------------------------------------- rounds

    def _end_round(self) -> None:
        """Walk what was collected."""
        if not self._collected:
            return
        store = self._wanted(Store.joined(self._collected))
        self._collected, self._octets, self._segments = [], 0, 0
        waits = self._standings.waits
        again = store.segments.walk[waits[store.segments.walk]]
        if again.shape[0]:
            wanted = np.zeros(waits.shape[0], bool)
            wanted[again] = True
            held = self._held_of(wanted)
            self._forget_held(wanted)
            waits[again] = False
            store = Store.joined([held, store])
        for number in range(_PASSES):
            if self._alone:
                store = self._walk_alone(store)
            store = self._wanted(store)
            if not len(store.segments):
                break
            store = self._walk(store, last=number == _PASSES - 1 or len(store.segments) < _FEW_SEGMENTS)
        self._forget_spent()

    def _forget_spent(self) -> None:
        """Hold nothing of the directions that have no more room; their segments are not wanted any more."""
        if not self._spent:
            return
        over = np.zeros(self._standings.waits.shape[0], bool)
        over[self._spent] = True
        self._forget_held(over)
        self._standings.waits[over] = self._standings.alone[over] = False
        for walk in self._spent:
            self._notes[walk] = _Note()
            self._alone.pop(walk, None)
        self._spent.clear()

    def _walk_alone(self, store: Store) -> Store:
        """Give segments to the walks that are not plain, until they are; what is left for the others."""
        walk = store.segments.walk
        left = np.ones(len(store.segments), bool)
        for row in np.flatnonzero(self._standings.alone[walk]).tolist():
            number = int(walk[row])
            one = self._alone.get(number)
            if one is not None:
                left[row] = False
                self._say_found(number, one.add(store.segment(row)))
                self._put_down(number, one)
        return replace(store, segments=store.segments.take(left))

    def _put_down(self, number: int, one: FrameWalk) -> None:
        """Take a walk into the columns where it keeps nothing back, else have it go on alone."""
        standing = one.standing
        self._standings.alone[number] = standing is None
        if standing is None:
            self._alone[number] = one
            return
        self._alone.pop(number, None)
        self._standings.put(number, standing)
        self._note(number).reader = one.reader

    def _walk(self, store: Store, *, ended: bool = False, last: bool = True) -> Store:
        """Walk segments of walks in the columns.

        Parameters
        ----------
        store : Store
        ended : bool
            They are held behind gaps, and no more will come.
        last : bool
            What is not plain goes on alone to the end of the segments. Where not, their rest is what is returned.
        """
        if not len(store.segments):
            return store
        order = put_in_order(store, self._standings, ended=ended)
        walked = walk_stretches(order.octets, order.stretches, order.segment_at, order.untrimmed)
        number, state = order.group, walked.stretches  # group of each stretch, and how it stands
        # Whatever a walk keeps aside, or cannot be sure of, is for one of its own, from the beginning.
        telling = np.zeros(number.shape[0], bool)
        telling[walked.blocks.stretch] = True
        newest = np.append(number[1:] != number[:-1], True)[: number.shape[0]]
        at_end = ~newest | ended
        whole = order.odd
        whole[number[(walked.halted | (telling & ~at_end)) & ~state.sure]] = True
        # What is missing may lie inside a frame that is passed by.
        left, on = self._standings.left[order.walk], self._standings.on[order.walk]
        whole[number[order.given_up_inside(state, left, on)]] = True
        left[number[newest]], on[number[newest]] = state.left[newest], state.on[newest]
        further = order.fills | (on & (order.ahead <= left))
        further[number[walked.halted]] = True
        whole |= further & order.parted
        # At the end a few frames will do, where they came out even.
        told = (state.sure | ((state.left == 0) & (state.headers > 1))) & ~whole[number]
        walked = replace(walked, blocks=walked.blocks.take(told[walked.blocks.stretch]))
        self._read(walked, order, whole)
        # What no longer stands has read nothing of what comes.
        for group in number[newest & ~telling & (order.given_up > 0) & ~whole[number]].tolist():
            self._note(int(order.walk[group])).reader = None
        alone = whole | further
        if not ended:
            self._stand(walked, order, newest & ~alone[number])
            self._hold(store, order, ~alone)
        stretch_of = np.full(order.walk.shape[0], -1)
        stretch_of[number] = np.arange(number.shape[0])
        rest = [NO_ROWS]
        for group in np.flatnonzero(alone).tolist():
            walk, stretch = int(order.walk[group]), int(stretch_of[group])
            begin, reader, first = self._standings.of(walk), self._note(walk).reader, None
            if whole[group]:
                rows = order.all_of(group)
            else:
                if stretch >= 0:
                    begin, first = order.standing(walked, stretch), order.halted_in(walked, stretch)
                    if walked.joined[stretch] and not telling[stretch]:
                        reader = None
                rows = order.rest_of(walked, group, stretch)
            one = FrameWalk(begin, reader)
            if first is not None:
                self._say_found(walk, one.add(first))
            if last or whole[group]:
                for row in rows.tolist():
                    self._say_found(walk, one.add(order.store.segment(row)))
                rows = NO_ROWS
            if ended:
                self._say_found(walk, one.finish())
                continue
            self._put_down(walk, one)
            if first is None and rows.shape[0]:
                self._alone[walk], self._standings.alone[walk] = one, True
            rest.append(rows)
        left_over = np.concatenate(rest)
        left_over = left_over[np.argsort(order.arrival[left_over])]
        return replace(store, segments=order.store.segments.take(left_over))

    def _hold(self, store: Store, order: Order, plain: Mask) -> None:
        """Hold what lies behind the gaps of plain groups."""
        held = np.flatnonzero(order.behind_gap & plain[order.group_of])
        if held.shape[0]:
            held = held[np.argsort(order.arrival[held])]
            part = order.store.segments.take(held)
            self._held.append(Store.packed(part, store.octets))
            self._standings.waits[part.walk] = True
            # Few stores, of which none is joined to others again and again.
            while len(self._held) > 1 and 2 * len(self._held[-1].segments) >= len(self._held[-2].segments):
                self._held[-2:] = [Store.joined(self._held[-2:])]

    def _stand(self, walked: Walked, order: Order, plain: Mask) -> None:
        """Note how walks stand at the end of `plain` stretches."""
        rows = np.flatnonzero(plain)
        state = walked.stretches.take(rows)
        walk, standings = order.walk[order.group[rows]], self._standings
        standings.expects[walk] = order.seq[rows] + state.end - state.begin
        standings.left[walk], standings.on[walk], standings.sure[walk] = state.left, state.on, state.sure
        standings.headers[walk], standings.segments[walk] = state.headers, state.segments

    # ---------------------------------------------------------------------------------- messages

    def _note(self, walk: int) -> _Note:
        note = self._notes.get(walk)
        if note is None:
            note = self._notes[walk] = _Note()
        return note

    def _read(self, walked: Walked, order: Order, whole: Mask) -> None:
        """Read the header blocks found; a stretch that was not sure and has one that cannot be becomes `whole`."""
        blocks = walked.blocks
        if not len(blocks):
            return
        group = order.group[blocks.stretch]
        walk = order.walk[group]
        last = (order.seq[blocks.stretch] + blocks.end - 1 - walked.stretches.begin[blocks.stretch]) & 0xFFFFFFFF
        behind = self._heads.is_behind(self._flow_of[walk >> 1] * 2 + (walk & 1), last)
        frame = order.run.frame[np.searchsorted(order.segment_at, blocks.header, side="right") - 1]
        first = run_starts(walk)
        counts = run_lengths(first, len(blocks))
        # Of a connection seen from its beginning the table is empty: what stands for entries is never asked for.
        anew = walked.joined[blocks.stretch]
        anew[1:] &= blocks.stretch[1:] != blocks.stretch[:-1]
        columns = (blocks.start, blocks.stop, blocks.sure, frame, behind, anew)
        block = zip(*(column.tolist() for column in columns), strict=True)
        view = order.octets.data
        for number, in_group, count in zip(walk[first].tolist(), group[first].tolist(), counts.tolist(), strict=True):
            note = self._note(number)
            reader = note.reader or BlockReader(joined=True)
            found: list[tuple[int, HeaderBlock, bool]] = []
            for begin, end, sure, carrier, late, begins in islice(block, count):
                if begins:
                    reader = BlockReader(joined=True)
                said = reader.decode(bytes(view[begin:end])) if end - begin <= MAX_HEADER_LIST else None
                if said is not None:
                    found.append((carrier, said, late))
                elif sure:
                    reader = BlockReader(joined=True)
                else:
                    whole[in_group] = True
            if not whole[in_group]:
                note.reader = reader
                self._say(number, found)

    def _say_found(self, walk: int, found: list[WalkedBlock]) -> None:
        if found:
            stream = int(self._flow_of[walk >> 1]) * 2 + (walk & 1)
            behind = (self._heads.lies_behind(stream, block.last) for block in found)
            self._say(walk, [(block.frame, block.said, late) for block, late in zip(found, behind, strict=True)])

    def _say(self, walk: int, found: list[tuple[int, HeaderBlock, bool]]) -> None:
        """Keep what is new and lies behind the head: (frame, block, whether it does)."""
        note = self._note(walk)
        flow = int(self._flow_of[walk >> 1])
        stream = 2 * flow + (walk & 1)
        if stream in self._full:
            return
        for frame, said, behind in found:
            from_client = said.is_request
            # Of answers the status alone tells, as behind the heads of HTTP/1.
            identity = said.identity(from_client=from_client)
            if not identity or identity in note.seen:
                continue
            if not note.behind:
                note.behind = behind
                note.in_head += not behind
                if not behind and note.in_head <= HEAD_MESSAGES:
                    continue
            room = LATE_REQUESTS if from_client else LATE_RESPONSES
            if len(note.seen) >= room:
                self._full.add(stream)
                self._spent.append(walk)
                return
            note.seen.add(identity)
            message = said.message(flow, frame, from_client=from_client)
            assert message is not None
            self._done.append(message)


def _may_be_frames(block: U8) -> Mask:
    """Whether payloads may begin with a frame header: (N, 8) uint8 -> (N,) bool."""
    length = (block[:, 0].astype(np.int32) << 16) | (block[:, 1].astype(np.int32) << 8) | block[:, 2]
    may: Mask = (length <= 1 << 14) & (block[:, 3] <= 16) & (block[:, 5] < 128)
    return may
