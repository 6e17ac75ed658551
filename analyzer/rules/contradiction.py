"""PW601: what the configuration declares and what the wire shows contradict each other.

Every statement of the configuration is compared by a function of its own. A statement that could not be compared on a
connection leaves that connection undecidable, unless another one is contradicted there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from analyzer.cluster.roles import CONTROL_PLANE, KUBELET_READONLY_PORT, ServiceKind
from analyzer.decode.transport import TCP
from analyzer.flows import RST
from analyzer.protocols.tls.suites import suite_name
from analyzer.registries import ClientCertificate, Grade, Protocol, ServerVerification, Severity, Ternary, TlsVersion
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.rules.cleartext_proxy import CHANNELS as PROXIES
from analyzer.schema import I64, U8, Mask

if TYPE_CHECKING:
    from analyzer.cluster.declared import KubeletDeclared

_MIN_VERSIONS: Final = {
    "VersionTLS10": TlsVersion.TLS_1_0,
    "VersionTLS11": TlsVersion.TLS_1_1,
    "VersionTLS12": TlsVersion.TLS_1_2,
    "VersionTLS13": TlsVersion.TLS_1_3,
}
"""Values of --tls-min-version and tlsMinVersion (component-base/cli/flag/ciphersuites_flag.go)."""
_OLD_NAMES: Final = {
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
"""Names Go had before the registry's (crypto/tls/cipher_suites.go), which the flags still take."""


@dataclass(frozen=True, slots=True)
class _Compared:
    """One statement: where it applies, where it could be compared, and where the wire says otherwise."""

    scope: Mask
    decidable: Mask
    violation: Mask
    grade: U8 | Grade
    says: str
    silence_tells: bool = False  #: a connection without payload may be compared too: a port that was refused


def _kubelet_authority(audit: Audit) -> Iterator[_Compared]:
    if audit.declared.kubelet_ca:
        yield _verification(audit, audit.on("apiserver-to-kubelet"), "--kubelet-certificate-authority is set")


def _node_kubeconfig(audit: Audit) -> Iterator[_Compared]:
    if audit.declared.node_kubeconfig_ca:
        here = audit.on("node-to-apiserver") & audit.evidence.tls_is("client_certificate", Ternary.YES)
        yield _verification(audit, here, "the kubelets' kubeconfig names a CA")


def _verification(audit: Audit, here: Mask, declared: str) -> _Compared:
    answer = audit.verdicts.server_verification
    shown = answer.grade <= Grade.INFERRED
    accepted = shown & (answer.value == ServerVerification.UNVERIFIED)
    refused = shown & (answer.value == ServerVerification.REFUSED)
    good = audit.evidence.tls_is("server_self_made", Ternary.NO) & audit.evidence.tls_is("established", Ternary.YES)
    return _Compared(
        here & audit.evidence.client_may_be_go & (audit.evidence.tls_row >= 0),
        accepted | refused | good,
        accepted,
        answer.grade,
        f"{declared}, and a certificate that no check would pass was accepted",
    )


def _client_certificate(audit: Audit, here: Mask, declared: str) -> _Compared:
    answer = audit.verdicts.client_certificate
    shown = answer.grade <= Grade.INFERRED
    asked = audit.evidence.tls_is("certificate_requested", Ternary.YES)
    established = audit.evidence.tls_is("established", Ternary.YES)
    absent = shown & (answer.value == ClientCertificate.ABSENT)
    return _Compared(
        here & audit.evidence.client_may_be_go & (audit.evidence.tls_row >= 0),
        established & (absent & asked | shown & (answer.value == ClientCertificate.PRESENTED)),
        absent,
        answer.grade,
        f"{declared}, and the API server presented no certificate although it was asked for one",
    )


def _client_certificates(audit: Audit) -> Iterator[_Compared]:
    own = audit.roles.client_is(CONTROL_PLANE)
    if audit.declared.kubelet_certificate:
        yield _client_certificate(audit, audit.on("apiserver-to-kubelet") & own, "--kubelet-client-certificate is set")
    if audit.declared.etcd_certificate:
        yield _client_certificate(audit, audit.on("apiserver-to-etcd") & own, "--etcd-certfile is set")


def _kubelets(audit: Audit) -> list[tuple[KubeletDeclared, list[bytes]]]:
    """Distinct kubelet configurations, whatever their node and file, with the addresses each holds for."""
    found: dict[KubeletDeclared, list[bytes]] = {}
    for address, kubelet in audit.declared.kubelets.items():
        found.setdefault(replace(kubelet, node="", source_file=""), []).append(address)
    return list(found.items())


