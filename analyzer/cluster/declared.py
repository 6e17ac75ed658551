"""What the configuration declares: settings as the files state them, and a typed view of the same for the verdicts.

``None`` means "not set" throughout. What a component does then is a default of that component, and applied here only
where the file format itself defines it (KubeletConfiguration). Key material is never read: paths and kinds are enough.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final, Literal
from urllib.parse import urlsplit

DEFAULT_SECURE_PORT: Final = 6443  # apiserver/pkg/server/options, NewSecureServingOptions in kube-apiserver
DEFAULT_READ_ONLY_PORT: Final = 0
"""`SetDefaults_KubeletConfiguration` (pkg/kubelet/apis/config/v1beta1/defaults.go) leaves readOnlyPort at 0. Only a
kubelet without any configuration file still opens 10255 (cmd/kubelet/app/options/options.go, applyLegacyDefaults)."""

CredentialKind = Literal["client certificate", "token", "basic", "exec plugin", "auth provider"]


@dataclass(frozen=True, slots=True)
class DeclaredSetting:
    """One setting of one component as a file states it; ``value`` is ``not set`` where the file leaves it out."""

    component: str
    setting: str
    value: str
    source_file: str


@dataclass(frozen=True, slots=True)
class ApiServerDeclared:
    """Flags of kube-apiserver (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/)."""

    source_file: str
    advertise_address: str | None = None
    bind_address: str | None = None
    secure_port: int | None = None
    insecure_port: int | None = None  #: before 1.24; serving was removed in 1.20
    etcd_servers: tuple[str, ...] = ()
    etcd_cafile: str | None = None
    etcd_certfile: str | None = None
    kubelet_certificate_authority: str | None = None
    kubelet_client_certificate: str | None = None
    client_ca_file: str | None = None
    requestheader_client_ca_file: str | None = None
    proxy_client_cert_file: str | None = None
    egress_selector_config_file: str | None = None
    anonymous_auth: bool | None = None
    authorization_mode: tuple[str, ...] = ()
    tls_min_version: str | None = None
    tls_cert_file: str | None = None
    tls_cipher_suites: tuple[str, ...] = ()
    service_cluster_ip_range: tuple[str, ...] = ()
    ssh_user: str | None = None  #: SSH tunnels, until 1.22
    ssh_keyfile: str | None = None

    @property
    def port(self) -> int:
        """Port it serves on."""
        return DEFAULT_SECURE_PORT if self.secure_port is None else self.secure_port

    @property
    def etcd_is_encrypted(self) -> bool | None:
        """Whether it dials every etcd with TLS: None without ``--etcd-servers``.

        The URL's scheme decides; without one, whether a CA or certificate is given (etcd
        client/v3/internal/endpoint/endpoint.go; apiserver/pkg/storage/storagebackend/factory/etcd3.go leaves the TLS
        configuration out where neither is).
        """
        if not self.etcd_servers:
            return None
        by_default = bool(self.etcd_cafile or self.etcd_certfile)
        return all(url.startswith("https:") if "://" in url else by_default for url in self.etcd_servers)


@dataclass(frozen=True, slots=True)
class KubeletDeclared:
    """A KubeletConfiguration (https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/).

    Defaults of the format are applied to the attributes that are not optional
    (pkg/kubelet/apis/config/v1beta1/defaults.go).
    """

    node: str  #: empty where the file does not say: it speaks for every node without a file of its own
    source_file: str
    address: str = "0.0.0.0"
    port: int = 10250
    read_only_port: int = DEFAULT_READ_ONLY_PORT
    read_only_port_set: bool = False
    anonymous: bool = False
    webhook: bool = True
    client_ca_file: str | None = None
    authorization_mode: str = "Webhook"
    server_tls_bootstrap: bool = False
    tls_cert_file: str | None = None
    tls_min_version: str | None = None
    tls_cipher_suites: tuple[str, ...] = ()

    @property
    def serving_certificate(self) -> Literal["file", "signed by CSR", "self-made"]:
        """Where the serving certificate comes from (cmd/kubelet/app/server.go, InitializeTLS)."""
        if self.tls_cert_file:
            return "file"
        return "signed by CSR" if self.server_tls_bootstrap else "self-made"


@dataclass(frozen=True, slots=True)
class EgressDeclared:
    """One selection of an EgressSelectorConfiguration (apiserver/pkg/apis/apiserver/v1beta1/types.go)."""

    name: str  #: ``cluster``, ``controlplane`` (before: ``master``), ``etcd``
    source_file: str
    proxy_protocol: str  #: ``HTTPConnect``, ``GRPC``, ``Direct``
    transport: Literal["tcp", "uds", ""]
    url: str = ""  #: of a TCP transport; the socket of a Unix transport
    has_ca_bundle: bool = False
    has_client_certificate: bool = False

    @property
    def is_proxied(self) -> bool:
        """Whether connections go through a proxy at all."""
        return self.proxy_protocol in ("HTTPConnect", "GRPC")

    @property
    def is_encrypted(self) -> bool | None:
        """Whether the connection to the proxy is TLS; None where it is none on any network (Unix socket, Direct)."""
        return self.url.startswith("https:") if self.transport == "tcp" else None

    @property
    def verifies_server(self) -> bool | None:
        """Whether the proxy's certificate is checked: without a bundle against the system's roots; None without TLS."""
        return True if self.is_encrypted else None


@dataclass(frozen=True, slots=True)
class EtcdDeclared:
    """Flags of etcd (https://etcd.io/docs/latest/op-guide/configuration/)."""

    source_file: str
    client_cert_auth: bool | None = None
    peer_client_cert_auth: bool | None = None
    trusted_ca_file: str | None = None
    peer_trusted_ca_file: str | None = None
    cert_file: str | None = None
    peer_cert_file: str | None = None
    listen_client_urls: tuple[str, ...] = ()
    advertise_client_urls: tuple[str, ...] = ()
    listen_peer_urls: tuple[str, ...] = ()
    listen_metrics_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ControllerManagerDeclared:
    """Flags of kube-controller-manager."""

    source_file: str
    bind_address: str | None = None
    secure_port: int | None = None
    kubeconfig: str | None = None
    tls_cert_file: str | None = None
    client_ca_file: str | None = None
    root_ca_file: str | None = None
    cluster_cidr: tuple[str, ...] = ()
    service_cluster_ip_range: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SchedulerDeclared:
    """Flags of kube-scheduler."""

    source_file: str
    bind_address: str | None = None
    secure_port: int | None = None
    kubeconfig: str | None = None
    tls_cert_file: str | None = None
    client_ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class KonnectivityServerDeclared:
    """Flags of proxy-server (apiserver-network-proxy cmd/server/app/options/options.go)."""

    source_file: str
    mode: str | None = None
    uds_name: str | None = None
    server_port: int | None = None
    agent_port: int | None = None
    server_ca_cert: str | None = None
    server_cert: str | None = None
    cluster_ca_cert: str | None = None
    cluster_cert: str | None = None
    authentication_audience: str | None = None


@dataclass(frozen=True, slots=True)
class KonnectivityAgentDeclared:
    """Flags of proxy-agent (apiserver-network-proxy cmd/agent/app/options/options.go)."""

    source_file: str
    proxy_server_host: str | None = None
    proxy_server_port: int | None = None
    ca_cert: str | None = None
    agent_cert: str | None = None
    service_account_token_path: str | None = None


@dataclass(frozen=True, slots=True)
class KubeconfigDeclared:
    """One context of a kubeconfig (client-go tools/clientcmd/api/v1/types.go), without its secrets."""

    source_file: str
    component: str  #: ``kubelet``, ``kube-controller-manager`` ...; empty where neither user nor file name says
    cluster: str
    user: str
    server: str
    authority: Literal["data", "file", "none"]
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    credentials: tuple[CredentialKind, ...] = ()

    @property
    def verifies_server(self) -> bool:
        """Whether the API server's certificate is checked: without a CA against the system's roots."""
        return self.server.startswith("https:") and not self.insecure_skip_tls_verify


@dataclass(frozen=True, slots=True)
class CalledDeclared:
    """A clientConfig of a webhook, or an APIService: whom the API server calls, and whether it checks.

    Without a caBundle the system's roots are used (apiserver/pkg/util/webhook/client.go), and an APIService may switch
    the check off (kube-aggregator/pkg/apiserver/handler_proxy.go).
    """

    source_file: str
    what: str
    namespace: str = ""
    service: str = ""
    url: str = ""
    has_ca_bundle: bool = False
    insecure_skip_tls_verify: bool = False

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate is checked."""
        return not self.insecure_skip_tls_verify


ProgramDeclared = (
    ApiServerDeclared
    | EtcdDeclared
    | ControllerManagerDeclared
    | SchedulerDeclared
    | KonnectivityServerDeclared
    | KonnectivityAgentDeclared
)


@dataclass(frozen=True, slots=True)
class Declared:
    """Everything that the files declare."""

    settings: tuple[DeclaredSetting, ...] = ()
    apiservers: tuple[ApiServerDeclared, ...] = ()
    kubelets: tuple[KubeletDeclared, ...] = ()
    egress: tuple[EgressDeclared, ...] = ()
    etcds: tuple[EtcdDeclared, ...] = ()
    controller_managers: tuple[ControllerManagerDeclared, ...] = ()
    schedulers: tuple[SchedulerDeclared, ...] = ()
    konnectivity_servers: tuple[KonnectivityServerDeclared, ...] = ()
    konnectivity_agents: tuple[KonnectivityAgentDeclared, ...] = ()
    kubeconfigs: tuple[KubeconfigDeclared, ...] = ()
    called: tuple[CalledDeclared, ...] = ()

    @property
    def apiserver(self) -> ApiServerDeclared | None:
        """The API servers' flags where all given manifests agree on what verdicts rest on; None where they do not."""
        return self.apiservers[0] if self.apiservers and not self.apiserver_disagreements else None

    @property
    def apiserver_disagreements(self) -> tuple[str, ...]:
        """Attributes on which several API server manifests differ, apart from their own addresses."""
        own = ("source_file", "advertise_address", "bind_address")
        names = [field.name for field in fields(ApiServerDeclared) if field.name not in own]
        return tuple(name for name in names if len({getattr(server, name) for server in self.apiservers}) > 1)

    def kubelet(self, node: str) -> KubeletDeclared | None:
        """Configuration of one node's kubelet: its own, else the one that names no node; None where files disagree."""
        for name in (node, ""):
            found = [kubelet for kubelet in self.kubelets if kubelet.node == name]
            if found:
                return found[0] if len({replace(kubelet, source_file="") for kubelet in found}) == 1 else None
        return None

    def egress_for(self, name: str) -> EgressDeclared | None:
        """Selection of that name (``cluster``, ``controlplane``, ``etcd``); None where none or several are declared."""
        found = [selection for selection in self.egress if selection.name == name]
        return found[0] if len(found) == 1 else None


def split_url(url: str, default_port: int) -> tuple[str, int] | None:
    """Host and port of a URL; None where it has no host or its port is none."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return (host, default_port if port is None else port) if host else None
