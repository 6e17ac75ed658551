from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import hpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.protocols.header_blocks import MAX_HEADER_LIST, MAX_TABLE
from analyzer.protocols.http2 import read_http2
from analyzer.protocols.http2_frames import PREFACE
from analyzer.schema import HttpMessage
from tests.heads_builder import build_heads
from tests.unit.protocols.streams_by_dpkt import LAB, PUBLIC, connections, heads_of
from tests.unit.protocols.test_http1 import tshark_fields

END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20
SETTINGS = bytes.fromhex("000000040000000000")
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/etcdserverpb.KV/Range"),
    (":authority", "10.0.0.20:2379"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.79.3"),
]
Header = tuple[str, str]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(encoder: hpack.Encoder, fields: Sequence[Header], stream: int = 1) -> bytes:
    return frame(1, END_HEADERS, stream, encoder.encode(fields))


def read(
    client: bytes, server: bytes = b"", *, starts: Sequence[int] = (), mid: Sequence[int] = (), limit: int = 64
) -> list[HttpMessage]:
    segments = {0: [(at, i + 1) for i, at in enumerate(starts)]} if starts else None
    heads = build_heads({0: client, 1: server}, segments=segments, mid_connection=mid)
    return read_http2(heads, np.array([0]), limit_messages=limit)


def test_a_request_and_its_response() -> None:
    server = hpack.Encoder()
    request, response = read(
        PREFACE + SETTINGS + headers(hpack.Encoder(), REQUEST),
        SETTINGS
        + headers(server, [(":status", "200"), ("content-type", "application/grpc")])
        + headers(server, [("grpc-status", "0")]),
    )
    assert (request.method, request.target, request.host) == ("POST", "/etcdserverpb.KV/Range", "10.0.0.20:2379")
    assert (request.user_agent, request.content_type, request.version) == ("grpc-go/1.79.3", "application/grpc", "2")
    assert request.from_client
    assert (response.status, response.content_type, response.from_client) == (200, "application/grpc", False)


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_connections_read_together_say_what_each_says_alone(dice: random.Random) -> None:
    def direction(*, client: bool) -> bytes:
        encoder = hpack.Encoder()
        fields = REQUEST if client else [(":status", "200")]
        out = PREFACE + SETTINGS if client else SETTINGS
        for _ in range(dice.choice([0, 1, 3, 12])):
            block = encoder.encode([*fields, ("x-number", str(dice.randrange(4)))])
            padded = bytes([dice.choice([0, 3, 255])]) + bytes(5) + block + bytes(3)
            odd = frame(dice.randrange(12), dice.randrange(256), dice.randrange(3), bytes(dice.randrange(9)))
            whole = frame(1, END_HEADERS, dice.choice([0, 1, 1, 1]), block)
            split = frame(1, 0, 1, block[:5]) + frame(9, END_HEADERS, 1, block[5:])
            out += dice.choice([whole, whole, whole, whole * 30, frame(1, 0x2C, 1, padded), odd, split])
        return out[dice.choice([0, 0, 0, 0, 5]) : len(out) - dice.choice([0, 0, 0, 2])]

    count = dice.choice([16, 40])
    octets = {side: direction(client=side % 2 == 0) for side in range(2 * count)}
    starts = {side: sorted({0, *(dice.randrange(len(o) + 1) for _ in range(3))}) for side, o in octets.items()}
    segments = {side: [(at, dice.randrange(1, 9)) for at in places] for side, places in starts.items()}
    heads = build_heads(octets, segments=segments, mid_connection=dice.sample(range(count), 2))
    flows, names = np.arange(count), np.arange(count) + 7

    together = read_http2(heads, flows, names)

    assert together == [message for i in flows for message in read_http2(heads, flows[i : i + 1], names[i : i + 1])]


