from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analyzer.decode import Decoder
from analyzer.flows import FlowBuilder
from analyzer.heads import HeadCollector, _order
from analyzer.registries import HeadStop
from analyzer.schema import StreamHeads
from tests.builders import ACK, SYN, Conversation, chunk, chunks_cut_at, ethernet, ipv4, tcp, udp

ISN = 0xFFFFFF00  # so that sequence numbers wrap inside the head
STREAM = bytes(range(1, 256)) * 12


def data(at: int, payload: bytes) -> bytes:
    return ethernet(ipv4(tcp(payload, seq=ISN + 1 + at, flags=ACK)))


def collect(
    frames: list[bytes], *, limit: int = 16384, parts: int = 1, wire_lens: list[int] | None = None
) -> StreamHeads:
    decoder, builder = Decoder(), FlowBuilder()
    collector = HeadCollector(builder, limit)
    for rows in np.array_split(np.arange(len(frames)), parts):
        if rows.shape[0]:
            piece = chunk(
                [frames[i] for i in rows],
                first_frame=int(rows[0]) + 1,
                wire_lens=None if wire_lens is None else [wire_lens[i] for i in rows],
            )
            packets = decoder.decode(piece)
            collector.add(packets, builder.add(packets, piece.octets), piece.octets)
    streams = builder.finish(np.arange(len(builder)))[1]
    return collector.assemble(streams.reshape(-1))


def holes(heads: StreamHeads, stream: int = 0) -> list[tuple[int, int]]:
    rows = heads.holes_stream == stream
    return list(zip(heads.holes_start[rows].tolist(), heads.holes_stop[rows].tolist(), strict=True))


def reference(segments: list[tuple[int, bytes]], limit: int) -> tuple[dict[int, int], int]:
    """Plain statement of the law: the first copy of each octet wins. Octets by position, and the head's length."""
    octets: dict[int, int] = {}
    length = 0
    for at, payload in segments:
        for i, octet in enumerate(payload):
            if 0 <= at + i < limit:
                octets.setdefault(at + i, octet)
                length = max(length, at + i + 1)
    return octets, length


SEGMENTS = st.lists(
    st.tuples(st.integers(-20, 1200), st.integers(1, 700), st.booleans()).map(
        lambda t: (t[0], bytes((b + t[2]) & 255 for b in STREAM[max(t[0], 0) : max(t[0], 0) + t[1]]) or b"?")
    ),
    min_size=1,
    max_size=12,
)


@given(SEGMENTS, st.integers(1, 4), st.sampled_from([600, 16384]))
@example([(0, b"a" * 300), (256, b"b" * 300), (100, b"c" * 700)], 1, 16384)
@example([(500, b"late"), (0, b"first")], 2, 600)
def test_heads_follow_the_plain_law(segments: list[tuple[int, bytes]], parts: int, limit: int) -> None:
    syn = ethernet(ipv4(tcp(seq=ISN, flags=SYN)))

    heads = collect([syn, *(data(at, payload) for at, payload in segments)], limit=limit, parts=parts)

    octets, length = reference(segments, limit)
    head = heads.head(0)
    assert head.shape[0] == length
    assert bool(heads.from_start[0])
    missing = {i for start, stop in holes(heads) for i in range(start, stop)}
    assert missing == set(range(length)) - set(octets)
    assert all(head[i] == octet for i, octet in octets.items())
    copies: dict[int, set[int]] = {}
    for at, payload in segments:
        for i, octet in enumerate(payload):
            if 0 <= at + i < limit:
                copies.setdefault(at + i, set()).add(octet)
    assert bool(heads.conflict[0]) == any(len(values) > 1 for values in copies.values())


def test_frames_tell_which_segment_carried_an_octet() -> None:
    frames = Conversation(mss=100).open().send(0, STREAM[:250]).frames

    heads = collect(frames)

    positions = np.array([0, 99, 100, 249])
    assert heads.frames_at(np.zeros(4, np.int64), positions).tolist() == [4, 4, 5, 6]


def test_a_gap_stays_a_hole_and_its_octets_are_nobodys() -> None:
    frames = Conversation(mss=100).open().send(0, b"\xff" * 300).frames
    del frames[4]

    heads = collect(frames)

    assert holes(heads) == [(100, 200)]
    assert not heads.head(0)[100:200].any()
    assert heads.known_until().tolist() == [100, 0]


