"""Kubernetes API objects, as kubectl prints them, into rows of the inventory.

Field names: https://kubernetes.io/docs/reference/kubernetes-api/. An object without a name is no object.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from analyzer.cluster.documents import boolean, child, integer, mapping, port, sequence, string
from analyzer.cluster.inventory import (
    DEFAULT_KUBELET_PORT,
    Address,
    Network,
    Node,
    Pod,
    Service,
    ServiceEndpoint,
    ServicePort,
    parse_address,
    parse_network,
)

CONTROL_PLANE_LABELS: Final = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
"""https://kubernetes.io/docs/reference/labels-annotations-taints/; kubeadm set the second one before 1.24."""
POD_LABELS: Final = ("component", "k8s-app", "app", "app.kubernetes.io/name")
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""Service that an EndpointSlice belongs to (k8s.io/api/discovery/v1, LabelServiceName)."""


def addresses_of(values: Iterable[object]) -> tuple[Address, ...]:
    """Distinct addresses among `values`, in their order; what is none is left out (None, ``None``, host names)."""
    parsed = (parse_address(value) for value in values)
    return tuple(dict.fromkeys(address for address in parsed if address is not None))


def networks_of(values: Iterable[object]) -> tuple[Network, ...]:
    """Distinct networks among `values`, in their order."""
    parsed = (parse_network(value) for value in values)
    return tuple(dict.fromkeys(network for network in parsed if network is not None))


def read_node(document: object) -> Node:
    """Node object (v1)."""
    labels = mapping(document, "metadata", "labels")
    cidrs = [*sequence(document, "spec", "podCIDRs"), child(document, "spec", "podCIDR")]
    return Node(
        name=string(document, "metadata", "name"),
        addresses=addresses_of(child(entry, "address") for entry in sequence(document, "status", "addresses")),
        pod_cidrs=networks_of(cidrs),
        kubelet_port=port(document, "status", "daemonEndpoints", "kubeletEndpoint", "Port") or DEFAULT_KUBELET_PORT,
        kubelet_version=string(document, "status", "nodeInfo", "kubeletVersion"),
        is_control_plane=any(label in labels for label in CONTROL_PLANE_LABELS),
    )


def is_static_manifest(document: object) -> bool:
    """Whether a Pod is a file for the kubelet and not an object of the API, which always has a uid or a status."""
    return not string(document, "metadata", "uid") and not mapping(document, "status")


def read_pod(document: object) -> Pod:
    """Pod object (v1)."""
    ended = string(document, "status", "phase") in ("Succeeded", "Failed")
    entries = [child(entry, "ip") for entry in sequence(document, "status", "podIPs")]
    containers = [*sequence(document, "spec", "containers"), *sequence(document, "spec", "initContainers")]
    ports = (port(entry, "containerPort") for c in containers for entry in sequence(c, "ports"))
    labels = mapping(document, "metadata", "labels")
    return Pod(
        namespace=string(document, "metadata", "namespace"),
        name=string(document, "metadata", "name"),
        addresses=() if ended else addresses_of([*entries, child(document, "status", "podIP")]),
        host_network=boolean(document, "spec", "hostNetwork") or False,
        node=string(document, "spec", "nodeName"),
        container_ports=tuple(dict.fromkeys(number for number in ports if number is not None)),
        labels=tuple((label, value) for label in POD_LABELS if (value := string(labels, label))),
    )


def read_service(document: object) -> Service:
    """Service object (v1). Headless Services (clusterIP None) and ExternalName ones have no address."""
    spec = mapping(document, "spec")
    ingress = sequence(document, "status", "loadBalancer", "ingress")
    ports = (
        ServicePort(
            name=string(entry, "name"),
            protocol=string(entry, "protocol") or "TCP",
            port=number,
            target_port=string(entry, "targetPort") or str(number),
            node_port=port(entry, "nodePort") or 0,
        )
        for entry in sequence(spec, "ports")
        if (number := port(entry, "port")) is not None
    )
    return Service(
        namespace=string(document, "metadata", "namespace"),
        name=string(document, "metadata", "name"),
        type=string(spec, "type") or "ClusterIP",
        cluster_ips=addresses_of([*sequence(spec, "clusterIPs"), child(spec, "clusterIP")]),
        external_ips=addresses_of([*sequence(spec, "externalIPs"), *(child(entry, "ip") for entry in ingress)]),
        ports=tuple(ports),
    )


def read_endpoints(document: object) -> list[ServiceEndpoint]:
    """Endpoints object (v1); addresses that are not ready count, they are real all the same."""
    namespace, name = string(document, "metadata", "namespace"), string(document, "metadata", "name")
    found: list[ServiceEndpoint] = []
    for subset in sequence(document, "subsets"):
        for entry in [*sequence(subset, "addresses"), *sequence(subset, "notReadyAddresses")]:
            found += _endpoints(namespace, name, entry, [child(entry, "ip")], sequence(subset, "ports"))
    return found


def read_endpoint_slice(document: object) -> list[ServiceEndpoint]:
    """EndpointSlice object (discovery.k8s.io/v1) of a Service; one of no Service gives nothing."""
    service = string(mapping(document, "metadata", "labels"), SERVICE_NAME_LABEL)
    if not service:
        return []
    namespace, ports = string(document, "metadata", "namespace"), sequence(document, "ports")
    found: list[ServiceEndpoint] = []
    for entry in sequence(document, "endpoints"):
        found += _endpoints(namespace, service, entry, sequence(entry, "addresses"), ports)
    return found


def _endpoints(
    namespace: str, service: str, entry: object, addresses: Iterable[object], ports: Iterable[object]
) -> list[ServiceEndpoint]:
    numbers = [number for p in ports if (number := integer(p, "port")) and string(p, "protocol") in ("", "TCP", "UDP")]
    return [
        ServiceEndpoint(
            namespace,
            service,
            address,
            number,
            target_kind=string(entry, "targetRef", "kind"),
            target_name=string(entry, "targetRef", "name"),
            node=string(entry, "nodeName"),
        )
        for address in addresses_of(addresses)
        for number in numbers
    ]
