from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import hpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.decode import Decoder
from analyzer.flows import FlowBuilder
from analyzer.heads import HeadCollector
from analyzer.late import LATE_REQUESTS, LATE_RESPONSES
from analyzer.pipeline import Limits, Pipeline
from analyzer.protocols import http2_late, http2_lockstep, http2_order, http2_walk
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.http2_frames import PREFACE
from analyzer.protocols.http2_late import Http2Collector
from analyzer.protocols.http2_lockstep import Stretches, Walked, walk_stretches
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.registries import Protocol
from analyzer.schema import I64, U8, HttpMessage, Mask, PacketTable
from tests.builders import Conversation, chunk, chunks_cut_at

LIMIT = 2048
"""Octets of a head in these tests."""
SETTINGS = bytes.fromhex("000000040000000000")
HELLO = bytes.fromhex("16030100c8010000c40303")
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def data(octets: bytes, size: int = 16384, stream: int = 1) -> bytes:
    return b"".join(frame(0, 0, stream, octets[at : at + size]) for at in range(0, len(octets), size))


class Talk:
    """A cleartext HTTP/2 connection; `filled` puts more than a head into both directions."""

    def __init__(self, *, mss: int = 1448, sport: int = 40000) -> None:
        self.tcp = Conversation(sport=sport, dport=2379).open()
        self.encoders = (hpack.Encoder(), hpack.Encoder())
        self.tcp.send(1, SETTINGS).send(0, PREFACE + SETTINGS)
        self.tcp.mss = mss

    @property
    def frames(self) -> list[bytes]:
        return self.tcp.frames

    def filled(self) -> Talk:
        self.tcp.send(0, self.request("/first") + data(bytes(3 * LIMIT))).send(1, self.answer("200"))
        self.tcp.send(1, data(bytes(3 * LIMIT)))
        return self

    def request(self, path: str, fields: Sequence[tuple[str, str]] = (), stream: int = 3) -> bytes:
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "etcd:2379")]
        return frame(1, END_HEADERS, stream, self.encoders[0].encode([*pseudo, *fields]))

    def answer(self, status: str, stream: int = 3) -> bytes:
        block = self.encoders[1].encode([(":status", status), ("content-type", "application/grpc")])
        return frame(1, END_HEADERS, stream, block)

    def ask(self, path: str, status: str = "200") -> Talk:
        self.tcp.send(0, self.request(path) + data(b"question")).send(1, self.answer(status) + data(b"answer"))
        return self


def read(frames: list[bytes], cuts: Sequence[int] = (), wire_lens: list[int] | None = None) -> Evidence:
    pipeline = Pipeline(Limits(head_octets=LIMIT))
    for part in chunks_cut_at(frames, cuts, wire_lens):
        pipeline.add(part)
    return pipeline.evidence()


def paths(evidence: Evidence) -> list[str]:
    return [m.target for m in evidence.cleartext.http if m.from_client]


def statuses(evidence: Evidence) -> list[int]:
    return [m.status for m in evidence.cleartext.http if not m.from_client]


def test_a_request_late_in_a_connection_is_read_with_its_frame_its_answer_and_the_dynamic_table() -> None:
    talk = Talk().filled().ask("/etcdserverpb.KV/Range", "403")
    talk.tcp.send(0, talk.request("/etcdserverpb.Watch/Watch", [("x-a", "b")]) + data(bytes(50_000)))
    at = len(talk.frames)
    talk.ask("/first")  # by now an index

    evidence = read(talk.frames)

    assert paths(evidence) == ["/first", "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch", "/first"]
    assert statuses(evidence) == [200, 403, 200]
    last = [m for m in evidence.cleartext.http if m.from_client][-1]
    assert (last.frame, last.host, last.undecoded, last.method) == (at + 1, "etcd:2379", 0, "POST")


@pytest.mark.parametrize("mss", [1, 7, 37, 200, 1448])
def test_header_blocks_over_segments_continuation_padding_and_priority(mss: int) -> None:
    talk = Talk(mss=mss).filled()
    block = talk.request("/long", [("x", "y" * 900)])[9:]
    padded = bytes([3]) + bytes(5) + block[:100] + bytes(3)
    talk.tcp.send(0, frame(1, PADDED | PRIORITY, 3, padded) + frame(9, 0, 3, block[100:400]))
    talk.tcp.send(0, frame(9, END_HEADERS, 3, block[400:]) + data(bytes(100), size=30))
    talk.ask("/after")

    assert paths(read(talk.frames)) == ["/first", "/long", "/after"]


