from __future__ import annotations

import ipaddress

import pytest

from analyzer.cluster.catalogue import channels
from analyzer.cluster.channels import assign_channels
from analyzer.cluster.roles import DeclaredRoles, assign_roles
from analyzer.pipeline import Pipeline
from tests.builders import Conversation, chunk

CONTROL_PLANE, NODES, ADMIN = "10.1.0.1", ("10.1.0.11", "10.1.0.12"), "198.51.100.7"
# TLS 1.2 records of some length: enough for identification, whatever is in them.
RECORD = b"\x17\x03\x03\x00\x40" + bytes(64)


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(address).packed


DECLARED = DeclaredRoles(
    {mapped(CONTROL_PLANE): [("control plane", "cp")]} | {mapped(n): [("node", n)] for n in NODES},
    kubelet_ports=frozenset((mapped(n), 10250) for n in NODES),
)


def ssh(client: str, server: str, *, banner: bytes = b"SSH-2.0-Go\r\n", begun: bool = True) -> Conversation:
    conversation = Conversation(client, server, sport=41000, dport=22)
    if begun:
        conversation.open().send(0, banner).send(1, b"SSH-2.0-OpenSSH_9.6\r\n")
    return conversation.send(0, b"\x8a\x11" * 40).send(1, b"\x9c\x0f" * 40)


def kubelet(client: str, server: str, sport: int = 42000) -> Conversation:
    return Conversation(client, server, sport, 10250, isn=(sport, 3 * sport)).send(0, RECORD).send(1, RECORD)


def read(conversations: list[Conversation], declared: DeclaredRoles | None = DECLARED) -> list[tuple[str, str]]:
    """(channel, reason) of each connection; all of them go on to the end of the capture."""
    for conversation in conversations * 3:
        conversation.send(0, b"\x8a\x11" * 20 if conversation.dport == 22 else RECORD)
    pipeline = Pipeline()
    pipeline.add(chunk(interleaved(conversations)))
    evidence = pipeline.evidence()
    columns = assign_channels(evidence, assign_roles(evidence, declared))
    names = [channel.id for channel in channels()]
    answers = {
        (evidence.flows.address[i].tobytes(), int(evidence.flows.port[i, 1])): (
            names[columns.channel[i]],
            columns.reasons[columns.reason[i]],
        )
        for i in range(len(evidence))
    }
    return [answers[mapped(c.client) + mapped(c.server), c.dport] for c in conversations]


def interleaved(conversations: list[Conversation]) -> list[bytes]:
    longest = max(len(c.frames) for c in conversations)
    return [c.frames[i] for i in range(longest) for c in conversations if i < len(c.frames)]


def test_one_long_connection_of_go_to_each_node() -> None:
    answers = read([ssh(CONTROL_PLANE, node) for node in NODES])

    assert [channel for channel, _ in answers] == ["ssh-tunnel"] * 2
    assert "one long connection to each of 2 nodes" in answers[0][1]


@pytest.mark.parametrize(
    ("client", "banner"),
    [
        pytest.param(CONTROL_PLANE, b"SSH-2.0-OpenSSH_9.6\r\n", id="another client"),
        pytest.param(ADMIN, b"SSH-2.0-OpenSSH_9.6\r\n", id="an administrator"),
        pytest.param(ADMIN, b"SSH-2.0-Go\r\n", id="a Go program elsewhere"),
    ],
)
def test_sessions(client: str, banner: bytes) -> None:
    assert read([ssh(client, NODES[0], banner=banner)])[0][0] == "ssh-session"


def test_whoever_dials_the_kubelet_directly_needs_no_tunnel() -> None:
    channel, reason = read([ssh(CONTROL_PLANE, NODES[0]), kubelet(CONTROL_PLANE, NODES[0])])[0]

    assert channel == "ssh-session"
    assert "directly" in reason


def test_begun_before_the_capture() -> None:
    """No banner: that it stays and that no other connection to the kubelet is seen, or one to every node."""
    alone = read([ssh(CONTROL_PLANE, NODES[0], begun=False)])
    several = read([ssh(CONTROL_PLANE, node, begun=False) for node in NODES])
    direct = read([ssh(CONTROL_PLANE, NODES[0], begun=False), kubelet(CONTROL_PLANE, NODES[0])])
    elsewhere = read([ssh(ADMIN, NODES[0], begun=False)])

    assert alone[0][0] == "ssh-tunnel"
    assert several[0] == ("ssh-tunnel", several[1][1])
    assert "as to other nodes" in several[0][1]
    assert direct[0][0] == "ssh-session"
    assert elsewhere[0][0] == "ssh-session"
    assert "begun before the capture" in elsewhere[0][1]


def test_without_an_inventory_the_nodes_are_known_by_their_kubelets() -> None:
    """The relayed connections show which hosts are nodes; the client is nobody until the tunnels say who it is."""
    tunnels = [ssh(CONTROL_PLANE, node) for node in NODES]
    relays = [kubelet(node, node, 42000 + i) for i, node in enumerate(NODES)]

    assert [channel for channel, _ in read([*tunnels, *relays], None)][:2] == ["ssh-tunnel"] * 2
    assert read([ssh(CONTROL_PLANE, NODES[0])], None)[0][0] == "ssh-session"
