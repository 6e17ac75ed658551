from __future__ import annotations

import ipaddress

import numpy as np
import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.cluster.channels import assign_channels
from analyzer.cluster.konnectivity import KonnectivityFacts, konnectivity_facts
from analyzer.cluster.roles import DeclaredRoles, Roles, address_text, assign_roles
from analyzer.pipeline import Pipeline
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.user_files import load_cluster
from tests.builders import ACK, RST, SYN, Conversation, chunk, ethernet, frames_of, ipv4, tcp
from tests.conftest import SHARED

SERVER, NODES = "10.1.0.1", ("10.1.0.11", "10.1.0.12", "10.1.0.13")
RECORD = b"\x17\x03\x03\x00\x22" + bytes(34)


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(address).packed


DECLARED = DeclaredRoles(
    {mapped(SERVER): [("control plane", "cp")]} | {mapped(n): [("node", f"n{i}")] for i, n in enumerate(NODES)},
    kubelet_ports=frozenset((mapped(n), 10250) for n in NODES),
    konnectivity_agents=frozenset({(mapped(SERVER), 8132)}),
)


def facts(frames: list[bytes]) -> tuple[KonnectivityFacts, Roles]:
    pipeline = Pipeline()
    pipeline.add(chunk(frames))
    evidence = pipeline.evidence()
    roles = assign_roles(evidence, DECLARED)
    return konnectivity_facts(evidence, roles, assign_channels(evidence, roles)), roles


def agent(node: str, sport: int, records: int = 1, *, opened: bool = True, closed: bool = False) -> list[bytes]:
    conversation = Conversation(node, SERVER, sport, 8132, isn=(sport, sport * 3))
    if opened:
        conversation.open()
    conversation.send(0, RECORD * records).send(1, RECORD * records)
    return (conversation.close(0).close(1) if closed else conversation).frames


def refused(node: str, sport: int) -> list[bytes]:
    return [
        ethernet(ipv4(tcp(b"", sport, 8132, 9 * sport, 0, SYN), node, SERVER)),
        ethernet(ipv4(tcp(b"", 8132, sport, 0, 9 * sport + 1, RST | ACK), SERVER, node)),
    ]


def test_agents_reconnects_attempts_and_nodes_without() -> None:
    frames = agent(NODES[0], 41000, closed=True) + refused(NODES[0], 41001) + agent(NODES[0], 41002)
    frames += agent(NODES[1], 42000, opened=False) + refused(NODES[2], 43000)
    found, roles = facts(frames)

    assert [address_text(roles.addresses[a.address]) for a in found.agents] == list(NODES)
    assert [(a.connections, a.refused, a.reconnects, a.open_at_end) for a in found.agents] == [
        (2, 1, 1, 1),
        (1, 0, 0, 1),
        (0, 1, 0, 0),
    ]
    assert [address_text(roles.addresses[row]) for row in found.nodes_without] == [NODES[2]]
    assert found.agents[0].octets_to_agent == found.agents[0].octets_from_agent == 2 * len(RECORD)


def test_sizes_tell_a_tunnel_in_use_from_keep_alives() -> None:
    idle, _ = facts(agent(NODES[0], 41000, 5, opened=False))
    used, _ = facts(agent(NODES[0], 41000, 500, opened=False))

    assert [a.in_use for a in idle.agents + used.agents] == [False, True]


def test_through_and_around() -> None:
    """Agents dial kubelets for the API server; what it dials itself goes around."""
    frames = agent(NODES[0], 41000)
    around = Conversation(SERVER, NODES[1], 50000, 10250).send(0, RECORD).send(1, RECORD)
    through = Conversation(NODES[0], NODES[0], 50001, 10250, isn=(7, 9)).send(0, RECORD).send(1, RECORD)
    found, _ = facts(frames + frames_of([around, through]))

    assert (found.around.sum(), found.through.sum()) == (1, 1)
    assert np.flatnonzero(found.around).tolist() == [1]


def test_without_agents_there_is_nothing_to_say() -> None:
    found, _ = facts(Conversation(SERVER, NODES[1], 50000, 10250).send(0, RECORD).frames)

    assert (found.agents, found.nodes_without) == ((), ())


def test_an_opened_tunnel_names_what_it_carries() -> None:
    name = "07-konnectivity-grpc-uds"
    if not (SHARED / "k8s" / f"{name}.pcap").is_file():
        pytest.skip("the recording is not beside this checkout")
    keys = KeyLog((SHARED / "k8s" / "keylogs" / f"{name}.keys.log").read_bytes())
    with open_capture(str(SHARED / "k8s" / f"{name}.pcap")) as reader:
        audit = run(reader, load_cluster((str(SHARED / "k8s" / "clusters" / name),)), keys=keys).audit
    found = konnectivity_facts(audit.evidence, audit.roles, audit.channels)

    (only,) = found.agents
    assert (only.connections, only.reconnects, only.in_use) == (2, 1, True)
    assert only.carried > 0
    assert found.through[audit.evidence.carrier >= 0].all()
    assert not found.around.any()
