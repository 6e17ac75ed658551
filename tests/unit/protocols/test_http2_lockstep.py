from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols import http2_lockstep
from analyzer.protocols.http2_frames import PREFACE, is_chain
from analyzer.protocols.http2_lockstep import Stretches, begin_chains, begin_with_preface, walk_stretches
from analyzer.protocols.http2_walk import FrameWalk, Segment, Standing
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


def stretch(dice: random.Random) -> list[bytes]:
    """Segments of frames, most of them plain; every block can be decoded."""
    kinds = [0, 0, 4, 6, 8, 1, 1, 1] if dice.random() < 0.7 else [*range(10), 16, 17, 200]
    lengths = {2: 5, 3: 4, 6: 8, 8: 4}
    octets = PREFACE if dice.random() < 0.3 else b""
    for _ in range(dice.choice([1, 2, 3, 5, 9, 80])):
        kind = dice.choice(kinds)
        stream = 0 if kind in (4, 6, 7) else 1
        size = lengths.get(kind, dice.choice([0, 1, 30, 300])) + dice.choice([0] * 40 + [1])
        payload, flags = bytes(size), dice.choice([0, 0, 1, 4])
        if kind in (1, 5, 9):
            flags = dice.choice([4, 4, 4, 4, 0, 0x20 | 4, 8 | 4])
            ahead = bytes([dice.choice([1, 9])]) * bool(flags & 8) + bytes(5) * bool(flags & 0x20)
            payload = ahead + b"\x82" * dice.randrange(6) + bytes(bool(flags & 8))
        if dice.random() < 0.02:
            stream, flags = dice.choice([0, 1, 1 << 31]), flags if kind in (1, 5, 9) else dice.randrange(256)
        octets += frame(kind, flags, stream, payload)
    octets = octets[dice.choice([0, 0, 0, 3]) : len(octets) - dice.choice([0, 0, 0, 5, 20])] or b"\0"
    cuts = sorted(dice.sample(range(1, len(octets) + 1), min(len(octets), dice.choice([0, 1, 2, 3, 6]))))
    return [octets[i:j] for i, j in itertools.pairwise([0, *cuts, len(octets)]) if i < j]


def alone(walk: FrameWalk, seq: int, segments: Sequence[bytes]) -> list[int]:
    """Where the blocks end that a walk of one direction finds in segments from `seq` on."""
    found = []
    for octets in segments:
        found += [block.last for block in walk.add(Segment(seq, len(octets), 1, octets))]
        seq += len(octets)
    return found


def test_what_is_walked_together_and_gone_on_with_alone_is_what_each_says_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    met: Counter[str] = Counter()
    for seed in range(800):
        dice = random.Random(seed)
        monkeypatch.setattr(http2_lockstep, "_FEW", dice.choice([0, 5, 1000]))
        parts = [stretch(dice) for _ in range(dice.choice([1, 20]))]
        counts = np.array([len(part) for part in parts])
        edges = np.concatenate([[0], np.cumsum([len(octets) for part in parts for octets in part])])
        last = np.cumsum(counts)
        # Some walks have begun before, and stand inside a frame.
        begun = np.array([dice.random() < 0.5 for _ in parts])
        met_before = dice.choice([(1, 1), (2, 2), (5, 1)])
        left, headers, segments = (np.where(begun, n, 0) for n in (dice.choice([0, 0, 1, 60]), *met_before))
        sure = begun & np.array([dice.random() < 0.7 for _ in parts])
        given_ = Stretches(edges[last - counts], edges[last], last - counts, last, left, begun, sure, headers, segments)
        octets = np.frombuffer(b"".join(itertools.chain(*parts)), np.uint8)

        walked = walk_stretches(octets, given_, edges[:-1], np.ones(int(counts.sum()), bool))

        for row, part in enumerate(parts):
            begin = Standing(0, int(left[row]), bool(begun[row]), bool(sure[row]))
            one = FrameWalk(begin._replace(headers=int(headers[row]), segments=int(segments[row])))
            expected = alone(one, 0, part)
            mine = walked.blocks.stretch == row
            blocks = zip(walked.blocks.start[mine].tolist(), walked.blocks.stop[mine].tolist(), strict=True)
            assert {octet for start, stop in blocks for octet in octets[start:stop].tolist()} <= {0x82}
            found = (walked.blocks.end[mine] - 1 - edges[last - counts][row]).tolist()
            after = walked.stretches
            stands = Standing(sum(map(len, part)), int(after.left[row]), bool(after.on[row]), bool(after.sure[row]))
            stands = stands._replace(headers=int(after.headers[row]), segments=int(after.segments[row]))
            if not walked.halted[row] and (stands.sure or not found):
                met["whole"] += 1
                assert found == expected
                assert one.standing is not None
                assert one.standing[:4] == stands[:4]
                # Of frames that are known to be some nobody asks how many there were.
                assert stands.sure or one.standing == stands
            elif not walked.halted[row]:
                met["aside"] += 1
                assert expected == []
                assert one.standing is None
            elif stands.sure:
                met["halted"] += 1
                at = int(walked.at[row] - edges[last - counts][row])
                rest, seq = [], 0
                for piece in part:
                    rest += [piece[max(at - seq, 0) :]] if seq + len(piece) > at else []
                    seq += len(piece)
                other = FrameWalk(stands._replace(expects=at))
                assert found + alone(other, at, rest) == expected
    assert min(met[case] for case in ("whole", "aside", "halted")) > 30


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


def test_more_blocks_than_are_kept_aside_are_for_a_walk_of_its_own() -> None:
    request = frame(1, END_HEADERS, 1, b"\x82")
    segments = [request * 70, request * 2, request * 2]
    sizes = np.array([len(octets) for octets in segments])
    at = np.cumsum(sizes) - sizes
    none, all_of_it = np.zeros(1, np.int64), np.array([int(sizes.sum())])
    given_ = Stretches(none, all_of_it, none, none + 3, none, none > 0, none > 0, none, none)

    walked = walk_stretches(np.frombuffer(b"".join(segments), np.uint8), given_, at, np.ones(3, bool))

    assert len(alone(FrameWalk(), 0, segments)) < 74
    assert walked.halted.tolist() == [True]
    assert walked.stretches.sure.tolist() == [False]
