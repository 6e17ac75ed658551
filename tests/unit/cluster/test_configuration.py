from __future__ import annotations

from typing import Any

import pytest

from analyzer.cluster.configuration import (
    kubeconfig_authorities,
    node_in_file_name,
    read_egress,
    read_kubeconfig,
    read_kubelet,
)
from analyzer.cluster.declared import Declared, EgressDeclared, KubeletDeclared


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("kubelet-config-node1.yaml", (), "node1"),
        ("dir/kubelet-config-node1.example.com.yaml", (), "node1.example.com"),
        ("kubelet_config_node1.json", (), "node1"),
        ("kubelet-configuration-node1.yml", (), "node1"),
        ("configz-node1.json", (), "node1"),
        ("configz-node1", (), "node1"),
        ("api/v1/nodes/node1/proxy/configz", (), "node1"),
        ("kubelet-config-node1-serving-ca-readonly-0.yaml", ("node", "node1", "node1-serving"), "node1-serving"),
        ("kubelet-config-node10.yaml", ("node1",), "node10"),
        ("kubelet-config.yaml", ("node1",), ""),
        ("config.yaml", (), ""),
    ],
)
def test_nodes_in_file_names(name: str, known: tuple[str, ...], expected: str) -> None:
    assert node_in_file_name(name, known) == expected


def test_a_kubelet_that_sets_nothing_has_the_defaults_of_the_format() -> None:
    declared, settings = read_kubelet({"kind": "KubeletConfiguration"}, "n1", "f")
    assert declared == KubeletDeclared("n1", "f")
    assert (declared.read_only_port, declared.read_only_port_set) == (0, False)
    assert (declared.anonymous, declared.webhook, declared.authorization_mode) == (False, True, "Webhook")
    assert (declared.port, declared.serving_certificate) == (10250, "self-made")
    assert {setting.value for setting in settings} == {"not set"}
    assert {setting.component for setting in settings} == {"kubelet n1"}


