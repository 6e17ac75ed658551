"""Configuration files of components: KubeletConfiguration, EgressSelectorConfiguration, kubeconfig."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from analyzer.cluster.declared import (
    CredentialKind,
    DeclaredSetting,
    EgressDeclared,
    KubeconfigDeclared,
    KubeletDeclared,
)
from analyzer.cluster.documents import Object, boolean, child, integer, mapping, sequence, string, strings
from analyzer.protocols.credentials import redact

MAX_CONTEXTS: Final = 256
"""Contexts read of one kubeconfig."""

# Path of each kubelet setting that is told (https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/).
KUBELET_SETTINGS: Final = (
    ("address",),
    ("port",),
    ("readOnlyPort",),
    ("authentication", "anonymous", "enabled"),
    ("authentication", "webhook", "enabled"),
    ("authentication", "x509", "clientCAFile"),
    ("authorization", "mode"),
    ("serverTLSBootstrap",),
    ("tlsCertFile",),
    ("tlsMinVersion",),
    ("tlsCipherSuites",),
)

_NODE_IN_PATH: Final = re.compile(r"nodes/(?P<node>[^/]+)/proxy/configz$")  # kubectl get --raw's path
_NODE_IN_NAME: Final = re.compile(
    r"(?:kubelet[-_.]?config(?:uration)?|configz)[-_](?P<node>[A-Za-z0-9][A-Za-z0-9.-]*?)(?:\.(?:ya?ml|json|conf|txt))?$"
)

_COMPONENT_USERS: Final = (
    ("system:node:", "kubelet"),
    ("default-auth", "kubelet"),  # pkg/kubelet/certificate/bootstrap/bootstrap.go, bootstrapKubeConfig
    ("system:kube-controller-manager", "kube-controller-manager"),
    ("system:kube-scheduler", "kube-scheduler"),
    ("system:kube-proxy", "kube-proxy"),
    ("kubernetes-admin", "kubectl"),  # kubeadm's admin.conf
    ("kubernetes-super-admin", "kubectl"),
)
_COMPONENT_FILES: Final = (
    ("bootstrap-kubelet", "kubelet"),
    ("kubelet", "kubelet"),
    ("controller-manager", "kube-controller-manager"),
    ("scheduler", "kube-scheduler"),
    ("kube-proxy", "kube-proxy"),
    ("super-admin", "kubectl"),
    ("admin", "kubectl"),
)


def node_in_file_name(name: str, known: Sequence[str]) -> str:
    """Node that a file name speaks of: ``kubelet-config-<node>...``, ``.../nodes/<node>/proxy/configz``.

    Parameters
    ----------
    name : str
        File name, with or without folders.
    known : sequence of str
        Names of known nodes. One that begins what the name says, as a whole word, wins: ``node1-old`` is node1's.
    """
    found = _NODE_IN_PATH.search(name) or _NODE_IN_NAME.search(name.rsplit("/", 1)[-1])
    if found is None:
        return ""
    said = found["node"]
    whole = [node for node in known if said == node or said.startswith((f"{node}-", f"{node}.", f"{node}_"))]
    return max(whole, key=len, default=said)


def read_kubelet(document: Object, node: str, source_file: str) -> tuple[KubeletDeclared, list[DeclaredSetting]]:
    """Read a KubeletConfiguration, from its file or as the kubelet's /configz shows it."""
    read_only = integer(document, "readOnlyPort")
    defaults = KubeletDeclared(node, source_file)
    anonymous = boolean(document, "authentication", "anonymous", "enabled")
    webhook = boolean(document, "authentication", "webhook", "enabled")
    declared = KubeletDeclared(
        node=node,
        source_file=source_file,
        address=string(document, "address") or defaults.address,
        port=integer(document, "port") or defaults.port,
        read_only_port=defaults.read_only_port if read_only is None else read_only,
        read_only_port_set=read_only is not None,
        anonymous=defaults.anonymous if anonymous is None else anonymous,
        webhook=defaults.webhook if webhook is None else webhook,
        client_ca_file=string(document, "authentication", "x509", "clientCAFile") or None,
        authorization_mode=string(document, "authorization", "mode") or defaults.authorization_mode,
        server_tls_bootstrap=boolean(document, "serverTLSBootstrap") or False,
        tls_cert_file=string(document, "tlsCertFile") or None,
        tls_min_version=string(document, "tlsMinVersion") or None,
        tls_cipher_suites=strings(document, "tlsCipherSuites"),
    )
    component = f"kubelet {node}" if node else "kubelet"
    settings = [
        DeclaredSetting(component, ".".join(path), _shown(child(document, *path)), source_file)
        for path in KUBELET_SETTINGS
    ]
    return declared, settings


