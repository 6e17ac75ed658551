from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from analyzer.cluster.declared import ApiServerDeclared, KubeletDeclared
from analyzer.cluster.inventory import Endpoint, OwnerKind
from analyzer.cluster.loading import ClusterFacts, read_cluster_facts
from analyzer.errors import ClusterFactsError
from tests.unit.cluster.test_authorities import KEY_PEM, pem
from tests.unit.cluster.test_configuration import KUBECONFIG
from tests.unit.cluster.test_objects import NODE, POD

LAB = Path(__file__).parents[4] / "shared" / "captures" / "k8s"
CLUSTERS = sorted(folder.name for folder in LAB.glob("clusters/*"))
needs_lab = pytest.mark.skipif(not CLUSTERS, reason="the lab captures are not beside this checkout")


def endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(ipaddress.ip_address(address), port)


def manifest(program: str, *flags: str) -> bytes:
    spec = {"hostNetwork": True, "containers": [{"name": program, "command": [program, *flags]}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": program, "namespace": "kube-system"}, "spec": spec}
    return yaml.safe_dump(pod).encode()


def kubernetes_objects(address: str = "10.0.0.10", port: int = 6443, vip: str = "10.96.0.1") -> list[dict[str, Any]]:
    metadata = {"name": "kubernetes", "namespace": "default"}
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    return [
        {"kind": "Service", "metadata": metadata, "spec": {"clusterIP": vip, "ports": [{"port": 443}]}},
        {"kind": "Endpoints", "metadata": metadata, "subsets": [{"addresses": [{"ip": address}], "ports": ports}]},
        {
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "endpoints": [{"addresses": [address]}],
            "ports": ports,
        },
    ]


def listed(*objects: dict[str, Any], kind: str = "List") -> bytes:
    return json.dumps({"apiVersion": "v1", "items": objects, "kind": kind}).encode()


def test_nothing_gives_nothing() -> None:
    assert read_cluster_facts({}) == ClusterFacts()


def test_a_whole_cluster_from_many_files() -> None:
    facts = read_cluster_facts(
        {
            "objects.json": listed({"kind": "Pod", **POD}, NODE, *kubernetes_objects()),
            "kube-apiserver.yaml": manifest(
                "kube-apiserver",
                "--advertise-address=10.0.0.10",
                "--etcd-servers=https://10.0.0.20:2379,https://[fd00::20]",
                "--service-cluster-ip-range=10.96.0.0/12,fd00:96::/112",
            ),
            "etcd.yaml": manifest("etcd", "--advertise-client-urls=https://10.0.0.21:2379", "--client-cert-auth=true"),
            "kube-controller-manager.yaml": manifest("kube-controller-manager", "--cluster-cidr=10.244.0.0/16"),
            "agent.yaml": manifest("proxy-agent", "--proxy-server-host=10.0.0.10", "--proxy-server-port=8132"),
            "egress.yaml": b"kind: EgressSelectorConfiguration\negressSelections:\n- name: cluster\n  connection:\n"
            b"    proxyProtocol: HTTPConnect\n    transport: {tcp: {url: 'https://10.0.0.10:8131'}}\n",
            "kubelet-config-n1.yaml": b"kind: KubeletConfiguration\nreadOnlyPort: 10255\n",
            "admin.conf": yaml.safe_dump(KUBECONFIG).encode(),
            "pki/ca.crt": pem("kubernetes"),
        }
    )
    inventory, declared = facts.inventory, facts.declared
    assert [node.name for node in inventory.nodes] == ["n1"]
    assert [pod.name for pod in inventory.pods] == ["p"]
    assert inventory.apiservers == (endpoint("10.0.0.10", 6443),)
    assert inventory.apiserver_vips == (endpoint("10.96.0.1", 443),)
    assert inventory.etcds == (
        endpoint("10.0.0.20", 2379),
        endpoint("fd00::20", 2379),
        endpoint("10.0.0.21", 2379),
    )
    assert inventory.konnectivity_servers == (endpoint("10.0.0.10", 8131),)
    assert inventory.konnectivity_agent_endpoints == (endpoint("10.0.0.10", 8132),)
    assert [str(network) for network in inventory.service_cidrs] == ["10.96.0.0/12", "fd00:96::/112"]
    assert [str(network) for network in inventory.pod_cidrs] == ["10.244.1.0/24", "fd00:1::/64", "10.244.0.0/16"]
    assert len(inventory.endpoints) == 1
    assert [owner.kind for owner in inventory.role_of("10.0.0.10")] == [
        OwnerKind.APISERVER,
        OwnerKind.KONNECTIVITY_SERVER,
    ]
    assert declared.apiserver is not None
    assert declared.apiserver.source_file == "kube-apiserver.yaml"
    assert declared.etcds[0].client_cert_auth is True
    assert declared.kubelet("n1") == KubeletDeclared(
        "n1", "kubelet-config-n1.yaml", read_only_port=10255, read_only_port_set=True
    )
    assert [config.component for config in declared.kubeconfigs] == ["kubelet", "kubectl"]
    assert [authority.role for authority in facts.authorities] == ["kubernetes"]
    # The kubeconfig's CA data is no certificate; everything else was taken.
    assert facts.notes == ("admin.conf: certificate 1 cannot be read",)
    assert facts.sources == (
        *("admin.conf", "agent.yaml", "egress.yaml", "etcd.yaml", "kube-apiserver.yaml"),
        *("kube-controller-manager.yaml", "kubelet-config-n1.yaml", "objects.json", "pki/ca.crt"),
    )


def test_the_order_of_files_does_not_matter() -> None:
    files = {"b.json": listed(NODE), "a.yaml": b"kind: KubeletConfiguration\n", "c.json": listed(*kubernetes_objects())}
    assert read_cluster_facts(files) == read_cluster_facts(dict(reversed(files.items())))


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("README.md", b"# Notes", "README.md: not recognised, not used"),
        ("x.pcap", b"\xd4\xc3\xb2\xa1\x00", "x.pcap: not recognised, not used"),
        ("empty.json", b"", "empty.json: holds no objects"),
        ("none.json", listed(), "none.json: holds no objects"),
        (
            "csr.json",
            listed({"kind": "CertificateSigningRequest"}),
            "csr.json: 1 of kind CertificateSigningRequest not used",
        ),
        ("package.json", b'{"name": "x"}', "package.json: 1 of kind (none) not used"),
        ("web.yaml", manifest("nginx"), "web.yaml: 1 of kind Pod not used"),
        ("s.json", listed({"kind": "Secret", "data": {"token": "czNjcmV0"}}), "s.json: 1 of kind Secret not used"),
        ("ca.crt", b"no certificate", "ca.crt: certificate 1 cannot be read"),
    ],
)
def test_what_is_not_known_is_noted(name: str, content: bytes, note: str) -> None:
    assert read_cluster_facts({name: content}) == ClusterFacts(notes=(note,))


