from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.http1 import MAX_LINE, read_http1
from analyzer.schema import HttpMessage
from tests.heads_builder import build_heads
from tests.unit.protocols.streams_by_dpkt import LAB, connections, heads_of

needs_lab = pytest.mark.skipif(not LAB.is_dir(), reason="the lab captures are not beside this checkout")
needs_tshark = pytest.mark.tshark


def read(
    client: bytes,
    server: bytes = b"",
    *,
    holes: Mapping[int, Sequence[tuple[int, int]]] | None = None,
    segments: Mapping[int, Sequence[tuple[int, int]]] | None = None,
    mid: Sequence[int] = (),
    limit: int = 64,
) -> list[HttpMessage]:
    heads = build_heads({0: client, 1: server}, holes=holes, segments=segments, mid_connection=mid)
    return read_http1(heads, np.array([0]), limit_messages=limit)


def targets(messages: Sequence[HttpMessage]) -> list[str]:
    return [m.target for m in messages if m.from_client]


def statuses(messages: Sequence[HttpMessage]) -> list[int]:
    return [m.status for m in messages if not m.from_client]


REQUEST_CASES = [
    pytest.param(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", ("GET", "/a", "h", "1.1"), id="plain"),
    pytest.param(b"\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", ("GET", "/a", "h", "1.1"), id="empty lines before"),
    pytest.param(b"GET /a HTTP/1.1\nHost: h\n\n", ("GET", "/a", "h", "1.1"), id="LF alone"),
    pytest.param(b"GET \t /a  HTTP/1.0\r\nHOST:h\r\n\r\n", ("GET", "/a", "h", "1.0"), id="white space"),
    pytest.param(b"GET /a b HTTP/1.1\r\nhost: h \r\n\r\n", ("GET", "/a b", "h", "1.1"), id="space in target"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost: a\r\n b\r\n\tc\r\n\r\n", ("GET", "/a", "a b c", "1.1"), id="obsolete fold"),
    pytest.param(b"GET /a HTTP/1.1\r\n Host: x\r\nHost: h\r\n\r\n", ("GET", "/a", "h", "1.1"), id="fold of nothing"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost : h\r\n\r\n", ("GET", "/a", "h", "1.1"), id="space before colon"),
    pytest.param(b"GET /a HTTP/1.1\r\nnonsense\r\nHost: h\r\n\r\n", ("GET", "/a", "h", "1.1"), id="no colon"),
    pytest.param(b"GET /a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", ("GET", "/a", "h", "1.1"), id="first Host"),
    pytest.param(
        b"GET http://x:80/a HTTP/1.1\r\nHost: h\r\n\r\n", ("GET", "http://x:80/a", "x:80", "1.1"), id="absolute form"
    ),
    pytest.param(b"OPTIONS * HTTP/1.1\r\n\r\n", ("OPTIONS", "*", "", "1.1"), id="asterisk form"),
    pytest.param(b"CONNECT [::1]:80 HTTP/1.1\r\n\r\n", ("CONNECT", "[::1]:80", "", "1.1"), id="authority form"),
    pytest.param(b"GET /\xff HTTP/1.1\r\n\r\n", ("GET", "/\xff", "", "1.1"), id="octet above 127"),
]


@pytest.mark.parametrize(("octets", "expected"), REQUEST_CASES)
def test_requests_are_read_as_leniently_as_the_rfc_allows(octets: bytes, expected: tuple[str, ...]) -> None:
    (message,) = read(octets)
    assert (message.method, message.target, message.host, message.version) == expected
    assert message.from_client
    assert message.frame == 1


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 404\r\n\r\n", 404),
        (b"HTTP/1.0 500 \r\n\r\n", 500),
        (b"HTTP/1.1 200 A long reason\n\n", 200),
    ],
)
def test_status_lines(octets: bytes, expected: int) -> None:
    (message,) = read(b"", octets)
    assert (message.status, message.from_client, message.method) == (expected, False, "")


@pytest.mark.parametrize(
    "octets",
    [
        b"GET /a\r\n\r\n",  # HTTP/0.9
        b"GET /a HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"G(T /a HTTP/1.1\r\n\r\n",
        b" GET /a HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\n",
        b"GET " + b"a" * MAX_LINE + b" HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",  # a response from the client
    ],
)
def test_what_is_no_request_gives_no_message(octets: bytes) -> None:
    assert read(octets) == []


def test_attributes_come_from_their_fields() -> None:
    (message,) = read(
        b"GET /exec HTTP/1.1\r\nHost: h:1\r\nUser-Agent: kubectl/v1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"X-Stream-Protocol-Version: v5.channel.k8s.io\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
        b"X-Forwarded-Uri: /api/v1/nodes/n/proxy/pods\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n"
        b"Content-Type: text/plain\r\nContent-Type: text/html\r\nCookie: session=topsecret\r\n\r\n"
    )
    assert (message.host, message.user_agent, message.upgrade) == ("h:1", "kubectl/v1", "SPDY/3.1")
    assert message.subprotocol == "v5.channel.k8s.io, v4.channel.k8s.io"
    assert message.forwarded_uri == "/api/v1/nodes/n/proxy/pods"
    assert message.forwarded_for == "192.0.2.1, 192.0.2.2"
    assert (message.content_type, message.credential) == ("text/plain", "cookie")


def test_long_text_is_cut_at_512_characters() -> None:
    (message,) = read(b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\nUser-Agent: " + b"u" * 600 + b"\r\n\r\n")
    assert (len(message.target), len(message.user_agent)) == (512, 512)


NEXT = b"GET /next HTTP/1.1\r\n\r\n"
BODY_CASES = [
    pytest.param(b"Content-Length: 5\r\n\r\nGET /", id="content-length"),
    pytest.param(b"Content-Length: 5, 5\r\n\r\n12345", id="repeated length"),
    pytest.param(b"Transfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n", id="chunked"),
    pytest.param(
        b"Transfer-Encoding: gzip, Chunked\r\n\r\nA ;x=y\r\n0123456789\r\n0\r\nTrailer: v\r\n\r\n", id="trailers"
    ),
    pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\nab\n0\n\n", id="coding beats length"),
    pytest.param(b"\r\n", id="no body"),
]


@pytest.mark.parametrize("rest", BODY_CASES)
def test_bodies_are_skipped(rest: bytes) -> None:
    # One segment only: taking up again at a segment start cannot help.
    assert targets(read(b"POST /first HTTP/1.1\r\n" + rest + NEXT)) == ["/first", "/next"]


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 5, 6\r\n\r\n12345",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nXYZ\r\n",
    ],
)
def test_a_body_of_unknown_length_is_left_for_the_next_segment_that_begins_a_message(rest: bytes) -> None:
    first = b"POST /first HTTP/1.1\r\n" + rest
    assert targets(read(first + NEXT)) == ["/first"]
    assert targets(read(first + NEXT, segments={0: [(0, 1), (len(first), 2)]})) == ["/first", "/next"]


def test_a_line_of_many_words_is_a_request_only_where_one_is_due() -> None:
    first, body = b"POST /first HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"tail of a body HTTP/1.1\r\n"
    segments = {0: [(0, 1), (len(first), 2), (len(first + body), 3)]}
    assert targets(read(first + body + NEXT, segments=segments)) == ["/first", "/next"]


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 500\r\n\r\n"),
        (b"GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ],
)
def test_responses_without_a_body_in_spite_of_their_length(method: bytes, head: bytes) -> None:
    messages = read(method + b" / HTTP/1.1\r\n\r\n" + NEXT, head + b"HTTP/1.1 418 Teapot\r\n\r\n")
    assert statuses(messages)[-1] == 418


def test_each_response_belongs_to_the_next_request() -> None:
    client = b"".join(method + b" / HTTP/1.1\r\n\r\n" for method in (b"GET", b"HEAD", b"GET", b"HEAD"))
    empty, long = b"Content-Length: 0\r\n\r\n", b"Content-Length: 500\r\n\r\n"
    server = b"HTTP/1.1 200 A\r\n" + empty + b"HTTP/1.1 200 B\r\n" + long + b"HTTP/1.1 404 C\r\n" + empty
    server += b"HTTP/1.1 404 D\r\n" + long + b"HTTP/1.1 418 E\r\n\r\n"
    assert statuses(read(client, server)) == [200, 200, 404, 404, 418]


def test_a_response_until_close_is_the_last_one() -> None:
    body = b"HTTP/1.1 200 OK\r\n\r\n"
    server = body + b"HTTP/1.1 500 this is the body\r\n\r\n"
    assert statuses(read(NEXT, server, segments={1: [(0, 2), (len(body), 3)]})) == [200]


@pytest.mark.parametrize(
    ("request_line", "answer", "expected"),
    [
        (b"GET /x HTTP/1.1\r\nUpgrade: SPDY/3.1\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n", ["/x"]),
        (b"GET /x HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ["/x", "/next"]),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", ["a:1"]),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", ["a:1", "/next"]),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"", ["a:1"]),
    ],
)
def test_a_switch_of_protocols_ends_the_messages(request_line: bytes, answer: bytes, expected: list[str]) -> None:
    after = b"HTTP/1.1 299 inside\r\n\r\n" if answer else b""
    messages = read(request_line + NEXT, answer + after)
    assert targets(messages) == expected
    switched = len(expected) == 1 and answer
    assert (299 in statuses(messages)) == bool(answer and not switched)


def test_reading_stops_at_the_first_hole_and_keeps_the_complete_lines() -> None:
    first = b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Basic c2VjcmV0\r\n"
    messages = read(first + b"User-Agent: u\r\n\r\n" + NEXT, holes={0: [(len(first) + 5, len(first) + 20)]})
    assert targets(messages) == ["/a"]
    assert (messages[0].host, messages[0].user_agent, messages[0].credential) == ("h", "", "basic")


def test_a_connection_joined_in_the_middle_is_taken_up_at_a_segment_start() -> None:
    before = b"tail of a body GET /not HTTP/1.1\r\n"
    client = before + NEXT
    assert targets(read(client, mid=[0])) == []
    messages = read(client, segments={0: [(0, 7), (len(before), 9)]}, mid=[0])
    assert [(m.target, m.frame) for m in messages] == [("/next", 9)]


def test_joined_in_the_middle_responses_are_matched_by_frame() -> None:
    # The first response answers a request before the capture: taking it for HEAD's would skip no body.
    client = b"HEAD / HTTP/1.1\r\n\r\n"
    server = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    second = len(server)
    server += b"HTTP/1.1 201 H\r\nContent-Length: 9\r\n\r\nHTTP/1.1 202 L\r\n\r\n"
    segments = {0: [(0, 5)], 1: [(0, 4), (second, 6)]}
    assert statuses(read(client, server, segments=segments, mid=[0, 1])) == [200, 201, 202]


def test_the_number_of_messages_is_bounded() -> None:
    messages = read(NEXT * 100, b"HTTP/1.1 204 N\r\n\r\n" * 100, limit=7)
    assert Counter(m.from_client for m in messages) == {True: 7, False: 7}


def test_messages_keep_the_order_of_the_flows_asked_for() -> None:
    heads = build_heads({0: NEXT, 2: NEXT, 4: NEXT})
    assert [m.flow for m in read_http1(heads, np.array([2, 0]))] == [2, 0]
    assert [m.flow for m in read_http1(heads, np.array([2, 0]), np.array([70, 80]))] == [70, 80]


CONVERSATION = (
    b"POST /api HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer abc.def.ghi\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\nGET /two HTTP/1.1\r\nUser-Agent:\r\n folded\r\n\r\n"
)


def test_every_truncation_gives_a_prefix_of_the_messages() -> None:
    whole = read(CONVERSATION)
    assert targets(whole) == ["/api", "/two"]
    for stop in range(len(CONVERSATION)):
        cut = read(CONVERSATION[:stop])
        assert targets(cut) == targets(whole)[: len(cut)]
        for message, complete in zip(cut, whole, strict=False):
            for name in ("host", "user_agent", "credential"):
                assert getattr(message, name) in ("", getattr(complete, name))


@given(
    st.lists(
        st.sampled_from(
            [
                b"GET / HTTP/1.1\r\n",
                b"HTTP/1.1 200 OK\r\n",
                b"Content-Length: 3\r\n",
                b"\r\n",
                b"\n",
                b" fold\r\n",
                b":",
                b"Transfer-Encoding: chunked\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n",
                b"CONNECT x:1 HTTP/1.1\r\n",
                b"\xff\x00",
            ]
        ),
        max_size=24,
    ),
    st.integers(0, 2),
)
def test_any_pieces_in_any_order_never_raise_and_stay_in_bounds(pieces: list[bytes], mid: int) -> None:
    octets = b"".join(pieces)
    starts = [0, *np.cumsum([len(p) for p in pieces[:-1]]).tolist()] if pieces else []
    rows = [(p, i + 1) for i, p in enumerate(dict.fromkeys(s for s in starts if s < len(octets)))]
    messages = read(octets, octets, segments={0: rows, 1: rows}, mid=list(range(mid)))
    assert all(0 < m.frame <= len(rows) for m in messages)
    assert [m.frame for m in messages] == sorted(m.frame for m in messages)
    assert all(m.method if m.from_client else m.status for m in messages)


def test_hostile_heads_take_linear_time() -> None:
    hostile = [
        b"GET " + b" " * 8000 + b"\n" + b"A: b\n" * 1500,
        b"GET / HTTP/1.1\r\nA: b\r\n" + b" c\r\n" * 3500,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\n\x00" * 4000,
        b"GET / HTTP/1.1\r\nUser-Agent: " + b"eyJ" * 2600 + b"\r\n\r\n",
        b"GET /" + b"?a" * 4000 + b" HTTP/1.1\r\nX-Forwarded-Uri: " + b"a://" * 2000 + b"\r\n\r\n",
    ]
    begun = time.process_time()
    for octets in hostile:
        rows = [(i, i + 1) for i in range(0, len(octets), 40)]
        read(octets, segments={0: rows}, mid=[0])
    assert time.process_time() - begun < 2


def tshark_fields(path: Path, display_filter: str, *names: str, options: Sequence[str] = ()) -> list[list[str]]:
    command = ["tshark", "-r", str(path), *options, "-Y", display_filter, "-T", "fields", "-E", "separator=\x1f"]
    done = subprocess.run(
        [*command, *(word for name in names for word in ("-e", name))], capture_output=True, check=True, text=True
    )
    return [line.split("\x1f") for line in done.stdout.splitlines()]


@needs_lab
@needs_tshark
@pytest.mark.tshark
@pytest.mark.parametrize(
    "name",
    ["05-proxy-cleartext.pcap", "05b-service-proxy.pcap", "09-anonymous-kubelet.pcap", "15b-ipv6-proxy-cleartext.pcap"],
)
def test_lab_captures_as_tshark_reads_them(name: str) -> None:
    """Every request and response of the capture, none besides; tshark reports the frame that completes a message."""
    heads = heads_of(connections(LAB / name))
    messages = read_http1(heads, np.arange(len(heads) // 2))
    rows = tshark_fields(
        LAB / name,
        "http.request or http.response",
        *("frame.number", "http.request.method", "http.request.uri", "http.host", "http.user_agent"),
        *("http.response.code", "http.authorization"),
    )
    # A body larger than the head hides what follows it in that direction.
    expected = Counter((r[1], r[2], r[3], r[4][:512], int(r[5] or 0), bool(r[6])) for r in rows)
    found = Counter((m.method, m.target, m.host, m.user_agent, m.status, bool(m.credential)) for m in messages)
    assert found == expected
    frames = sorted(int(r[0]) for r in rows)
    assert all(m.frame <= frame for m, frame in zip(sorted(messages, key=lambda m: m.frame), frames, strict=True))


@needs_lab
def test_a_token_in_clear_is_told_and_never_repeated() -> None:
    path = LAB / "09-anonymous-kubelet.pcap"
    heads = heads_of(connections(path))
    told = [m for m in read_http1(heads, np.arange(len(heads) // 2)) if m.credential]
    assert {m.credential for m in told} == {"bearer (service account default/default)"}
    assert dict(told[0].credential_facts)["sub"] == "system:serviceaccount:default:default"
    secret = heads.octets.tobytes().split(b"Authorization: Bearer ")[1].split(b"\r\n")[0].decode()
    assert len(secret) > 200
    assert not any(part in repr(told) for part in secret.split("."))


@needs_lab
def test_the_user_agents_of_the_truth_are_found_in_cut_packets_too() -> None:
    name = "20b-fmt-snaplen200"
    truth = json.loads((LAB / f"{name}.truth.json").read_text())
    clear = [c for c in truth["channels"] if c["protocol"].startswith("HTTP/1.1 cleartext") and not c["mid_connection"]]
    heads = heads_of(connections(LAB / f"{name}.pcap"))
    messages = read_http1(heads, np.arange(len(heads) // 2))
    assert len({m.flow for m in messages if m.from_client}) == sum(c["connections"] for c in clear) > 0
    assert {m.user_agent for m in messages if m.from_client} == {a for c in clear for a in c["user_agents"]}
