"""Segments in the order of their walks: what was sent comes out once, however it was cut and repeated."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.http2_order import NO_SEGMENTS, Segments, Standings, Store, put_in_order

ISN = 0xFFFFFF00  # the numbers go round


def store_of(segments: list[tuple[int, int, bytes]]) -> Store:
    """Segments (walk, position, octets) in the order of arrival."""
    walk, position, octets = zip(*segments, strict=True)
    length = np.array([len(one) for one in octets])
    seq = (np.array(position) + ISN) & 0xFFFFFFFF
    start = np.cumsum(length) - length
    frame = np.arange(1, len(segments) + 1)
    return Store(Segments(np.array(walk), seq, length, length, frame, start), np.frombuffer(b"".join(octets), np.uint8))


def standings_of(walks: int) -> Standings:
    standings = Standings()
    standings.reserve(walks)
    standings.expects[:walks] = ISN
    return standings


@given(st.data())
def test_what_was_sent_comes_out_once_and_in_order(data: st.DataObject) -> None:
    walks = data.draw(st.integers(1, 3))
    sent = [data.draw(st.binary(min_size=1, max_size=300)) for _ in range(walks)]
    segments = []
    for walk, octets in enumerate(sent):
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(octets) - 1)), max_size=8)))
        bounds = [0, *[cut for cut in cuts if cut < len(octets)], len(octets)]
        pieces = [(walk, a, octets[a:b]) for a, b in pairwise(bounds)]
        segments += pieces + data.draw(st.lists(st.sampled_from(pieces), max_size=3))
    store = store_of(data.draw(st.permutations(segments)))

    order = put_in_order(store, standings_of(walks), ended=False)

    assert not order.odd.any()
    assert order.walk.tolist() == list(range(walks))
    begin, end = order.stretches.begin.tolist(), order.stretches.end.tolist()
    found = dict.fromkeys(range(walks), b"")
    for group, a, b in zip(order.group.tolist(), begin, end, strict=True):
        found[group] += order.octets[a:b].tobytes()
    waits = {int(group) for group in order.group_of[order.behind_gap]}
    for walk, octets in enumerate(sent):
        # Where a segment fills a gap while others wait, the rest is for a walk of its own.
        assert bool(order.fills[walk]) == (walk in waits)
        assert octets.startswith(found[walk]) if walk in waits else found[walk] == octets


def test_what_lies_behind_a_gap_waits() -> None:
    order = put_in_order(store_of([(0, 0, b"abc"), (0, 5, b"fgh")]), standings_of(1), ended=False)

    assert order.octets.tobytes() == b"abc"
    assert order.behind_gap.sum() == 1
    assert order.ahead.tolist() == [2]


def test_a_segment_that_begins_anew_in_what_was_taken_is_trimmed() -> None:
    order = put_in_order(store_of([(0, 0, b"abcd"), (0, 2, b"cdef")]), standings_of(1), ended=False)

    assert order.octets.tobytes() == b"abcdef"
    assert order.skipped.tolist() == [0, 2]
    assert order.untrimmed.tolist() == [True, False]


def test_stores_are_joined_with_their_octets() -> None:
    one, other = store_of([(0, 0, b"ab"), (1, 0, b"xyz")]), store_of([(0, 2, b"cd")])

    joined = Store.joined([one, NO_SEGMENTS, other])

    assert [joined.segment(row).octets for row in range(3)] == [b"ab", b"xyz", b"cd"]
    only = Store.packed(joined.segments.take(np.array([2])), joined.octets)
    assert only.octets.tobytes() == b"cd"
    assert only.segment(0).seq == (ISN + 2) & 0xFFFFFFFF
