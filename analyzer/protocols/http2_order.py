"""Segments of cleartext HTTP/2 directions, put in the order in which their frames are walked.

A round brings segments as they were captured: late, repeated, behind gaps. Here they become stretches of octets that
follow each other, direction by direction, and what cannot be told without looking at frames is marked as not plain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Final

import numpy as np

from analyzer.copying import copy_ranges
from analyzer.flows import sequence_difference
from analyzer.numbers import grown, run_begins, run_lengths, run_starts
from analyzer.protocols.http2_lockstep import Stretches, Walked
from analyzer.protocols.http2_walk import HELD, HELD_OCTETS, Segment, Standing
from analyzer.schema import I64, U8, Mask, Table

_FAR: Final = 1 << 30
"""Sequence numbers so far from the one expected that it matters when they are compared."""


@dataclass(frozen=True, slots=True)
class Segments(Table):
    """Segments: ``(K,)`` columns; ``walk`` twice the slot of the connection, and its side; ``start`` in the octets."""

    walk: I64
    seq: I64
    length: I64
    captured: I64
    frame: I64
    start: I64


@dataclass(frozen=True, slots=True)
class Store:
    """Segments in the order of arrival, and their octets."""

    segments: Segments
    octets: U8

    @staticmethod
    def packed(segments: Segments, octets: U8) -> Store:
        """Segments of other octets, with no more than their own."""
        start = np.cumsum(segments.captured) - segments.captured
        size = int(segments.captured.sum())
        own = copy_ranges(octets, segments.start, segments.captured, start, size)
        return Store(replace(segments, start=start), own)

    @staticmethod
    def joined(stores: list[Store]) -> Store:
        """All segments, one store after the other. `stores` is not empty."""
        if len(stores) == 1:
            return stores[0]
        sizes = np.array([store.octets.shape[0] for store in stores])
        before = np.cumsum(sizes) - sizes
        segments = Segments.concatenate([store.segments for store in stores])
        moved = np.repeat(before, [len(store.segments) for store in stores])
        return Store(
            replace(segments, start=segments.start + moved), np.concatenate([store.octets for store in stores])
        )

    def segment(self, row: int) -> Segment:
        """One of them, as a walk of its own takes it."""
        segments = self.segments
        start = int(segments.start[row])
        octets = self.octets[start : start + int(segments.captured[row])].tobytes()
        return Segment(int(segments.seq[row]), int(segments.length[row]), int(segments.frame[row]), octets)


class Standings:
    """How each walk stands: columns by walk, as of `Standing`."""

    _FILL: Final = {"expects": -1}

    def __init__(self) -> None:
        self.expects: I64 = np.full(1 << 8, -1, np.int64)
        self.left: I64 = np.zeros(1 << 8, np.int64)
        self.headers: I64 = np.zeros(1 << 8, np.int64)
        self.segments: I64 = np.zeros(1 << 8, np.int64)
        self.on: Mask = np.zeros(1 << 8, bool)
        self.sure: Mask = np.zeros(1 << 8, bool)
        self.waits: Mask = np.zeros(1 << 8, bool)  # segments behind a gap are held
        self.alone: Mask = np.zeros(1 << 8, bool)  # a `FrameWalk` has it in hand

    def reserve(self, count: int) -> None:
        """Have room for so many walks."""
        for name, column in list(vars(self).items()):
            setattr(self, name, grown(column, count, self._FILL.get(name, 0)))

    def reset(self, walks: I64) -> None:
        """Let these begin anew."""
        for name, column in vars(self).items():
            column[walks] = self._FILL.get(name, 0)

    def of(self, walk: int) -> Standing:
        """How one stands."""
        return Standing(
            int(self.expects[walk]),
            int(self.left[walk]),
            bool(self.on[walk]),
            bool(self.sure[walk]),
            int(self.headers[walk]),
            int(self.segments[walk]),
        )

    def put(self, walk: int, standing: Standing) -> None:
        """Let one stand so."""
        for name, value in standing._asdict().items():
            getattr(self, name)[walk] = value


@dataclass(slots=True)
class Order:
    """Segments of a round, in the order of their walks (groups) and, in each, in the order in which they are taken.

    Attributes
    ----------
    store : Store
    arrival : (K,) int64
        Place of each in the order of arrival.
    group_of : (K,) int64
    behind_gap : (K,) bool
        They wait for others; not those whose gap is given up.
    walk, expects : (G,) int64
        Walk of each group, and the sequence number at which it goes on.
    ahead : (G,) int64
        How far the next of the segments that wait lies ahead.
    odd : (G,) bool
        The group is not plain: it is for a walk of its own.
    fills : (G,) bool
        So are those that wait: some fill the gap, or they are more than are held.
    run : Segments
        Those that go on where others ended, of the groups that are not odd.
    row : (S,) int64
        Their rows in `store`.
    skipped : (S,) int64
        Octets of each that came before.
    segment_at : (S,) int64
        Where each of them begins in `octets`.
    parted : (G,) bool
        The group has several stretches, or one behind a gap that is given up.
    group : (R,) int64
        Group of each stretch.
    seq : (R,) int64
        The sequence number of its first octet, not modulo 2**32.
    given_up : (R,) int64
        Octets missing before it, given up; 0: it goes on where the walk stands.
    stretches : Stretches
    octets : (B,) uint8
    """

    store: Store
    arrival: I64
    group_of: I64
    behind_gap: Mask
    walk: I64
    expects: I64
    ahead: I64
    odd: Mask
    fills: Mask
    run: Segments
    row: I64
    skipped: I64
    segment_at: I64
    parted: Mask
    group: I64
    seq: I64
    given_up: I64
    stretches: Stretches
    octets: U8

    @property
    def untrimmed(self) -> Mask:
        """Where segments of the run begin as they were sent."""
        untrimmed: Mask = self.skipped == 0
        return untrimmed

    def given_up_inside(self, walked: Stretches, left: I64, on: Mask) -> Mask:
        """Before which stretches all that is missing lies inside a frame: nothing is to be given up there.

        `walked` is how the stretches stand at their end, `left` and `on` how the walks of the groups stood before.
        """
        begins = run_begins(self.group)
        before_left = np.where(begins, left[self.group], np.roll(walked.left, 1))
        before_on = np.where(begins, on[self.group], np.roll(walked.on, 1))
        inside: Mask = (self.given_up > 0) & before_on & (self.given_up <= before_left)
        return inside

    def all_of(self, group: int) -> I64:
        """Segments of one group, in the order of arrival: rows of `store`."""
        first, last = np.searchsorted(self.group_of, [group, group + 1]).tolist()
        rows: I64 = first + np.argsort(self.arrival[first:last])
        return rows

    def standing(self, walked: Walked, stretch: int) -> Standing:
        """How the walk of a stretch stands where it halted, or at its end."""
        state, at = walked.stretches, int(walked.at[stretch])
        stop = min(at, int(state.end[stretch])) - int(state.begin[stretch])
        return Standing(
            int(self.seq[stretch]) + stop,
            int(state.left[stretch]),
            bool(state.on[stretch]),
            bool(state.sure[stretch]),
            int(state.headers[stretch]),
            int(state.segments[stretch]),
        )

    def halted_in(self, walked: Walked, stretch: int) -> Segment | None:
        """What is left of the segment in which the walk of a stretch halted."""
        if not walked.halted[stretch]:
            return None
        at = int(walked.at[stretch])
        row = int(np.searchsorted(self.segment_at, at, side="right")) - 1
        stop = int(self.segment_at[row + 1]) if row + 1 < len(self.run) else self.octets.shape[0]
        seq = int(self.seq[stretch]) + at - int(walked.stretches.begin[stretch])
        return Segment(seq & 0xFFFFFFFF, stop - at, int(self.run.frame[row]), self.octets[at:stop].tobytes())

    def rest_of(self, walked: Walked, group: int, stretch: int) -> I64:
        """Segments of one group behind that, in the order of arrival: rows of `store`."""
        rows = self.all_of(group)
        rows = rows[self.behind_gap[rows]]
        if stretch < 0 or not walked.halted[stretch]:
            return rows
        row = int(np.searchsorted(self.segment_at, walked.at[stretch], side="right"))
        return np.concatenate([self.row[row : int(walked.stretches.last[stretch])], rows])


def put_in_order(store: Store, standings: Standings, *, ended: bool) -> Order:
    """Which segments go on where others ended, and what they carry.

    With `ended` the walks begin anew with the first of their segments in the order of the sequence numbers.
    """
    order = np.argsort(store.segments.walk, kind="stable")
    segments = store.segments.take(order)
    first = run_starts(segments.walk)
    walk = segments.walk[first]
    groups = walk.shape[0]
    group = np.repeat(np.arange(groups), run_lengths(first, len(segments)))
    expects = standings.expects[walk]
    expects = np.where(expects < 0, segments.seq[first], expects)
    place = sequence_difference(segments.seq - expects[group])
    odd, fills = np.zeros(groups, bool), np.zeros(groups, bool)
    odd[group[(segments.captured != segments.length) | (np.abs(place) >= _FAR)]] = True
    row = np.arange(len(segments))
    waits_from = np.full(groups, len(segments))  # rows of each group from here on are behind a gap
    parted = np.zeros(groups, bool)
    if ended:
        turns = np.lexsort((place, group))
        place = place[turns]
        expects = expects + place[first]
        place = place - place[first][group]
        before = _reach_before(group, first, place + segments.length[turns])
        parted[group[place > before]] = True
    else:
        turns = row.copy()
        before = _reach_before(group, first, place + segments.length)
        np.minimum.at(waits_from, group, np.where(place > before, row, len(segments)))
        _give_up_gaps(segments, group, place, waits_from, turns, parted, odd)
        place = place[turns]
        before = _reach_before(group, first, place + segments.length[turns])
    order, segments = order[turns], segments.take(turns)
    stop = place + segments.length
    gap = np.maximum(place - before, 0)
    behind_gap = row >= waits_from[group]
    ahead = np.full(groups, np.iinfo(np.int64).max)
    if behind_gap.any():
        waiting = np.flatnonzero(behind_gap)
        theirs = group[waiting]
        distance = place[waiting] - before[waits_from[theirs]]
        np.minimum.at(ahead, theirs, distance)
        count = np.bincount(theirs, minlength=groups)
        octets = np.bincount(theirs, segments.captured[waiting], minlength=groups)
        fills = (ahead <= 0) | (count > HELD) | (octets > HELD_OCTETS)
    taken = np.flatnonzero(~behind_gap & (stop > before) & ~odd[group])
    run = segments.take(taken)
    skipped = np.maximum(before[taken] - place[taken], 0)
    length = run.length - skipped
    segment_at = np.cumsum(length) - length
    size = int(length.sum())
    flat = copy_ranges(store.octets, run.start + skipped, length, segment_at, size)
    of_run = group[taken]
    gap = gap[taken]
    begins = np.flatnonzero(run_begins(of_run) | (gap > 0))
    ends = np.append(begins[1:], taken.shape[0])[: begins.shape[0]]
    stretch_group = of_run[begins]
    theirs = walk[stretch_group]
    given_up = gap[begins]
    goes_on = (given_up == 0) & (not ended)
    stretches = Stretches(
        segment_at[begins],
        np.append(segment_at, size)[ends],
        begins,
        ends,
        standings.left[theirs] * goes_on,
        standings.on[theirs] & goes_on,
        standings.sure[theirs] & goes_on,
        standings.headers[theirs] * goes_on,
        standings.segments[theirs] * goes_on,
    )
    return Order(
        replace(store, segments=segments),
        order,
        group,
        behind_gap,
        walk,
        expects,
        ahead,
        odd,
        fills,
        run,
        taken,
        skipped,
        segment_at,
        parted,
        stretch_group,
        expects[stretch_group] + np.maximum(place, before)[taken[begins]],
        given_up,
        stretches,
        flat,
    )


def _reach_before(group: I64, first: I64, stop: I64) -> I64:
    """Up to where the segments before each, of the same group, have come."""
    # In one number with the group, so that no maximum reaches into the next one.
    base = group << 34
    before = np.empty_like(stop)
    before[1:] = np.maximum(np.maximum.accumulate(base + stop) - base, 0)[:-1]
    before[first] = 0
    return before


def _give_up_gaps(
    segments: Segments, group: I64, place: I64, waits_from: I64, turns: I64, parted: Mask, odd: Mask
) -> None:
    """Put segments into the order in which `FrameWalk` takes them, where more wait than it holds.

    Written are `turns`, the rows of such groups in that order, those last that wait to the end; `waits_from`, where
    these begin; and `parted`. Only of groups of which nothing fills a gap while others wait: whether it was a gap is
    for the frames to say.
    """
    groups = parted.shape[0]
    end = np.cumsum(np.bincount(group, minlength=groups))
    waiting = np.arange(group.shape[0]) >= waits_from[group]
    octets = np.bincount(group, segments.captured * waiting, minlength=groups)
    many = (end - waits_from > HELD) & (octets <= HELD_OCTETS) & ~odd
    stop = place + segments.length
    for number in np.flatnonzero(many).tolist():
        at, until = int(waits_from[number]), int(end[number])
        begin = int(end[number - 1]) if number else 0
        given = _turns(int(stop[begin:at].max(initial=0)), place[at:until].tolist(), stop[at:until].tolist())
        if given is not None:
            taken, held = given
            turns[at:until] = at + np.array(taken + held)
            waits_from[number] = until - len(held) if held else group.shape[0]
            parted[number] = True


def _turns(reach: int, place: list[int], stop: list[int]) -> tuple[list[int], list[int]] | None:
    """Segments by number: those taken or passed over, in their order, and those held at the end, as they came.

    None where one fills a gap.
    """
    taken, passed = [], []
    held: list[tuple[int, int]] = []
    for number, (here, past) in enumerate(zip(place, stop, strict=True)):
        if here > reach:
            heappush(held, (here, number))
            if len(held) > HELD:
                reach = held[0][0]
                while held and held[0][0] <= reach:
                    first = heappop(held)[1]
                    if stop[first] > reach:
                        taken.append(first)
                        reach = stop[first]
                    else:
                        passed.append(first)
        elif past <= reach:
            passed.append(number)
        elif held:
            return None
        else:
            taken.append(number)
            reach = past
    return taken + passed, sorted(number for _, number in held)


NO_ROWS: Final = np.empty(0, np.int64)
NO_SEGMENTS: Final = Store(Segments(NO_ROWS, NO_ROWS, NO_ROWS, NO_ROWS, NO_ROWS, NO_ROWS), np.empty(0, np.uint8))
