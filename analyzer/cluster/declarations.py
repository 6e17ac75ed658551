"""What the configuration handed over says about the components that dial, and about those that answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analyzer.cluster.declared import ApiServerDeclared, EtcdDeclared, KubeletDeclared
    from analyzer.cluster.expectation import Expectation


@dataclass(frozen=True, slots=True)
class CalledService:
    """A webhook or aggregated API that the API server calls, by what it dials.

    Attributes
    ----------
    what : str
        ``ValidatingWebhookConfiguration NAME`` and the like, for reasons and findings.
    name : str
        Server name it checks and sends: ``SERVICE.NAMESPACE.svc``, or the host of a URL.
    endpoints : frozenset of (bytes, int)
        Addresses (16 octets) and ports behind it, as far as known.
    verifies : bool
        False where ``insecureSkipTLSVerify`` is set. Without a caBundle the system's roots are used.
    """

    what: str
    name: str
    endpoints: frozenset[tuple[bytes, int]] = frozenset()
    verifies: bool = True


@dataclass(frozen=True, slots=True)
class Declarations:
    """What the configuration handed over says; None = it does not say. Addresses are their 16 octets.

    Attributes
    ----------
    apiserver : bool
        An API-server manifest was given: what it leaves out has its documented default.
    kubelet_ca, etcd_ca, konnectivity_ca : bool or None
        The API server verifies kubelets, etcd, the konnectivity server.
    kubelet_certificate, etcd_certificate, konnectivity_certificate : bool or None
        It has a client certificate for each.
    flags : ApiServerDeclared or None
        The API servers' flags, where all manifests agree.
    kubelets : mapping of bytes to KubeletDeclared
        Configuration of the kubelet at each node address.
    etcds : mapping of bytes to EtcdDeclared
        Flags of the etcd at each address.
    egress_proxied : bool or None
        The egress selector sends cluster traffic through a proxy.
    egress_encrypted : bool or None
        It reaches that proxy over TLS; None also where it is a Unix socket.
    called : tuple of CalledService
    node_versions : mapping of bytes to str
        kubelet version of each node address.
    agent_nodes : frozenset of bytes
        Addresses of nodes on which the inventory lists a konnectivity agent.
    expectation : Expectation or None
        Which ports may be reached on nodes.
    """

    apiserver: bool = False
    kubelet_ca: bool | None = None
    kubelet_certificate: bool | None = None
    etcd_ca: bool | None = None
    etcd_certificate: bool | None = None
    konnectivity_ca: bool | None = None
    konnectivity_certificate: bool | None = None
    node_kubeconfig_ca: bool | None = None  #: a kubelet kubeconfig was given and names a CA (False: skips the check)
    controlplane_kubeconfig_ca: bool | None = None  #: those of scheduler and controller manager, where all agree
    agent_ca: bool | None = None  #: flags of konnectivity agents were given: they always check the server
    flags: ApiServerDeclared | None = None
    kubelets: Mapping[bytes, KubeletDeclared] = field(default_factory=dict)
    etcds: Mapping[bytes, EtcdDeclared] = field(default_factory=dict)
    egress_proxied: bool | None = None
    egress_encrypted: bool | None = None
    called: tuple[CalledService, ...] = ()
    node_versions: Mapping[bytes, str] = field(default_factory=dict)
    agent_nodes: frozenset[bytes] = frozenset()
    expectation: Expectation | None = None