def test_objects_beside_unknown_ones_are_taken() -> None:
    facts = read_cluster_facts({"all.json": listed(NODE, {"kind": "Lease"}, {"kind": "Lease"}, {"nothing": 1})})
    assert facts.sources == ("all.json",)
    assert facts.notes == ("all.json: 1 of kind (none) not used", "all.json: 2 of kind Lease not used")


def test_typed_lists_do_not_repeat_the_kind_of_their_items() -> None:
    bare = {key: value for key, value in NODE.items() if key != "kind"}
    facts = read_cluster_facts({"nodes": listed(bare, kind="NodeList")})
    assert [node.name for node in facts.inventory.nodes] == ["n1"]


def test_lists_in_lists_are_opened_only_so_deep() -> None:
    document = NODE
    for _ in range(50):
        document = {"kind": "List", "items": [document]}
    facts = read_cluster_facts({"f.json": json.dumps(document).encode()})
    assert facts.inventory.nodes == ()
    assert facts.notes == ("f.json: 1 of kind List not used",)


@pytest.mark.parametrize("name", ["f.yaml", "f.json", "kubelet.conf"])
def test_what_means_to_be_a_document_and_is_none_is_an_error(name: str) -> None:
    with pytest.raises(ClusterFactsError, match=rf"^{name}: line \d: is not (YAML|JSON)") as caught:
        read_cluster_facts({name: b'{"kind": "Node",\n' if name == "f.json" else b"kind: Config\nclusters: [\n"})
    assert caught.value.path == name


def test_flags_of_pods_in_the_api_count_too() -> None:
    pod = yaml.safe_load(manifest("kube-apiserver", "--secure-port=443", "--advertise-address=10.0.0.10"))
    pod["metadata"]["uid"] = "u"
    pod["status"] = {"podIP": "10.0.0.10"}
    facts = read_cluster_facts({"pods.json": listed(pod)})
    assert facts.inventory.apiservers == (endpoint("10.0.0.10", 443),)
    assert [p.name for p in facts.inventory.pods] == ["kube-apiserver"]
    agents = {"kind": "DaemonSet", "spec": {"template": pod}}
    assert read_cluster_facts({"ds.json": listed(agents)}).inventory.apiservers == facts.inventory.apiservers


