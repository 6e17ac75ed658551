from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.late import LATE_OCTETS, LATE_REQUESTS, LATE_RESPONSES
from analyzer.pipeline import Limits, Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Protocol
from analyzer.schema import HttpMessage
from tests.builders import ACK, Conversation, chunks_cut_at, ethernet, ipv4, tcp

LIMIT = 2048
"""Octets of a head in these tests."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
TOKEN = b"Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6YTpiIn0.c2lnbmF0dXJl\r\n"


def request(target: str, fields: bytes = b"") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n".encode() + fields + b"\r\n"


def talk(
    requests: Sequence[bytes], answers: Sequence[bytes] = (), *, mss: int = 1448, sport: int = 40000
) -> Conversation:
    """A connection whose heads are full of one long exchange before `requests` are made."""
    conversation = Conversation(sport=sport, dport=8080, mss=mss).open()
    conversation.send(0, b"POST /long HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + bytes(9000))
    conversation.send(1, b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + bytes(9000))
    for number, one in enumerate(requests):
        conversation.send(0, one).send(1, answers[number] if number < len(answers) else OK)
    return conversation


def read(frames: list[bytes], cuts: Sequence[int] = (), wire_lens: list[int] | None = None) -> Evidence:
    pipeline = Pipeline(Limits(head_octets=LIMIT))
    for part in chunks_cut_at(frames, cuts, wire_lens):
        pipeline.add(part)
    return pipeline.evidence()


def late(evidence: Evidence) -> list[HttpMessage]:
    return [m for m in evidence.cleartext.http if m.from_client and m.target != "/long"]


def test_a_request_late_in_a_connection_is_read_with_its_frame_and_its_answer() -> None:
    uri = b"X-Forwarded-Uri: /api/v1/namespaces/a/pods/b/proxy/\r\n"
    conversation = talk([request("/late", uri)], [b"HTTP/1.1 403 Forbidden\r\n\r\n"])

    evidence = read(conversation.frames)

    (message,) = late(evidence)
    assert (message.target, message.forwarded_uri) == ("/late", "/api/v1/namespaces/a/pods/b/proxy/")
    assert b"GET /late" in conversation.frames[message.frame - 1]
    assert [m.status for m in evidence.responses[0]] == [200, 403]


@pytest.mark.parametrize("mss", [37, 60, 200, 1448])
def test_a_field_section_is_put_together_over_segments(mss: int) -> None:
    (message,) = late(read(talk([request("/a", TOKEN)], mss=mss).frames))

    assert message.credential == "bearer (service account a/b)"


def test_a_continuation_is_found_by_its_number_not_by_its_place() -> None:
    conversation = talk([request("/a", TOKEN)], mss=100)
    first = next(i for i, frame in enumerate(conversation.frames) if b"GET /a " in frame)
    following = [i for i in range(first + 1, len(conversation.frames)) if len(conversation.frames[i]) > 60][:1]
    # The first segment once more, then another's, then the rest.
    repeated = [*conversation.frames[: first + 1], conversation.frames[first], *conversation.frames[following[0] :]]

    (message,) = late(read(repeated))

    assert message.credential == "bearer (service account a/b)"


def test_repeats_take_no_room_and_distinct_ones_are_bounded() -> None:
    probes = read(talk([request("/healthz")] * 500 + [request("/last")]).frames)
    many = read(talk([request(f"/{i}") for i in range(LATE_REQUESTS + 5)]).frames)

    assert [m.target for m in late(probes)] == ["/healthz", "/last"]
    assert not probes.crowded.any()
    assert [m.target for m in late(many)] == [f"/{i}" for i in range(LATE_REQUESTS)]
    assert many.crowded.tolist() == [True]


def test_status_lines_are_bounded_too() -> None:
    answers = [f"HTTP/1.1 {400 + i} x\r\nDate: {i}\r\n\r\n".encode() for i in range(LATE_RESPONSES + 1)]
    evidence = read(talk([request("/")] * len(answers), answers).frames)

    assert len(evidence.responses[0]) == 1 + LATE_RESPONSES
    assert evidence.crowded.tolist() == [True]


def test_a_message_without_end_is_cut_at_the_limit() -> None:
    endless = b"GET /a HTTP/1.1\r\nX-Forwarded-Uri: /u\r\nX: " + b"x" * (3 * LATE_OCTETS)

    (message,) = late(read(talk([endless]).frames))

    assert message.forwarded_uri == "/u"


def test_what_the_snap_length_cut_off_is_not_guessed() -> None:
    frames = talk([request("/a", b"X-Forwarded-Uri: /u\r\n" + TOKEN)]).frames
    wire_lens = [len(f) for f in frames]
    cut = [f[:110] if b"GET /a " in f else f for f in frames]

    (message,) = late(read(cut, wire_lens=wire_lens))

    assert message.forwarded_uri == "/u"
    assert message.credential == ""


def test_nothing_is_http_behind_a_switch_or_in_another_protocol() -> None:
    switched = Conversation(dport=8080).open().send(0, request("/exec", b"Upgrade: x\r\nConnection: Upgrade\r\n"))
    switched.send(1, b"HTTP/1.1 101 Switching Protocols\r\n\r\n").send(0, bytes(4000)).send(0, request("/inside"))
    ssh = Conversation(dport=22).open().send(0, b"SSH-2.0-Go\r\n").send(1, b"SSH-2.0-x\r\n").send(0, bytes(4000))
    ssh.send(0, request("/inside"))

    assert [m.target for m in late(read(switched.frames))] == ["/exec"]
    evidence = read(ssh.frames)
    assert evidence.identification.protocol.tolist() == [Protocol.SSH]
    assert not evidence.cleartext.http


def test_behind_a_gap_in_the_head() -> None:
    conversation = Conversation(dport=8080, mss=400).open()
    conversation.send(0, request("/first")).send(0, b"POST /x HTTP/1.1\r\nContent-Length: 900\r\n\r\n" + bytes(300))
    del conversation.frames[-1]
    conversation.send(0, request("/behind")).send(1, OK)

    evidence = read(conversation.frames)

    assert [m.target for m in late(evidence)] == ["/first", "/behind"]
    assert evidence.gap.tolist() == [True]


def test_sequence_numbers_that_have_gone_round() -> None:
    frames = [*talk([]).frames]
    far = 1001 + (1 << 31) + 5
    frames.append(ethernet(ipv4(tcp(request("/far"), 40000, 8080, far & 0xFFFFFFFF, 1, ACK))))

    assert [m.target for m in late(read(frames))] == ["/far"]


@given(st.data())
def test_any_chunking_gives_the_same_messages(data: st.DataObject) -> None:
    requests = data.draw(
        st.lists(st.sampled_from([request("/a"), request("/b", TOKEN), request("/c", b"X: y\r\n" * 60)]), max_size=6)
    )
    frames = talk(requests, mss=data.draw(st.sampled_from([90, 300, 1448]))).frames
    cuts = data.draw(st.lists(st.integers(1, len(frames) - 1), max_size=5))

    assert read(frames, cuts).cleartext == read(frames).cleartext


@given(st.binary(max_size=80), st.integers(0, 90))
def test_no_octets_raise(octets: bytes, cut: int) -> None:
    message = (b"GET /a HTTP/1.1\r\n" + octets)[:cut]
    read(talk([message, b"HTTP/1.1 " + octets, b"PUT " + octets]).frames)


def test_many_connections_in_one_chunk() -> None:
    frames = [frame for i in range(20) for frame in talk([request(f"/{i}")], sport=40000 + i).frames]

    evidence = read(frames)

    assert [(m.flow, m.target) for m in late(evidence)] == [(i, f"/{i}") for i in range(20)]


@pytest.mark.parametrize("mss", [60, 1448])
def test_what_was_seen_of_a_connection_is_known_when_others_are_forgotten(mss: int) -> None:
    """A request repeated is still a repeat, one under way goes on, and the flows' numbers moved."""
    first = Conversation(sport=39999).open().close().close(1)
    talked = talk([request("/again"), request("/again"), request("/long-way", TOKEN)], mss=mss)
    frames = [*first.frames, *talked.frames]
    begun = max(i for i, frame in enumerate(frames) if b"GET /" in frame) + 1
    repeat = next(i for i, frame in enumerate(frames) if b"GET /again" in frame) + 1
    expected = [(m.target, m.credential) for m in late(read(frames))]

    for cut in (repeat, begun):
        pipeline = Pipeline(Limits(head_octets=LIMIT))
        before, after = chunks_cut_at(frames, [cut])
        pipeline.add(before)
        pipeline.keep(np.array([1]), np.array([-1, 1]))
        pipeline.add(after)
        assert [(m.target, m.credential) for m in late(pipeline.evidence())] == expected
