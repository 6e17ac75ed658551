"""Cluster facts that the user hands over: kubectl output, manifests, component configuration, CA certificates.

Every file is recognised by what it holds, not by its name; a file that holds nothing known is noted and passed over.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from analyzer.errors import ClusterFactsError

MAX_FILE: Final = 256 << 20
"""Octets read of one file; `kubectl get -A -o json` of 5,000 nodes and 150,000 pods stays below."""

_PEM: Final = b"-----BEGIN CERTIFICATE-----"
_NODE_IN_NAME: Final = re.compile(r"kubelet[-_]?config[-_](?P<node>[A-Za-z0-9.\-]+?)\.(?:ya?ml|json)$")
_CONTROL_PLANE_LABELS: Final = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeclaredSetting:
    """One setting of one component, as a file states it."""

    component: str
    setting: str
    value: str
    source: str


@dataclass
class ClusterFacts:
    """Everything that the files state, still in Kubernetes' own terms."""

    sources: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    nodes: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    services: list[Object] = field(default_factory=list)
    endpoints: list[Object] = field(default_factory=list)
    endpoint_slices: list[Object] = field(default_factory=list)
    apiserver_flags: dict[str, str] | None = None
    apiserver_source: str = ""
    etcd_flags: dict[str, str] | None = None
    etcd_source: str = ""
    kubelets: dict[str, Object] = field(default_factory=dict)  #: by node name, "" where the file does not say
    kubelet_sources: dict[str, str] = field(default_factory=dict)
    egress: Object | None = None
    egress_source: str = ""
    kubeconfigs: list[tuple[str, Object]] = field(default_factory=list)
    authorities: list[tuple[str, bytes]] = field(default_factory=list)  #: (file, PEM)


def read_cluster_facts(files: Mapping[str, bytes]) -> ClusterFacts:
    """Read files handed over with ``--cluster``.

    Parameters
    ----------
    files : mapping of str to bytes
        Content by file name.

    Raises
    ------
    ClusterFactsError
        A file is JSON or YAML that cannot be parsed, or is too large.
    """
    facts = ClusterFacts()
    for name in sorted(files):
        content = files[name]
        if len(content) > MAX_FILE:
            raise ClusterFactsError(name, f"is larger than {MAX_FILE >> 20} MiB, which no cluster's facts are")
        before = len(facts.notes)
        if _PEM in content:
            facts.authorities.append((name, content))
        else:
            for document in _documents(name, content):
                _take(facts, name, document)
        if len(facts.notes) == before:
            facts.sources.append(name)
    return facts


def _documents(name: str, content: bytes) -> Iterator[Object]:
    text = content.decode("utf-8", "replace")
    if not text.strip():
        return
    if text.lstrip()[0] in "{[":
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ClusterFactsError(name, f"is not JSON: {error}") from None
        yield from (p for p in (parsed if isinstance(parsed, list) else [parsed]) if isinstance(p, dict))
        return
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for document in yaml.load_all(text, Loader=loader):
            if isinstance(document, dict):
                yield document
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ClusterFactsError(name, f"is not YAML: {reason}") from None


