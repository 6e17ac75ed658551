"""From cluster facts to what the stages take: roles of addresses, and what the configuration declares."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from analyzer.cluster.declarations import Declarations
from analyzer.cluster.facts import (
    ClusterFacts,
    Object,
    egress_path,
    get_list,
    get_path,
    is_control_plane,
    node_kubeconfig,
    object_name,
    parse_address,
)
from analyzer.cluster.roles import (
    CONTROL_PLANE,
    ETCD,
    KONNECTIVITY_AGENT_PORTS,
    KUBELET_PORT,
    KUBELET_READONLY_PORT,
    NODE,
    POD,
    SERVICE,
    DeclaredRoles,
    Network,
)

_DEFAULT_SECURE_PORT = 6443


class _Roles:
    """Roles by address in the making."""

    def __init__(self) -> None:
        self.roles: dict[bytes, list[tuple[str, str]]] = {}

    def add(self, address: object, role: str, name: str) -> bytes | None:
        octets = parse_address(address)
        if octets is None:
            return None
        known = self.roles.setdefault(octets, [])
        if (role, name) not in known:
            known.append((role, name))
        return octets


def _networks(values: Iterable[object]) -> tuple[Network, ...]:
    found: dict[Network, None] = {}
    for value in values:
        try:
            found[ipaddress.ip_network(str(value), strict=False)] = None
        except ValueError:
            continue
    return tuple(found)


def _endpoint(url: str, default_port: int) -> tuple[bytes, int] | None:
    try:
        parsed = urlsplit(url if "//" in url else f"//{url}")
        port = parsed.port or default_port
    except ValueError:
        return None
    octets = parse_address(parsed.hostname)
    return (octets, port) if octets is not None else None


def _apiserver_endpoints(facts: ClusterFacts, roles: _Roles) -> set[tuple[bytes, int]]:
    """The Service default/kubernetes and its endpoints, and where the manifest binds."""
    found: set[tuple[bytes, int]] = set()

    def is_kubernetes(document: Object) -> bool:
        name = get_path(document, "metadata", "name")
        service = get_path(document, "metadata", "labels", "kubernetes.io/service-name")
        return object_name(document) == "default/kubernetes" or (name is not None and service == "kubernetes")

    for service in filter(is_kubernetes, facts.services):
        for address in get_list(service, "spec", "clusterIPs") or [get_path(service, "spec", "clusterIP")]:
            octets = roles.add(address, SERVICE, "default/kubernetes")
            if octets is not None:
                found |= {(octets, int(p.get("port", 443))) for p in get_list(service, "spec", "ports")}
    groups: list[tuple[list[Any], list[Any]]] = []
    for endpoints in filter(is_kubernetes, facts.endpoints):
        for subset in get_list(endpoints, "subsets"):
            groups.append(([get_path(a, "ip") for a in get_list(subset, "addresses")], get_list(subset, "ports")))
    for endpoint_slice in filter(is_kubernetes, facts.endpoint_slices):
        addresses = [a for e in get_list(endpoint_slice, "endpoints") for a in get_list(e, "addresses")]
        groups.append((addresses, get_list(endpoint_slice, "ports")))
    for addresses, ports in groups:
        for address in addresses:
            octets = roles.add(address, CONTROL_PLANE, "kube-apiserver")
            if octets is not None:
                found |= {(octets, int(p.get("port", _DEFAULT_SECURE_PORT))) for p in ports}
    flags = facts.apiserver_flags or {}
    octets = roles.add(flags.get("advertise-address", ""), CONTROL_PLANE, "kube-apiserver")
    port = flags.get("secure-port", str(_DEFAULT_SECURE_PORT))
    if octets is not None and port.isdecimal():
        found.add((octets, int(port)))
    if found:
        # The API server dials itself over the loopback interface (serving_with_loopback.go).
        own = {p for address, p in found if (CONTROL_PLANE, "kube-apiserver") in roles.roles[address]}
        found |= {(parse_address(a) or b"", p) for a in ("127.0.0.1", "::1") for p in own}
    return found


def declared_roles(facts: ClusterFacts) -> DeclaredRoles | None:
    """Roles of addresses by the inventory; None where no node, pod or service is in it."""
    if not (facts.nodes or facts.pods or facts.services or facts.apiserver_flags):
        return None
    roles = _Roles()
    kubelets: set[tuple[bytes, int]] = set()
    readonly: set[tuple[bytes, int]] = set()
    pod_cidrs: list[object] = []
    for node in facts.nodes:
        name = str(get_path(node, "metadata", "name"))
        port = get_path(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port")
        configured = get_path(facts.kubelets.get(name, {}), "readOnlyPort") or KUBELET_READONLY_PORT
        for entry in get_list(node, "status", "addresses"):
            octets = roles.add(get_path(entry, "address"), NODE, name)
            if octets is None:
                continue
            if is_control_plane(node):
                roles.add(get_path(entry, "address"), CONTROL_PLANE, name)
            kubelets.add((octets, int(port) if isinstance(port, int) else KUBELET_PORT))
            readonly.add((octets, int(configured)))
        pod_cidrs += get_list(node, "spec", "podCIDRs") or [get_path(node, "spec", "podCIDR")]
    for pod in facts.pods:
        if get_path(pod, "spec", "hostNetwork"):
            continue
        for entry in get_list(pod, "status", "podIPs") or [{"ip": get_path(pod, "status", "podIP")}]:
            roles.add(get_path(entry, "ip"), POD, object_name(pod))
    apiservers = _apiserver_endpoints(facts, roles)
    for service in facts.services:
        for address in get_list(service, "spec", "clusterIPs") or [get_path(service, "spec", "clusterIP")]:
            roles.add(address, SERVICE, object_name(service))
    flags = facts.apiserver_flags or {}
    etcds = {e for u in flags.get("etcd-servers", "").split(",") if u and (e := _endpoint(u, 2379)) is not None}
    for octets, _ in etcds:
        roles.roles.setdefault(octets, []).append((ETCD, "etcd"))
    frontends, agents = _konnectivity(facts, roles)
    path = egress_path(facts)
    return DeclaredRoles(
        roles=roles.roles,
        apiservers=frozenset(apiservers),
        etcds=frozenset(etcds),
        kubelet_ports=frozenset(kubelets),
        readonly_ports=frozenset(readonly),
        konnectivity_frontends=frozenset(frontends),
        konnectivity_agents=frozenset(agents),
        pod_networks=_networks(c for c in pod_cidrs if c),
        service_networks=_networks(c for c in flags.get("service-cluster-ip-range", "").split(",") if c),
        egress_proxy=path is not None and path.proxied,
    )


def _konnectivity(facts: ClusterFacts, roles: _Roles) -> tuple[set[tuple[bytes, int]], set[tuple[bytes, int]]]:
    """Where the egress selector asks for tunnels, and where agents dial in on the same host."""
    path = egress_path(facts)
    endpoint = _endpoint(path.url, 8131) if path is not None and path.url else None
    if endpoint is None:
        return set(), set()
    return {endpoint}, {(endpoint[0], port) for port in KONNECTIVITY_AGENT_PORTS}


def declarations(facts: ClusterFacts) -> Declarations:
    """What the API server's flags, the egress selector and kubeconfigs declare about the three questions."""
    flags = facts.apiserver_flags
    path = egress_path(facts)
    kubeconfig = node_kubeconfig(facts)
    if flags is None:
        return Declarations(
            konnectivity_ca=path.verifies if path else None,
            konnectivity_certificate=path.certificate if path else None,
            node_kubeconfig_ca=kubeconfig,
        )
    encrypted_etcd = "https:" in flags.get("etcd-servers", "")
    return Declarations(
        apiserver=True,
        kubelet_ca=bool(flags.get("kubelet-certificate-authority")),
        kubelet_certificate=bool(flags.get("kubelet-client-certificate")),
        # Without --etcd-cafile the system roots are used, and which they are is not declared.
        etcd_ca=True if encrypted_etcd and flags.get("etcd-cafile") else None,
        etcd_certificate=bool(flags.get("etcd-certfile")) if encrypted_etcd else None,
        konnectivity_ca=path.verifies if path else None,
        konnectivity_certificate=path.certificate if path else None,
        node_kubeconfig_ca=kubeconfig,
    )
