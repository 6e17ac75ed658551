"""One connection seen from several places: which flows are the same connection, and whose clock is off.

A packet keeps its sequence numbers on its way, so a connection's pair of initial sequence numbers names it at every
vantage point, through address translation and tunnels; so does the random of its ClientHello with the client's sequence
number. Where neither was captured, the same addresses and ports with
overlapping times and, for TCP, overlapping ranges of sequence numbers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from analyzer.decode.transport import TCP
from analyzer.flows import sequence_difference
from analyzer.numbers import run_begins
from analyzer.schema import I64, U64, FlowTable, Mask

SLACK_NS: Final = 1_000_000_000
"""What remains of two clocks' difference once it is estimated, and of the way between two places."""
UNKNOWN_SKEW_NS: Final = 5_000_000_000
"""What two clocks may differ where no handshake tells: hosts that keep time at all are far below."""


_MAX_SIGHTINGS: Final = 16
"""Flows of one connection that are compared with each other; any number is joined."""


class Handshakes(NamedTuple):
    """What flows began with: (F, 2) int64, client and server, and (F, 4) uint64.

    ``syn_ns`` when each side's SYN was captured, 0 = not; ``data_seq`` sequence number of the first octet of each side
    that was captured, -1 = none; ``hello`` the random of the client's TLS ClientHello, 0 = none was read.
    """

    syn_ns: I64
    data_seq: I64
    hello: U64


@dataclass(frozen=True, slots=True)
class ClockSkew:
    """How far the clock of one vantage point is ahead of another's.

    Attributes
    ----------
    one, other : int
        Vantage points; the offset is what `other` shows while `one` shows 0.
    offset_ns : int
        Median over the handshakes that both saw whole. In each, the SYN goes one way and the SYN+ACK the other, so the
        time between the places cancels if it is the same both ways (as in RFC 5905 8).
    spread_ns : int
        Half the range that holds the middle nine tenths of them.
    delay_ns : int
        Median time from one place to the other, by the same handshakes.
    handshakes : int
    shared : int
        Connections seen at both.
    """

    one: int
    other: int
    offset_ns: int
    spread_ns: int
    delay_ns: int
    handshakes: int
    shared: int


@dataclass(frozen=True, slots=True)
class Correlation:
    """What `correlate` found.

    ``leg_of`` (F,) int64 as `legs.stitch` gives it, over all vantage points; ``skews`` for each pair of vantage points
    that share connections.
    """

    leg_of: I64
    skews: tuple[ClockSkew, ...]


def correlate(flows: FlowTable, leg_of: I64, handshakes: Handshakes, flawed: Mask) -> Correlation:
    """Join the connections of all vantage points.

    Parameters
    ----------
    flows : FlowTable
        In order of first packet within each vantage point.
    leg_of : (F,) int64
        Legs within each vantage point.
    handshakes : Handshakes
    flawed : (F,) bool
        Flows with gaps, cut packets or a side missing: another sighting of the same connection leads if it has none.

    Notes
    -----
    A connection whose addresses were translated keeps its earliest leg in the lead, which is nearest the client and
    shows who that is. Otherwise a sighting without flaws leads, and among those the earliest by corrected time.
    """
    n = len(flows)
    if n == 0 or (flows.vantage == flows.vantage[0]).all():
        return Correlation(leg_of, ())
    by_syn = _same_syn(flows)
    pairs = [by_syn]
    skews = _skews(flows, handshakes, by_syn)
    clock = _clock(int(flows.vantage.max()) + 1, skews)
    pairs += [_same_hello(flows, handshakes), _same_tuple(flows, handshakes, clock)]
    joined = np.concatenate(pairs)
    group = _components(n, joined, leg_of)
    shared = _count_shared(flows, group)
    told = tuple(
        ClockSkew(s.one, s.other, s.offset_ns, s.spread_ns, s.delay_ns, s.handshakes, shared.pop((s.one, s.other), 0))
        for s in skews
    )
    silent = tuple(ClockSkew(one, other, 0, 0, 0, 0, count) for (one, other), count in sorted(shared.items()))
    return Correlation(_lead(flows, group, clock, flawed, leg_of), told + silent)


def _runs(*keys: I64) -> Mask:
    """Rows equal to the row before, in every key; the keys are sorted: (N - 1,) bool."""
    same: Mask = np.ones(max(keys[0].shape[0] - 1, 0), bool)
    for key in keys:
        same &= key[1:] == key[:-1]
    return same


def _same_syn(flows: FlowTable) -> I64:
    """Pairs of flows with the same two initial sequence numbers: (P, 2) int64, every two of up to `_MAX_SIGHTINGS`.

    An unanswered SYN has 32 bits only: there addresses and ports must agree as well.
    """
    rows = np.flatnonzero((flows.protocol == TCP) & (flows.syn_seq[:, 0] >= 0))
    one, other = _alike(rows, flows.syn_seq[rows, 0], flows.syn_seq[rows, 1]).T
    sure = (flows.syn_seq[one, 1] >= 0) | _same_ends(flows, one, other)
    return np.stack([one[sure], other[sure]], axis=1)


