from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.protocols.http2_frames import PREFACE, is_chain
from analyzer.protocols.http2_lockstep import Stretches, begin_chains, begin_with_preface, walk_stretches
from analyzer.protocols.http2_walk import FrameWalk, Segment
from tests.unit.protocols.test_http2 import END_HEADERS, SETTINGS, frame

KINDS = st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 200])
SIZES = st.sampled_from([0, 4, 5, 8, 30, 16384, 16385])
FRAMES = st.builds(
    lambda kind, flags, stream, size, cut: frame(kind, flags, stream, bytes(size))[: 9 + size - cut],
    KINDS,
    st.sampled_from([0, 1, 4, 5, 0x24, 0x80]),
    st.sampled_from([0, 1, 3, 1 << 31]),
    SIZES,
    st.sampled_from([0, 0, 0, 1, 12]),
)
PAYLOADS = st.one_of(
    st.lists(FRAMES, max_size=4).map(b"".join),
    st.binary(max_size=30),
    st.integers(0, 30).map(lambda cut: (PREFACE + SETTINGS)[:cut]),
)


@given(st.lists(PAYLOADS, min_size=1, max_size=20))
def test_many_payloads_are_told_as_each_alone(payloads: list[bytes]) -> None:
    octets = np.frombuffer(b"".join(payloads), np.uint8)
    stop = np.cumsum([len(payload) for payload in payloads])
    start = stop - [len(payload) for payload in payloads]

    assert begin_chains(octets, start, stop).tolist() == [is_chain(payload, 0) for payload in payloads]
    assert begin_with_preface(octets, start, stop).tolist() == [payload.startswith(PREFACE) for payload in payloads]


@settings(deadline=None)
@given(st.lists(st.lists(PAYLOADS.filter(bool), min_size=1, max_size=5), min_size=1, max_size=20))
def test_stretches_stand_where_a_walk_of_each_does_or_halt(stretches: list[list[bytes]]) -> None:
    sizes = [len(payload) for stretch in stretches for payload in stretch]
    counts = np.array([len(stretch) for stretch in stretches])
    edges = np.concatenate([[0], np.cumsum(sizes)])
    last = np.cumsum(counts)
    none = np.zeros(counts.shape[0], np.int64)
    given_ = Stretches(
        edges[last - counts], edges[last], last - counts, last, none, none > 0, none > 0, none.copy(), none.copy()
    )
    octets = np.frombuffer(b"".join(p for stretch in stretches for p in stretch), np.uint8)

    walked = walk_stretches(octets, given_, edges[:-1], np.ones(len(sizes), bool))

    blocks = walked.blocks.stretch.tolist()
    for row, stretch in enumerate(stretches):
        walk, seq = FrameWalk(), 0
        for payload in stretch:
            walk.add(Segment(seq, len(payload), 1, payload))
            seq += len(payload)
        state = walked.stretches.take(np.array([row]))
        if not walked.halted[row] and not (row in blocks and not state.sure[0]):
            standing = walk.standing
            # Blocks that cannot be decoded end a walk that is not sure, and that is not for the columns to know.
            if standing is not None and row not in blocks:
                found = (int(state.left[0]), bool(state.on[0]), bool(state.sure[0]))
                assert found == (standing.left, standing.on, standing.sure)
                assert standing.sure or int(state.segments[0]) == standing.segments


def test_a_long_stretch_among_short_ones_is_walked_to_its_end() -> None:
    ping = frame(6, 0, 0, bytes(8))
    request = frame(1, END_HEADERS, 1, b"\x82")
    parts = [PREFACE + SETTINGS + request, PREFACE + (ping + request) * 500 + frame(0, 0, 1, bytes(90))[:50]]
    sizes = np.array([len(part) for part in parts])
    end = np.cumsum(sizes)
    none = np.zeros(2, np.int64)
    given_ = Stretches(end - sizes, end, np.arange(2), np.arange(2) + 1, none, none > 0, none > 0, none, none)

    walked = walk_stretches(np.frombuffer(b"".join(parts), np.uint8), given_, end - sizes, np.ones(2, bool))

    assert np.bincount(walked.blocks.stretch).tolist() == [1, 500]
    assert not walked.halted.any()
    assert walked.stretches.left.tolist() == [0, 49]
    assert walked.stretches.sure.all()