def test_the_dynamic_table_lives_as_long_as_the_connection() -> None:
    encoder = hpack.Encoder()
    client = PREFACE + SETTINGS + b"".join(headers(encoder, REQUEST, stream) for stream in (1, 3, 5))
    messages = read(client)
    assert len({headers(encoder, REQUEST) for _ in range(2)}) == 1  # fully indexed by then
    assert [m.target for m in messages] == ["/etcdserverpb.KV/Range"] * 3


def test_padding_priority_continuation_and_unknown_frames() -> None:
    encoder = hpack.Encoder()
    block = encoder.encode(REQUEST)
    split = (
        frame(1, PADDED | PRIORITY, 1, b"\x03" + bytes(5) + block[:7] + bytes(3))
        + frame(9, 0, 1, block[7:9])
        + frame(9, END_HEADERS, 1, block[9:])
    )
    client = PREFACE + SETTINGS + frame(0xFA, 0xFF, 7, b"grease") + split + headers(encoder, REQUEST, 3)
    assert [m.target for m in read(client)] == ["/etcdserverpb.KV/Range"] * 2


def test_pushed_requests_feed_the_table_and_are_no_messages() -> None:
    encoder = hpack.Encoder()
    promise = encoder.encode([(":path", "/pushed"), (":method", "GET"), ("x", "y")])
    server = SETTINGS + frame(5, END_HEADERS, 1, (2).to_bytes(4, "big") + promise)
    server += headers(encoder, [(":status", "200"), ("content-type", "y"), ("x", "y")])
    assert [(m.status, m.content_type) for m in read(PREFACE, server)] == [(200, "y")]


def test_extended_connect_host_field_and_cookies() -> None:
    fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/x"), ("host", "h"), ("cookie", "a=b")]
    (message,) = read(PREFACE + headers(hpack.Encoder(), fields))
    assert (message.method, message.upgrade, message.host) == ("CONNECT", "websocket", "h")
    assert message.credential == "cookie"


def test_a_token_is_told_and_not_repeated() -> None:
    fields = [*REQUEST, ("authorization", "Bearer sixteen-or-more-letters")]
    (message,) = read(PREFACE + headers(hpack.Encoder(), fields))
    assert message.credential == "bearer"
    assert "sixteen" not in repr(message)


GOOD = headers(hpack.Encoder(), [(":method", "GET"), (":path", "/good")])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(frame(1, END_HEADERS | PADDED, 1, b"\xff\x82"), id="padding longer than the frame"),
        pytest.param(frame(1, END_HEADERS | PADDED, 1, b""), id="padded and empty"),
        pytest.param(frame(1, END_HEADERS | PRIORITY, 1, b"\x82"), id="no room for priority"),
        pytest.param(frame(1, END_HEADERS, 0, b"\x82"), id="headers on the connection"),
        pytest.param(frame(9, END_HEADERS, 1, b"\x82"), id="continuation of nothing"),
        pytest.param(frame(1, 0, 1, b"\x82") + frame(0, 0, 1, b"x"), id="interrupted block"),
        pytest.param(frame(1, 0, 1, b"\x82") + frame(9, END_HEADERS, 3, b"\x84"), id="another stream's continuation"),
        pytest.param(frame(1, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\x00"), id="overlong integer"),
        pytest.param(frame(1, END_HEADERS, 1, b"\xc8"), id="index past the table"),
        pytest.param(frame(1, END_HEADERS, 1, b"\x80"), id="index 0"),
        pytest.param(frame(1, END_HEADERS, 1, b"\x00\x7f"), id="literal cut"),
        pytest.param(frame(1, END_HEADERS, 1, b"\x00\x81\xff\x01a"), id="bad Huffman padding"),
        pytest.param(frame(1, END_HEADERS, 1, b"\x3f\xe1\xff\x1f"), id="table beyond the limit"),
    ],
)
def test_a_broken_frame_ends_the_direction(broken: bytes) -> None:
    assert [m.target for m in read(PREFACE + GOOD + broken + GOOD)] == ["/good"]


