"""From cluster facts to what the later stages take: roles of addresses, and what the configuration declares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from analyzer.cluster.declarations import Declarations
from analyzer.cluster.inventory import Address, Endpoint, Inventory, OwnerKind, mapped_octets, parse_address
from analyzer.cluster.loading import ClusterFacts
from analyzer.cluster.roles import (
    CONTROL_PLANE,
    ETCD,
    KONNECTIVITY_AGENT_PORTS,
    KUBELET_READONLY_PORT,
    NODE,
    POD,
    SERVICE,
    DeclaredRoles,
)

_ROLE_OF_OWNER: Final = {
    OwnerKind.APISERVER: CONTROL_PLANE,
    OwnerKind.ETCD: ETCD,
    OwnerKind.NODE: NODE,
    OwnerKind.POD: POD,
    OwnerKind.SERVICE: SERVICE,
}
_LOOPBACK: Final = ("127.0.0.1", "::1")


def declared_roles(facts: ClusterFacts) -> DeclaredRoles | None:
    """Roles of addresses by the inventory; None where no file names an address's owner.

    A pod on the host network has its node's address, which stays the node's. The API server also serves on loopback
    addresses: it dials itself there (apiserver/pkg/server/options/serving_with_loopback.go).
    """
    inventory = facts.inventory
    roles = _roles_by_address(inventory)
    if not (roles or facts.declared.apiservers):
        return None
    loopback = [
        Endpoint(address, e.port)
        for text in _LOOPBACK
        for e in inventory.apiservers
        if (address := parse_address(text))
    ]
    selection = facts.declared.egress_for("cluster")
    return DeclaredRoles(
        roles=roles,
        apiservers=_pairs((*inventory.apiservers, *inventory.apiserver_vips, *loopback)),
        etcds=_pairs(inventory.etcds),
        kubelet_ports=_pairs(Endpoint(a, node.kubelet_port) for node in inventory.nodes for a in node.addresses),
        readonly_ports=_readonly_ports(facts),
        konnectivity_frontends=_pairs(inventory.konnectivity_servers),
        konnectivity_agents=_pairs(inventory.konnectivity_agent_endpoints or _agent_endpoints(inventory)),
        pod_networks=inventory.pod_cidrs,
        service_networks=inventory.service_cidrs,
        egress_proxy=selection is not None and selection.is_proxied,
    )


def _key(address: Address) -> bytes:
    return mapped_octets(address).tobytes()


def _pairs(endpoints: Iterable[Endpoint]) -> frozenset[tuple[bytes, int]]:
    return frozenset((_key(endpoint.address), endpoint.port) for endpoint in endpoints)


def _roles_by_address(inventory: Inventory) -> dict[bytes, list[tuple[str, str]]]:
    host_network = {f"{pod.namespace}/{pod.name}" for pod in inventory.pods if pod.host_network}
    control_plane = {node.name for node in inventory.nodes if node.is_control_plane}
    programs = {OwnerKind.APISERVER: "kube-apiserver", OwnerKind.ETCD: "etcd"}
    found: dict[bytes, list[tuple[str, str]]] = {}
    for address in inventory.addresses:
        known: dict[tuple[str, str], None] = {}
        for owner in inventory.role_of(address):
            if owner.kind not in _ROLE_OF_OWNER or (
                owner.kind == OwnerKind.POD and owner.qualified_name in host_network
            ):
                continue
            known[_ROLE_OF_OWNER[owner.kind], programs.get(owner.kind, owner.qualified_name)] = None
            if owner.kind == OwnerKind.NODE and owner.name in control_plane:
                known[CONTROL_PLANE, owner.name] = None
        if known:
            found[_key(address)] = list(known)
    return found


def _readonly_ports(facts: ClusterFacts) -> frozenset[tuple[bytes, int]]:
    """Where a kubelet's read-only port is; where it is off by configuration, where it would be."""
    found: list[Endpoint] = []
    for node in facts.inventory.nodes:
        kubelet = facts.declared.kubelet(node.name)
        port = (kubelet.read_only_port if kubelet is not None else 0) or KUBELET_READONLY_PORT
        found += [Endpoint(address, port) for address in node.addresses]
    return _pairs(found)


def _agent_endpoints(inventory: Inventory) -> list[Endpoint]:
    """Where agents dial in if no agent's flags say: the documented ports beside the port API servers use."""
    return [Endpoint(e.address, port) for e in inventory.konnectivity_servers for port in KONNECTIVITY_AGENT_PORTS]


def declarations(facts: ClusterFacts) -> Declarations:
    """What flags, the egress selector and kubeconfigs declare about the three questions.

    Where several API server manifests disagree, none of them speaks.
    """
    server, selection = facts.declared.apiserver, facts.declared.egress_for("cluster")
    kubelets = [config.verifies_server for config in facts.declared.kubeconfigs if config.component == "kubelet"]
    encrypted_etcd = server is not None and server.etcd_is_encrypted is True
    return Declarations(
        apiserver=server is not None,
        kubelet_ca=bool(server.kubelet_certificate_authority) if server is not None else None,
        kubelet_certificate=bool(server.kubelet_client_certificate) if server is not None else None,
        # Without --etcd-cafile the system's roots are used, and which they are is not declared.
        etcd_ca=True if server is not None and encrypted_etcd and server.etcd_cafile else None,
        etcd_certificate=bool(server.etcd_certfile) if server is not None and encrypted_etcd else None,
        konnectivity_ca=selection.verifies_server if selection is not None else None,
        konnectivity_certificate=(
            selection.has_client_certificate if selection is not None and selection.is_encrypted else None
        ),
        node_kubeconfig_ca=all(kubelets) if kubelets else None,
    )
