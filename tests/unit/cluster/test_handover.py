from __future__ import annotations

import ipaddress

import pytest

from analyzer.cluster.declarations import Declarations
from analyzer.cluster.handover import declarations, declared_roles
from analyzer.cluster.inventory import mapped_octets
from analyzer.cluster.loading import ClusterFacts, read_cluster_facts
from analyzer.cluster.roles import CONTROL_PLANE, ETCD, NODE, POD, SERVICE
from tests.unit.cluster.test_loading import CLUSTERS, LAB, kubernetes_objects, listed, manifest, needs_lab, read_folder
from tests.unit.cluster.test_objects import NODE as NODE_OBJECT
from tests.unit.cluster.test_objects import POD as HOST_NETWORK_POD

EGRESS = (
    b"kind: EgressSelectorConfiguration\negressSelections:\n- name: cluster\n  connection:\n    proxyProtocol: %s\n"
    b"    transport: {tcp: {url: '%s://10.0.0.10:8131', tlsConfig: {clientCert: /c}}}\n"
)


def octets(address: str) -> bytes:
    return mapped_octets(ipaddress.ip_address(address)).tobytes()


def test_nothing_handed_over_declares_nothing() -> None:
    assert declared_roles(ClusterFacts()) is None
    assert declarations(ClusterFacts()) == Declarations()


def test_roles_and_ports_of_addresses() -> None:
    pod = {"metadata": {"namespace": "d", "name": "web", "uid": "u"}, "status": {"podIP": "10.244.1.5"}}
    facts = read_cluster_facts(
        {
            "a.json": listed(
                NODE_OBJECT, {"kind": "Pod", **HOST_NETWORK_POD}, {"kind": "Pod", **pod}, *kubernetes_objects()
            ),
            "s.yaml": manifest("kube-apiserver", "--etcd-servers=https://10.0.0.20:2379"),
            "k.yaml": b"kind: KubeletConfiguration\nreadOnlyPort: 10260\n",
            "e.yaml": EGRESS % (b"HTTPConnect", b"https"),
        }
    )
    declared = declared_roles(facts)
    assert declared is not None
    assert declared.roles == {
        octets("10.0.0.10"): [(CONTROL_PLANE, "kube-apiserver")],
        octets("10.0.0.20"): [(ETCD, "etcd")],
        # The pod on the host network does not make its node a pod.
        **{octets(a): [(NODE, "n1"), (CONTROL_PLANE, "n1")] for a in ("10.0.0.11", "fd00::11", "192.0.2.11")},
        octets("10.244.1.5"): [(POD, "d/web")],
        octets("10.96.0.1"): [(SERVICE, "default/kubernetes")],
    }
    expected = {("10.0.0.10", 6443), ("10.96.0.1", 443), ("127.0.0.1", 6443), ("::1", 6443)}
    assert declared.apiservers == {(octets(address), port) for address, port in expected}
    assert declared.etcds == {(octets("10.0.0.20"), 2379)}
    assert (octets("10.0.0.11"), 10350) in declared.kubelet_ports
    assert (octets("fd00::11"), 10260) in declared.readonly_ports
    assert declared.konnectivity_frontends == {(octets("10.0.0.10"), 8131)}
    assert (octets("10.0.0.10"), 8132) in declared.konnectivity_agents
    assert declared.egress_proxy is True
    assert [str(network) for network in declared.pod_networks] == ["10.244.1.0/24", "fd00:1::/64"]


def test_the_flags_of_agents_name_their_server() -> None:
    agent = manifest("proxy-agent", "--proxy-server-host=10.0.0.10", "--proxy-server-port=443")
    declared = declared_roles(read_cluster_facts({"agent.yaml": agent, "n.json": listed(NODE_OBJECT)}))
    assert declared is not None
    assert declared.konnectivity_agents == {(octets("10.0.0.10"), 443)}


ALL = (
    "--kubelet-certificate-authority=/ca",
    "--kubelet-client-certificate=/c",
    "--etcd-cafile=/ca",
    "--etcd-certfile=/c",
)


@pytest.mark.parametrize(
    ("flags", "kubelet", "etcd"),
    [
        ((), (False, False), (None, None)),
        ((*ALL, "--etcd-servers=https://a:1"), (True, True), (True, True)),
        ((*ALL, "--etcd-servers=http://a:1"), (True, True), (None, None)),
        (("--etcd-servers=https://a:1",), (False, False), (None, False)),
    ],
)
def test_what_the_api_server_declares(
    flags: tuple[str, ...], kubelet: tuple[bool, bool], etcd: tuple[bool | None, bool | None]
) -> None:
    found = declarations(read_cluster_facts({"s.yaml": manifest("kube-apiserver", *flags)}))
    assert found.apiserver is True
    assert (found.kubelet_ca, found.kubelet_certificate) == kubelet
    assert (found.etcd_ca, found.etcd_certificate) == etcd