def test_data_that_looks_like_frames_is_data() -> None:
    talk = Talk(mss=1000).filled()
    inner = hpack.Encoder()
    fake = frame(1, END_HEADERS, 1, inner.encode([(":method", "GET"), (":path", "/invented")])) + SETTINGS * 3
    talk.tcp.send(0, data(fake.ljust(1000, b"\0") * 20, stream=5))
    for _ in range(5):
        talk.tcp.send(0, frame(0, 0, 5, fake * 4)[:9])
        talk.tcp.send(0, fake * 4)
    talk.ask("/real")

    assert paths(read(talk.frames)) == ["/first", "/real"]


def test_behind_a_gap_what_is_not_known_is_left_out_and_what_is_known_is_exact() -> None:
    talk = Talk().filled().ask("/lost")
    del talk.frames[-2:]
    talk.ask("/lost").ask("/new").ask("/new")

    evidence = read(talk.frames)

    requests = [m for m in evidence.cleartext.http if m.from_client]
    # The path of the second request is an entry of the gap's; that of the third was added since.
    assert [m.target for m in requests] == ["/first", "", "/new"]
    assert [m.method for m in requests] == ["POST"] * 3
    assert [m.undecoded for m in requests[1:]] == [2, 1]


def test_a_gap_inside_data_costs_nothing() -> None:
    talk = Talk().filled().ask("/known")
    talk.tcp.send(0, data(bytes(14_000)))
    del talk.frames[-4:-2]
    talk.ask("/after").ask("/known")

    evidence = read(talk.frames)

    assert paths(evidence) == ["/first", "/known", "/after"]
    assert not any(m.undecoded for m in evidence.cleartext.http)


def test_behind_a_gap_a_segment_inside_data_invents_nothing() -> None:
    inner = hpack.Encoder()
    fake = frame(1, END_HEADERS, 1, inner.encode([(":method", "GET"), (":path", "/invented")])) + SETTINGS
    for size in (1448, 1447, 1400, 3 * len(fake)):
        talk = Talk().filled()
        talk.tcp.send(0, talk.request("/lost") + data(bytes(1448 * 2), stream=3)[: 1448 - 60])
        del talk.frames[-1]
        # The rest of that DATA frame, as its sender chose it, and what really follows.
        talk.tcp.send(0, (fake * 80)[:size])
        talk.tcp.send(0, bytes(11) + talk.request("/x", stream=7))
        talk.ask("/real").ask("/real2")

        found = paths(read(talk.frames))

        assert "/invented" not in found
        assert found[-2:] == ["/real", "/real2"]


def test_segments_out_of_order_and_repeated_ones() -> None:
    talk = Talk(mss=100).filled()
    before = len(talk.frames)
    talk.ask("/a").ask("/b").tcp.send(0, talk.request("/c", [("x", "y" * 300)]))
    mixed = talk.frames[:before] + talk.frames[before:][::-1] + talk.frames[before:]

    assert sorted(paths(read(mixed))) == sorted(paths(read(talk.frames))) == ["/a", "/b", "/c", "/first"]


def test_what_the_snap_length_cut_off_is_not_guessed() -> None:
    talk = Talk().filled()
    talk.tcp.send(0, talk.request("/a") + data(bytes(900)))
    talk.ask("/b")
    wire_lens = [len(f) for f in talk.frames]
    wide = [f[:200] for f in talk.frames]

    assert paths(read(wide, wire_lens=wire_lens)) == ["/first", "/a", "/b"]
    assert "/a" not in paths(read([f[:75] for f in talk.frames], wire_lens=wire_lens))