def _same_hello(flows: FlowTable, handshakes: Handshakes) -> I64:
    """Pairs of flows with the same ClientHello at the same sequence number: (P, 2) int64.

    A proxy that passes a handshake through makes a TCP connection of its own, with other numbers.
    """
    first = handshakes.data_seq[:, 0]
    rows = np.flatnonzero((flows.protocol == TCP) & handshakes.hello.any(axis=1) & (first >= 0))
    return _alike(rows, first[rows], *handshakes.hello[rows].view(np.int64).T)


def _alike(rows: I64, *keys: I64) -> I64:
    """Pairs of `rows` whose keys are equal: (P, 2) int64, every two of up to `_MAX_SIGHTINGS`."""
    order = np.lexsort((rows, *keys))
    rows = rows[order]
    run = np.cumsum(np.concatenate([[False], ~_runs(*(key[order] for key in keys))])) if rows.shape[0] else rows
    pairs = [np.empty((0, 2), np.int64)]
    for apart in range(1, _MAX_SIGHTINGS):
        same = np.flatnonzero(run[apart:] == run[:-apart])
        if same.shape[0] == 0:
            break
        pairs.append(np.stack([rows[same], rows[same + apart]], axis=1))
    return np.concatenate(pairs)


def _same_ends(flows: FlowTable, one: I64, other: I64) -> Mask:
    same: Mask = (flows.address[one] == flows.address[other]).all(axis=(1, 2))
    same &= (flows.port[one] == flows.port[other]).all(axis=1)
    return same


def _same_tuple(flows: FlowTable, handshakes: Handshakes, clock: I64) -> I64:
    """Pairs of flows of different vantage points with the same ends that were open together: (P, 2) int64."""
    # Sides may be turned differently where one place saw only half: endpoints are compared in canonical order.
    rows = np.arange(len(flows))
    ends = np.concatenate(
        [
            np.ascontiguousarray(flows.address[rows]).view(np.uint64).reshape(-1, 2, 2),
            flows.port[rows].astype(np.uint64)[:, :, None],
        ],
        axis=2,
    )
    first, second = ends[:, 0], ends[:, 1]
    swap = _greater(first, second)
    low = np.where(swap[:, None], second, first)
    high = np.where(swap[:, None], first, second)
    start = flows.first_ns[rows] - clock[flows.vantage[rows]]
    keys = [flows.protocol[rows].astype(np.int64), *low.T.astype(np.int64), *high.T.astype(np.int64)]
    order = np.lexsort((start, *keys))
    rows, swap = rows[order], swap[order]
    same = _runs(*(key[order] for key in keys))
    stop = flows.last_ns[rows] - clock[flows.vantage[rows]]
    begin = start[order]
    slack = SLACK_NS if (clock != 0).any() else UNKNOWN_SKEW_NS
    # The flow open longest among those before, in the same run, is the one to compare with.
    pairs: list[tuple[int, int]] = []
    holder = 0
    near = np.flatnonzero(same) + 1
    for row in near.tolist():
        if not same[row - 2] or row == 1:
            holder = row - 1
        candidates = {holder, row - 1}
        for other in candidates:
            apart = flows.vantage[rows[row]] != flows.vantage[rows[other]]
            if apart and begin[row] <= stop[other] + slack and _in_step(flows, handshakes, rows, swap, other, row):
                pairs.append((int(rows[other]), int(rows[row])))
        if stop[row] > stop[holder]:
            holder = row
    return np.array(pairs, np.int64).reshape(-1, 2)


def _greater(first: I64, second: I64) -> Mask:
    """Lexicographic comparison of rows: (N, K) and (N, K) -> (N,) bool."""
    greater = np.zeros(first.shape[0], bool)
    equal = np.ones(first.shape[0], bool)
    for column in range(first.shape[1]):
        greater |= equal & (first[:, column] > second[:, column])
        equal &= first[:, column] == second[:, column]
    return greater


def _in_step(flows: FlowTable, handshakes: Handshakes, rows: I64, swap: Mask, one: int, other: int) -> bool:
    """Whether the sequence numbers two TCP flows show can be those of one connection; True for other protocols."""
    a, b = int(rows[one]), int(rows[other])
    if flows.protocol[a] != TCP:
        return True
    both = (flows.syn_seq[a] >= 0).all() and (flows.syn_seq[b] >= 0).all()
    if both:
        return False  # pairs of initial sequence numbers that differ, or `_same_syn` had joined them
    turned = bool(swap[one] != swap[other])
    for side in (0, 1):
        peer = 1 - side if turned else side
        x, y = int(handshakes.data_seq[a, side]), int(handshakes.data_seq[b, peer])
        if x < 0 or y < 0:
            continue
        # Each began to see the stream somewhere inside what the other saw of it, or shortly before it.
        ahead = int(sequence_difference(np.array([y - x]))[0])
        reach = int(flows.payload_octets[a, side] if ahead >= 0 else flows.payload_octets[b, peer])
        if abs(ahead) > reach + (1 << 16):
            return False
    return True