def test_header_bombs_are_bounded() -> None:
    # One large entry in the table, then thousands of one-octet references to it (CVE-2016-6581).
    entry = b"\x40\x01a\x7f\x81\x1e" + b"b" * 4000
    bomb = frame(1, END_HEADERS, 1, entry + b"\xbe" * 10000)
    assert MAX_HEADER_LIST < 10000 * 4000
    assert [m.target for m in read(PREFACE + GOOD + bomb + GOOD)] == ["/good"]


def test_a_table_may_grow_as_far_as_the_limit() -> None:
    encoder = hpack.Encoder()
    encoder.header_table_size = MAX_TABLE
    assert [m.target for m in read(PREFACE + headers(encoder, REQUEST))] == ["/etcdserverpb.KV/Range"]


def test_the_number_of_messages_is_bounded() -> None:
    assert len(read(PREFACE + GOOD * 100, limit=5)) == 5


def test_a_server_that_does_not_open_with_settings_is_not_read() -> None:
    block = headers(hpack.Encoder(), [(":status", "200")])
    assert read(PREFACE, block) == []
    assert [m.status for m in read(PREFACE, SETTINGS + block)] == [200]


def test_joined_in_the_middle_what_was_added_since_is_exact() -> None:
    encoder = hpack.Encoder()
    lost = headers(encoder, [(":method", "GET"), (":path", "/before")])
    seen = headers(encoder, [(":method", "GET"), (":path", "/since")], 3) + frame(0, 0, 3, b"body")
    again = headers(encoder, [(":method", "GET"), (":path", "/since")], 5)
    back = headers(encoder, [(":method", "GET"), (":path", "/before")], 7)
    after = headers(encoder, [(":method", "GET"), (":path", "/after")], 9)
    assert lost
    tail = b"tail of a DATA frame"
    client = tail + seen + again + back + after
    messages = read(client, starts=[0, len(tail), len(tail) + len(seen)], mid=[0])
    # "/before" lies in the part of the table that was not captured: it is said to be out of sight, and not guessed.
    assert [(m.target, m.undecoded, m.frame) for m in messages] == [
        ("/since", 0, 2),
        ("/since", 0, 3),
        ("", 1, 3),
        ("/after", 0, 3),
    ]


def test_joined_in_the_middle_without_a_chain_of_frames_nothing_is_read() -> None:
    assert read(b"\x00\x00\x05 tail" + GOOD[:12], starts=[0, 9], mid=[0]) == []


def test_every_truncation_gives_a_prefix_of_the_messages() -> None:
    encoder = hpack.Encoder()
    client = PREFACE + SETTINGS + headers(encoder, REQUEST) + frame(0, 1, 1, b"body") + headers(encoder, REQUEST, 3)
    whole = read(client)
    assert len(whole) == 2
    assert [len(read(client[:stop])) for stop in range(len(client))][-1] == 1
    for stop in range(len(client)):
        cut = read(client[:stop])
        assert cut == whole[: len(cut)]


NAMES = st.sampled_from([":path", ":authority", "user-agent", "content-type", "x-forwarded-uri", "te", "cookie"])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?&;@"), min_size=1, max_size=40)


@given(st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=6), min_size=1, max_size=6), st.booleans())
def test_what_an_encoder_wrote_is_what_is_read(blocks: list[list[Header]], huffman: bool) -> None:
    encoder = hpack.Encoder()
    client = PREFACE + SETTINGS
    for number, fields in enumerate(blocks):
        block = encoder.encode([(":method", "GET"), *fields], huffman=huffman)
        client += frame(1, END_HEADERS, 2 * number + 1, block)
    messages = read(client)
    assert len(messages) == len(blocks)
    for message, fields in zip(messages, blocks, strict=True):
        first = dict(reversed(fields))
        assert message.target == first.get(":path", "")
        assert message.host == first.get(":authority", "")
        assert message.user_agent == first.get("user-agent", "")
        assert message.credential == ("cookie" if "cookie" in first else "")


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 3), st.sampled_from([0, 1, 4, 5, 9]), st.integers(0, 0x2F))
def test_any_block_never_raises(payload: bytes, mid: int, kind: int, flags: int) -> None:
    octets = frame(kind, flags, 1, payload) * 2
    for message in read(PREFACE + octets, SETTINGS + octets, mid=list(range(mid))):
        assert message.frame > 0
    read(octets, octets, mid=[0, 1])