def test_config_maps_of_kubeadm() -> None:
    def config_map(name: str, **data: str) -> dict[str, Any]:
        return {
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {k.replace("_", "."): v for k, v in data.items()},
        }

    cluster = (
        "kind: ClusterConfiguration\nnetworking: {podSubnet: '10.1.0.0/16,fd01::/48', serviceSubnet: 10.2.0.0/16}\n"
    )
    proxy = "kind: KubeProxyConfiguration\nclusterCIDR: 10.1.0.0/16\n"
    facts = read_cluster_facts(
        {
            "maps.json": listed(
                config_map("kubelet-config", kubelet="kind: KubeletConfiguration\nreadOnlyPort: 10255\n"),
                config_map("kubeadm-config", ClusterConfiguration=cluster),
                config_map("kube-proxy", config_conf=proxy),
                config_map("kube-root-ca.crt", ca_crt=pem("Example Root").decode()),
                config_map("mine", password="s3cret", kubelet="kind: ConfigMap\ndata: {}\n"),
                {"kind": "ServiceCIDR", "spec": {"cidrs": ["10.3.0.0/16"]}},
            )
        }
    )
    assert [str(network) for network in facts.inventory.pod_cidrs] == ["10.1.0.0/16", "fd01::/48"]
    assert [str(network) for network in facts.inventory.service_cidrs] == ["10.2.0.0/16", "10.3.0.0/16"]
    kubelet = facts.declared.kubelet("any")
    assert kubelet is not None
    assert (kubelet.node, kubelet.read_only_port) == ("", 10255)
    assert kubelet.source_file == "maps.json (ConfigMap kubelet-config)"
    assert [authority.role for authority in facts.authorities] == ["kubernetes"]
    assert "s3cret" not in repr(facts)


def test_the_answer_of_configz() -> None:
    answer = b'{"kubeletconfig":{"readOnlyPort":10255,"authentication":{"anonymous":{"enabled":true}}}}'
    facts = read_cluster_facts({"api/v1/nodes/n1/proxy/configz": answer, "n.json": listed(NODE)})
    kubelet = facts.declared.kubelet("n1")
    assert kubelet is not None
    assert (kubelet.node, kubelet.read_only_port, kubelet.anonymous) == ("n1", 10255, True)
    assert facts.notes == ()


def test_manifests_that_disagree_are_no_declaration() -> None:
    files = {
        "a.yaml": manifest("kube-apiserver", "--advertise-address=10.0.0.10", "--client-ca-file=/ca"),
        "b.yaml": manifest("kube-apiserver", "--advertise-address=10.0.0.11", "--client-ca-file=/ca"),
    }
    facts = read_cluster_facts(files)
    assert facts.declared.apiserver is not None
    assert facts.inventory.apiservers == (endpoint("10.0.0.10", 6443), endpoint("10.0.0.11", 6443))
    assert facts.notes == ()
    files["c.yaml"] = manifest("kube-apiserver", "--kubelet-certificate-authority=/ca", "--client-ca-file=/ca")
    facts = read_cluster_facts(files)
    assert facts.declared.apiserver is None
    assert facts.declared.apiserver_disagreements == ("kubelet_certificate_authority",)
    (note,) = facts.notes
    assert note.startswith("several API server manifests differ in kubelet-certificate-authority:")


def test_hosts_by_name() -> None:
    servers = "--etcd-servers=https://n1:2379,https://etcd.example:2379,https://0.0.0.0:2379,https://[bad"
    facts = read_cluster_facts({"n.json": listed(NODE), "a.yaml": manifest("kube-apiserver", servers)})
    assert facts.inventory.etcds == tuple(endpoint(a, 2379) for a in ("10.0.0.11", "fd00::11", "192.0.2.11"))
    assert facts.notes == ("a.yaml: host etcd.example is a name that no node has; its address is not known",)


def test_no_secret_of_any_file_is_kept() -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzM2NyZXQifQ.c2lnbmF0dXJl"
    secret = {"env": [{"name": "TOKEN", "value": token}], "name": "c", "command": ["kube-apiserver", f"--x={token}"]}
    pod = {
        "kind": "Pod",
        "metadata": {"name": "p", "uid": "u", "annotations": {"t": token}},
        "spec": {"containers": [secret]},
    }
    facts = read_cluster_facts(
        {
            "objects.json": listed(pod, {"kind": "Secret", "metadata": {"name": "s"}, "data": {"token": token}}),
            "admin.conf": yaml.safe_dump(KUBECONFIG).encode(),
            "key.pem": KEY_PEM,
            "apiserver.yaml": manifest(
                "kube-apiserver", f"--client-ca-file={token}", "--etcd-servers=https://u:s3cret@h"
            ),
        }
    )
    shown = repr(facts)
    assert facts.declared.apiservers
    assert not any(part in shown for part in ("s3cret", *token.split("."), KEY_PEM.splitlines()[1].decode(), "Q0VSVA"))


# ------------------------------------------------------------------------------------------------- the lab


def read_folder(folder: Path) -> ClusterFacts:
    return read_cluster_facts({path.name: path.read_bytes() for path in sorted(folder.iterdir())})