def test_what_the_snap_length_cut_is_a_hole() -> None:
    whole = Conversation(mss=100).open().send(0, b"\xff" * 250).frames
    frames = [frame[: 54 + 30] for frame in whole]

    heads = collect(frames, wire_lens=[len(f) for f in whole])

    assert holes(heads) == [(30, 100), (130, 200), (230, 250)]


def test_a_head_ends_at_its_limit_and_says_so() -> None:
    heads = collect(Conversation().open().send(0, b"x" * 5000).send(1, b"y").frames, limit=2000)

    assert np.diff(heads.offsets).tolist() == [2000, 1]
    assert heads.stop.tolist() == [HeadStop.LIMIT, HeadStop.COMPLETE]


def test_without_the_handshake_the_head_begins_at_the_earliest_segment() -> None:
    frames = [data(200, b"second"), data(100, b"x" * 100)]

    heads = collect(frames)

    assert heads.head(0).tobytes() == b"x" * 100 + b"second"
    assert not heads.from_start.any()


def test_a_keep_alive_octet_before_the_stream_is_not_of_it() -> None:
    frames = [*Conversation(isn=(ISN, 5)).open().frames, data(-1, b"\0"), data(0, b"hello")]

    assert collect(frames).head(0).tobytes() == b"hello"


def test_the_first_datagrams_are_kept_in_order() -> None:
    frames = [ethernet(ipv4(udp(bytes([65 + i]) * 3, 40000, 51820), protocol=17)) for i in range(9)]

    for parts in (1, 4):
        heads = collect(frames, parts=parts)
        assert heads.head(0).tobytes() == b"AAABBBCCCDDD"
        assert heads.segment_position.tolist() == [0, 3, 6, 9]


HELLO = bytes.fromhex("16030100c8010000c40303")


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("parts", [1, 7, 100])
def test_what_looks_like_a_hello_inside_the_data_moves_no_head(keyed: bool, parts: int) -> None:
    talk = Conversation(mss=1400).open().send(0, bytes(17_000)).send(1, HELLO.ljust(1000, b"\0")).send(0, bytes(14_000))
    decoder, builder = Decoder(), FlowBuilder()
    collector = HeadCollector(builder)
    if keyed:
        collector.keep_protected()
    for part in chunks_cut_at(talk.frames, range(0, len(talk.frames), -(-len(talk.frames) // parts))):
        packets = decoder.decode(part)
        rows = builder.add(packets, decoder.octets)
        collector.add(packets, rows, decoder.octets)
    heads = collector.assemble(np.array([0, 1]))
    limit = int(np.diff(heads.offsets).max())
    client = int(np.argmax(np.diff(heads.offsets)))

    # Without keys a hello would mean less, with keys more.
    assert limit == 16 * 1024
    assert heads.stop[client] == HeadStop.LIMIT
    last = 1001 + np.array([0, limit - 1, limit, 30_999])
    behind = [collector.lies_behind(client, seq) for seq in last.tolist()]
    assert behind == [False, False, True, True]
    assert collector.is_behind(np.full(4, client), last).tolist() == behind


@pytest.mark.parametrize("parts", [1, 7, 100])
def test_a_hello_that_comes_first_bounds_the_head(parts: int) -> None:
    talk = Conversation(mss=1400).open().send(0, HELLO.ljust(1000, b"\0")).send(1, bytes(14_000)).send(0, bytes(14_000))

    for limit in np.diff(collect(talk.frames, parts=parts).offsets):
        assert limit == 10 * 1024


@given(st.sampled_from([1, 3, 1 << 16, 1 << 20]), st.data())
def test_segments_are_put_in_order_and_the_first_to_arrive_goes_first(streams: int, drawn: st.DataObject) -> None:
    rows = drawn.draw(st.lists(st.tuples(st.integers(0, streams), st.integers(-3, 3)), max_size=40))
    stream, position = np.array(rows, np.int64).reshape(-1, 2).T
    expected = sorted(range(len(rows)), key=lambda row: rows[row])
    assert _order(stream, position).tolist() == expected