def _skews(flows: FlowTable, handshakes: Handshakes, pairs: I64) -> list[ClockSkew]:
    """Clock differences of every two vantage points with a handshake that both saw whole."""
    one, other = pairs[:, 0], pairs[:, 1]
    swap = flows.vantage[one] > flows.vantage[other]
    one, other = np.where(swap, other, one), np.where(swap, one, other)
    whole = (handshakes.syn_ns[one] > 0).all(axis=1) & (handshakes.syn_ns[other] > 0).all(axis=1)
    whole &= flows.vantage[one] != flows.vantage[other]
    one, other = one[whole], other[whole]
    both = np.stack([flows.vantage[one], flows.vantage[other]], axis=1).astype(np.int64)
    ways = handshakes.syn_ns[other] - handshakes.syn_ns[one]
    # SYN and SYN+ACK: one of them gained the delay, the other lost it.
    offset, delay = (ways[:, 0] + ways[:, 1]) // 2, np.abs(ways[:, 0] - ways[:, 1]) // 2
    # Many vantage points make many pairs: each is looked at by its own rows, not by all.
    order = np.lexsort((both[:, 1], both[:, 0]))
    both, offset, delay = both[order], offset[order], delay[order]
    begins = np.flatnonzero(np.concatenate([[True], (both[1:] != both[:-1]).any(axis=1)])) if len(both) else order
    found = []
    for begin, end in pairwise([*begins.tolist(), len(both)]):
        own, ways_of_it = offset[begin:end], delay[begin:end]
        a, b = both[begin].tolist()
        low, middle, high = np.quantile(own, [0.05, 0.5, 0.95], method="nearest").tolist()
        found.append(ClockSkew(a, b, int(middle), int(high - low) // 2, int(np.median(ways_of_it)), end - begin, 0))
    return found


def _clock(vantages: int, skews: list[ClockSkew]) -> I64:
    """Nanoseconds to subtract from each vantage point's times, relative to the first it can be compared with."""
    clock = np.zeros(vantages, np.int64)
    beside: dict[int, list[tuple[int, int]]] = {}
    for skew in sorted(skews, key=lambda s: -s.handshakes):
        beside.setdefault(skew.one, []).append((skew.other, skew.offset_ns))
        beside.setdefault(skew.other, []).append((skew.one, -skew.offset_ns))
    known: set[int] = set()
    for root in range(vantages):
        queue = [] if root in known else [root]
        known.update(queue)
        for here in queue:
            for there, offset in beside.get(here, ()):
                if there not in known:
                    clock[there] = clock[here] + offset
                    known.add(there)
                    queue.append(there)
    return clock


def _components(n: int, pairs: I64, leg_of: I64) -> I64:
    """Smallest row of each flow's group, joined by `pairs` and by the legs within vantage points: (n,) int64."""
    legs = np.flatnonzero(leg_of >= 0)
    edges = np.concatenate([pairs, np.stack([leg_of[legs], legs], axis=1)])
    label = np.arange(n)
    while True:
        low = np.minimum(label[edges[:, 0]], label[edges[:, 1]])
        before = label.copy()
        np.minimum.at(label, edges[:, 0], low)
        np.minimum.at(label, edges[:, 1], low)
        label = label[label]
        if (label == before).all():
            return label


def _count_shared(flows: FlowTable, group: I64) -> dict[tuple[int, int], int]:
    """Connections that each two vantage points share."""
    seen = np.unique(np.stack([group, flows.vantage.astype(np.int64)], axis=1), axis=0)
    counts: dict[tuple[int, int], int] = {}
    _, first, size = np.unique(seen[:, 0], return_index=True, return_counts=True)
    for at, many in zip(first[size > 1].tolist(), size[size > 1].tolist(), strict=True):
        places = seen[at : at + min(many, _MAX_SIGHTINGS), 1].tolist()
        for i, one in enumerate(places):
            for other in places[i + 1 :]:
                counts[one, other] = counts.get((one, other), 0) + 1
    return counts


def _lead(flows: FlowTable, group: I64, clock: I64, flawed: Mask, leg_of: I64) -> I64:
    """For each flow the row of the flow that leads its group, -1 where it leads itself: (F,) int64."""
    n = len(flows)
    rows = np.arange(n)
    start = flows.first_ns - clock[flows.vantage]
    translated = np.zeros(n, bool)
    differs = ~_same_ends(flows, rows, group)
    translated[group[differs]] = True
    # Legs within a vantage point keep their order: the earliest is nearest the client.
    poor = np.where(translated[group], leg_of >= 0, flawed | (leg_of >= 0))
    order = np.lexsort((rows, start, poor, group))
    begins = run_begins(group[order])
    leader = np.empty(n, np.int64)
    leader[order] = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    return np.where(leader == rows, -1, leader)
