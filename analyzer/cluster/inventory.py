"""Who owns which address: nodes, pods, Services, API servers, etcd, konnectivity servers, in one index."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from analyzer.schema import U8

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_KUBELET_PORT: Final = 10250  # pkg/cluster/ports/ports.go, KubeletPort


class OwnerKind(StrEnum):
    """What an address may belong to; several at once are common (a host network pod has its node's address)."""

    APISERVER = "apiserver"
    ETCD = "etcd"
    KONNECTIVITY_SERVER = "konnectivity server"
    NODE = "node"
    POD = "pod"
    SERVICE = "service"


class Owner(NamedTuple):
    """One owner of an address. ``namespace`` is empty where the kind has none, ``name`` where it is not known."""

    kind: OwnerKind
    name: str
    namespace: str = ""

    @property
    def qualified_name(self) -> str:
        """``namespace/name``, or ``name`` alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Endpoint(NamedTuple):
    """An address and a TCP port."""

    address: Address
    port: int


@dataclass(frozen=True, slots=True)
class Node:
    """A Node object."""

    name: str
    addresses: tuple[Address, ...] = ()  #: status.addresses that are addresses, all types
    pod_cidrs: tuple[Network, ...] = ()
    kubelet_port: int = DEFAULT_KUBELET_PORT  #: status.daemonEndpoints.kubeletEndpoint.Port
    kubelet_version: str = ""
    is_control_plane: bool = False  #: label node-role.kubernetes.io/control-plane, or master before 1.24


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod object. A pod that has ended holds no address any more: another one may have got it."""

    namespace: str
    name: str
    addresses: tuple[Address, ...] = ()
    host_network: bool = False
    node: str = ""
    container_ports: tuple[int, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()  #: of component, k8s-app, app, app.kubernetes.io/name


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service. ``target_port`` is a number or the name of a container port; ``node_port`` 0 = none."""

    name: str
    protocol: str
    port: int
    target_port: str
    node_port: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A Service object."""

    namespace: str
    name: str
    type: str = "ClusterIP"
    cluster_ips: tuple[Address, ...] = ()
    external_ips: tuple[Address, ...] = ()  #: spec.externalIPs and addresses of a load balancer
    ports: tuple[ServicePort, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """An address and port behind a Service, from Endpoints or EndpointSlice objects."""

    namespace: str
    service: str
    address: Address
    port: int
    target_kind: str = ""
    target_name: str = ""
    node: str = ""


def parse_address(value: object) -> Address | None:
    """Parse text into an address; None where it is none. IPv4-mapped IPv6 becomes IPv4, zones are dropped."""
    if not isinstance(value, str):
        return None
    try:
        address = ipaddress.ip_address(value.strip().partition("%")[0])
    except ValueError:
        return None
    return _unmapped(address)


def parse_network(value: object) -> Network | None:
    """Parse text ``address/length`` into a network, host bits ignored; None where it is none."""
    if not isinstance(value, str) or "/" not in value:
        return None
    try:
        return ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else address


def mapped_octets(address: Address) -> U8:
    """Address as the tables hold it: (16,) uint8, IPv4 mapped into IPv6 (RFC 4291 2.5.5.2)."""
    packed = address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
    return np.frombuffer(packed, np.uint8)


def from_octets(octets: U8) -> Address:
    """Inverse of `mapped_octets`: (16,) uint8 to an address, IPv4-mapped ones as IPv4."""
    return _unmapped(ipaddress.IPv6Address(octets.tobytes()))


class _Networks:
    """Membership in many networks: one dictionary look-up for each prefix length in use."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            bits = network.max_prefixlen - network.prefixlen
            self._by_length.setdefault((network.version, bits), set()).add(int(network.network_address) >> bits)

    def __contains__(self, address: Address) -> bool:
        return any(
            version == address.version and int(address) >> bits in prefixes
            for (version, bits), prefixes in self._by_length.items()
        )


@dataclass(frozen=True)
class Inventory:
    """What the cluster says about its own addresses.

    Attributes
    ----------
    apiservers : tuple of Endpoint
        Where API servers listen: endpoints of Service default/kubernetes, and the manifests' advertised addresses.
    apiserver_vips : tuple of Endpoint
        Addresses of Service default/kubernetes itself.
    etcds, konnectivity_servers : tuple of Endpoint
        From ``--etcd-servers`` and etcd's own manifest; from the egress selector's URLs.
    konnectivity_agent_endpoints : tuple of Endpoint
        Where agents dial in, from the agents' flags.
    pod_cidrs, service_cidrs : tuple of network
    """

    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    services: tuple[Service, ...] = ()
    endpoints: tuple[ServiceEndpoint, ...] = ()
    apiservers: tuple[Endpoint, ...] = ()
    apiserver_vips: tuple[Endpoint, ...] = ()
    etcds: tuple[Endpoint, ...] = ()
    konnectivity_servers: tuple[Endpoint, ...] = ()
    konnectivity_agent_endpoints: tuple[Endpoint, ...] = ()
    pod_cidrs: tuple[Network, ...] = ()
    service_cidrs: tuple[Network, ...] = ()

    def role_of(self, address: Address | U8 | str) -> tuple[Owner, ...]:
        """Owners of an address, in the order of `OwnerKind`; empty where the inventory does not know it.

        Parameters
        ----------
        address : address, text, or (16,) uint8
            IPv4-mapped IPv6 is IPv4.
        """
        found = self._parsed(address)
        return self._owners.get(found, ()) if found is not None else ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every address that has an owner."""
        return tuple(self._owners)

    def in_pod_cidr(self, address: Address | U8 | str) -> bool:
        """Whether an address lies in a known pod network."""
        found = self._parsed(address)
        return found is not None and found in self._pod_networks

    def in_service_cidr(self, address: Address | U8 | str) -> bool:
        """Whether an address lies in a known Service network."""
        found = self._parsed(address)
        return found is not None and found in self._service_networks

    def node_named(self, name: str) -> Node | None:
        """Node of that name."""
        return next((node for node in self.nodes if node.name == name), None)

    @staticmethod
    def _parsed(address: Address | U8 | str) -> Address | None:
        if isinstance(address, str):
            return parse_address(address)
        return from_octets(address) if isinstance(address, np.ndarray) else _unmapped(address)

    @cached_property
    def _pod_networks(self) -> _Networks:
        return _Networks(self.pod_cidrs)

    @cached_property
    def _service_networks(self) -> _Networks:
        return _Networks(self.service_cidrs)

    @cached_property
    def _owners(self) -> dict[Address, tuple[Owner, ...]]:
        found: dict[Address, dict[Owner, None]] = {}

        def add(addresses: Iterable[Address], owner: Owner) -> None:
            for address in addresses:
                found.setdefault(address, {})[owner] = None

        for kind, endpoints in (
            (OwnerKind.APISERVER, self.apiservers),
            (OwnerKind.ETCD, self.etcds),
            (OwnerKind.KONNECTIVITY_SERVER, (*self.konnectivity_servers, *self.konnectivity_agent_endpoints)),
        ):
            add((endpoint.address for endpoint in endpoints), Owner(kind, ""))
        for node in self.nodes:
            add(node.addresses, Owner(OwnerKind.NODE, node.name))
        for pod in self.pods:
            add(pod.addresses, Owner(OwnerKind.POD, pod.name, pod.namespace))
        for service in self.services:
            add(service.cluster_ips + service.external_ips, Owner(OwnerKind.SERVICE, service.name, service.namespace))
        return {address: tuple(owners) for address, owners in found.items()}
