"""Connections inside CONNECT, behind an upgrade, and in konnectivity's tunnels, through the whole pipeline."""

from __future__ import annotations

import re
import ssl
import subprocess

import hpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.analysis import ClusterContext, conclude, run
from analyzer.capture.source import open_capture
from analyzer.cluster.roles import address_text
from analyzer.pipeline import Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.registries import Encryption, Protocol, Ternary
from analyzer.report.document import build_document
from tests.builders import CLIENT, SERVER, Conversation, chunk
from tests.conftest import SHARED
from tests.konnectivity_builder import (
    PREFACE,
    SETTINGS,
    close_request,
    data,
    dial_request,
    dial_response,
    frame,
    tunnel,
)

GET = b"GET /pods HTTP/1.1\r\nHost: x\r\nX-Forwarded-Uri: /api/v1/nodes/n:80/proxy/\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
AGENT, PROXY = "/AgentService/Connect", "/ProxyService/Proxy"


def hello() -> bytes:
    """A ClientHello of this interpreter's OpenSSL."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="kubelet.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def connect(target: str, sent: bytes, received: bytes, *, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Conversation:
    conversation = Conversation(dport=8131).open()
    conversation.send(0, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()).send(1, answer)
    return conversation.send(0, sent).send(1, received)


def read(conversation: Conversation, cuts: list[int] | None = None) -> Evidence:
    pipeline = Pipeline()
    for rows in np.split(np.arange(len(conversation.frames)), sorted(set(cuts or []))):
        if rows.shape[0]:
            pipeline.add(chunk([conversation.frames[i] for i in rows], first_frame=int(rows[0]) + 1))
    assert pipeline.ledger.balanced
    assert pipeline.ledger.in_flows == len(conversation.frames)
    return pipeline.evidence()


def ends(evidence: Evidence) -> list[tuple[str, int, str, int, str]]:
    """(client, port, server, port, path) of the connections found inside."""
    flows = evidence.flows
    return [
        (
            address_text(flows.address[row, 0]),
            int(flows.port[row, 0]),
            address_text(flows.address[row, 1]),
            int(flows.port[row, 1]),
            evidence.paths[flows.encapsulation[row]],
        )
        for row in np.flatnonzero(evidence.carrier >= 0).tolist()
    ]


def test_what_follows_connect_is_a_connection_of_its_own() -> None:
    evidence = read(connect("10.1.0.11:10255", GET, OK))

    assert ends(evidence) == [(CLIENT, 40000, "10.1.0.11", 10255, "connect")]
    assert evidence.identification.protocol.tolist() == [Protocol.HTTP1, Protocol.HTTP1]
    assert [m.target for m in evidence.requests[0]] == ["10.1.0.11:10255"]
    assert [(m.target, m.forwarded_uri) for m in evidence.requests[1]] == [("/pods", "/api/v1/nodes/n:80/proxy/")]
    # Its packets are counted once, where they were captured.
    assert evidence.flows.packets[1].tolist() == [0, 0]
    assert evidence.flows.payload_octets[1].tolist() == [len(GET), len(OK)]
    assert not evidence.mid_connection.any()


def test_tls_inside_is_read_as_tls() -> None:
    evidence = read(connect("10.1.0.11:10250", hello(), b""))

    assert evidence.identification.protocol.tolist() == [Protocol.HTTP1, Protocol.TLS]
    assert evidence.tls_text("sni") == ["", "kubelet.example"]
    assert evidence.tls.facts.client_hello_frame.tolist()[0] > 4


def test_the_document_holds_both_and_counts_packets_once() -> None:
    pipeline = Pipeline()
    pipeline.add(chunk(connect("10.1.0.11:10250", GET, OK).frames))
    document = build_document(conclude(pipeline.evidence(), pipeline.ledger, [], ClusterContext()))
    columns = document["connections"]["data"]

    assert columns["encapsulation"] == ["", "connect"]
    assert sum(columns["packets"]) == document["ledger"]["packets_in_flows"]
    assert columns["encryption"] == ["cleartext", "cleartext"]
    assert columns["carried_by"] == [-1, 0]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 503 No agent\r\n\r\n", b"HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n", b""]
)
def test_a_connect_that_was_not_granted_carries_nothing(answer: bytes) -> None:
    assert ends(read(connect("10.1.0.11:10250", hello(), b"", answer=answer))) == []


def test_names_have_no_address() -> None:
    assert ends(read(connect("kubelet.example:10250", GET, OK)))[0][2:] == ("::", 10250, "connect")
    assert ends(read(connect("[fd00::b]:10250", GET, OK)))[0][2:4] == ("fd00::b", 10250)


def konnectivity(path: str, *, size: int = 1 << 14, mss: int = 1448) -> Conversation:
    """Two connections side by side and one that fails; an agent is told to dial, a proxy server is asked to."""
    asked = [
        dial_request("10.1.0.11:10255", 71),
        dial_request("10.1.0.99:80", 72),
        dial_request("10.9.1.5:8080", 73),
        data(5, GET[:20]),
        data(6, GET.replace(b"/pods", b"/other")),
        data(5, GET[20:]),
        close_request(5),
    ]
    answered = [
        dial_response(72, 0, "connection refused"),
        dial_response(73, 6),
        dial_response(71, 5),
        data(6, OK),
        data(5, OK.replace(b"200", b"403")),
    ]
    by_client = path == PROXY
    to_server, to_client = (asked, answered) if by_client else (answered, asked)
    client, server = tunnel(path, to_server, to_client, size=size)
    return Conversation(dport=8091, mss=mss).open().send(0, client).send(1, server)


@pytest.mark.parametrize("size", [3, 40, 1 << 14])
@pytest.mark.parametrize("path", [AGENT, PROXY])
def test_connections_in_a_tunnel_are_told_apart(path: str, size: int) -> None:
    evidence = read(konnectivity(path, size=size))
    dialler = (CLIENT, 40000) if path == PROXY else (SERVER, 0)

    assert ends(evidence) == [
        (*dialler, "10.1.0.11", 10255, "konnectivity"),
        (*dialler, "10.1.0.99", 80, "konnectivity"),
        (*dialler, "10.9.1.5", 8080, "konnectivity"),
    ]
    assert [[m.target for m in evidence.requests.get(row, [])] for row in (1, 2, 3)] == [["/pods"], [], ["/other"]]
    assert [[m.status for m in evidence.responses.get(row, [])] for row in (1, 2, 3)] == [[403], [], [200]]
    assert evidence.identification.protocol.tolist()[2] == Protocol.NO_DATA


@given(st.lists(st.integers(1, 30), max_size=5), st.sampled_from([60, 200, 1448]))
def test_any_chunking_gives_the_same_connections(cuts: list[int], mss: int) -> None:
    conversation = konnectivity(AGENT, mss=mss)
    cuts = [cut for cut in cuts if cut < len(conversation.frames)]
    whole, cut = read(conversation), read(conversation, cuts)

    assert ends(cut) == ends(whole)
    assert cut.cleartext == whole.cleartext
    assert cut.flows.first_frame.tolist() == whole.flows.first_frame.tolist()


@given(st.sampled_from([AGENT, PROXY]), st.integers(0, 700), st.binary(max_size=60), st.booleans())
def test_cut_or_broken_tunnels_never_raise(path: str, at: int, noise: bytes, from_server: bool) -> None:
    directions = tunnel(path, [dial_request("10.1.0.11:80", 7), data(1, GET)], [dial_response(7, 1), data(1, OK)])
    directions[from_server] = directions[from_server][:at] + noise
    evidence = read(Conversation(dport=8091).open().send(0, directions[0]).send(1, directions[1]))

    for row in np.flatnonzero(evidence.carrier >= 0):
        assert evidence.flows.payload_octets[row].sum() <= sum(map(len, directions))


def test_an_upgrade_to_http2_goes_on_as_the_same_connection() -> None:
    request = hpack.Encoder().encode([(":method", "GET"), (":path", "/second"), (":scheme", "http")])
    conversation = Conversation(dport=8080).open()
    conversation.send(
        0,
        b"GET /first HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABk\r\n\r\n",
    )
    conversation.send(1, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + SETTINGS)
    conversation.send(0, PREFACE + SETTINGS + frame(1, 4, 3, request))
    evidence = read(conversation)

    assert [(m.version, m.target) for m in evidence.requests[0]] == [("1.1", "/first"), ("2", "/second")]
    assert not (evidence.carrier >= 0).any()


def test_inside_an_opened_tunnel_nothing_is_called_readable_on_the_wire() -> None:
    """The lab's recording of CONNECT over TLS: its kubelet connections are TLS in TLS, the pod's is HTTP in TLS."""
    name = "07b-konnectivity-httpconnect-cp-any"
    keys = SHARED / "k8s" / "keylogs" / f"{name}.keys.log"
    if not keys.is_file():
        pytest.skip("the recording is not beside this checkout")
    with open_capture(str(SHARED / "k8s" / f"{name}.pcap")) as reader:
        audit = run(reader, keys=KeyLog(keys.read_bytes())).audit
    evidence = audit.evidence
    rows = np.flatnonzero(evidence.carrier >= 0)

    assert [(server, port) for _, _, server, port, _ in ends(evidence)] == [
        *[("10.0.0.11", 10250)] * 3,
        ("10.244.1.38", 8080),
    ]
    assert evidence.identification.protocol[rows].tolist() == [*[Protocol.TLS] * 3, Protocol.HTTP1]
    assert (audit.verdicts.encryption.value[rows] == Encryption.ENCRYPTED).all()
    assert evidence.tls_is("client_certificate", Ternary.YES)[rows].tolist() == [True, True, True, False]


@pytest.mark.tshark
def test_the_dials_of_an_opened_tunnel_are_those_tshark_shows() -> None:
    """tshark decrypts the same tunnel; a request to dial holds the protocol and the address in clear."""
    name = "07-konnectivity-grpc-uds"
    capture, keys = SHARED / "k8s" / f"{name}.pcap", SHARED / "k8s" / "keylogs" / f"{name}.keys.log"
    if not keys.is_file():
        pytest.skip("the recording is not beside this checkout")
    command = ["tshark", "-r", str(capture), "-o", f"tls.keylog_file:{keys}", "-d", "tcp.port==8132,tls"]
    command += ["-Y", "http2.data.data && tcp.srcport == 8132", "-T", "fields"]
    done = subprocess.run(
        [*command, "-e", "frame.number", "-e", "http2.data.data"], capture_output=True, check=True, text=True
    )
    expected = []
    for line in done.stdout.splitlines():
        frame_number, data_hex = line.split("\t")
        octets = bytes.fromhex(data_hex.replace(":", "").replace(",", ""))
        expected += [
            (int(frame_number), m[1].decode()) for m in re.finditer(rb"\x0a\x03tcp\x12.([0-9.]+:[0-9]+)", octets)
        ]
    with open_capture(str(capture)) as reader:
        evidence = run(reader, keys=KeyLog(keys.read_bytes())).audit.evidence
    frames = evidence.flows.first_frame[evidence.carrier >= 0].tolist()

    assert [
        (f, f"{server}:{port}") for f, (_, _, server, port, _) in zip(frames, ends(evidence), strict=True)
    ] == expected
    assert len(expected) == 5