def _shown(value: object) -> str:
    """Text of a setting's value; ``not set`` for None and for what a setting cannot be."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(item for item in value if isinstance(item, str))
    return str(value) if isinstance(value, str | int) else "not set"


def read_egress(document: Object, source_file: str) -> tuple[list[EgressDeclared], list[DeclaredSetting]]:
    """Read an EgressSelectorConfiguration (apiserver.k8s.io/v1beta1, v1alpha1)."""
    names = {"http-connect": "HTTPConnect", "httpconnect": "HTTPConnect", "grpc": "GRPC", "direct": "Direct"}
    declared: list[EgressDeclared] = []
    settings: list[DeclaredSetting] = []
    for selection in sequence(document, "egressSelections"):
        connection = mapping(selection, "connection")
        protocol = string(connection, "proxyProtocol") or string(connection, "type")
        tcp, uds = mapping(connection, "transport", "tcp"), mapping(connection, "transport", "uds")
        url = string(tcp, "url") or string(uds, "udsName") or string(connection, "httpConnect", "url")
        tls = mapping(tcp, "tlsConfig") or mapping(connection, "httpConnect")
        entry = EgressDeclared(
            name={"master": "controlplane"}.get(string(selection, "name"), string(selection, "name")),
            source_file=source_file,
            proxy_protocol=names.get(protocol.lower(), protocol),
            transport="uds" if uds else "tcp" if url else "",
            url=redact(url.encode("utf-8", "replace")).decode(),
            has_ca_bundle=bool(string(tls, "caBundle")),
            has_client_certificate=bool(string(tls, "clientCert")),
        )
        declared.append(entry)
        facts = (
            ("proxyProtocol", entry.proxy_protocol),
            ("url" if entry.transport == "tcp" else "udsName", entry.url or "not set"),
            ("caBundle", "given" if entry.has_ca_bundle else "not set"),
            ("clientCert", "given" if entry.has_client_certificate else "not set"),
        )
        settings += [
            DeclaredSetting(f"egress selector {entry.name}", name, value, source_file) for name, value in facts
        ]
    return declared, settings


def read_kubeconfig(document: Object, source_file: str) -> tuple[list[KubeconfigDeclared], list[DeclaredSetting]]:
    """Read the contexts of a kubeconfig; of credentials only the kinds are looked at, and nothing of them is kept."""
    clusters = {string(entry, "name"): mapping(entry, "cluster") for entry in sequence(document, "clusters")}
    users = {string(entry, "name"): mapping(entry, "user") for entry in sequence(document, "users")}
    pairs = [
        (string(entry, "context", "cluster"), string(entry, "context", "user"))
        for entry in sequence(document, "contexts")[:MAX_CONTEXTS]
    ]
    # Without contexts a lone cluster still says how its server is checked.
    pairs = pairs or [(name, next(iter(users), "")) for name in list(clusters)[:MAX_CONTEXTS]]
    declared: list[KubeconfigDeclared] = []
    settings: list[DeclaredSetting] = []
    for cluster_name, user_name in dict.fromkeys(pairs):
        cluster = clusters.get(cluster_name)
        if cluster is None:
            continue
        data, file = string(cluster, "certificate-authority-data"), string(cluster, "certificate-authority")
        entry = KubeconfigDeclared(
            source_file=source_file,
            component=_component(user_name, source_file),
            cluster=cluster_name,
            user=user_name,
            server=redact(string(cluster, "server").encode("utf-8", "replace")).decode(),
            authority="data" if data else "file" if file else "none",
            insecure_skip_tls_verify=boolean(cluster, "insecure-skip-tls-verify") or False,
            tls_server_name=string(cluster, "tls-server-name"),
            credentials=_credentials(users.get(user_name, {})),
        )
        declared.append(entry)
        facts = (
            ("server", entry.server or "not set"),
            ("certificate-authority", {"none": "not set", "data": "given"}.get(entry.authority, file)),
            ("insecure-skip-tls-verify", "true" if entry.insecure_skip_tls_verify else "not set"),
            ("credentials", ", ".join(entry.credentials) or "none"),
        )
        component = f"kubeconfig of {entry.component}" if entry.component else "kubeconfig"
        settings += [DeclaredSetting(component, name, value, source_file) for name, value in facts]
    return declared, settings


def _component(user: str, source_file: str) -> str:
    """Program that a kubeconfig belongs to, by its user, else by its file name; empty where neither says."""
    by_user = next((component for prefix, component in _COMPONENT_USERS if user.startswith(prefix)), "")
    base = source_file.rsplit("/", 1)[-1]
    return by_user or next((component for prefix, component in _COMPONENT_FILES if base.startswith(prefix)), "")


def _credentials(user: Object) -> tuple[CredentialKind, ...]:
    """Kinds of credential of a kubeconfig user (AuthInfo)."""
    kinds: tuple[tuple[CredentialKind, tuple[str, ...]], ...] = (
        ("client certificate", ("client-certificate", "client-certificate-data")),
        ("token", ("token", "tokenFile")),
        ("basic", ("username", "password")),
        ("exec plugin", ("exec",)),
        ("auth provider", ("auth-provider",)),
    )

    def given(value: object) -> bool:
        return value is not None and value not in ("", {})

    return tuple(kind for kind, keys in kinds if any(given(user.get(key)) for key in keys))


def kubeconfig_authorities(document: Object) -> list[str]:
    """``certificate-authority-data`` of a kubeconfig's clusters: base64 of PEM."""
    found = (string(entry, "cluster", "certificate-authority-data") for entry in sequence(document, "clusters"))
    return [data for data in dict.fromkeys(found) if data]
