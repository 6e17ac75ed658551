"""TCP as it happens: what every oddity of the wire becomes in connections, messages and notes.

Frames are built as a capture would hold them and go the whole way to the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from analyzer.analysis import ClusterContext, conclude, run
from analyzer.capture.source import open_capture
from analyzer.pipeline import Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.registries import InitiatorSource
from analyzer.report.audit_result import CaptureSummary
from analyzer.report.document import build_document
from tests.builders import ACK, CLIENT, FIN, PSH, RST, SERVER, SYN, Conversation, chunk, ethernet, ipv4, tcp
from tests.conftest import SHARED

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: api\r\nUser-Agent: probe\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ISN = (1000, 5000)
SECOND = 1_000_000_000


def read(
    frames: Sequence[bytes], gap_ns: int = 1_000_000, wire_lens: Sequence[int] | None = None
) -> tuple[Evidence, dict[str, Any]]:
    """Evidence and document of a capture of these frames."""
    pipeline = Pipeline()
    times = [10**18 + i * gap_ns for i in range(len(frames))]
    pipeline.add(chunk(frames, times_ns=times, wire_lens=wire_lens))
    evidence = pipeline.evidence()
    summary = CaptureSummary("x", "pcap", 0, pipeline.ledger.frames, pipeline.first_ns, pipeline.last_ns)
    result = conclude(evidence, pipeline.ledger, [summary], ClusterContext())
    assert result.ledger.balanced
    return evidence, build_document(result)


def messages(evidence: Evidence) -> list[tuple[bool, str, int]]:
    return [(m.from_client, m.target, m.status) for m in evidence.cleartext.http]


BOTH = [(True, "/healthz", 0), (False, "", 200)]


def segment(side: int, at: int, payload: bytes, flags: int = ACK | PSH, isn: tuple[int, int] = ISN) -> bytes:
    """`payload` from octet `at` of a side's stream."""
    ends = ((CLIENT, 40000), (SERVER, 6443))
    (src, sport), (dst, dport) = ends[side], ends[1 - side]
    return ethernet(ipv4(tcp(payload, sport, dport, isn[side] + 1 + at, isn[1 - side] + 1, flags), src, dst))


def opened(isn: tuple[int, int] = ISN) -> list[bytes]:
    return Conversation(isn=isn).open().frames


def test_exact_retransmissions_are_read_once_and_counted_each_time() -> None:
    ask, answer = segment(0, 0, REQUEST), segment(1, 0, ANSWER)

    evidence, _ = read([*opened(), ask, ask, answer, answer, ask])

    assert messages(evidence) == BOTH
    assert evidence.flows.packets.tolist() == [[2 + 3, 1 + 2]]
    assert evidence.flows.payload_octets.tolist() == [[3 * len(REQUEST), 2 * len(ANSWER)]]
    assert not evidence.conflict.any()


def test_a_retransmission_that_reaches_further_adds_only_what_is_new() -> None:
    evidence, _ = read([*opened(), segment(0, 0, REQUEST[:20]), segment(0, 0, REQUEST), segment(1, 0, ANSWER)])

    assert messages(evidence) == BOTH
    assert not evidence.conflict.any()


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_reordered_segments_are_put_in_order(order: tuple[int, int, int]) -> None:
    parts = [segment(0, at, REQUEST[at : at + 20]) for at in range(0, 60, 20)]

    evidence, _ = read([*opened(), *(parts[i] for i in order), segment(1, 0, ANSWER)])

    assert messages(evidence) == BOTH


def test_different_octets_for_one_place_are_said_and_the_first_copy_wins() -> None:
    forged = REQUEST.replace(b"healthz", b"secrets")

    evidence, document = read([*opened(), segment(0, 0, REQUEST), segment(0, 0, forged), segment(1, 0, ANSWER)])

    assert messages(evidence) == BOTH
    assert evidence.conflict.tolist() == [True]
    assert any("different octets for one place" in note for note in document["quality"]["notes"])
    assert [s["connections"] for s in document["quality"]["shares"] if s["name"] == "conflicting"] == [1]


def test_a_gap_is_said_and_nothing_is_invented() -> None:
    evidence, document = read([*opened(), segment(0, 0, REQUEST[:20]), segment(0, 30, REQUEST[30:])])

    assert messages(evidence) == []
    assert evidence.gap.tolist() == [True]
    assert any("gaps" in note for note in document["quality"]["notes"])


def test_keep_alives_change_nothing() -> None:
    """RFC 9293 3.8.4: one garbage octet, or none, before what the peer expects."""
    probe = segment(0, -1, b"\0", ACK)

    evidence, _ = read(
        [*opened(), probe, segment(0, 0, REQUEST), segment(1, 0, ANSWER), segment(0, len(REQUEST) - 1, b"\0", ACK)]
    )

    assert messages(evidence) == BOTH
    assert evidence.from_start.tolist() == [[True, True]]


@pytest.mark.parametrize("total", [None, 0], ids=["total length", "total length 0"])
def test_super_segments_are_read_whole(total: int | None) -> None:
    """What TSO hands to the card before it is cut: 60 KB in one packet, Total Length filled in or left 0."""
    body = b"x" * 60_000
    ask = b"POST /api/v1/pods HTTP/1.1\r\nHost: api\r\nContent-Length: 60000\r\n\r\n" + body
    big = ethernet(ipv4(tcp(ask, 40000, 6443, ISN[0] + 1, ISN[1] + 1, ACK | PSH), total=total))

    evidence, _ = read([*opened(), big, segment(1, 0, ANSWER)])

    assert messages(evidence) == [(True, "/api/v1/pods", 0), (False, "", 200)]
    assert evidence.flows.payload_octets[0, 0] == len(ask)
    assert not evidence.gap.any()