@pytest.mark.skipif(not LAB.is_dir(), reason="the lab captures are not beside this checkout")
@pytest.mark.tshark
@pytest.mark.tshark
def test_etcd_in_clear_as_tshark_reads_it() -> None:
    path = LAB / "08b-etcd-cleartext.pcap"
    heads = heads_of(connections(path))
    messages = read_http2(heads, np.arange(len(heads) // 2))
    rows = tshark_fields(
        path,
        "http2.headers.path or http2.headers.status",
        *("tcp.stream", "http2.headers.path", "http2.headers.status"),
        options=["-d", "tcp.port==2379,http2"],
    )
    complete = heads.known_until() == np.diff(heads.offsets)
    short = complete & (np.diff(heads.offsets) < 16384)
    expected: Counter[tuple[int, str]] = Counter()
    for stream, paths, statuses in rows:
        expected.update((2 * int(stream), path) for path in paths.split(",") if path)
        expected.update((2 * int(stream) + 1, status) for status in statuses.split(",") if status)
    found = Counter((2 * m.flow + (not m.from_client), m.target or str(m.status)) for m in messages)
    # Directions longer than their head hold more than is read of them; all others must agree exactly.
    whole = {
        stream for stream in np.flatnonzero(short).tolist() if sum(n for (s, _), n in found.items() if s == stream) < 64
    }
    assert {k: n for k, n in found.items() if k[0] in whole} == {k: n for k, n in expected.items() if k[0] in whole}
    assert sum(n for (stream, _), n in found.items() if stream in whole) > 400
    assert all(expected[key] >= n for key, n in found.items())


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the public captures are not beside this checkout")
@pytest.mark.tshark
@pytest.mark.tshark
@pytest.mark.corpus
def test_a_public_grpc_capture_as_tshark_reads_it() -> None:
    path = PUBLIC / "grpc-pcap-analyzer/print_gRPC/grpc_traffic.pcap"
    heads = heads_of(connections(path))
    messages = read_http2(heads, np.arange(len(heads) // 2))
    rows = tshark_fields(path, "http2.headers.path", "http2.headers.path")
    assert Counter(m.target for m in messages if m.from_client) == Counter(p for r in rows for p in r[0].split(","))
    assert messages


@given(st.data())
def test_joined_in_the_middle_nothing_is_guessed(data: st.DataObject) -> None:
    """Of messages whose beginning is lost every field shown is one that was sent, and every other one is counted."""
    names = st.sampled_from(["user-agent", "content-type", "x-forwarded-for", "x", "y", "z"])
    values = st.sampled_from(["a", "b", "application/grpc", "v" * 40])
    lists = data.draw(st.lists(st.lists(st.tuples(names, values), max_size=6), min_size=2, max_size=8))
    lost = data.draw(st.integers(0, len(lists) - 1))
    encoder = hpack.Encoder()
    requests = [[(":method", "GET"), (":path", f"/{number % 3}"), *fields] for number, fields in enumerate(lists)]
    blocks = [headers(encoder, fields, 2 * number + 1) for number, fields in enumerate(requests)]
    filler = frame(0, 0, 1, b"x") * 3  # so that what is left begins a chain of three frames
    client = filler + b"".join(blocks[lost:])

    messages = read(client, starts=[0, len(filler)], mid=[0])

    assert len(messages) == len(requests) - lost
    for message, sent in zip(messages, requests[lost:], strict=True):
        shown = {
            (":path", message.target),
            ("user-agent", message.user_agent),
            ("content-type", message.content_type),
        }
        assert {(name, value) for name, value in shown if value} <= set(sent)
        if not message.undecoded:
            assert message.target == dict(sent)[":path"]
