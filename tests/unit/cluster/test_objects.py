from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.cluster.inventory import Node, Pod, Service, ServiceEndpoint, ServicePort
from analyzer.cluster.objects import (
    is_static_manifest,
    read_endpoint_slice,
    read_endpoints,
    read_node,
    read_pod,
    read_service,
)

ip = ipaddress.ip_address

NODE: dict[str, Any] = {
    "kind": "Node",
    "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/control-plane": ""}},
    "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "10.0.0.11"},
            {"type": "InternalIP", "address": "fd00::11"},
            {"type": "Hostname", "address": "n1"},
            {"type": "ExternalIP", "address": "192.0.2.11"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10350}},
        "nodeInfo": {"kubeletVersion": "v1.36.2"},
    },
}


def test_a_node() -> None:
    networks = (ipaddress.ip_network("10.244.1.0/24"), ipaddress.ip_network("fd00:1::/64"))
    assert read_node(NODE) == Node(
        "n1", (ip("10.0.0.11"), ip("fd00::11"), ip("192.0.2.11")), networks, 10350, "v1.36.2", True
    )


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"node-role.kubernetes.io/master": "true"}, True),
        ({"node-role.kubernetes.io/worker": ""}, False),
        ({"kubernetes.io/role": "control-plane"}, False),
        (None, False),
    ],
)
def test_control_plane_nodes_by_label(labels: dict[str, str] | None, expected: bool) -> None:
    assert read_node({"metadata": {"name": "n", "labels": labels}}).is_control_plane is expected


POD: dict[str, Any] = {
    "metadata": {"namespace": "kube-system", "name": "p", "uid": "u", "labels": {"k8s-app": "dns", "secret": "x"}},
    "spec": {
        "nodeName": "n1",
        "hostNetwork": True,
        "containers": [{"ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}, {}],
        "initContainers": [{"ports": [{"containerPort": 9153}]}],
    },
    "status": {"phase": "Running", "podIP": "10.0.0.11", "podIPs": [{"ip": "10.0.0.11"}, {"ip": "fd00::11"}]},
}


def test_a_pod() -> None:
    addresses = (ip("10.0.0.11"), ip("fd00::11"))
    assert read_pod(POD) == Pod("kube-system", "p", addresses, True, "n1", (53, 9153), (("k8s-app", "dns"),))


@pytest.mark.parametrize(
    ("phase", "has_address"), [("Running", True), ("Pending", True), ("Succeeded", False), ("Failed", False)]
)
def test_a_pod_that_has_ended_holds_no_address(phase: str, has_address: bool) -> None:
    assert bool(read_pod({**POD, "status": {**POD["status"], "phase": phase}}).addresses) is has_address


def test_manifests_are_told_from_objects() -> None:
    assert not is_static_manifest(POD)
    assert is_static_manifest({"metadata": {"name": "kube-apiserver"}, "spec": {}})
    assert not is_static_manifest({"metadata": {"name": "pending", "uid": "u"}, "spec": {}})


def test_a_service() -> None:
    document = {
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.5",
            "clusterIPs": ["10.96.0.5", "fd00:96::5"],
            "externalIPs": ["192.0.2.5"],
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                {"port": 53, "protocol": "UDP"},
                {"port": 0},
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.5"}, {"hostname": "lb.example"}]}},
    }
    assert read_service(document) == Service(
        "default",
        "web",
        "LoadBalancer",
        (ip("10.96.0.5"), ip("fd00:96::5")),
        (ip("192.0.2.5"), ip("198.51.100.5")),
        (ServicePort("http", "TCP", 80, "web", 30080), ServicePort("", "UDP", 53, "53")),
    )


@pytest.mark.parametrize("spec", [{"clusterIP": "None", "clusterIPs": ["None"]}, {"type": "ExternalName"}, {}])
def test_services_without_an_address(spec: dict[str, Any]) -> None:
    assert read_service({"metadata": {"name": "s"}, "spec": spec}).cluster_ips == ()


def test_endpoints_and_slices_say_the_same() -> None:
    target = {"kind": "Pod", "name": "web-1", "namespace": "default"}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "sctp", "port": 1, "protocol": "SCTP"}]
    endpoints = {
        "metadata": {"namespace": "default", "name": "web"},
        "subsets": [
            {
                "addresses": [{"ip": "10.244.1.5", "nodeName": "n1", "targetRef": target}],
                "notReadyAddresses": [{"ip": "10.244.1.6"}],
                "ports": ports,
            }
        ],
    }
    endpoint_slice = {
        "metadata": {"namespace": "default", "name": "web-x7", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [
            {"addresses": ["10.244.1.5"], "nodeName": "n1", "targetRef": target},
            {"addresses": ["10.244.1.6"]},
        ],
        "ports": ports,
    }
    expected = [
        ServiceEndpoint("default", "web", ip("10.244.1.5"), 8080, "Pod", "web-1", "n1"),
        ServiceEndpoint("default", "web", ip("10.244.1.6"), 8080),
    ]
    assert read_endpoints(endpoints) == read_endpoint_slice(endpoint_slice) == expected
    del endpoint_slice["metadata"]["labels"]  # type: ignore[attr-defined]
    assert read_endpoint_slice(endpoint_slice) == []


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "ip", "port"]), inner, max_size=3)
    ),
    max_leaves=6,
)
PATHS = ["metadata", "spec", "status", "labels", "addresses", "ports", "containers", "podIPs", "subsets", "endpoints"]


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(PATHS), JUNK | st.dictionaries(st.sampled_from(PATHS), JUNK)))
def test_objects_of_any_shape_never_raise(document: dict[str, Any]) -> None:
    for read in (read_node, read_pod, read_service, read_endpoints, read_endpoint_slice, is_static_manifest):
        read(document)