def test_a_kubelet_that_sets_everything() -> None:
    document = {
        "address": "::",
        "port": 10350,
        "readOnlyPort": 10255,
        "authentication": {
            "anonymous": {"enabled": True},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": "/ca"},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "serverTLSBootstrap": True,
        "tlsMinVersion": "VersionTLS13",
        "tlsCipherSuites": ["TLS_A", "TLS_B"],
        "staticPodURLHeader": {"Authorization": ["Bearer s3cret"]},
    }
    declared, settings = read_kubelet(document, "", "f")
    assert declared == KubeletDeclared(
        *("", "f", "::", 10350, 10255, True, True, False, "/ca", "AlwaysAllow", True, None, "VersionTLS13"),
        tls_cipher_suites=("TLS_A", "TLS_B"),
    )
    assert declared.serving_certificate == "signed by CSR"
    values = {setting.setting: setting.value for setting in settings}
    assert values["authentication.anonymous.enabled"] == "true"
    assert values["tlsCipherSuites"] == "TLS_A,TLS_B"
    assert "s3cret" not in repr((declared, settings))
    assert read_kubelet({"tlsCertFile": "/c"}, "", "f")[0].serving_certificate == "file"


def test_which_configuration_is_a_nodes() -> None:
    own, shared = KubeletDeclared("n1", "a"), KubeletDeclared("", "b", read_only_port=10255)
    same, other = KubeletDeclared("n1", "c"), KubeletDeclared("n1", "d", anonymous=True)
    assert Declared(kubelets=(shared, own)).kubelet("n1") == own
    assert Declared(kubelets=(shared, own)).kubelet("n2") == shared
    assert Declared(kubelets=(own,)).kubelet("n2") is None
    assert Declared(kubelets=(own, same)).kubelet("n1") == own
    assert Declared(kubelets=(own, other)).kubelet("n1") is None


def selection(name: str, connection: dict[str, Any]) -> dict[str, Any]:
    return {"egressSelections": [{"name": name, "connection": connection}]}


TLS = {"caBundle": "/ca", "clientCert": "/cert", "clientKey": "/key"}


@pytest.mark.parametrize(
    ("document", "expected", "proxied", "encrypted"),
    [
        (
            selection("cluster", {"proxyProtocol": "GRPC", "transport": {"uds": {"udsName": "/sock"}}}),
            EgressDeclared("cluster", "f", "GRPC", "uds", "/sock"),
            True,
            None,
        ),
        (
            selection(
                "cluster",
                {"proxyProtocol": "HTTPConnect", "transport": {"tcp": {"url": "https://a:8131", "tlsConfig": TLS}}},
            ),
            EgressDeclared("cluster", "f", "HTTPConnect", "tcp", "https://a:8131", True, True),
            True,
            True,
        ),
        (
            selection("cluster", {"proxyProtocol": "HTTPConnect", "transport": {"tcp": {"url": "http://a:8131"}}}),
            EgressDeclared("cluster", "f", "HTTPConnect", "tcp", "http://a:8131"),
            True,
            False,
        ),
        (
            selection("master", {"proxyProtocol": "Direct"}),
            EgressDeclared("controlplane", "f", "Direct", ""),
            False,
            None,
        ),
        (
            selection("cluster", {"type": "http-connect", "httpConnect": {"url": "https://a:8131", **TLS}}),
            EgressDeclared("cluster", "f", "HTTPConnect", "tcp", "https://a:8131", True, True),
            True,
            True,
        ),
    ],
)
def test_egress_selections(
    document: dict[str, Any], expected: EgressDeclared, proxied: bool, encrypted: bool | None
) -> None:
    (declared,), settings = read_egress(document, "f")
    assert declared == expected
    assert (declared.is_proxied, declared.is_encrypted) == (proxied, encrypted)
    assert declared.verifies_server is (True if encrypted else None)
    assert Declared(egress=(declared,)).egress_for(expected.name) == declared
    assert settings[0].value == expected.proxy_protocol


def test_several_selections_of_one_name_are_none() -> None:
    one, other = EgressDeclared("cluster", "f", "Direct", ""), EgressDeclared("etcd", "f", "GRPC", "uds", "/s")
    declared = Declared(egress=(one, other, one))
    assert (declared.egress_for("cluster"), declared.egress_for("etcd"), declared.egress_for("x")) == (
        None,
        other,
        None,
    )


KUBECONFIG: dict[str, Any] = {
    "kind": "Config",
    "current-context": "a",
    "clusters": [
        {"name": "c1", "cluster": {"server": "https://10.0.0.10:6443", "certificate-authority-data": "Q0E="}},
        {"name": "c2", "cluster": {"server": "https://x", "insecure-skip-tls-verify": True, "tls-server-name": "k"}},
    ],
    "users": [
        {"name": "system:node:n1", "user": {"client-certificate-data": "Q0VSVA==", "client-key-data": "s3cret"}},
        {"name": "u", "user": {"token": "s3cret", "username": "u", "password": "s3cret", "exec": {"env": ["s3cret"]}}},
    ],
    "contexts": [
        {"name": "a", "context": {"cluster": "c1", "user": "system:node:n1"}},
        {"name": "b", "context": {"cluster": "c2", "user": "u"}},
        {"name": "b2", "context": {"cluster": "c2", "user": "u"}},
        {"name": "c", "context": {"cluster": "missing", "user": "u"}},
    ],
}


def test_contexts_of_a_kubeconfig() -> None:
    (node, user), settings = read_kubeconfig(KUBECONFIG, "kubelet.conf")
    assert (node.component, node.cluster, node.server) == ("kubelet", "c1", "https://10.0.0.10:6443")
    assert (node.authority, node.insecure_skip_tls_verify, node.verifies_server) == ("data", False, True)
    assert node.credentials == ("client certificate",)
    assert (user.authority, user.insecure_skip_tls_verify, user.verifies_server) == ("none", True, False)
    assert (user.credentials, user.tls_server_name) == (("token", "basic", "exec plugin"), "k")
    assert "s3cret" not in repr((node, user, settings))
    assert "Q0VSVA" not in repr((node, user, settings))
    assert kubeconfig_authorities(KUBECONFIG) == ["Q0E="]


@pytest.mark.parametrize(
    ("user", "file", "expected"),
    [
        ("system:node:n1", "x", "kubelet"),
        ("default-auth", "x", "kubelet"),
        ("system:kube-scheduler", "x", "kube-scheduler"),
        ("kubernetes-admin", "x", "kubectl"),
        ("me", "etc/kubelet.conf", "kubelet"),
        ("me", "etc/controller-manager.conf", "kube-controller-manager"),
        ("me", "config", ""),
    ],
)
def test_whose_kubeconfig_it_is(user: str, file: str, expected: str) -> None:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://a"}}],
        "contexts": [{"context": {"cluster": "c", "user": user}}],
    }
    assert read_kubeconfig(document, file)[0][0].component == expected


def test_a_kubeconfig_without_contexts_still_names_its_server() -> None:
    document = {"clusters": [{"name": "c", "cluster": {"server": "http://a", "certificate-authority": "/ca"}}]}
    (declared,), _ = read_kubeconfig(document, "f")
    assert (declared.authority, declared.verifies_server, declared.credentials) == ("file", False, ())


@pytest.mark.parametrize("junk", [None, [], "x", 5, {"a": None}, [None, "x", {"name": 5, "cluster": []}]])
def test_wrong_types_never_raise(junk: object) -> None:
    assert all(not selection.is_proxied for selection in read_egress({"egressSelections": junk}, "f")[0])
    assert all(
        not entry.verifies_server for entry in read_kubeconfig(dict.fromkeys(("clusters", "users"), junk), "f")[0]
    )
    declared, _ = read_kubelet({"authentication": junk, "port": junk, "tlsCipherSuites": junk}, "", "f")
    assert declared.client_ca_file is None
