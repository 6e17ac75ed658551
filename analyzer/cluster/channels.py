"""Which channel each connection belongs to: roles and services first, content where it proves more, ports last.

Rules are asked in order and the first that applies decides, so the order below is the argument: what carries packets,
what the API server's proxy writes into its requests, what is served at the address dialled, then who is on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.cluster.catalogue import channels, ports
from analyzer.cluster.roles import (
    CONTROL_PLANE,
    ETCD,
    LOOPBACK,
    NODE,
    POD,
    ROLES,
    SERVICE,
    USER,
    Roles,
    ServiceKind,
)
from analyzer.cluster.tunnels import ssh_tunnels
from analyzer.decode.transport import TCP, UDP
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Grade, Protocol, Ternary
from analyzer.schema import I64, U8, Mask

INSECURE_APISERVER_PORT: Final = 8080  # --insecure-port, removed in 1.24, no longer served since 1.20
BOOTSTRAP_NS: Final = 5_000_000_000
"""A kubelet whose request was approved connects with its certificate within this time of its last words without."""
NODEPORT_RANGE: Final = (30000, 32767)  # --service-node-port-range

_CARRIERS: Final = (
    Protocol.VXLAN,
    Protocol.GENEVE,
    Protocol.IPIP,
    Protocol.GRE,
    Protocol.TUNNEL,
    Protocol.WIREGUARD,
    Protocol.ESP,
    Protocol.AH,
    Protocol.IKE,
)
_API_PREFIXES: Final = ("/api/", "/apis/", "/api?", "/apis?", "/openapi/")


@dataclass(frozen=True, slots=True)
class ChannelColumns:
    """The channel of each flow.

    ``channel`` (F,) int64 row of `catalogue.channels()`; ``grade`` (F,) uint8; ``reason`` (F,) int64 row of
    ``reasons``; ``via`` (F,) bool: the API server speaks through a tunnel's far end, not from its own address.
    """

    channel: I64
    grade: U8
    reason: I64
    reasons: tuple[str, ...]
    via: Mask


def of_channel(columns: ChannelColumns, name: str) -> Mask:
    """Flows of one channel: (F,) bool."""
    rows = {channel.id: row for row, channel in enumerate(channels())}
    chosen: Mask = columns.channel == rows[name]
    return chosen


class _Rules:
    """The rules, applied in order; `settle` keeps the first answer."""

    def __init__(self, evidence: Evidence, roles: Roles) -> None:
        n = len(evidence)
        self.evidence, self.roles = evidence, roles
        self.rows = {channel.id: row for row, channel in enumerate(channels())}
        self.channel = np.zeros(n, np.int64)
        self.grade = np.full(n, Grade.NONE, np.uint8)
        self.reason = np.zeros(n, np.int64)
        self.reasons = ["nothing in the capture or the inventory tells"]
        self.via = np.zeros(n, bool)
        self.protocol = evidence.identification.protocol
        self.port = evidence.flows.port[:, 1].astype(np.int64)
        self.tcp = evidence.flows.protocol == TCP
        self.kind = self._kinds()
        self.tls = self.protocol == Protocol.TLS
        self.from_control_plane = self._client(CONTROL_PLANE)
        # Roles of services are declared or inferred; what follows from them is no better known.
        self.service_grade = np.minimum(roles.service_grade[roles.service], Grade.DEFAULT).astype(np.uint8)

    def _kinds(self) -> U8:
        """`ServiceKind` per flow; all legs of a connection end at what any of them ends at."""
        kind = self.roles.kind().copy()
        root = self.evidence.root
        best = np.zeros(kind.shape[0], np.uint8)
        np.maximum.at(best, root, kind)
        leg = np.zeros(kind.shape[0], bool)
        leg[self.evidence.leg_of >= 0] = True
        leg[self.evidence.leg_of[self.evidence.leg_of >= 0]] = True
        kind[leg] = best[root[leg]]
        return kind

    def _client(self, role: str) -> Mask:
        """Flows whose client has `role`; a leg's client is the client of its connection."""
        return self.roles.member[role][self.roles.client[self.evidence.root]]

    def _any_role(self, ends: I64) -> Mask:
        known: Mask = np.any([self.roles.member[role] for role in ROLES], axis=0)[ends]
        return known

    def _same_host(self) -> Mask:
        same: Mask = (self.roles.client == self.roles.server) | self.roles.server_is(LOOPBACK)
        return same

    def settle(self, rows: Mask, channel: str, reason: str, grade: U8 | Grade = Grade.INFERRED) -> None:
        """Give `channel` to those of `rows` that have none yet."""
        fresh = rows & (self.channel == 0)
        if not fresh.any():
            return
        self.channel[fresh] = self.rows[channel]
        grades = np.broadcast_to(np.asarray(grade, np.uint8), fresh.shape)
        self.grade[fresh] = grades[fresh]
        self.reasons.append(reason)
        self.reason[fresh] = len(self.reasons) - 1

    # ---------------------------------------------------------------------------------------- the rules

    def carriers(self) -> None:
        self.settle(np.isin(self.protocol, _CARRIERS), "overlay", "carries other packets", Grade.OBSERVED)

    def proxied(self) -> None:
        """X-Forwarded-Uri: written by the API server's proxy only (apimachinery pkg/util/proxy/transport.go)."""
        http = self.evidence.http
        named = [_forwarded_channel(message.forwarded_uri) for message in http.contents]
        first = self.evidence.first_asked(lambda request: _forwarded_channel(request.forwarded_uri))
        content = np.append(http.content, -1)[first]
        for channel in sorted(set(named) - {""}):
            rows = np.isin(content, [row for row, name in enumerate(named) if name == channel])
            # Decrypted: a node's kubelet port is asked on the kubelet's own transport (pkg/registry/core/node/rest).
            rows &= ~(self.tls & (self.kind == ServiceKind.KUBELET) & (channel == "apiserver-to-node-proxy"))
            self.settle(rows, channel, "X-Forwarded-Uri names the API server's proxy", Grade.OBSERVED)
            self.via |= rows & ~self.from_control_plane

    def ssh(self) -> None:
        """The API server's tunnels and administrators' sessions (see `analyzer.cluster.tunnels`)."""
        found = ssh_tunnels(self.evidence, self.roles, self.from_control_plane)
        for reason, rows in found.tunnels:
            self.settle(rows, "ssh-tunnel", reason)
        for reason, rows in found.sessions:
            self.settle(rows, "ssh-session", reason)

    def apiserver(self) -> None:
        here = self.kind == ServiceKind.APISERVER
        grade = self.service_grade
        http = here & (self.protocol == Protocol.HTTP1) & (self.port == INSECURE_APISERVER_PORT)
        self.settle(http, "insecure-apiserver", "cleartext HTTP to the API server", Grade.OBSERVED)
        own = self._same_host() | self.from_control_plane | self._client(LOOPBACK)
        self.settle(here & own, "controlplane-to-apiserver", "the API server's own host calls it", grade)
        self.settle(here & self._client(POD), "pod-to-apiserver", "a pod calls the API server", grade)
        masqueraded = here & self._client(NODE) & self.evidence.client_is_go & self._absent() & self._asked()
        self.settle(
            masqueraded & self._bootstrapping(here),
            "node-to-apiserver",
            "from a node without a certificate, just before the first connection of that node with one: "
            "a kubelet that asks for its certificate",
        )
        self.settle(
            masqueraded,
            "pod-to-apiserver",
            "from a node's address by a Go client without a certificate, as a masqueraded pod does; "
            "a kubelet that has no certificate yet looks the same",
        )
        self.settle(here & self._client(NODE), "node-to-apiserver", "a node calls the API server", grade)
        self.settle(here, "user-to-apiserver", "neither node, pod nor control plane calls the API server", grade)

    def kubelet(self) -> None:
        here = self.kind == ServiceKind.KUBELET
        grade = self.service_grade
        self.settle(here & self.from_control_plane, "apiserver-to-kubelet", "the control plane calls a kubelet", grade)
        # Konnectivity agents and SSH servers dial for the API server: the client's address is a node's then.
        relayed = here & self._client(NODE) & (self.roles.tunnelled | self._same_host())
        relayed &= ~self._absent() & (self.evidence.client_is_go | self.evidence.mid_connection | ~self.tls)
        self.settle(relayed, "apiserver-to-kubelet", "a node dials a kubelet for the API server, which uses a tunnel")
        # An agent may be a pod of its own address. The certificate is the API server's: the tunnel is TCP.
        relayed = here & self._client(POD) & self.roles.tunnelled & self.evidence.client_is_go & self._presented()
        self.settle(
            relayed, "apiserver-to-kubelet", "a pod dials a kubelet with a certificate, as an agent's peer does"
        )
        self.via |= (self.channel == self.rows["apiserver-to-kubelet"]) & ~self.from_control_plane
        self.settle(here, "user-to-kubelet", "someone other than the API server calls a kubelet", grade)
        readonly = self.kind == ServiceKind.KUBELET_READONLY
        self.settle(
            readonly & self.from_control_plane, "apiserver-to-node-proxy", "the control plane calls a node's port"
        )
        self.settle(readonly, "kubelet-readonly", "the kubelet's read-only port", grade)

    def etcd_and_konnectivity(self) -> None:
        grade = self.service_grade
        etcd = self.kind == ServiceKind.ETCD
        if self.roles.declared:
            # Other programs bring an etcd of their own: what neither is declared nor has the control plane's clients.
            inside = self._client(POD) | self.roles.server_is(POD) | self._client(NODE)
            etcd &= (grade == Grade.DECLARED) | self.from_control_plane | self._client(ETCD) | ~inside
        self.settle(etcd, "apiserver-to-etcd", "a client of etcd's client port", grade)
        agents = self.kind == ServiceKind.KONNECTIVITY_AGENTS
        self.settle(agents, "konnectivity-agent-to-server", "dials the konnectivity server's agent port", grade)
        frontend = self.kind == ServiceKind.KONNECTIVITY_FRONTEND
        self.settle(frontend, "apiserver-to-konnectivity-server", "asks the konnectivity server for connections", grade)

    def legacy(self) -> None:
        """The API server's insecure port: cleartext HTTP on 8080 to the control plane with API paths."""
        paths = self.evidence.asked(
            lambda r: r.target.startswith(_API_PREFIXES) and not (r.forwarded_uri or r.decrypted)
        )
        insecure = paths & (self.port == INSECURE_APISERVER_PORT) & self.roles.server_is(CONTROL_PLANE)
        self.settle(
            insecure, "insecure-apiserver", "API paths in cleartext on port 8080 of the control plane", Grade.OBSERVED
        )

    def from_the_control_plane(self) -> None:
        """What the API server dials besides kubelets: webhooks and aggregated APIs by name, the rest by its proxy."""
        dials = self.from_control_plane & ~self._same_host() & self.tcp & (~self.tls | self.evidence.client_may_be_go)
        dials &= ~self._not_proxied()
        named = np.array([s.endswith(".svc") for s in self.evidence.tls.strings], bool)
        webhook = dials & self.tls & self.evidence.tls_text_where("sni", named)
        self.settle(webhook, "apiserver-to-webhook", "the control plane dials a Service by its in-cluster name")
        asked = self.tls & self._presented()
        self.settle(dials & asked, "apiserver-to-webhook", "the control plane presents a certificate to a workload")
        node = dials & self.roles.server_is(NODE)
        refused = dials & self.tls & self.evidence.tls_is("refused", Ternary.YES)
        checks = dials & self.tls & np.isin(self.roles.service, self.roles.service[refused])
        self.settle(
            checks, "apiserver-to-webhook", "the control plane refused a certificate here; its proxy never does"
        )
        self.settle(
            dials
            & self.tls
            & self.evidence.tls_text_where("sni", np.array([bool(s) for s in self.evidence.tls.strings], bool)),
            "apiserver-to-webhook",
            "the control plane dials a workload by name",
        )
        # Hosts of the control plane talk to one another in other ways too (supervisors, peers, metrics).
        node &= ~self.roles.server_is(CONTROL_PLANE)
        self.settle(node & ~self._well_known(), "apiserver-to-node-proxy", "the control plane dials a node's port")
        workload = dials & ~node & ~self.roles.server_is(CONTROL_PLANE) & ~self.roles.server_is(ETCD)
        workload &= ~self.roles.server_is(USER) & ~self._well_known()
        if POD in self.roles.listed:
            workload &= self.roles.server_is(POD) | self.roles.server_is(SERVICE)
        self.settle(workload, "apiserver-to-pod-proxy", "the control plane dials a pod's address")

    def well_known(self) -> None:
        for port in ports():
            transport = {"tcp": self.tcp, "udp": self.evidence.flows.protocol == UDP}.get(port.transport, True)
            rows = (self.port == port.number) & transport
            self.settle(rows, port.service, f"port {port.number} ({port.source})", Grade.INFERRED)
        dns = self.protocol == Protocol.DNS
        self.settle(dns, "cluster-dns", "DNS messages", Grade.OBSERVED)

    def others(self) -> None:
        self.settle(self.roles.server_is(LOOPBACK), "node-local", "a loopback address", Grade.OBSERVED)
        low, high = NODEPORT_RANGE
        nodeport = (self.port >= low) & (self.port <= high) & self.roles.server_is(NODE) & self.tcp
        self.settle(nodeport, "nodeport", "a node's port in the NodePort range")
        # An address inside the pod network that no pod has may be a host's own end of the overlay. Where such a one
        # is a mere end of a connection, without opening or payload, nothing tells whose it was.
        unnamed = np.array([row not in self.roles.names for row in range(self.roles.addresses.shape[0])], bool)
        bare = (self.protocol == Protocol.NO_DATA) & self.evidence.mid_connection
        bare &= self.roles.declared & unnamed[self.roles.client]
        known = self.roles.server_is(POD) | self.roles.server_is(SERVICE) | self._client(POD) | self._client(SERVICE)
        self.settle(known & ~bare, "workload", "a pod or a service is on one side")
        talks = (self.protocol != Protocol.UNKNOWN) & (self.protocol != Protocol.NO_DATA)
        # What a node keeps open to the control plane, or to whoever is not known, may be of the control plane.
        core = self.roles.server_is(CONTROL_PLANE) | self.roles.server_is(ETCD)
        core |= self.evidence.mid_connection & self.tls & self._client(NODE) & ~self._any_role(self.roles.server)
        self.settle(talks & ~core, "workload", "no role of the control plane on either side")

    # ------------------------------------------------------------------------------------------ helpers

    def _bootstrapping(self, here: Mask) -> Mask:
        """Connections of a node that showed no life before, and soon afterwards shows a certificate: (F,) bool.

        A kubelet in TLS bootstrapping asks with a token and comes back with the certificate. One that is at work
        renews its lease every ten seconds, so what a pod sends while its node's kubelet runs is not taken for it.
        """
        flows, client = self.evidence.flows, self.roles.client
        never = np.iinfo(np.int64).max
        first_life = np.full(self.roles.addresses.shape[0], never)
        first_certificate = first_life.copy()
        alive = here & (self._presented() | self.evidence.mid_connection) & self._client(NODE)
        np.minimum.at(first_life, client[alive], flows.first_frame[alive])
        certified = here & self._presented() & self._client(NODE)
        np.minimum.at(first_certificate, client[certified], flows.first_ns[certified])
        asks = here & self._client(NODE) & (flows.first_frame < first_life[client])
        came = first_certificate[client]
        soon: Mask = (came != never) & (came - np.minimum(flows.last_ns, came) <= BOOTSTRAP_NS)
        return asks & soon

    def _absent(self) -> Mask:
        return self.evidence.tls_is("client_certificate", Ternary.NO)

    def _presented(self) -> Mask:
        return self.evidence.tls_is("client_certificate", Ternary.YES)

    def _asked(self) -> Mask:
        return self.evidence.tls_is("certificate_requested", Ternary.YES)

    def _not_proxied(self) -> Mask:
        """Cleartext HTTP/1 read from its start without X-Forwarded-Uri, which the API server's proxy always adds.

        Only when it upgrades a connection does it not (apimachinery pkg/util/proxy/upgradeaware.go).
        """
        asked = self.evidence.asked
        plain: Mask = (self.protocol == Protocol.HTTP1) & asked() & ~asked(lambda r: r.forwarded_uri or r.upgrade)
        return plain & self.evidence.from_start[:, 0] & ~self.evidence.gap

    def _well_known(self) -> Mask:
        """Ports whose service is known, as long as the API server's proxy is not known to dial them."""
        numbers = [port.number for port in ports() if port.service in ("cluster-dns", "network-plugin", "etcd-peer")]
        return np.isin(self.port, numbers)


def _forwarded_channel(uri: str) -> str:
    """Channel that a forwarded URI names: /api/v1/namespaces/<ns>/{pods,services}/..., /api/v1/nodes/..."""
    parts = uri.split("?", 1)[0].split("/")
    if len(parts) > 3 and parts[1:3] == ["api", "v1"]:
        if parts[3] == "nodes":
            return "apiserver-to-node-proxy"
        if len(parts) > 5 and parts[3] == "namespaces":
            return {"pods": "apiserver-to-pod-proxy", "services": "apiserver-to-service-proxy"}.get(parts[5], "")
    return ""


def assign_channels(evidence: Evidence, roles: Roles) -> ChannelColumns:
    """Find the channel of every flow."""
    rules = _Rules(evidence, roles)
    rules.carriers()
    rules.proxied()
    rules.apiserver()
    rules.kubelet()
    rules.etcd_and_konnectivity()
    rules.ssh()
    rules.legacy()
    rules.from_the_control_plane()
    rules.well_known()
    rules.others()
    return ChannelColumns(rules.channel, rules.grade, rules.reason, tuple(rules.reasons), rules.via)
