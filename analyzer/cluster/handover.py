"""From cluster facts to what the later stages take: roles of addresses, and what the configuration declares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from analyzer.cluster.declarations import CalledService, Declarations
from analyzer.cluster.declared import EtcdDeclared, KubeletDeclared, split_url
from analyzer.cluster.expectation import Expectation
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


def declarations(facts: ClusterFacts, expectation: Expectation | None = None) -> Declarations:
    """What flags, the egress selector and kubeconfigs declare about the three questions.

    Where several API server manifests disagree, none of them speaks.
    """
    declared = facts.declared
    server, selection = declared.apiserver, declared.egress_for("cluster")
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
        node_kubeconfig_ca=_kubeconfigs_verify(facts, ("kubelet",)),
        controlplane_kubeconfig_ca=_kubeconfigs_verify(facts, ("kube-controller-manager", "kube-scheduler")),
        agent_ca=True if declared.konnectivity_agents else None,
        flags=server,
        kubelets=_kubelets(facts),
        etcds=_etcds(facts),
        egress_proxied=selection.is_proxied if selection is not None else None,
        egress_encrypted=selection.is_encrypted if selection is not None else None,
        called=_called(facts),
        node_versions={
            _key(address): node.kubelet_version
            for node in facts.inventory.nodes
            if node.kubelet_version
            for address in node.addresses
        },
        agent_nodes=_agent_nodes(facts),
        expectation=expectation,
    )


def _kubeconfigs_verify(facts: ClusterFacts, components: tuple[str, ...]) -> bool | None:
    """Whether the kubeconfigs of all `components` check the server; None where one of them was not given."""
    found = {
        name: [c.verifies_server for c in facts.declared.kubeconfigs if c.component == name] for name in components
    }
    return all(all(checks) for checks in found.values()) if all(found.values()) else None


def _kubelets(facts: ClusterFacts) -> dict[bytes, KubeletDeclared]:
    return {
        _key(address): kubelet
        for node in facts.inventory.nodes
        if (kubelet := facts.declared.kubelet(node.name)) is not None
        for address in node.addresses
    }


def _etcds(facts: ClusterFacts) -> dict[bytes, EtcdDeclared]:
    """Flags of each etcd by the addresses its own URLs name; left out where two files name one address."""
    found: dict[bytes, list[EtcdDeclared]] = {}
    for etcd in facts.declared.etcds:
        urls = (*etcd.advertise_client_urls, *etcd.listen_client_urls)
        for host in dict.fromkeys(parts[0] for url in urls if (parts := split_url(url, 0)) is not None):
            address = parse_address(host)
            if address is not None and not (address.is_unspecified or address.is_loopback):
                found.setdefault(_key(address), []).append(etcd)
    return {address: etcds[0] for address, etcds in found.items() if len(etcds) == 1}


_AGENT: Final = "konnectivity-agent"


def _agent_nodes(facts: ClusterFacts) -> frozenset[bytes]:
    """Addresses of the nodes that run a pod labelled or named as the documented konnectivity agent."""
    names = {
        pod.node
        for pod in facts.inventory.pods
        if pod.node and any(text.startswith(_AGENT) for text in (pod.name, *(value for _, value in pod.labels)))
    }
    return frozenset(
        _key(address) for node in facts.inventory.nodes if node.name in names for address in node.addresses
    )


def _called(facts: ClusterFacts) -> tuple[CalledService, ...]:
    """Webhooks and aggregated APIs with the addresses behind them."""
    behind: dict[tuple[str, str], set[tuple[bytes, int]]] = {}
    for endpoint in facts.inventory.endpoints:
        behind.setdefault((endpoint.namespace, endpoint.service), set()).add((_key(endpoint.address), endpoint.port))
    for service in facts.inventory.services:
        for address in service.cluster_ips:
            pairs = {(_key(address), port.port) for port in service.ports}
            behind.setdefault((service.namespace, service.name), set()).update(pairs)
    called: list[CalledService] = []
    for client in facts.declared.called:
        endpoints = set(behind.get((client.namespace, client.service), ())) if client.service else set()
        name = f"{client.service}.{client.namespace}.svc" if client.service else ""
        if client.url and (parts := split_url(client.url, 443)) is not None:
            host, port = parts
            dialled, node = parse_address(host), facts.inventory.node_named(host)
            addresses = node.addresses if node is not None else ()
            endpoints |= {(_key(a), port) for a in (addresses if dialled is None else (dialled,))}
            name = host if dialled is None else ""
        called.append(CalledService(client.what, name, frozenset(endpoints), client.verifies))
    return tuple(called)