@pytest.mark.parametrize(
    ("protocol", "scheme", "expected", "proxied"),
    [
        (b"HTTPConnect", b"https", (True, True), True),
        (b"HTTPConnect", b"http", (None, None), True),
        (b"Direct", b"https", (True, True), False),
    ],
)
def test_what_the_egress_selector_declares(
    protocol: bytes, scheme: bytes, expected: tuple[bool | None, bool | None], proxied: bool
) -> None:
    facts = read_cluster_facts({"e.yaml": EGRESS % (protocol, scheme), "n.json": listed(NODE_OBJECT)})
    found, roles = declarations(facts), declared_roles(facts)
    assert (found.konnectivity_ca, found.konnectivity_certificate) == expected
    assert roles is not None
    assert roles.egress_proxy is proxied


@pytest.mark.parametrize(
    ("cluster", "user", "expected"),
    [
        ("{server: https://a}", "system:node:n1", True),
        ("{server: https://a, insecure-skip-tls-verify: true}", "system:node:n1", False),
        ("{server: https://a, insecure-skip-tls-verify: true}", "kubernetes-admin", None),
    ],
)
def test_what_a_nodes_kubeconfig_declares(cluster: str, user: str, expected: bool | None) -> None:
    clusters, contexts = f"[{{name: c, cluster: {cluster}}}]", f"[{{context: {{cluster: c, user: '{user}'}}}}]"
    text = f"kind: Config\nclusters: {clusters}\ncontexts: {contexts}\n"
    assert declarations(read_cluster_facts({"config": text.encode()})).node_kubeconfig_ca is expected


def test_manifests_that_disagree_do_not_speak() -> None:
    files = {"a.yaml": manifest("kube-apiserver"), "b.yaml": manifest("kube-apiserver", ALL[0])}
    assert declarations(read_cluster_facts(files)) == Declarations()


@needs_lab
@pytest.mark.parametrize("name", CLUSTERS)
def test_every_lab_cluster_has_roles_for_all_its_addresses(name: str) -> None:
    facts = read_folder(LAB / "clusters" / name)
    declared, found = declared_roles(facts), declarations(facts)
    assert declared is not None
    assert {role for roles in declared.roles.values() for role, _ in roles} == {CONTROL_PLANE, ETCD, NODE, POD, SERVICE}
    assert len(declared.kubelet_ports) == len(facts.inventory.nodes) == 2
    assert found.apiserver is True


def test_kubelets_etcds_and_agents_by_address() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"namespace": "kube-system", "name": "x", "uid": "u", "labels": {"k8s-app": "konnectivity-agent"}},
        "spec": {"nodeName": "n1"},
    }
    facts = read_cluster_facts(
        {
            "a.json": listed(NODE_OBJECT, pod),
            "k.yaml": b"kind: KubeletConfiguration\ntlsMinVersion: VersionTLS13\n",
            "etcd.yaml": manifest(
                "etcd", "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.20:2379", "--client-cert-auth=true"
            ),
        }
    )

    declared = declarations(facts)

    nodes = {octets(a) for a in ("10.0.0.11", "fd00::11", "192.0.2.11")}
    assert set(declared.kubelets) == nodes == declared.agent_nodes
    assert declared.kubelets[octets("10.0.0.11")].tls_min_version == "VersionTLS13"
    assert {address: etcd.client_cert_auth for address, etcd in declared.etcds.items()} == {octets("10.0.0.20"): True}


def test_two_etcd_manifests_for_one_address_say_nothing() -> None:
    one = manifest("etcd", "--advertise-client-urls=https://10.0.0.20:2379", "--client-cert-auth=true")
    other = manifest("etcd", "--advertise-client-urls=https://10.0.0.20:2379", "--client-cert-auth=false")

    assert declarations(read_cluster_facts({"a.yaml": one, "b.yaml": other})).etcds == {}


@pytest.mark.parametrize(
    ("components", "skip", "declared"),
    [
        (("kube-scheduler",), False, None),
        (("kube-scheduler", "kube-controller-manager"), False, True),
        (("kube-scheduler", "kube-controller-manager"), True, False),
    ],
)
def test_kubeconfigs_of_the_control_plane(components: tuple[str, ...], skip: bool, declared: bool | None) -> None:
    def config(component: str) -> bytes:
        return (
            f"kind: Config\nclusters:\n- name: c\n  cluster: {{server: 'https://x', certificate-authority: /ca.crt, "
            f"insecure-skip-tls-verify: {str(skip).lower()}}}\nusers:\n- name: system:{component}\n"
            f"contexts:\n- name: x\n  context: {{cluster: c, user: 'system:{component}'}}\n"
        ).encode()

    facts = read_cluster_facts({f"{name}.conf": config(name) for name in components})

    assert declarations(facts).controlplane_kubeconfig_ca is declared


def test_an_egress_selector_is_proxied_and_encrypted_or_not() -> None:
    for scheme, encrypted in (("https", True), ("http", False)):
        facts = read_cluster_facts({"e.yaml": EGRESS % (b"HTTPConnect", scheme.encode())})
        assert declarations(facts).egress_proxied is True
        assert declarations(facts).egress_encrypted is encrypted
    direct = (
        b"kind: EgressSelectorConfiguration\negressSelections: [{name: cluster, connection: {proxyProtocol: Direct}}]\n"
    )
    assert declarations(read_cluster_facts({"e.yaml": direct})).egress_proxied is False