def _read_only_port(audit: Audit) -> Iterator[_Compared]:
    flows = audit.evidence.flows
    for kubelet, addresses in _kubelets(audit):
        if kubelet.read_only_port:
            continue
        here = audit.connections & audit.with_server(addresses) & (flows.protocol == TCP)
        here &= (flows.port[:, 1] == KUBELET_READONLY_PORT) & (audit.roles.kind() == ServiceKind.KUBELET_READONLY)
        closed = (flows.flags[:, 1] & RST > 0) & (flows.payload_octets[:, 1] == 0)
        yield _Compared(
            here,
            audit.http | closed,
            audit.http,
            Grade.OBSERVED,
            f"the kubelet's readOnlyPort is 0, and port {KUBELET_READONLY_PORT} answers",
            silence_tells=True,
        )


def _etcd(audit: Audit) -> Iterator[_Compared]:
    flags, own = audit.declared.flags, audit.roles.client_is(CONTROL_PLANE)
    if flags is not None and flags.etcd_is_encrypted:
        yield _Compared(
            audit.on("apiserver-to-etcd") & own,
            audit.recognised,
            audit.http,
            Grade.OBSERVED,
            "the API server's flags say TLS for etcd, and the traffic is cleartext",
        )
    for address, etcd in audit.declared.etcds.items():
        here = audit.on("apiserver-to-etcd") & audit.with_server((address,)) & audit.recognised
        if etcd.client_cert_auth:
            answer = audit.verdicts.client_certificate
            shown = answer.grade <= Grade.INFERRED
            yield _Compared(
                here & (audit.evidence.tls_row >= 0),
                shown & audit.evidence.tls_is("established", Ternary.YES),
                answer.value == ClientCertificate.ABSENT,
                answer.grade,
                "etcd's --client-cert-auth is true, and a client without a certificate was let in",
            )
        if etcd.cert_file:
            yield _Compared(
                here,
                audit.recognised,
                audit.http,
                Grade.OBSERVED,
                "etcd's --cert-file is set, and it answers in cleartext",
            )


def _kubelet_tls(audit: Audit) -> Iterator[_Compared]:
    evidence = audit.evidence
    for kubelet, addresses in _kubelets(audit):
        here = audit.connections & audit.with_server(addresses) & (audit.roles.kind() == ServiceKind.KUBELET)
        here &= evidence.tls_row >= 0
        if kubelet.client_ca_file:
            asked = evidence.tls_is("certificate_requested", Ternary.YES)
            not_asked = evidence.tls_is("certificate_requested", Ternary.NO)
            yield _Compared(
                here,
                asked | not_asked,
                not_asked,
                evidence.tls_grade("certificate_requested_grade"),
                "kubelet: authentication.x509.clientCAFile is set, and it asked for no client certificate",
            )
        if kubelet.serving_certificate != "self-made":
            made = evidence.tls_is("server_self_made", Ternary.YES)
            said = "tlsCertFile is set" if kubelet.tls_cert_file else "serverTLSBootstrap is true"
            yield _Compared(
                here,
                made | evidence.tls_is("server_self_made", Ternary.NO),
                made,
                evidence.tls_grade("server_self_made_grade"),
                f"kubelet: {said}, and it served a self-made certificate",
            )
        yield from _parameters(audit, here, kubelet.tls_min_version, kubelet.tls_cipher_suites, "kubelet")


def _apiserver_tls(audit: Audit) -> Iterator[_Compared]:
    flags = audit.declared.flags
    if flags is None:
        return
    here = audit.connections & (audit.roles.kind() == ServiceKind.APISERVER) & (audit.evidence.tls_row >= 0)
    yield from _parameters(audit, here, flags.tls_min_version, flags.tls_cipher_suites, "kube-apiserver")
    if flags.insecure_port == 0:
        yield _Compared(
            audit.on("insecure-apiserver"),
            audit.recognised,
            audit.http,
            Grade.OBSERVED,
            "--insecure-port is 0, and port 8080 answers",
        )


def _parameters(
    audit: Audit, here: Mask, min_version: str | None, suites: tuple[str, ...], name: str
) -> Iterator[_Compared]:
    """Version and suite of a ServerHello against what its server is configured for."""
    version: I64 = audit.evidence.tls_column("version")
    least = _MIN_VERSIONS.get(min_version or "")
    if least is not None:
        yield _Compared(
            here,
            version > 0,
            version < least,
            audit.evidence.tls_grade("version_grade"),
            f"{name}: the minimum version is {min_version}, and a lower one was negotiated",
        )
    if suites:
        allowed = {_OLD_NAMES.get(text, text) for text in suites}
        suite = audit.evidence.tls_column("cipher_suite")
        listed = [number for number in np.unique(suite).tolist() if suite_name(number) in allowed]
        # The suites of TLS 1.3 are not configurable (crypto/tls Config.CipherSuites).
        yield _Compared(
            here & (version < TlsVersion.TLS_1_3),
            audit.evidence.tls_column("server_hello_seen") == 1,
            ~np.isin(suite, listed),
            Grade.OBSERVED,
            f"{name}: the list of cipher suites does not hold the one that was negotiated",
        )