def test_repeats_take_no_room_and_distinct_ones_are_bounded() -> None:
    probes, many = Talk().filled(), Talk().filled()
    for _ in range(300):
        probes.ask("/healthz")
    probes.ask("/last")
    for number in range(LATE_REQUESTS + 5):
        many.ask(f"/{number}")

    assert paths(read(probes.frames)) == ["/first", "/healthz", "/last"]
    assert not read(probes.frames).crowded.any()
    assert paths(read(many.frames)) == ["/first", *(f"/{i}" for i in range(LATE_REQUESTS))]
    assert read(many.frames).crowded.tolist() == [True]


def test_answers_are_bounded_too() -> None:
    talk = Talk().filled()
    for number in range(LATE_RESPONSES + 1):
        talk.ask("/", str(400 + number))

    evidence = read(talk.frames)

    assert statuses(evidence) == [200, *range(400, 400 + LATE_RESPONSES)]
    assert evidence.crowded.tolist() == [True]


def test_more_messages_in_a_head_than_are_read_of_it() -> None:
    talk = Talk()
    for number in range(100):
        talk.tcp.send(0, talk.request(f"/{number % 80}"))

    assert sorted(set(paths(read(talk.frames)))) == sorted(f"/{i}" for i in range(80))


def test_a_connection_joined_in_its_middle() -> None:
    talk = Talk().filled()
    del talk.frames[:]
    talk.ask("/begins").tcp.send(0, data(bytes(3 * LIMIT))).send(1, data(bytes(3 * LIMIT)))
    talk.ask("/late", "404").ask("/late2")

    evidence = read(talk.frames)

    assert evidence.identification.protocol.tolist() == [Protocol.HTTP2]
    assert paths(evidence) == ["/begins", "/late", "/late2"]
    assert 404 in statuses(evidence)


def test_frames_inside_another_protocol_are_no_messages() -> None:
    ssh = Conversation(dport=22).open().send(0, b"SSH-2.0-Go\r\n").send(1, b"SSH-2.0-x\r\n").send(0, bytes(4000))
    ssh.send(0, PREFACE + SETTINGS + Talk().request("/inside") + data(bytes(10)))

    assert "/inside" not in paths(read(ssh.frames)) or read(ssh.frames).identification.protocol[0] == Protocol.HTTP2