def _get(document: object, *path: str) -> Any:  # noqa: ANN401 - JSON values
    """Value at a path of keys, None where any of them is missing or not a mapping."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def _list(document: object, *path: str) -> list[Any]:
    value = _get(document, *path)
    return value if isinstance(value, list) else []


def _take(facts: ClusterFacts, name: str, document: Object) -> None:
    kind = str(document.get("kind", ""))
    if kind.endswith("List") or (kind == "" and "items" in document):
        for item in _list(document, "items"):
            if isinstance(item, dict):
                _take(facts, name, item if "kind" in item else {**item, "kind": kind.removesuffix("List")})
        return
    shelves = {
        "Node": facts.nodes,
        "Pod": facts.pods,
        "Service": facts.services,
        "Endpoints": facts.endpoints,
        "EndpointSlice": facts.endpoint_slices,
    }
    if kind == "Pod":
        _take_manifest(facts, name, document)
    if kind in shelves:
        shelves[kind].append(document)
    elif kind == "KubeletConfiguration":
        _take_kubelet(facts, name, document)
    elif "kubeletconfig" in document:  # GET /api/v1/nodes/<node>/proxy/configz
        _take_kubelet(facts, name, document["kubeletconfig"])
    elif kind == "EgressSelectorConfiguration":
        facts.egress, facts.egress_source = document, name
    elif kind == "Config" and "clusters" in document:
        facts.kubeconfigs.append((name, document))
    else:
        facts.notes.append(f"{name}: nothing known in it ({kind or 'no kind'})")


def _take_kubelet(facts: ClusterFacts, name: str, document: Object) -> None:
    match = _NODE_IN_NAME.search(name)
    node = match["node"] if match else ""
    facts.kubelets[node] = document
    facts.kubelet_sources[node] = name


def _flags(document: Object, program: str) -> dict[str, str] | None:
    """Flags of the container that runs `program`, from its command and arguments."""
    for container in _list(document, "spec", "containers"):
        words = [str(w) for w in [*_list(container, "command"), *_list(container, "args")]]
        if not any(w.rsplit("/", 1)[-1] == program for w in words) and _get(container, "name") != program:
            continue
        found: dict[str, str] = {}
        for word in words:
            for part in word.split() if " --" in word else [word]:
                if part.startswith("--"):
                    flag, mark, value = part[2:].partition("=")
                    found[flag] = value if mark else "true"
        return found
    return None


def _take_manifest(facts: ClusterFacts, name: str, document: Object) -> None:
    for program, flags, source in (
        ("kube-apiserver", "apiserver_flags", "apiserver_source"),
        ("etcd", "etcd_flags", "etcd_source"),
    ):
        found = _flags(document, program)
        if found:
            setattr(facts, flags, found)
            setattr(facts, source, name)


# ----------------------------------------------------------------------------------------- what follows


@dataclass(frozen=True, slots=True)
class EgressPath:
    """How the API server reaches the cluster through an egress selector."""

    proxied: bool  #: proxyProtocol is not Direct
    url: str  #: of a TCP transport, empty for a Unix socket
    verifies: bool | None  #: a CA bundle is given; None for a Unix socket
    certificate: bool | None


def egress_path(facts: ClusterFacts) -> EgressPath | None:
    """The ``cluster`` entry of the egress selector (k8s.io/apiserver/pkg/apis/apiserver/v1beta1)."""
    for selection in _list(facts.egress, "egressSelections"):
        if _get(selection, "name") != "cluster":
            continue
        connection = _get(selection, "connection")
        url = str(_get(connection, "transport", "tcp", "url") or "")
        tls = _get(connection, "transport", "tcp", "tlsConfig")
        encrypted = url.startswith("https:")
        return EgressPath(
            _get(connection, "proxyProtocol") != "Direct",
            url,
            # Without caBundle the system roots are used: that is a check too.
            True if encrypted else None,
            bool(_get(tls, "clientCert")) if encrypted else None,
        )
    return None


_TOLD: Final = (
    "kubelet-certificate-authority",
    "kubelet-client-certificate",
    "client-ca-file",
    "etcd-servers",
    "etcd-cafile",
    "etcd-certfile",
    "proxy-client-cert-file",
    "egress-selector-config-file",
    "anonymous-auth",
    "tls-min-version",
    "secure-port",
    "service-cluster-ip-range",
)


def declared_settings(facts: ClusterFacts) -> list[DeclaredSetting]:
    """The settings that verdicts may rest on, absent ones as ``not set``, in a stable order."""
    told: list[DeclaredSetting] = []
    if facts.apiserver_flags is not None:
        for flag in _TOLD:
            value = facts.apiserver_flags.get(flag, "not set")
            told.append(DeclaredSetting("kube-apiserver", f"--{flag}", value, facts.apiserver_source))
    for node, kubelet in sorted(facts.kubelets.items()):
        for setting, path in (
            ("readOnlyPort", ("readOnlyPort",)),
            ("authentication.anonymous.enabled", ("authentication", "anonymous", "enabled")),
            ("authentication.x509.clientCAFile", ("authentication", "x509", "clientCAFile")),
            ("authorization.mode", ("authorization", "mode")),
            ("serverTLSBootstrap", ("serverTLSBootstrap",)),
            ("tlsCertFile", ("tlsCertFile",)),
            ("tlsMinVersion", ("tlsMinVersion",)),
        ):
            value = _get(kubelet, *path)
            text = "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            component = f"kubelet {node}".rstrip()
            told.append(DeclaredSetting(component, setting, text, facts.kubelet_sources[node]))
    egress = egress_path(facts)
    if egress is not None:
        how = egress.url or "unix socket"
        told.append(DeclaredSetting("kube-apiserver", "egress selector: cluster", how, facts.egress_source))
    return told


def node_kubeconfig(facts: ClusterFacts) -> bool | None:
    """Whether the kubeconfig of a node checks the server: None where none was given.

    A kubeconfig is a node's if its user is one (CN system:node:...) by name; otherwise it is somebody else's.
    """
    answers: list[bool] = []
    for _, document in facts.kubeconfigs:
        users = [str(_get(u, "name") or "") for u in _list(document, "users")]
        if not any(u.startswith(("system:node:", "default-auth")) or u == "kubelet" for u in users):
            continue
        for entry in _list(document, "clusters"):
            answers.append(_get(entry, "cluster", "insecure-skip-tls-verify") is not True)
    return all(answers) if answers else None


def parse_address(text: object) -> bytes | None:
    """16 octets of an address, IPv4 mapped (RFC 4291 2.5.5.2); None where it is none."""
    try:
        parsed = ipaddress.ip_address(str(text))
    except ValueError:
        return None
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


def is_control_plane(node: Object) -> bool:
    """Whether a node carries the label that kubeadm and its successors give control-plane nodes."""
    labels = _get(node, "metadata", "labels") or {}
    return any(label in labels for label in _CONTROL_PLANE_LABELS)


def object_name(document: Object) -> str:
    """``namespace/name`` or, without a namespace, ``name``."""
    namespace, name = _get(document, "metadata", "namespace"), _get(document, "metadata", "name")
    return f"{namespace}/{name}" if namespace else str(name)


get_path, get_list = _get, _list
