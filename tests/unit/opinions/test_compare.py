"""Second opinions: they agree on the recordings, and a wrong count is caught."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analyzer.api import analyze
from analyzer.opinions.by_dpkt import dpkt_opinion
from analyzer.opinions.by_tshark import tshark_opinion
from analyzer.opinions.common import Agreement, Conversation, Opinion, conversation, merged
from analyzer.opinions.compare import compare, level_of, own_opinion, udp_tunnels
from tests.conftest import LAB, lab_captures

CUT = "20b-fmt-snaplen200.pcap"
"""Here the program reads the begin of hellos that the snap length cut, and the others read none of them."""


@cache
def audited(capture: Path) -> Any:
    return analyze(capture).document


@cache
def asked(capture: Path) -> tuple[Opinion, Opinion]:
    return tshark_opinion(str(capture), udp_tunnels(audited(capture))), dpkt_opinion(str(capture))


@pytest.mark.tshark
@pytest.mark.parametrize("capture", lab_captures(), ids=lambda p: p.name)
def test_both_agree_on_every_recording(capture: Path) -> None:
    document = audited(capture)
    tshark, dpkt = asked(capture)
    by_tshark, by_dpkt = compare(document, tshark), compare(document, dpkt)

    assert [d for d in (*by_tshark.disagreements, *by_dpkt.disagreements) if not d.reason] == []
    assert bool(by_tshark.disagreements) == bool(by_dpkt.disagreements) == (capture.name == CUT)
    rows = {row.question: row for row in by_tshark.rows}
    assert rows["frames"].agree == 1
    transports = [t for t in document["connections"]["data"]["transport"] if t in ("tcp", "udp")]
    assert rows["conversations"].agree == len(own_opinion(document).packets) <= len(transports)
    assert rows["conversations"].not_asked == 0
    hellos = sum(bool(s) for s in document["connections"]["data"]["cipher_suite"])
    assert rows["handshakes"].agree == (0 if capture.name == CUT else hellos)


def changed(capture: Path, change: Callable[[Any], object]) -> Any:
    document = json.loads(json.dumps(audited(capture)))
    change(document)
    return document


def column(name: str, value: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Change one cell: the first that is neither empty nor 0."""

    def change(document: Any) -> None:
        cells = document["connections"]["data"][name]
        row = next(row for row, cell in enumerate(cells) if cell)
        cells[row] = value(cells[row])

    return change


MUTANTS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "a packet too many": ("conversations", column("packets", lambda n: n + 1)),
    "a packet too few": ("conversations", column("packets", lambda n: n - 1)),
    "an octet too many": ("conversations", column("octets", lambda n: n + 1)),
    "another port": ("conversations", column("server_port", lambda n: n + 1)),
    "another address": ("conversations", column("client_ip", lambda _: "192.0.2.1")),
    "a frame too few": ("frames", lambda d: d["ledger"].update(frames=d["ledger"]["frames"] - 1)),
    "another TLS version": ("handshakes", column("tls_version", lambda v: "1.2" if v == "1.3" else "1.3")),
    "another cipher suite": ("handshakes", column("cipher_suite", lambda _: "TLS_RSA_WITH_NULL_SHA")),
    "another name": ("handshakes", column("sni", lambda _: "example.org")),
    "a handshake missed": ("handshakes", column("cipher_suite", lambda _: "")),
}


@pytest.mark.tshark
@pytest.mark.parametrize("mutant", MUTANTS)
def test_what_is_counted_or_read_wrongly_is_caught(mutant: str) -> None:
    question, change = MUTANTS[mutant]
    capture = LAB / "13-admission-aggregation.pcap"  # the one in which clients name the server
    document = changed(capture, change)
    for opinion in asked(capture):
        agreement = compare(document, opinion)
        assert agreement.unexplained
        assert question in {d.question for d in agreement.disagreements if not d.reason}


def opinion_of(packets: dict[Conversation, int], **cannot: int) -> Opinion:
    opinion = Opinion("other", frames=0)
    for one, number in packets.items():
        for _ in range(number):
            opinion.count(one, 100)
    opinion.cannot.update(cannot)
    return opinion


CUT_HEADER = "cut inside the TCP or UDP header"
ONE = conversation(0, "tcp", ("10.0.0.1", 1), ("10.0.0.2", 2))
OTHER = conversation(0, "udp", ("10.0.0.2", 2), ("10.0.0.1", 1))


def document_of(packets: int, not_decoded: dict[str, int]) -> Any:
    row: dict[str, Any] = {
        "encapsulation": "", "transport": "tcp", "client_ip": "10.0.0.2", "client_port": 2, "server_ip": "10.0.0.1",
        "server_port": 1, "packets": packets, "octets": 100 * packets, "tls_version": "", "cipher_suite": "", "sni": "",
        "carried_by": -1, "first_frame": 1,
    }  # fmt: skip
    return {
        "ledger": {"frames": 0, "not_decoded": not_decoded, "packets_outside_flows": {}},
        "quality": {"cut_by_snaplen": 0},
        "connections": {"data": {name: [value] for name, value in row.items()}},
    }


def test_what_a_reader_left_out_explains_as_much_and_no_more() -> None:
    def reasons(document: Any, opinion: Opinion) -> list[str]:
        return [d.reason for d in compare(document, opinion).disagreements]

    assert reasons(document_of(5, {}), opinion_of({ONE: 5})) == []
    assert reasons(document_of(3, {}), opinion_of({ONE: 5})) == [""]
    assert reasons(document_of(3, {CUT_HEADER: 1}), opinion_of({ONE: 5})) == [""]
    assert reasons(document_of(3, {CUT_HEADER: 2}), opinion_of({ONE: 5})) == [f"planewire left 2 out: {CUT_HEADER}"]
    assert reasons(document_of(5, {}), opinion_of({ONE: 4}, broken=1)) == ["other left 1 out: broken"]
    assert reasons(document_of(3, {"not IP (ARP, LLDP, STP ...)": 9}), opinion_of({ONE: 5})) == [""]
    twice = reasons(document_of(3, {CUT_HEADER: 2}), opinion_of({ONE: 5, OTHER: 1}))
    assert sorted(twice) == ["", f"planewire left 2 out: {CUT_HEADER}"]


def test_conversations_have_no_direction() -> None:
    assert conversation(0, "tcp", ("a", 1), ("b", 2)) == conversation(0, "tcp", ("b", 2), ("a", 1))
    assert (
        str(conversation(1, "tcp", ("fd00::1", 1), ("10.0.0.2", 2))) == "tcp 10.0.0.2:2 - [fd00::1]:1 inside 1 tunnel"
    )


@pytest.mark.parametrize(
    ("path", "level"), [("", 0), ("vlan:100", 0), ("vlan:1/vlan:2", 0), ("vxlan:1", 1), ("vlan:3/vxlan:1/ipip", 2)]
)
def test_tags_are_no_tunnels(path: str, level: int) -> None:
    assert level_of(path) == level


def test_comparisons_are_put_together() -> None:
    parts = [compare(document_of(5, {}), opinion_of({ONE: number})) for number in (5, 4)]
    both = merged(parts)
    assert isinstance(both, Agreement)
    assert (len(both.rows), both.unexplained) == (6, 1)