def test_sequence_numbers_that_go_round() -> None:
    talk = Talk()
    talk.tcp = Conversation(dport=2379, isn=(0xFFFFFFFF - 9000, 0xFFFFFFFF - 5000)).open()
    talk.tcp.send(0, PREFACE + SETTINGS).send(1, SETTINGS)
    talk.filled().ask("/a")
    talk.tcp.send(0, data(bytes(9000)))
    talk.ask("/b")

    assert paths(read(talk.frames)) == ["/first", "/a", "/b"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_chunking_gives_the_same_messages(draw: st.DataObject) -> None:
    talk = Talk(mss=draw.draw(st.sampled_from([90, 300, 1448]))).filled()
    for path in draw.draw(st.lists(st.sampled_from(["/a", "/b", "/c" * 200]), max_size=6)):
        talk.ask(path)
    frames = [f for i, f in enumerate(talk.frames) if i not in draw.draw(st.sets(st.integers(0, 80), max_size=3))]
    moved = draw.draw(st.integers(0, len(frames) - 2))
    frames[moved], frames[moved + 1] = frames[moved + 1], frames[moved]
    cuts = draw.draw(st.lists(st.integers(1, len(frames) - 1), max_size=5))

    assert read(frames, cuts).cleartext == read(frames).cleartext
    assert set(paths(read(frames))) <= {"/first", "/a", "/b", "/c" * 200, ""}


@pytest.mark.parametrize("cuts", [(), range(1, 1000), (17,)])
@pytest.mark.parametrize("keyed", [False, True])
def test_what_looks_like_a_tls_hello_inside_the_data_hides_nothing(keyed: bool, cuts: Sequence[int]) -> None:
    """Each place, on both sides of the limits with a hello and without, is read once: in the head or behind it."""
    for octets in (LIMIT * 10 // 16 - 400, LIMIT - 400, LIMIT + 700, 40 * LIMIT):
        talk = Talk(mss=300)
        talk.tcp.send(0, talk.request("/first") + data(bytes(octets), size=300)).send(1, talk.answer("200"))
        talk.ask("/here").tcp.send(0, data(bytes(3 * LIMIT), size=300))
        talk.tcp.send(0, data(HELLO.ljust(300, b"\0"))[:9]).send(0, HELLO.ljust(300, b"\0"))
        talk.ask("/after")
        pipeline = Pipeline(Limits(head_octets=LIMIT), KeyLog() if keyed else None)
        for part in chunks_cut_at(talk.frames, [cut for cut in cuts if cut < len(talk.frames)]):
            pipeline.add(part)

        assert paths(pipeline.evidence()) == ["/first", "/here", "/after"]


@pytest.mark.parametrize("cut", [None, 4, 7, 12])
def test_a_preface_tells_nothing_of_what_came_before_it(cut: int | None) -> None:
    talk = Talk()
    talk.frames.clear()
    talk.tcp.seq[:] = talk.tcp.isn
    talk.tcp.open().send(1, SETTINGS * 3 + data(bytes(3 * LIMIT))).send(1, talk.answer("401") + SETTINGS)
    talk.tcp.send(0, PREFACE + SETTINGS)
    talk.filled().ask("/late", "403")

    evidence = read(talk.frames, [] if cut is None else [cut])

    assert evidence.cleartext == read(talk.frames, range(1, len(talk.frames))).cleartext
    assert paths(evidence) == ["/first", "/late"]


def test_a_direction_without_room_holds_nothing_more() -> None:
    talk = Talk().filled()
    flows = FlowBuilder()
    heads = HeadCollector(flows, LIMIT)
    collector = Http2Collector(flows, heads)
    for number in range(LATE_REQUESTS + 40):
        talk.tcp.send(0, talk.request(f"/{number}"))
    for part in chunks_cut_at(talk.frames):
        decoder = Decoder()
        packets = decoder.decode(part)
        rows = flows.add(packets, decoder.octets)
        heads.add(packets, rows, decoder.octets)
        collector.add(packets, rows, decoder.octets)

    (full,) = collector.full_streams().tolist()
    note = collector._notes[int(collector._slot[full >> 1]) * 2 + (full & 1)]
    assert note.reader is None
    assert not note.seen


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 90))
def test_no_octets_raise_or_invent(octets: bytes, cut: int) -> None:
    talk = Talk().filled()
    talk.tcp.send(0, (talk.request("/a") + octets)[:cut]).send(1, frame(1, END_HEADERS, 1, octets))
    talk.tcp.send(0, frame(1, END_HEADERS, 1, octets) + frame(9, END_HEADERS, 1, octets)).send(0, octets)
    read(talk.frames)


def test_many_connections_in_one_chunk() -> None:
    frames = [f for i in range(8) for f in Talk(sport=40000 + i).filled().ask(f"/{i}").frames]

    found = [(m.flow, m.target) for m in read(frames).cleartext.http if m.from_client]

    assert found == [(i, path) for i in range(8) for path in ("/first", f"/{i}")]


def test_the_same_octets_mean_another_thing_once_the_table_has_changed() -> None:
    talk = Talk().filled()
    repeated = frame(1, END_HEADERS, 5, bytes([0x83, 0x86, 0xBE]))  # POST, http, the newest entry
    for path in (b"/a", b"/b", b"/c"):
        # Without :method: trailers, which add :path to the table.
        talk.tcp.send(0, frame(1, END_HEADERS, 5, bytes([0x44, len(path)]) + path)).send(0, repeated).send(0, repeated)

    assert paths(read(talk.frames)) == ["/first", "/a", "/b", "/c"]


def test_connections_that_are_over_take_no_room() -> None:
    frames = []
    for number in range(30):
        talk = Talk(sport=40000 + number).filled().ask(f"/{number}")
        frames += talk.tcp.close(0).close(1).frames
    pipeline = Pipeline(Limits(head_octets=LIMIT, epoch_frames=40, settle_octets=0))
    for number, one in enumerate(frames, 1):
        pipeline.add(chunk([one], first_frame=number))

    assert len(pipeline.late_http2) <= 2 * 10
    assert paths(pipeline.evidence()) == [path for i in range(30) for path in ("/first", f"/{i}")]


