"""No conclusion rests on which addresses and ports a cluster happens to have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from analyzer.capture.source import open_capture
from analyzer.cluster.catalogue import channels
from analyzer.cluster.channels import assign_channels
from analyzer.cluster.roles import DeclaredRoles, Network, assign_roles
from analyzer.pipeline import Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.user_files import load_cluster
from tests.conftest import LAB, SHARED
from tests.moved_cluster import Move, MovedDecoder

FOLDER = SHARED / "k8s" if (SHARED / "k8s").is_dir() else LAB
CAPTURES = sorted(path for path in FOLDER.iterdir() if ".pcap" in path.name and "29-fmt-empty" not in path.name)
DECLARED_PORTS = {6443: 8443, 10250: 10350, 2379: 4001}
"""Ports that manifests and Node objects state."""


@cache
def evidence(path: Path, move: Move | None = None) -> Evidence:
    pipeline = Pipeline()
    if move is not None:
        pipeline.decoder = MovedDecoder(move)
    with open_capture(str(path)) as reader:
        for chunk in reader:
            pipeline.add(chunk)
    return pipeline.evidence()


@cache
def declared(path: Path) -> DeclaredRoles | None:
    folder = FOLDER / "clusters" / path.name.partition(".")[0]
    return load_cluster((str(folder),)).roles if folder.is_dir() else None


DECLARED = [path for path in CAPTURES if declared(path) is not None]
"""The recordings that come with what their cluster says of itself."""


def found(read: Evidence, roles: DeclaredRoles | None) -> list[str]:
    """Channel of each flow, in order of its first frame."""
    columns = assign_channels(read, assign_roles(read, roles))
    names = [channel.id for channel in channels()]
    return [names[row] for row in columns.channel.tolist()]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_other_addresses_change_no_channel(path: Path) -> None:
    move = Move("other addresses")
    moved, roles = evidence(path, move), declared(path)

    assert moved.flows.address.tolist() != evidence(path).flows.address.tolist()
    assert found(moved, None) == found(evidence(path), None)
    if roles is not None:
        assert found(moved, move.declared(roles)) == found(evidence(path), roles)


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.name)
def test_hosts_of_a_declared_cluster_need_not_be_neighbours(path: Path) -> None:
    """Nodes in many subnets, pods in any: the inventory names them. What it names by network alone stays out."""
    roles = declared(path)
    assert roles is not None
    move = Move("no networks", scattered=True)
    moved = move.declared(roles)
    for row in {octets.tobytes() for octets in evidence(path).flows.address.reshape(-1, 16)} - set(roles.roles):
        for networks, role in ((roles.pod_networks, "pod"), (roles.service_networks, "service")):
            if any(_inside(row, network) for network in networks):
                moved.roles[move.address(row)] = [(role, "")]

    assert found(evidence(path, move), moved) == found(evidence(path), roles)


def _inside(octets: bytes, network: Network) -> bool:
    address = IPv6Address(octets)
    return (address.ipv4_mapped or address) in network


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.name)
def test_declared_ports_may_be_any(path: Path) -> None:
    roles = declared(path)
    assert roles is not None
    move = Move("other ports", ports=DECLARED_PORTS)

    assert found(evidence(path, move), move.declared(roles)) == found(evidence(path), roles)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_an_api_server_on_443_is_found_without_an_inventory(path: Path) -> None:
    """By what its clients are asked, and by whose kubelet it calls."""
    before, after = evidence(path), evidence(path, Move("port 443", ports={6443: 443}))

    if path.name.startswith("06b"):
        # Nothing but connections begun before, and kubelets called from their own host: the port alone told.
        differing = {pair for pair in zip(found(before, None), found(after, None), strict=True) if pair[0] != pair[1]}
        assert {answer for _, answer in differing} <= {"unknown", "ssh-session"}
    else:
        assert found(after, None) == found(before, None)


def test_an_api_server_behind_an_address_no_inventory_has() -> None:
    """A load balancer's: nodes present their certificates to it."""
    path = next(p for p in CAPTURES if p.name.startswith("04-node"))
    roles = declared(path)
    assert roles is not None
    move = Move("balancer", ports={6443: 443})
    hidden = {octets for octets, _ in roles.apiservers}
    known = replace(roles, roles={o: r for o, r in roles.roles.items() if o not in hidden}, apiservers=frozenset())
    before, after = found(evidence(path), roles), found(evidence(path, move), move.declared(known))

    assert "node-to-apiserver" in after
    assert {pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]} == set()


def test_agents_on_a_port_of_the_clusters_choice() -> None:
    path = next((p for p in CAPTURES if p.name.startswith("07e")), None)
    roles = declared(path) if path is not None else None
    if path is None or roles is None:
        pytest.skip("the recording is not here")
    move = Move("agents", ports={8132: 18132})

    assert found(evidence(path, move), move.declared(roles)) == found(evidence(path), roles)


def _without_control_plane(roles: DeclaredRoles) -> DeclaredRoles:
    """As the API of a managed cluster shows it: nodes and pods, and nothing of the control plane."""
    core = {"control plane", "etcd"}
    hidden = {octets for octets, stated in roles.roles.items() if core & {role for role, _ in stated}}
    return replace(
        roles,
        roles={octets: stated for octets, stated in roles.roles.items() if octets not in hidden},
        apiservers=frozenset(),
        etcds=frozenset(),
        konnectivity_frontends=frozenset(),
        konnectivity_agents=frozenset(),
    )


def _nodes_alone(roles: DeclaredRoles) -> DeclaredRoles:
    few = _without_control_plane(roles)
    nodes = {octets: stated for octets, stated in few.roles.items() if any(role == "node" for role, _ in stated)}
    return replace(few, roles=nodes, pod_networks=(), service_networks=())


def _pods_alone(roles: DeclaredRoles) -> DeclaredRoles:
    few = _without_control_plane(roles)
    pods = {octets: stated for octets, stated in few.roles.items() if all(role != "node" for role, _ in stated)}
    return replace(few, roles=pods, kubelet_ports=frozenset())


@pytest.mark.parametrize("part", [_without_control_plane, _nodes_alone, _pods_alone])
@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.name)
def test_what_an_inventory_leaves_out_is_asked_of_the_traffic(
    path: Path, part: Callable[[DeclaredRoles], DeclaredRoles]
) -> None:
    roles = declared(path)
    assert roles is not None
    whole, few = found(evidence(path), roles), found(evidence(path), part(roles))

    if path.name.startswith("13"):
        # Webhooks alone: nothing in it shows that their client is the API server.
        assert {after for before, after in zip(whole, few, strict=True) if before != after} <= {"workload"}
    else:
        assert few == whole
