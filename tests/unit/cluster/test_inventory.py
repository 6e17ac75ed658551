from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.cluster.inventory import (
    Address,
    Endpoint,
    Inventory,
    Network,
    Node,
    Owner,
    OwnerKind,
    Pod,
    Service,
    from_octets,
    mapped_octets,
    parse_address,
    parse_network,
)


def ip(text: str) -> Address:
    return ipaddress.ip_address(text)


INVENTORY = Inventory(
    nodes=(Node("node1", (ip("10.0.0.11"), ip("fd00:10::11"))), Node("cp", (ip("10.0.0.10"),), is_control_plane=True)),
    pods=(
        Pod("kube-system", "kube-proxy-1", (ip("10.0.0.11"), ip("fd00:10::11")), host_network=True, node="node1"),
        Pod("kube-system", "cilium-1", (ip("10.0.0.11"),), host_network=True, node="node1"),
        Pod("default", "web", (ip("10.244.1.5"), ip("fd00:244:1::5"))),
    ),
    services=(Service("default", "kubernetes", cluster_ips=(ip("10.96.0.1"),), external_ips=(ip("192.0.2.1"),)),),
    apiservers=(Endpoint(ip("10.0.0.10"), 6443),),
    etcds=(Endpoint(ip("10.0.0.10"), 2379), Endpoint(ip("10.0.0.20"), 2379)),
    konnectivity_servers=(Endpoint(ip("10.0.0.10"), 8131),),
    pod_cidrs=(ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd00:244::/48")),
    service_cidrs=(ipaddress.ip_network("10.96.0.0/12"),),
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.10", ["apiserver ", "etcd ", "konnectivity server ", "node cp"]),
        ("10.0.0.11", ["node node1", "pod kube-system/kube-proxy-1", "pod kube-system/cilium-1"]),
        ("fd00:10::11", ["node node1", "pod kube-system/kube-proxy-1"]),
        ("FD00:10:0::11", ["node node1", "pod kube-system/kube-proxy-1"]),
        ("::ffff:10.244.1.5", ["pod default/web"]),
        ("fd00:244:1::5", ["pod default/web"]),
        ("10.96.0.1", ["service default/kubernetes"]),
        ("192.0.2.1", ["service default/kubernetes"]),
        ("10.0.0.20", ["etcd "]),
        ("10.0.0.99", []),
        ("not an address", []),
    ],
)
def test_owners_of_an_address(address: str, expected: list[str]) -> None:
    assert [f"{owner.kind} {owner.qualified_name}" for owner in INVENTORY.role_of(address)] == expected
    parsed = parse_address(address)
    if parsed is not None:
        assert INVENTORY.role_of(parsed) == INVENTORY.role_of(mapped_octets(parsed)) == INVENTORY.role_of(address)


def test_owners_carry_their_names() -> None:
    assert INVENTORY.role_of("10.244.1.5") == (Owner(OwnerKind.POD, "web", "default"),)
    node = INVENTORY.node_named("cp")
    assert node is not None
    assert node.is_control_plane
    assert INVENTORY.node_named("nobody") is None


def test_membership_in_networks() -> None:
    assert INVENTORY.in_pod_cidr("10.244.255.255")
    assert INVENTORY.in_pod_cidr("::ffff:10.244.0.1")
    assert INVENTORY.in_pod_cidr("fd00:244:0:ffff::1")
    assert not INVENTORY.in_pod_cidr("10.245.0.0")
    assert not INVENTORY.in_pod_cidr("fd00:245::")
    assert INVENTORY.in_service_cidr(mapped_octets(ip("10.111.255.255")))
    assert not INVENTORY.in_service_cidr("10.112.0.0")
    assert not INVENTORY.in_service_cidr("nonsense")


# Few distinct values, so that networks and addresses meet.
V4 = st.sampled_from([0, 1, 0x0A000000, 0x0AF40100, 0x0AF401FF, 0xFFFFFFFF]).map(ipaddress.IPv4Address)
V6 = st.sampled_from([0, 1, 0xFD << 120, (0xFD << 120) + 0x0AF40100, (1 << 128) - 1]).map(ipaddress.IPv6Address)
NETWORKS = st.tuples(V4, st.integers(0, 32)) | st.tuples(V6, st.integers(0, 128))


@given(st.lists(NETWORKS, max_size=6), V4 | V6)
def test_membership_is_that_of_the_standard_library(pairs: list[tuple[Address, int]], address: Address) -> None:
    networks: tuple[Network, ...] = tuple(ipaddress.ip_network((a, length), strict=False) for a, length in pairs)
    expected = any(address in network for network in networks)
    assert Inventory(pod_cidrs=networks).in_pod_cidr(address) is expected
    assert Inventory(service_cidrs=networks).in_service_cidr(mapped_octets(address)) is expected


@given(st.ip_addresses())
def test_octets_and_back(address: Address) -> None:
    octets = mapped_octets(address)
    assert octets.shape == (16,)
    assert octets.dtype == np.uint8
    assert from_octets(octets) == parse_address(str(address))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else address
    assert octets.tobytes()[:12] == bytes(10) + b"\xff\xff" if mapped else octets.tobytes() == address.packed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 10.0.0.1 ", "10.0.0.1"),
        ("::FFFF:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("010.0.0.1", None),
        ("None", None),
        ("", None),
        (167772161, None),
        (None, None),
    ],
)
def test_addresses_are_normalised(text: object, expected: str | None) -> None:
    assert (str(parse_address(text)) if parse_address(text) else None) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("fd00::/48", "fd00::/48"),
        ("10.0.0.1", None),
        ("a/8", None),
        ("", None),
        (8, None),
    ],
)
def test_networks_are_normalised(text: object, expected: str | None) -> None:
    assert (str(parse_network(text)) if parse_network(text) else None) == expected