class Collecting:
    """A collector, and what it is fed from."""

    def __init__(self) -> None:
        self.flows = FlowBuilder()
        self.heads = HeadCollector(self.flows, LIMIT)
        self.collector = Http2Collector(self.flows, self.heads)
        self._frames = 0

    def add(self, frames: list[bytes]) -> None:
        decoder = Decoder()
        packets = decoder.decode(chunk(frames, first_frame=self._frames + 1))
        self._frames += len(frames)
        rows = self.flows.add(packets, decoder.octets)
        self.heads.add(packets, rows, decoder.octets)
        self.collector.add(packets, rows, decoder.octets)


def test_a_connection_that_is_over_is_not_walked_again() -> None:
    talk, more = Talk().filled(), Collecting()
    more.add(talk.ask("/first-life").frames)
    assert [m.target for m in more.collector.take(all_of_them=True) if m.from_client] == ["/first-life"]
    talk.frames.clear()
    more.add(talk.ask("/again").ask("/and-again").frames)

    assert len(more.collector) == 0
    assert more.collector.take(all_of_them=True) == []


def test_a_direction_without_room_is_told_by_its_new_number() -> None:
    full, more = Talk(sport=40001).filled(), Collecting()
    for number in range(LATE_REQUESTS + 2):
        full.ask(f"/{number}")
    more.add(Talk(sport=40000).filled().ask("/gone").frames)
    more.add(full.frames)
    more.collector.take()
    (stream,) = more.collector.full_streams().tolist()
    assert stream in (2, 3)

    more.collector.keep(np.array([1]), 2)

    assert more.collector.full_streams().tolist() == [stream - 2]
    full.frames.clear()
    more.collector.keep(np.empty(0, np.int64), 1)
    assert more.collector.full_streams().tolist() == []