def _anonymous(audit: Audit) -> Iterator[_Compared]:
    served, read, _ = audit.verdicts.anonymous
    presented = audit.verdicts.client_certificate.value == ClientCertificate.PRESENTED
    for kubelet, addresses in _kubelets(audit):
        if not kubelet.anonymous:
            here = audit.with_server(addresses) & (audit.roles.kind() == ServiceKind.KUBELET) & audit.connections
            yield _Compared(
                here & audit.recognised & read,
                read | presented,
                served,
                Grade.OBSERVED,
                "kubelet: anonymous authentication is off, and an anonymous request was answered",
            )
    if audit.declared.flags is not None and audit.declared.flags.anonymous_auth is False:
        here = audit.connections & (audit.roles.kind() == ServiceKind.APISERVER) & read
        yield _Compared(
            here,
            read | presented,
            served,
            Grade.OBSERVED,
            "--anonymous-auth is false, and an anonymous request was answered",
        )


def _egress(audit: Audit) -> Iterator[_Compared]:
    declared, roles = audit.declared, audit.roles
    if declared.egress_proxied:
        here = audit.on("apiserver-to-kubelet", *PROXIES) & audit.off_host & audit.recognised
        direct = roles.client_is(CONTROL_PLANE) & audit.evidence.client_may_be_go & (audit.evidence.carrier < 0)
        # An agent on a control-plane host dials from that host's address.
        relays = audit.with_client(declared.agent_nodes)
        agents = audit.on("konnectivity-agent-to-server")
        relays |= np.isin(roles.client, np.unique(roles.client[agents]))
        foreign = roles.client_is(CONTROL_PLANE) & (audit.evidence.tls_row >= 0) & ~audit.evidence.client_may_be_go
        yield _Compared(
            here & ~foreign,
            ~(direct & relays),
            direct,
            Grade.INFERRED,
            "the egress selector sends cluster traffic through a proxy, and the control plane dialled directly",
        )
    if declared.egress_encrypted:
        yield _Compared(
            audit.on("apiserver-to-konnectivity-server"),
            audit.recognised,
            audit.http,
            Grade.OBSERVED,
            "the egress selector's URL is https:, and the connection is cleartext",
        )


_STATEMENTS: Final[tuple[Callable[[Audit], Iterator[_Compared]], ...]] = (
    _kubelet_authority,
    _node_kubeconfig,
    _client_certificates,
    _read_only_port,
    _etcd,
    _kubelet_tls,
    _apiserver_tls,
    _anonymous,
    _egress,
)


def _check(audit: Audit) -> Outcome:
    evidence = audit.evidence
    n = len(evidence)
    scope, open_, violation = (np.zeros(n, bool) for _ in range(3))
    grade = np.full(n, Grade.NONE, np.uint8)
    talks = evidence.identification.protocol != Protocol.NO_DATA
    detail: dict[int, list[str]] = {}
    for statement in _STATEMENTS:
        for compared in statement(audit):
            here = compared.scope & (talks | compared.silence_tells)
            against = here & compared.decidable & compared.violation
            scope |= here
            open_ |= here & ~compared.decidable
            grades = np.broadcast_to(np.asarray(compared.grade, np.uint8), (n,))
            grade = np.where(against, np.minimum(grade, grades), grade)
            violation |= against
            for row in np.flatnonzero(against)[:1000].tolist():
                detail.setdefault(row, []).append(compared.says)
    return outcome(
        scope=scope,
        decidable=violation | ~open_,
        violation=violation,
        grade=grade,
        frames=[
            evidence.tls_column("server_certificate_frame"),
            evidence.tls_column("client_flight_frame"),
            evidence.identification.frame,
            evidence.flows.first_frame,
        ],
        detail={row: "; ".join(lines) for row, lines in detail.items()},
    )


CONTRADICTION = Rule(
    code="PW601",
    name="declared-and-observed-contradict",
    title="What the configuration declares is not what the wire shows",
    severity=Severity.HIGH,
    channels=(
        "apiserver-to-kubelet",
        "apiserver-to-etcd",
        "apiserver-to-konnectivity-server",
        "kubelet-readonly",
        "node-to-apiserver",
        *PROXIES,
    ),
    needs="cluster facts: flags, kubelet configuration, egress selector, kubeconfigs",
    seen="traffic contradicts the configuration that was handed over",
    why="Either the files are not those in force, or something else answers or dials in their place. An audit that "
    "rests on the files alone would be wrong.",
    remediation="Compare the running process with the file: its command line, the kubelet's /configz, and when either "
    "was last restarted. Then look for who else uses the address.",
    flags=(
        "kubectl get --raw /api/v1/nodes/NODE/proxy/configz",
        "ps -o args= -C kube-apiserver; crictl inspect",
    ),
    source="https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/",
    cis="",
    limits="Files are taken to be those that were in force during the whole capture; a change in the middle of it "
    "looks like a contradiction.",
    filter="tls.handshake || http || http2",
    check=_check,
)