def test_simultaneous_open_is_one_connection() -> None:
    frames = [
        segment(0, -1, b"", SYN),
        segment(1, -1, b"", SYN),
        segment(0, -1, b"", SYN | ACK),
        segment(1, -1, b"", SYN | ACK),
    ]

    evidence, _ = read([*frames, segment(0, 0, REQUEST), segment(1, 0, ANSWER)])

    assert len(evidence) == 1
    assert messages(evidence) == BOTH


@pytest.mark.parametrize("end", [FIN | ACK, RST, None], ids=["FIN", "RST", "idle"])
def test_a_reused_port_is_another_connection(end: int | None) -> None:
    first = [*opened(), segment(0, 0, REQUEST), segment(1, 0, ANSWER)]
    if end is not None:
        first += [segment(0, len(REQUEST), b"", end), segment(1, len(ANSWER), b"", end)]
    isn = (900_000, 700_000)
    again = [*opened(isn), segment(0, 0, REQUEST, isn=isn), segment(1, 0, ANSWER, isn=isn)]

    evidence, _ = read([*first, *again], gap_ns=60 * SECOND)

    assert evidence.flows.packets.tolist() == [[3 + (end is not None), 2 + (end is not None)], [3, 2]]
    assert messages(evidence) == BOTH * 2


def test_a_retransmitted_syn_is_no_other_connection() -> None:
    syn = opened()[0]

    evidence, _ = read([syn, syn, *opened(), segment(0, 0, REQUEST), segment(1, 0, ANSWER)], gap_ns=SECOND)

    assert len(evidence) == 1
    assert messages(evidence) == BOTH


@pytest.mark.parametrize("side", [0, 1])
def test_a_direction_alone_is_read_and_said(side: int) -> None:
    frames = [*opened(), segment(0, 0, REQUEST), segment(1, 0, ANSWER), segment(0, len(REQUEST), b"", FIN | ACK)]
    mine = [frame for frame in frames if (frame[26:30] == bytes([10, 0, 0, 10])) == (side == 0)]

    evidence, document = read(mine)

    assert messages(evidence) == [BOTH[side]]
    assert evidence.flows.port.tolist() == [[40000, 6443]]
    assert document["quality"]["one_sided"] == 1
    how = InitiatorSource.SYN if side == 0 else InitiatorSource.SYN_ACK
    assert evidence.flows.initiator.tolist() == [how]


def test_a_refused_connection_has_no_data() -> None:
    evidence, document = read([opened()[0], segment(1, -1, b"", RST | ACK)])

    assert document["connections"]["data"]["protocol"] == ["no data"]
    assert evidence.flows.flags.tolist() == [[SYN, RST | ACK]]


def test_joined_in_the_middle() -> None:
    late = len(REQUEST) * 10
    evidence, document = read([segment(0, late, REQUEST), segment(1, 70, ANSWER)])

    assert messages(evidence) == BOTH
    assert evidence.from_start.tolist() == [[False, False]]
    assert document["quality"]["mid_connection"] == 1
    assert evidence.flows.initiator.tolist() == [InitiatorSource.CONTENT]


@pytest.mark.parametrize("before", range(0, 60, 7))
def test_sequence_numbers_wrap_anywhere(before: int) -> None:
    isn = (2**32 - 1 - before, 2**32 - 1 - before // 2)
    parts = [segment(0, at, REQUEST[at : at + 9], isn=isn) for at in range(0, len(REQUEST), 9)]

    evidence, _ = read([*opened(isn), *reversed(parts), segment(1, 0, ANSWER, isn=isn)])

    assert messages(evidence) == BOTH
    assert not evidence.gap.any()


def test_data_in_the_syn() -> None:
    """TCP Fast Open (RFC 7413): the first octet of the stream comes with the SYN."""
    frames = [segment(0, -1, REQUEST[:10], SYN), *opened()[1:], segment(0, 10, REQUEST[10:]), segment(1, 0, ANSWER)]

    evidence, _ = read(frames)

    assert messages(evidence) == BOTH
    assert not evidence.gap.any()


def test_an_octet_past_the_window_is_not_the_stream() -> None:
    evidence, _ = read(
        [*opened(), segment(0, 10**9, b"POST /forged HTTP/1.1\r\n\r\n"), segment(0, 0, REQUEST), segment(1, 0, ANSWER)]
    )

    assert (True, "/healthz", 0) in messages(evidence)


REAL = {
    # capture: what it shows, its connections, requests read, connections with gaps
    "zeek/Traces/tcp/handshake-reorder.pcap": "the answer before the SYN",
    "zeek/Traces/tcp/retransmit-fast009.pcap": "fast retransmissions",
    "zeek/Traces/tcp/retransmit-timeout.pcapng": "retransmissions after a timeout",
    "zeek/Traces/tcp/fin_retransmission.pcap": "a FIN sent again",
    "zeek/Traces/tcp/rst-inject-rae.pcap": "an injected RST",
}


@pytest.mark.corpus
@pytest.mark.parametrize("name", REAL)
def test_real_captures_end_in_one_connection(name: str) -> None:
    with open_capture(str(SHARED / "public" / name)) as reader:
        result = run(reader)
    flows = result.audit.evidence.flows

    assert int((flows.protocol == 6).sum()) == 1, REAL[name]
    assert not result.audit.evidence.conflict.any()
    if "handshake-reorder" in name:
        assert np.isin(flows.initiator, [InitiatorSource.SYN, InitiatorSource.SYN_ACK]).all()