@pytest.mark.parametrize("round_segments", [40, 1000])
@pytest.mark.parametrize("far", [700, 1 << 20])
def test_many_gaps_are_given_up_without_a_walk_of_their_own(
    far: int, round_segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stretch between gaps begins anew, as do its tables; the last ones are held until the end."""
    talk = Talk().filled()
    asked = []
    for number in range(60):
        for side in (0, 1):
            talk.tcp.seq[side] += far
        talk.encoders = (hpack.Encoder(), hpack.Encoder())
        asked.append(f"/behind/{number}")
        talk.ask(asked[-1]).ask("/first")
    monkeypatch.setattr(http2_late, "ROUND_SEGMENTS", round_segments)
    if round_segments > len(talk.frames):
        monkeypatch.setattr(http2_late, "FrameWalk", None)

    more = Collecting()
    for at in range(0, len(talk.frames), 20):
        more.add(talk.frames[at : at + 20])
    found = in_order(more.collector.take(all_of_them=True))

    assert [m.target for m in found if m.from_client] == [asked[0], "/first", *asked[1:]]
    assert all(m.undecoded == 0 for m in found)


@pytest.mark.parametrize(
    ("waiting", "found"), [(http2_walk.HELD, ["/late", "/next"]), (http2_walk.HELD + 1, ["/next"])]
)
def test_a_gap_is_given_up_with_one_segment_more_than_are_held(waiting: int, found: list[str]) -> None:
    talk = Talk().filled()
    at = len(talk.frames)
    talk.tcp.send(0, talk.request("/late"))
    late = talk.frames.pop()
    talk.encoders = (hpack.Encoder(), hpack.Encoder())
    for _ in range(waiting):
        talk.tcp.send(0, data(bytes(20)) * 2)
    talk.frames.append(late)
    talk.tcp.send(0, talk.request("/next"))
    assert len(talk.frames) == at + waiting + 2

    assert paths(read(talk.frames))[1:] == found


def test_what_was_read_before_a_gap_says_nothing_of_what_follows_a_stretch_of_data() -> None:
    talk, more = Talk().filled().ask("/before"), Collecting()
    talk.tcp.seq[0] += 700
    for _ in range(http2_walk.HELD + 1):
        talk.tcp.send(0, data(bytes(20)) * 2)
    more.add(talk.frames)
    more.collector.take()
    talk.frames.clear()
    more.add(talk.ask("/before").frames)

    (request,) = [m for m in more.collector.take(all_of_them=True) if m.from_client]
    assert (request.target, request.undecoded) == ("", 2)


def test_a_gap_inside_a_frame_is_none_among_many() -> None:
    talk = Talk(mss=1000).filled()
    for number in range(30):
        talk.tcp.seq[0] += 700
        talk.encoders = (hpack.Encoder(), hpack.Encoder())
        talk.ask(f"/a/{number}")
        talk.tcp.send(0, data(bytes(5000)))
        del talk.frames[-3]
        talk.ask(f"/b/{number}")
        talk.encoders = (hpack.Encoder(), hpack.Encoder())

    assert paths(read(talk.frames))[1:] == [f"/{which}/{number}" for number in range(30) for which in "ab"]


WORDS = ["ask", "ask", "ask", "data", "data", "kind", "pings", "continued", "padded", "noise", "many", "again", "jump"]


def anything(dice: random.Random, sport: int) -> list[bytes]:
    """A connection of plain, odd and broken frames, of which segments are lost, repeated, late or far away."""
    talk = Talk(mss=dice.choice([9, 40, 300, 1448, 4000]), sport=sport)
    if dice.random() < 0.5:
        talk.filled()
    for _ in range(dice.choice([dice.randrange(12), dice.randrange(12), 24])):
        side, number = dice.randrange(2), dice.randrange(9)
        block = talk.request(f"/{number}")[9:] if side == 0 else talk.answer("201")[9:]
        cut = dice.randrange(len(block))
        padded = bytes([dice.choice([3, 250])]) + bytes(5) + block + bytes(3)
        odd = dice.choice([2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 200])
        match dice.choice(WORDS):
            case "ask":
                talk.ask(f"/{number}", dice.choice(["200", "404"]))
            case "data":
                talk.tcp.send(side, data(bytes(dice.randrange(5000)), size=dice.choice([10, 1000, 16384])))
            case "kind":
                talk.tcp.send(side, frame(odd, dice.randrange(256), number % 3, bytes(dice.choice([0, 4, 5, 8, 30]))))
            case "pings":
                talk.tcp.send(side, frame(6, 0, 0, bytes(8)) * dice.randrange(1, 200))
            case "continued":
                talk.tcp.send(side, frame(1, 0, 3, block[:cut]) + frame(9, END_HEADERS, 3, block[cut:]))
            case "padded":
                talk.tcp.send(side, frame(1, END_HEADERS | PADDED | PRIORITY, 3, padded))
            case "noise":
                talk.tcp.send(side, dice.randbytes(dice.randrange(1, 100)))
            case "again":
                # Sent again with what follows it, in other segments.
                sent, more = frame(1, END_HEADERS, 3, block), frame(1, END_HEADERS, 5, block)
                back = dice.randrange(1, len(sent) + 1)
                talk.tcp.send(side, sent)
                talk.tcp.seq[side] -= back
                talk.tcp.send(side, sent[-back:] + dice.choice([more, more[:9]]))
            case "many":
                talk.tcp.send(side, frame(1, END_HEADERS, 3, block) * dice.randrange(1, 100))
            case _:
                far = dice.choice([50, 1000, 1 << 20, -1000, 1 << 29, (1 << 30) + 5, 1 << 31])
                talk.tcp.seq[side] = (talk.tcp.seq[side] + far) & 0xFFFFFFFF
    frames = talk.frames[dice.choice([0, 0, dice.randrange(len(talk.frames))]) :]
    for _ in range(dice.choice([0, 0, 1, 3, 20])):
        one = dice.randrange(len(frames))
        other = dice.choice([dice.randrange(len(frames)), min(one + dice.randrange(1, 4), len(frames) - 1)])
        match dice.randrange(3):
            case 0 if len(frames) > 1:
                del frames[one]
            case 1:
                frames.insert(other, frames[one])
            case _:
                frames[one], frames[other] = frames[other], frames[one]
    return frames


def mixed(dice: random.Random, connections: int) -> list[bytes]:
    """Frames of several connections, by and by."""
    left = [anything(dice, 40000 + number)[::-1] for number in range(connections)]
    burst, frames = dice.choice([1, 5, 1000]), []
    while left:
        one = dice.choice(left)
        frames += [one.pop() for _ in range(min(burst, len(one)))]
        left = [frames_of_one for frames_of_one in left if frames_of_one]
    return frames


def every_one_alone(octets: U8, stretches: Stretches, segment_at: I64, untrimmed: Mask) -> Walked:
    """As `walk_stretches`, of which nothing counts: each direction is then walked by itself, segment by segment."""
    walked = walk_stretches(octets, stretches, segment_at, untrimmed)
    nothing = np.zeros(len(stretches), bool)
    return replace(walked, halted=~nothing, stretches=replace(walked.stretches, sure=nothing))


Tables = list[tuple[PacketTable, U8]]


def collected(tables: Tables, asked: set[int]) -> tuple[list[HttpMessage], list[list[HttpMessage]], list[int]]:
    """Messages behind the heads; what was under way after the tables `asked`; and streams without room."""
    flows = FlowBuilder()
    heads = HeadCollector(flows, LIMIT)
    collector, under_way = Http2Collector(flows, heads), []
    for number, (packets, octets) in enumerate(tables):
        rows = flows.add(packets, octets)
        heads.add(packets, rows, octets)
        collector.add(packets, rows, octets)
        if number in asked:
            under_way.append(in_order(collector.under_way()))
    messages = collector.take(all_of_them=True)
    assert not len(collector)
    return in_order(messages), under_way, collector.full_streams().tolist()


def in_order(messages: list[HttpMessage]) -> list[HttpMessage]:
    return sorted(messages, key=lambda message: (message.flow, message.frame, message.from_client))


@pytest.mark.parametrize("seed", range(6))
def test_together_directions_say_what_each_says_alone_whenever_a_round_ends(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = 0
    for turn in range(10):
        dice = random.Random(10 * seed + turn)
        frames = mixed(dice, dice.choice([1, 3, 16]))
        cuts = dice.sample(range(1, len(frames)), min(len(frames) - 1, dice.choice([0, 1, 5, 30])))
        snapped = dice.choice([None, None, None, None, None, 60, 75, 200, 500])
        wire_lens = [len(octets) for octets in frames]
        tables = []
        for part in chunks_cut_at([octets[:snapped] for octets in frames], cuts, wire_lens):
            decoder = Decoder()
            tables.append((decoder.decode(part), decoder.octets))
        asked = {number for number in range(len(tables)) if dice.random() < 0.2}
        for module in (http2_walk, http2_order):
            monkeypatch.setattr(module, "HELD", [32, 32, 0, 2, 5][turn % 5])
        with monkeypatch.context() as patch:
            patch.setattr(http2_late, "ROUND_OCTETS", 1)
            patch.setattr(http2_late, "walk_stretches", every_one_alone)
            expected = collected(tables, asked)
        found += len(expected[0])
        for round_octets, few in ((1000, 12), (1 << 22, 0), (1 << 22, 1000)):
            with monkeypatch.context() as patch:
                patch.setattr(http2_late, "ROUND_OCTETS", round_octets)
                patch.setattr(http2_lockstep, "_FEW", few)
                patch.setattr(http2_late, "_FEW_SEGMENTS", few)
                assert collected(tables, asked) == expected
    assert found


@pytest.mark.parametrize("connections", [1, 20])
def test_a_peer_that_opens_frames_and_never_ends_them_takes_little_room(connections: int) -> None:
    talks = [Talk(mss=16_000, sport=40000 + number).filled() for number in range(connections)]
    for talk in talks:
        talk.tcp.send(0, (0xFFFFFF).to_bytes(3, "big") + bytes([1, 0, 0, 0, 0, 3]))
    pipeline = Pipeline(Limits(head_octets=LIMIT))
    first = 1

    def add(frames: list[bytes]) -> None:
        nonlocal first
        pipeline.add(chunk(frames, first_frame=first))
        assert pipeline.late_http2.take() == []
        first += len(frames)

    add([octets for talk in talks for octets in talk.frames])
    tracemalloc.start()
    try:
        for number in range(100):
            talk = talks[number % connections]
            talk.frames.clear()
            add(talk.tcp.send(0, bytes(48_000)).frames)
        assert tracemalloc.get_traced_memory()[0] < connections * 128 * 1024 + (1 << 20)
    finally:
        tracemalloc.stop()
