"""Connections that look like the control plane's and are not, and the other way round."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from analyzer.cluster.catalogue import channels
from analyzer.cluster.channels import assign_channels
from analyzer.cluster.roles import CONTROL_PLANE, DeclaredRoles, Roles, assign_roles
from analyzer.pipeline import Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Protocol
from tests.builders import FIN, Conversation, chunk, ethernet, frames_of, ipv4, tcp

CP, NODE, POD, OTHER_POD, OVERLAY = "10.1.0.1", "10.1.0.11", "10.9.1.5", "10.9.2.6", "10.9.0.0"
RECORD = b"\x17\x03\x03\x00\x40" + bytes(64)


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(address).packed


DECLARED = DeclaredRoles(
    {
        mapped(CP): [("control plane", "cp")],
        mapped(NODE): [("node", "n")],
        mapped(POD): [("pod", "a/b")],
        mapped(OTHER_POD): [("pod", "a/c")],
    },
    apiservers=frozenset({(mapped(CP), 6443)}),
    kubelet_ports=frozenset({(mapped(NODE), 10250)}),
    pod_networks=(ipaddress.ip_network("10.9.0.0/16"),),
)


def read(frames: list[bytes], declared: DeclaredRoles | None = DECLARED) -> tuple[list[str], Evidence, Roles]:
    pipeline = Pipeline()
    pipeline.add(chunk(frames))
    evidence = pipeline.evidence()
    roles = assign_roles(evidence, declared)
    names = [channel.id for channel in channels()]
    return [names[row] for row in assign_channels(evidence, roles).channel.tolist()], evidence, roles


def talk(client: str, server: str, port: int, sent: bytes, answer: bytes = b"") -> Conversation:
    conversation = Conversation(client, server, dport=port).open().send(0, sent)
    return conversation.send(1, answer) if answer else conversation


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            b"X-Forwarded-Uri: /api/v1/namespaces/a/pods/b/proxy/\r\n", "apiserver-to-pod-proxy", id="proxied"
        ),
        pytest.param(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", "apiserver-to-pod-proxy", id="upgrade"),
        pytest.param(b"", "workload", id="a scrape from the control plane's host"),
    ],
)
def test_a_request_of_the_control_plane_without_the_proxys_header_is_not_the_proxys(
    fields: bytes, expected: str
) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"

    assert read(frames_of([talk(CP, POD, 8080, request)]))[0] == [expected]


@pytest.mark.parametrize("port", [10250, 6443, 2379])
def test_a_pod_behind_a_port_of_the_control_plane_is_a_workload(port: int) -> None:
    """metrics-server listens on 10250, nested control planes on 6443, an application's own etcd on 2379."""
    answer, _, roles = read(frames_of([talk(OTHER_POD, POD, port, RECORD, RECORD)]))

    assert answer == ["workload"]
    assert not roles.member["node"][roles.server].any()


def test_couchbase_is_no_konnectivity_server() -> None:
    request = b"GET /pools HTTP/1.1\r\nHost: x\r\n\r\n"
    answer, _, roles = read(frames_of([talk("10.2.0.1", "10.2.0.2", 8091, request)]), None)

    assert answer == ["workload"]
    assert not roles.member[CONTROL_PLANE].any()


def test_the_end_of_a_connection_from_an_address_no_pod_has_tells_nothing() -> None:
    """A host's own end of the overlay lies in the pod network too."""

    def last_words(client: str) -> list[bytes]:
        return [ethernet(ipv4(tcp(b"", 45544, 8080, 7, 7, FIN | 16), client, POD))]

    assert read(last_words(OVERLAY))[0] == ["unknown"]
    assert read(last_words(OTHER_POD))[0] == ["workload"]


def test_what_a_node_keeps_open_to_the_control_plane_is_no_workload() -> None:
    frames = Conversation(NODE, CP, dport=20443).send(0, RECORD).send(1, RECORD).frames

    assert read(frames)[0] == ["unknown"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/metrics/cadvisor", "kubelet-readonly"), ("/stats/summary?only_cpu=1", "kubelet-readonly"), ("/", "workload")],
)
def test_kubelet_paths_in_clear_name_a_read_only_port_wherever_it_is(target: str, expected: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    assert read(frames_of([talk(OTHER_POD, "10.2.0.9", 11255, request)]), None)[0] == [expected]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n\r\n", id="SIP"),
        pytest.param(b"GET key\r\n", id="Redis"),
        pytest.param(b"OPTIONS rtsp://x/ RTSP/1.0\r\nCSeq: 1\r\n\r\n", id="RTSP"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_commands_of_other_protocols_are_not_http(sent: bytes, late: bool) -> None:
    conversation = talk("10.2.0.1", "10.2.0.2", 9000, b"\x01\x02binary" if late else sent)
    if late:
        conversation.send(0, sent)
    _, evidence, _ = read(conversation.frames, None)

    assert evidence.identification.protocol.tolist() == [Protocol.UNKNOWN]


def test_a_request_line_that_is_cut_is_still_http() -> None:
    _, evidence, _ = read(talk("10.2.0.1", "10.2.0.2", 9000, b"GET /a/long/target/that/goes/on").frames, None)

    assert evidence.identification.protocol.tolist() == [Protocol.HTTP1]


def test_hosts_of_the_control_plane_among_themselves_are_not_the_proxy() -> None:
    """Two control-plane nodes: a supervisor's port, and the API server and kubelet of the other."""
    second = "10.1.0.2"
    declared = replace(
        DECLARED,
        roles={**DECLARED.roles, mapped(second): [("node", "cp2"), ("control plane", "cp2")]},
        apiservers=frozenset({(mapped(CP), 6443), (mapped(second), 6443)}),
        kubelet_ports=frozenset({(mapped(NODE), 10250), (mapped(second), 10250)}),
    )
    ports = (9345, 6443, 10250)
    answers = [read(talk(CP, second, port, RECORD, RECORD).frames, declared)[0][0] for port in ports]

    assert answers == ["unknown", "controlplane-to-apiserver", "apiserver-to-kubelet"]
