"""Who is who: the roles of addresses and of the services at them, declared by the inventory or inferred from traffic.

Every role carries a grade and the reason for it. Without an inventory the traffic itself is asked, strongest evidence
first: what a service proves by content, then the ports that Kubernetes documents, then who talks to whom.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from analyzer.numbers import among, distinct, distinct_numbers
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.grpc import ETCD_PACKAGES
from analyzer.protocols.konnectivity import is_agent_connect, is_proxy_request
from analyzer.registries import Grade, Protocol, Ternary
from analyzer.schema import I64, U8, U64, HttpMessage, Mask

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CONTROL_PLANE, NODE, POD, SERVICE, ETCD, USER, LOOPBACK = (
    "control plane",
    "node",
    "pod",
    "service",
    "etcd",
    "user",
    "loopback",
)
ROLES: Final = (CONTROL_PLANE, NODE, POD, SERVICE, ETCD, USER, LOOPBACK)


class ServiceKind(IntEnum):
    """What answers at an (address, port)."""

    OTHER = 0
    APISERVER = 1
    KUBELET = 2
    ETCD = 3
    KONNECTIVITY_AGENTS = 4  #: where agents dial in
    KONNECTIVITY_FRONTEND = 5  #: where the API server asks for tunnels
    KUBELET_READONLY = 6


# Default ports, each with its source; a role taken from one is never better than INFERRED.
APISERVER_PORT: Final = 6443  # kube-apiserver --secure-port
HTTPS_PORT: Final = 443  # Service kubernetes; load balancers and managed control planes
OTHER_APISERVER_PORTS: Final = (HTTPS_PORT, 8443, 16443)  # and minikube's --apiserver-port default; MicroK8s
KUBELET_PORT: Final = 10250  # KubeletConfiguration.port
KUBELET_READONLY_PORT: Final = 10255  # KubeletConfiguration.readOnlyPort, legacy default
ETCD_PORT: Final = 2379  # etcd --listen-client-urls
KONNECTIVITY_AGENT_PORTS: Final = (8132, 8091)  # documented manifests; the binary's --agent-port default
KONNECTIVITY_FRONTEND_PORTS: Final = (8131, 8090)  # documented manifests; --server-port default
CONTROL_PLANE_PORTS: Final = (10257, 10259)  # controller manager, scheduler

APISERVER_NAMES: Final = frozenset(
    {"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
)
"""SNI of in-cluster clients (kubeadm's API-server certificate names)."""
LOOPBACK_NAME: Final = "apiserver-loopback-client"
"""SNI the API server dials itself with (apiserver/pkg/server/options/serving_with_loopback.go)."""
MANAGED_SUFFIXES: Final = (".eks.amazonaws.com", ".azmk8s.io", ".gke.goog", ".k8s.ondigitalocean.com")
"""API-server names of managed offerings, as their documentation shows them."""

ETCD_PATH_PREFIXES: Final = tuple(f"/{package}." for package in ETCD_PACKAGES)

KUBELET_PATHS: Final = ("/runningpods/", "/stats/summary", "/metrics/cadvisor")
"""Paths that only a kubelet serves, on its read-only port too (pkg/kubelet/server/server.go)."""
KUBELET_PREFIXES: Final = ("/containerLogs/", "/exec/", "/attach/", "/portForward/")
"""Paths of the kubelet's own port; a container runtime's streaming server, in clear on loopback, has such too."""
API_PREFIX: Final = "/api/v1/"
"""The core group, which no aggregated API server serves."""


def _is_of_kubelet(request: HttpMessage) -> bool:
    path = request.target.partition("?")[0]
    if request.forwarded_uri:
        return False
    return path in KUBELET_PATHS or (request.decrypted and path.startswith(KUBELET_PREFIXES))


class RoleStatement(NamedTuple):
    """One role of one address, and why."""

    address: int  #: row of `Roles.addresses`
    role: str
    grade: Grade
    reason: str
    frame: int = 0


@dataclass(frozen=True, slots=True)
class DeclaredRoles:
    """What the inventory says about addresses; addresses are their 16 octets."""

    roles: dict[bytes, list[tuple[str, str]]]  #: address -> (role, name)
    apiservers: frozenset[tuple[bytes, int]] = frozenset()
    etcds: frozenset[tuple[bytes, int]] = frozenset()
    kubelet_ports: frozenset[tuple[bytes, int]] = frozenset()
    readonly_ports: frozenset[tuple[bytes, int]] = frozenset()
    konnectivity_frontends: frozenset[tuple[bytes, int]] = frozenset()
    konnectivity_agents: frozenset[tuple[bytes, int]] = frozenset()
    pod_networks: tuple[Network, ...] = ()
    service_networks: tuple[Network, ...] = ()
    egress_proxy: bool = False  #: an egress selector sends cluster traffic through a proxy


@dataclass
class Roles:
    """Roles of all addresses of a capture: A addresses, S services, F flows.

    ``addresses`` (A, 16) uint8; ``client``, ``server`` (F,) int64 rows of it; ``service`` (F,) int64 and
    ``service_kind`` (S,) uint8 `ServiceKind`; ``member`` role -> (A,) bool; ``names`` address row -> name.
    """

    addresses: U8
    client: I64
    server: I64
    service: I64
    service_address: I64
    service_port: I64
    service_kind: U8
    service_grade: U8
    member: dict[str, Mask]
    statements: list[RoleStatement] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    tunnelled: bool = False  #: control plane -> node traffic goes through konnectivity or SSH, at least in part
    declared: bool = False
    listed: frozenset[str] = frozenset()  #: roles of which the inventory names somebody; it may be one of nodes alone

    def kind(self) -> U8:
        """`ServiceKind` of each flow's server: (F,) uint8."""
        return self.service_kind[self.service]

    def client_is(self, role: str) -> Mask:
        """Flows whose client has `role`: (F,) bool."""
        return self.member[role][self.client]

    def server_is(self, role: str) -> Mask:
        """Flows whose server has `role`: (F,) bool."""
        return self.member[role][self.server]

    def add(self, rows: I64, role: str, grade: Grade, reason: str, frames: I64 | None = None) -> None:
        """Give `role` to the addresses of `rows` that do not have it yet; `frames` are of all addresses."""
        fresh = rows[~self.member[role][rows]]
        self.member[role][fresh] = True
        shown = [0] * fresh.shape[0] if frames is None else frames[fresh].tolist()
        self.statements += [
            RoleStatement(row, role, grade, reason, frame) for row, frame in zip(fresh.tolist(), shown, strict=True)
        ]


def distinct_rows(words: U64) -> tuple[I64, I64]:
    """A row of each distinct pair of words, in the order of the pairs, and the index of each row's pair."""
    high, _ = distinct_numbers(words[:, 0])
    pair, row = distinct_numbers(words[:, 1])
    if high.any():
        pair, row = distinct_numbers((high << 32 | pair).view(np.uint64))
    order = np.lexsort((words[row, 1], words[row, 0]))
    place = np.empty(order.shape[0], np.int64)
    place[order] = np.arange(order.shape[0])
    return row[order], place[pair]


_MAPPED: Final = bytes(10) + b"\xff\xff"
"""How IPv4 addresses begin among those of IPv6 (RFC 4291 2.5.5.2)."""
_MAPPED_WORD: Final = np.uint64(0xFFFF)
"""The third 32 bits of those."""


def address_text(address: U8) -> str:
    """Text of one address of 16 octets; IPv4-mapped ones as IPv4."""
    octets = address.tobytes()
    if octets.startswith(_MAPPED):
        return f"{octets[12]}.{octets[13]}.{octets[14]}.{octets[15]}"
    return str(ipaddress.IPv6Address(octets))


class _Networks:
    """The networks of some addresses, as nodes usually have them: the same /24 (IPv4) or /64 (IPv6)."""

    def __init__(self, addresses: U8) -> None:
        mapped, net_24, net_64 = self._parts(addresses)
        self._of_v4 = distinct(net_24[mapped])
        self._of_v6 = distinct(net_64[~mapped])
        self._all = distinct(net_64)

    @staticmethod
    def _parts(addresses: U8) -> tuple[Mask, U64, U64]:
        """Which are IPv4, mapped; their first 24 bits; and the first 64 of all of them."""
        high, low = np.ascontiguousarray(addresses).view(">u8").astype(np.uint64).reshape(-1, 2).T
        return (high == 0) & (low >> np.uint64(32) == _MAPPED_WORD), low >> np.uint64(8), high

    def hold(self, addresses: U8) -> Mask:
        """Which addresses lie in one of them: (A, 16) uint8 -> (A,) bool.

        Two addresses of different families share at most a /64.
        """
        mapped, net_24, net_64 = self._parts(addresses)
        v4 = among(net_24, self._of_v4) | among(net_64, self._of_v6)
        return np.where(mapped, v4, among(net_64, self._all))


def assign_roles(evidence: Evidence, declared: DeclaredRoles | None) -> Roles:
    """Find the role of every address and service of a capture.

    Parameters
    ----------
    evidence : Evidence
    declared : DeclaredRoles or None
        What the inventory says; its statements come first and are graded DECLARED.
    """
    flows = evidence.flows
    words = flows.address.reshape(-1, 16).view(np.uint64).reshape(-1, 2)
    first, inverse = distinct_rows(words)
    addresses = flows.address.reshape(-1, 16)[first]
    client, server = inverse.reshape(-1, 2)[:, 0], inverse.reshape(-1, 2)[:, 1]
    services, service = np.unique(server * 65536 + flows.port[:, 1], return_inverse=True)
    roles = Roles(
        addresses,
        client,
        server,
        service.reshape(-1),
        services // 65536,
        services % 65536,
        np.zeros(services.shape[0], np.uint8),
        np.full(services.shape[0], Grade.NONE, np.uint8),
        {role: np.zeros(addresses.shape[0], bool) for role in ROLES},
        declared=declared is not None,
        listed=_listed(declared) if declared is not None else frozenset(),
    )
    _loopback(roles)
    if declared is not None:
        _apply_declared(roles, declared)
    _Inference(evidence, roles, declared).run()
    return roles


def in_network(addresses: U8, network: Network) -> Mask:
    """Which addresses lie in `network`: (A, 16) uint8 -> (A,) bool."""
    octets = network.network_address.packed
    bits = network.prefixlen
    if network.version == 4:
        octets, bits = bytes(10) + b"\xff\xff" + octets, bits + 96
    whole, rest = divmod(bits, 8)
    inside: Mask = (addresses[:, :whole] == np.frombuffer(octets[:whole], np.uint8)).all(axis=1)
    if rest:
        inside &= addresses[:, whole] >> (8 - rest) == octets[whole] >> (8 - rest)
    return inside


def _loopback(roles: Roles) -> None:
    """127.0.0.0/8 (RFC 1122 3.2.1.3) and ::1 (RFC 4291 2.5.3)."""
    for network in (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")):
        rows = np.flatnonzero(in_network(roles.addresses, network))
        roles.add(rows, LOOPBACK, Grade.OBSERVED, "a loopback address")


def _listed(declared: DeclaredRoles) -> frozenset[str]:
    """Roles that the inventory speaks about at all; about all others the traffic is asked."""
    found = {role for stated in declared.roles.values() for role, _ in stated}
    if declared.apiservers:
        found.add(CONTROL_PLANE)
    if declared.pod_networks:
        found.add(POD)
    return frozenset(found)


def _apply_declared(roles: Roles, declared: DeclaredRoles) -> None:
    networks_of = (
        (POD, declared.pod_networks, "inside the declared pod network"),
        (SERVICE, declared.service_networks, "inside the declared service network"),
    )
    named = np.zeros(roles.addresses.shape[0], bool)
    for row, octets in enumerate(roles.addresses.view("V16")[:, 0].tolist()):
        for role, name in declared.roles.get(octets, ()):
            named[row] = True
            reason = f"the inventory names it {name}" if name else "in the inventory"
            roles.add(np.array([row]), role, Grade.DECLARED, reason)
            roles.names.setdefault(row, name)
    for role, networks, reason in networks_of:
        for network in networks:
            rows = np.flatnonzero(in_network(roles.addresses, network) & ~named)
            roles.add(rows, role, Grade.DECLARED, reason)
    endpoints = (
        (declared.apiservers, ServiceKind.APISERVER),
        (declared.etcds, ServiceKind.ETCD),
        (declared.kubelet_ports, ServiceKind.KUBELET),
        (declared.readonly_ports, ServiceKind.KUBELET_READONLY),
        (declared.konnectivity_frontends, ServiceKind.KONNECTIVITY_FRONTEND),
        (declared.konnectivity_agents, ServiceKind.KONNECTIVITY_AGENTS),
    )
    for row, (at, port) in enumerate(zip(roles.service_address.tolist(), roles.service_port.tolist(), strict=True)):
        octets = roles.addresses[at].tobytes()
        for known_endpoints, kind in endpoints:
            if (octets, port) in known_endpoints:
                roles.service_kind[row], roles.service_grade[row] = kind, Grade.DECLARED


_ANCHORS: Final = 64
"""Known addresses whose networks are looked at."""


class _Inference:
    """The questions asked of the traffic, in order; each method answers one."""

    def __init__(self, evidence: Evidence, roles: Roles, declared: DeclaredRoles | None) -> None:
        self.evidence = evidence
        self.roles = roles
        self.declared = declared
        protocol = evidence.identification.protocol
        self.tls = protocol == Protocol.TLS
        self.http2 = protocol == Protocol.HTTP2
        self.http = self.http2 | (protocol == Protocol.HTTP1)
        self.silent = protocol == Protocol.NO_DATA
        self.go = evidence.client_is_go
        self.presented = evidence.tls_is("client_certificate", Ternary.YES)
        self.frames = evidence.flows.first_frame

    def run(self) -> None:
        self._paths()
        self._names()
        self._default_ports()
        self._behind_balancer()
        self._agents()
        self._control_plane()
        self._called_and_calling()
        self._https_port()
        self._legs()
        self._nodes()
        self._pods()
        self._tunnels()
        self._rest()

    # ------------------------------------------------------------------------------------- services

    def _mark(self, flows: Mask, kind: ServiceKind) -> None:
        """Make the services of `flows` that have no kind yet of `kind`."""
        rows = self.roles.service[flows]
        fresh = rows[self.roles.service_kind[rows] == ServiceKind.OTHER]
        self.roles.service_kind[fresh] = kind
        self.roles.service_grade[fresh] = Grade.INFERRED

    def _flows_where(self, rows: I64) -> Mask:
        mask = np.zeros(len(self.evidence), bool)
        mask[rows] = True
        return mask

    def _paths(self) -> None:
        """Readable request paths name the service: etcd, konnectivity, kubelet, and API server where keys opened it."""
        asked = self.evidence.asked
        kubelet = np.where(asked(lambda r: r.decrypted), ServiceKind.KUBELET, ServiceKind.KUBELET_READONLY)
        said: Sequence[tuple[Mask, ServiceKind | I64]] = (
            (asked(lambda r: r.target.startswith(ETCD_PATH_PREFIXES)), ServiceKind.ETCD),
            (asked(is_agent_connect), ServiceKind.KONNECTIVITY_AGENTS),
            (asked(is_proxy_request), ServiceKind.KONNECTIVITY_FRONTEND),
            (asked(_is_of_kubelet), kubelet),
            (
                asked(lambda r: r.decrypted and r.target.startswith(API_PREFIX) and not r.forwarded_uri),
                ServiceKind.APISERVER,
            ),
        )
        kind = np.select([rows for rows, _ in said], [kinds for _, kinds in said], ServiceKind.OTHER)
        flows = np.flatnonzero(kind != ServiceKind.OTHER)
        # Of several kinds the one that the first of its connections shows.
        services, first = np.unique(self.roles.service[flows], return_index=True)
        fresh = self.roles.service_kind[services] == ServiceKind.OTHER
        self.roles.service_kind[services[fresh]] = kind[flows[first[fresh]]]
        self.roles.service_grade[services[fresh]] = Grade.INFERRED

    def _names(self) -> None:
        """The server name in the ClientHello: the API server's in-cluster, loopback and managed names."""
        strings = self.evidence.tls.strings
        wanted = np.array(
            [s in APISERVER_NAMES or s == LOOPBACK_NAME or s.endswith(MANAGED_SUFFIXES) for s in strings], bool
        )
        self._mark(self.tls & self.evidence.tls_text_where("sni", wanted), ServiceKind.APISERVER)

    def _default_ports(self) -> None:
        """Documented ports, where neither inventory nor server name says that a workload answers there."""
        port = self.evidence.flows.port[:, 1]
        named = np.array([s.endswith(".svc") for s in self.evidence.tls.strings], bool)
        # The API server dials webhooks and aggregated APIs by name; metrics-server, for one, listens on 10250.
        by_name = np.zeros(self.roles.service_kind.shape[0], bool)
        by_name[self.roles.service[self.tls & self.evidence.tls_text_where("sni", named)]] = True
        open_to = ~by_name[self.roles.service]
        if self.declared is not None:
            open_to &= ~self.roles.server_is(POD) | self.roles.server_is(CONTROL_PLANE) | self.roles.server_is(NODE)
            open_to &= ~self.roles.server_is(SERVICE)
        talks = self.tls | self.silent
        self._mark(open_to & self.tls & (port == APISERVER_PORT), ServiceKind.APISERVER)
        self._mark(open_to & talks & (port == KUBELET_PORT), ServiceKind.KUBELET)
        self._mark(open_to & (self.http | self.silent) & (port == KUBELET_READONLY_PORT), ServiceKind.KUBELET_READONLY)
        self._mark(open_to & (self.tls | self.http) & (port == ETCD_PORT), ServiceKind.ETCD)
        # Other programs are at home on 8090 and 8091 (Couchbase): agents and API servers are Go.
        documented = np.isin(port, (KONNECTIVITY_AGENT_PORTS[0], KONNECTIVITY_FRONTEND_PORTS[0]))
        tls = open_to & self.tls & (self.evidence.client_may_be_go | documented)
        agents = tls | (open_to & (self.http2 | (self.silent & documented)))
        self._mark(agents & np.isin(port, KONNECTIVITY_AGENT_PORTS), ServiceKind.KONNECTIVITY_AGENTS)
        self._mark(tls & np.isin(port, KONNECTIVITY_FRONTEND_PORTS), ServiceKind.KONNECTIVITY_FRONTEND)

    def _behind_balancer(self) -> None:
        """An API server under an address the inventory does not know: nodes present their certificates nowhere else."""
        if self.declared is None:
            return
        unknown = ~np.any([self.roles.server_is(role) for role in ROLES], axis=0)
        presents = self.tls & self.go & self.presented & self.roles.client_is(NODE) & unknown
        self._mark(presents & np.isin(self.evidence.flows.port[:, 1], OTHER_APISERVER_PORTS), ServiceKind.APISERVER)

    def _agents(self) -> None:
        """Agents on a port of the cluster's choice: an egress proxy is declared, and nodes dial its host over TLS."""
        declared = self.declared
        if declared is None or not declared.egress_proxy or self.kind(ServiceKind.KONNECTIVITY_AGENTS).any():
            return
        ports = self.evidence.flows.port[:, 1]
        dials = self.tls & self.evidence.client_may_be_go & self.roles.client_is(NODE)
        dials &= self.roles.server_is(CONTROL_PLANE) & ~self.roles.client_is(CONTROL_PLANE)
        dials &= (self.roles.kind() == ServiceKind.OTHER) & ~np.isin(ports, CONTROL_PLANE_PORTS)
        # An agent dials every server once and stays; what is dialled again and again is another service.
        services, place = np.unique(self.roles.service[dials], return_inverse=True)
        counts = np.bincount(place, self.evidence.weight[dials])
        clients = np.array([np.unique(self.roles.client[dials & (self.roles.service == s)]).shape[0] for s in services])
        steady = services[counts <= 2 * clients] if services.shape[0] else services
        self._mark(dials & np.isin(self.roles.service, steady), ServiceKind.KONNECTIVITY_AGENTS)

    def _called_and_calling(self) -> None:
        """Without an inventory or a telling port: whom a node dials on an HTTPS port and who dials its kubelet."""
        if CONTROL_PLANE in self.roles.listed or self.roles.member[CONTROL_PLANE].any():
            return
        talks = self.tls & self.evidence.carried_payload
        kubelet = talks & self.kind(ServiceKind.KUBELET)
        client, server = self.roles.client, self.roles.server
        calls = talks & np.isin(self.evidence.flows.port[:, 1], OTHER_APISERVER_PORTS)
        size = self.roles.addresses.shape[0]
        answers = np.isin(server * size + client, client[kubelet] * size + server[kubelet])
        self._mark(calls & answers & (client != server), ServiceKind.APISERVER)
        self._give(
            self.kind(ServiceKind.APISERVER), "server", CONTROL_PLANE, "nodes dial it, and it dials their kubelets"
        )

    def _https_port(self) -> None:
        """HTTPS ports: the API server, where the control plane has it or Go clients are asked for certificates."""
        ports = self.evidence.flows.port[:, 1]
        https = self.tls & np.isin(ports, OTHER_APISERVER_PORTS)
        if not https.any():
            return
        asked = self.evidence.tls_is("certificate_requested", Ternary.YES) & self.go
        http2 = self.evidence.tls_text_in("alpn", frozenset({"h2"}))
        known = self.roles.server_is(CONTROL_PLANE)
        if CONTROL_PLANE not in self.roles.listed:
            # The API server itself is asked by aggregated APIs, which look the same from here.
            known |= asked & http2 & ~self.roles.client_is(CONTROL_PLANE)
        self._mark(https & known, ServiceKind.APISERVER)
        self._give(self.kind(ServiceKind.APISERVER), "server", CONTROL_PLANE, "serves the Kubernetes API")

    def kind(self, kind: ServiceKind) -> Mask:
        """Flows whose server is of `kind`: (F,) bool."""
        chosen: Mask = self.roles.kind() == kind
        return chosen

    # ------------------------------------------------------------------------------------- addresses

    def _give(self, flows: Mask, end: str, role: str, reason: str) -> None:
        """Give `role` to the client or server addresses of `flows`, each with its first such frame."""
        rows = getattr(self.roles, end)[flows]
        if rows.shape[0] == 0:
            return
        frames = np.zeros(self.roles.addresses.shape[0], np.int64)
        frames[rows[::-1]] = self.frames[flows][::-1]
        concerned = np.flatnonzero(self._among(rows) & self._open_to(role))
        self.roles.add(concerned, role, Grade.INFERRED, reason, frames)

    def _open_to(self, role: str) -> Mask:
        """Addresses inference may speak about: not where the inventory has, nor about loopback or none: (A,) bool."""
        words = self.roles.addresses.view(np.uint64)
        some: Mask = ((words[:, 0] | words[:, 1]) != 0) & ~self.roles.member[LOOPBACK]
        return some if role in (CONTROL_PLANE, ETCD) else some & ~self.stated

    @cached_property
    def stated(self) -> Mask:
        """Addresses of which the inventory says a role: (A,) bool."""
        said = frozenset(address for address, roles in self.declared.roles.items() if roles) if self.declared else ()
        addresses = self.roles.addresses
        if not said:
            return np.zeros(addresses.shape[0], bool)
        return np.array([octets in said for octets in addresses.view("V16")[:, 0].tolist()], bool)

    def _among(self, rows: I64) -> Mask:
        """Which addresses `rows` are: (A,) bool."""
        mask = np.zeros(self.roles.addresses.shape[0], bool)
        mask[rows] = True
        return mask

    def _control_plane(self) -> None:
        self._give(self.kind(ServiceKind.APISERVER), "server", CONTROL_PLANE, "serves the Kubernetes API")
        serves_tunnel = self.kind(ServiceKind.KONNECTIVITY_AGENTS) & (self.tls | self.http)
        self._give(serves_tunnel, "server", CONTROL_PLANE, "serves konnectivity agents")
        ports = np.isin(self.evidence.flows.port[:, 1], CONTROL_PLANE_PORTS) & self.tls
        self._give(ports, "server", CONTROL_PLANE, "serves TLS on the controller manager's or scheduler's port")
        etcd = self.kind(ServiceKind.ETCD) & (self.tls | self.http)
        self._give(etcd, "server", ETCD, "serves etcd's client API")
        if CONTROL_PLANE not in self.roles.listed:
            self._give(etcd, "client", CONTROL_PLANE, "is a client of etcd")
        if CONTROL_PLANE in self.roles.listed or self.kind(ServiceKind.KONNECTIVITY_AGENTS).any():
            return
        # Whoever calls kubelets with a client certificate is the API server, on whatever address its cloud gives it.
        # So is whoever sends requests with the headers of its proxy. Both may come through a tunnel, hence the guard.
        proxied = self.evidence.asked(lambda request: request.forwarded_uri)
        self._give(proxied, "client", CONTROL_PLANE, "sends requests as the API server's proxy does")
        # A refusal and an upgrade-only ALPN offer are the API server's too, but only where nobody better is known.
        kubelet = self.kind(ServiceKind.KUBELET) & self.go
        self._give(kubelet & self.presented, "client", CONTROL_PLANE, "calls kubelets with a client certificate")
        if not self.roles.member[CONTROL_PLANE].any():
            refused = self.evidence.tls_is("refused", Ternary.YES)
            upgrade = self.evidence.tls_text_in("alpn_offered", frozenset({"http/1.1"}))
            like = kubelet & (refused | upgrade)
            self._give(like, "client", CONTROL_PLANE, "calls kubelets as the API server does; none better here")
        if not self.roles.member[CONTROL_PLANE].any():
            # Mid-connection only: nothing but the port tells.
            middle = self.kind(ServiceKind.KUBELET) & self.evidence.mid_connection
            self._give(middle, "client", CONTROL_PLANE, "holds long connections to kubelets; none better here")

    def _legs(self) -> None:
        """Translated connections: where one leg ends at the API server, the address dialled is its Service."""
        evidence, roles = self.evidence, self.roles
        legs = np.flatnonzero(evidence.leg_of >= 0)
        roots = evidence.leg_of[legs]
        # In and out of a tunnel, or from another vantage point, a leg has the connection's own addresses.
        moved_ends = (roles.server[legs] != roles.server[roots]) | (roles.client[legs] != roles.client[roots])
        legs, roots = legs[moved_ends], roots[moved_ends]
        if legs.shape[0] == 0:
            return
        kinds = roles.kind()
        api = kinds[legs] == ServiceKind.APISERVER
        dialled = self._flows_where(roots[api])
        self._mark(dialled, ServiceKind.APISERVER)
        moved = dialled & (evidence.flows.port[:, 1] == HTTPS_PORT)
        self._give(moved, "server", SERVICE, "is translated to the API server's address")
        hidden = roles.client[roots] != roles.client[legs]
        masked = self._flows_where(roots[hidden])
        self._give(masked, "client", POD, "its address is masqueraded on this node")
        # Without masquerade (IPv6, routed pod networks): who dials a Service from outside the hosts' network is a pod.
        hosts = roles.addresses[roles.member[CONTROL_PLANE]]
        near = _Networks(hosts[:_ANCHORS])
        routed = roots[api & ~hidden]
        routed = routed[~near.hold(roles.addresses[roles.client[routed]])]
        self._give(
            self._flows_where(routed), "client", POD, "dials the Service kubernetes from outside the hosts' network"
        )

    def _nodes(self) -> None:
        kubelets = self.kind(ServiceKind.KUBELET) | self.kind(ServiceKind.KUBELET_READONLY)
        self._give(kubelets, "server", NODE, "serves the kubelet's port")
        agents = self.kind(ServiceKind.KONNECTIVITY_AGENTS) & ~self.roles.client_is(CONTROL_PLANE)
        self._give(agents, "client", NODE, "dials the konnectivity server as agents do")
        if NODE in self.roles.listed:
            return
        known = self.roles.member[CONTROL_PLANE] | self.roles.member[NODE]
        anchors = self.roles.addresses[known & ~self.roles.member[LOOPBACK]]
        calls = self.kind(ServiceKind.APISERVER) | (self.kind(ServiceKind.KUBELET) & self.presented)
        taken = self.roles.member[CONTROL_PLANE] | self.roles.member[POD] | self.roles.member[LOOPBACK]
        callers = np.flatnonzero(self._among(self.roles.client[calls]) & ~taken)
        near = callers[_Networks(anchors[:_ANCHORS]).hold(self.roles.addresses[callers])]
        flows = calls & self._among(near)[self.roles.client]
        self._give(flows, "client", NODE, "calls the API server or a kubelet from the network of known nodes")

    def _pods(self) -> None:
        """Without an inventory: whom the API server proxies to, and their neighbours."""
        named = self.evidence.asked(lambda r: "/pods/" in r.forwarded_uri or "/services/" in r.forwarded_uri)
        self._give(named, "server", POD, "the API server's proxy names it as a pod")
        if POD in self.roles.listed:
            return
        pods = _Networks(self.roles.addresses[self.roles.member[POD]][:_ANCHORS])
        unknown = ~np.any([self.roles.member[role] for role in ROLES], axis=0)
        rows = np.flatnonzero(unknown)
        rows = rows[pods.hold(self.roles.addresses[rows])]
        self.roles.add(rows, POD, Grade.INFERRED, "in the network of known pods")

    def _tunnels(self) -> None:
        agents = self.kind(ServiceKind.KONNECTIVITY_AGENTS).any()
        banners = self.evidence.ssh.values()
        go_ssh = any(facts.client_banner.startswith("SSH-2.0-Go") for facts in banners)
        self.roles.tunnelled = bool(agents or go_ssh or (self.declared is not None and self.declared.egress_proxy))

    def _rest(self) -> None:
        """Whoever calls the API server or a kubelet and is nothing else is a user."""
        kinds = self.roles.kind()
        calls = np.isin(kinds, (ServiceKind.APISERVER, ServiceKind.KUBELET, ServiceKind.KUBELET_READONLY))
        nobody = ~np.any([self.roles.member[role] for role in ROLES], axis=0)
        reason = (
            "calls the cluster and is not in the inventory"
            if self.declared
            else "calls the cluster from another network"
        )
        self._give(calls & nobody[self.roles.client], "client", USER, reason)