@needs_lab
@pytest.mark.parametrize("name", CLUSTERS)
def test_the_lab_clusters_as_their_truth_tells(name: str) -> None:
    """Addresses and configuration in force, from an independent record of what was run."""
    truth = json.loads((LAB / f"{name}.truth.json").read_text())
    facts = read_folder(LAB / "clusters" / name)
    inventory, declared, roles, config = facts.inventory, facts.declared, truth["roles"], truth["config"]
    assert facts.notes == ()
    for node, address in roles["nodes"].items():
        assert (OwnerKind.NODE, node) in [owner[:2] for owner in inventory.role_of(address)]
        kubelet = declared.kubelet(node)
        assert kubelet is not None
        expected = config[f"kubelet-{node}"]
        assert kubelet.read_only_port == expected["readonly"]
        assert kubelet.anonymous is expected["anon"]
        assert (kubelet.serving_certificate == "self-made") is (expected["serving"] == "self")
    for pod, entry in roles["pods"].items():
        kind, _, qualified = pod.rpartition(" ")
        owner = (OwnerKind.SERVICE if kind == "svc" else OwnerKind.POD, qualified)
        assert owner in [(o.kind, o.qualified_name) for o in inventory.role_of(entry["ip"])]
    apiserver = declared.apiserver
    assert apiserver is not None
    port = apiserver.port
    assert Endpoint(ipaddress.ip_address(roles["control_plane"]), port) in inventory.apiservers
    if name != "17-apiserver-on-443":  # its folder was exported with the flags of 01, --secure-port=6443
        assert port == roles["apiserver_port"]
    assert [e.address for e in inventory.etcds] == [ipaddress.ip_address(roles["etcd"])]
    assert [str(network) for network in inventory.service_cidrs] == [roles["service_cidr"]]
    assert inventory.in_service_cidr(roles["kubernetes_service_vip"])
    assert [str(vip.address) for vip in inventory.apiserver_vips] == [roles["kubernetes_service_vip"]]
    assert apiserver.etcd_is_encrypted is (config["api"].get("etcd", "https") == "https")
    assert bool(apiserver.kubelet_certificate_authority) is bool(config["api"].get("kubelet_ca"))
    assert bool(apiserver.egress_selector_config_file) is bool(config["api"].get("egress"))
    assert {"kubernetes", "etcd-ca", "front-proxy-ca"} <= {authority.role for authority in facts.authorities}


@needs_lab
@pytest.mark.parametrize("name", ["main", "ipv6"])
def test_a_folder_of_variants_is_read_and_its_contradictions_noted(name: str) -> None:
    facts = read_folder(LAB / "inventory" / name)
    assert len(facts.declared.apiservers) == 7
    assert all(isinstance(server, ApiServerDeclared) for server in facts.declared.apiservers)
    assert facts.declared.apiserver is None
    assert {kubelet.node for kubelet in facts.declared.kubelets} == {"node1", "node2"}
    assert any(note.startswith("several API server manifests differ") for note in facts.notes)
    assert "" in {authority.role for authority in facts.authorities}  # other-ca.crt


def test_openshift_s_api_server_configuration() -> None:
    config = (
        "kind: KubeAPIServerConfig\napiVersion: kubecontrolplane.config.openshift.io/v1\napiServerArguments:\n"
        "  kubelet-certificate-authority: [/etc/ca.crt]\n  kubelet-client-certificate: /etc/c.crt\n"
        "  etcd-servers: ['https://10.0.0.20:2379', 'https://10.0.0.21:2379']\n  unknown-flag: [hunter2]\n"
    )
    document = {
        "kind": "ConfigMap",
        "metadata": {"name": "config"},
        "data": {"config.yaml": config, "other": "kind: X"},
    }

    facts = read_cluster_facts({"c.json": json.dumps(document).encode()})

    server = facts.declared.apiserver
    assert server is not None
    assert (server.kubelet_certificate_authority, server.kubelet_client_certificate) == ("/etc/ca.crt", "/etc/c.crt")
    assert len(server.etcd_servers) == 2
    assert [str(e.address) for e in facts.inventory.etcds] == ["10.0.0.20", "10.0.0.21"]
    assert "hunter2" not in repr(facts)


def test_what_kubectl_config_view_leaves_out_is_not_missed() -> None:
    text = (
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {server: 'https://x', "
        "certificate-authority-data: DATA+OMITTED}\nusers:\n- name: system:kube-scheduler\n  user: {token: REDACTED}\n"
        "contexts:\n- name: x\n  context: {cluster: c, user: 'system:kube-scheduler'}\n"
    )

    facts = read_cluster_facts({"scheduler.conf": text.encode()})

    [config] = facts.declared.kubeconfigs
    assert (config.component, config.authority, config.verifies_server) == ("kube-scheduler", "data", True)
    assert facts.notes == ()
