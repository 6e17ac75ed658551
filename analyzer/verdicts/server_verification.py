"""Third question: did the client check who the server is?

Watching can show a refusal, and can show that a certificate nobody could trust was accepted. That a good certificate
was checked can only be declared by the configuration, or inferred from what is known of the client's program.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.cluster.channels import ChannelColumns, of_channel
from analyzer.cluster.declarations import Declarations
from analyzer.cluster.roles import LOOPBACK_NAME, NODE, Roles
from analyzer.flows import TLS_DATA
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.tls import anonymous_cipher
from analyzer.registries import Grade, Protocol, ServerVerification, Ternary
from analyzer.schema import I64, Mask
from analyzer.verdicts.columns import Answer
from analyzer.verdicts.names import NameComparison

_PROXIES: Final = ("apiserver-to-pod-proxy", "apiserver-to-service-proxy", "apiserver-to-node-proxy")


def judge_server_verification(
    evidence: Evidence, columns: ChannelColumns, roles: Roles, declared: Declarations, names: NameComparison
) -> Answer:
    """Answer for every flow."""
    protocol = evidence.identification.protocol
    answer = Answer.undecided(len(evidence))
    verified, unverified = ServerVerification.VERIFIED, ServerVerification.UNVERIFIED
    answer.doubt(protocol == Protocol.NO_DATA, "no payload was exchanged")
    http = np.isin(protocol, (Protocol.HTTP1, Protocol.HTTP2))
    answer.settle(http, unverified, Grade.OBSERVED, "cleartext HTTP has no server certificate to check")

    tls = protocol == Protocol.TLS
    _refused(evidence, answer)
    accepted = tls & evidence.tls_is("established", Ternary.YES)
    # Where the snap length cut the handshake, records of application data from both sides show that it was accepted.
    data = evidence.flows.signature[:, :, TLS_DATA] > 0
    in_use = accepted | (tls & evidence.mid_connection)
    in_use |= tls & evidence.tls_is("established", Ternary.UNKNOWN) & data[:, 0] & data[:, 1]
    kubelets = of_channel(columns, "apiserver-to-kubelet") | of_channel(columns, "user-to-kubelet")
    _disproved(evidence, answer, accepted, kubelets)
    answer.settle(
        accepted & names.scope & names.known & names.mismatch,
        unverified,
        Grade.INFERRED,
        "the client accepted a certificate that does not name what it dialled",
    )
    # The configuration speaks for the component: for a Go client, or where no ClientHello shows another program.
    component = in_use & evidence.client_may_be_go
    by_fingerprint = component & evidence.client_is_go
    foreign = tls & accepted & ~component
    for channel, flag, name in (
        ("apiserver-to-kubelet", declared.kubelet_ca, "--kubelet-certificate-authority"),
        ("apiserver-to-etcd", declared.etcd_ca, "--etcd-cafile"),
        ("apiserver-to-konnectivity-server", declared.konnectivity_ca, "the egress selector's caBundle"),
    ):
        here = of_channel(columns, channel)
        if flag is not None:
            value = verified if flag else unverified
            said = f"{name} is {'set' if flag else 'not set'} in the API server's configuration"
            answer.settle(component & here, value, Grade.DECLARED, said)
    agents = component & of_channel(columns, "konnectivity-agent-to-server")
    if declared.agent_ca:
        said = "the agents' flags are given; an agent always checks the server, against --ca-cert or the system's roots"
        answer.settle(agents, verified, Grade.DECLARED, said)
    _called(evidence, columns, roles, declared, answer, component)
    for channel in _PROXIES:
        answer.settle(
            component & of_channel(columns, channel),
            unverified,
            Grade.INFERRED,
            "the API server's proxy never checks (InsecureSkipVerify, pkg/controlplane/apiserver/config.go)",
        )
    _nodes(evidence, columns, roles, declared, answer, by_fingerprint)
    loopback = np.array([s == LOOPBACK_NAME for s in evidence.tls.strings], bool)
    answer.settle(
        by_fingerprint & evidence.tls_text_where("sni", loopback),
        verified,
        Grade.INFERRED,
        "the API server's loopback client trusts only the certificate the API server made for it",
    )
    answer.doubt(
        foreign,
        "the client is not the component this channel belongs to, by its ClientHello: whether it checks is not known",
    )
    answer.doubt(tls & evidence.tls_is("established", Ternary.NO), "the handshake did not complete, for another reason")
    _defaults(columns, answer, tls)
    answer.doubt(tls, "a client that checks and one that does not look alike while the certificate is good")
    answer.doubt(~tls, "no server certificate is visible in this protocol")
    return answer


def _refused(evidence: Evidence, answer: Answer) -> None:
    refused = evidence.tls_is("refused", Ternary.YES)
    grade = evidence.tls_grade("refused_grade")
    answer.settle(
        refused & (grade == Grade.OBSERVED),
        ServerVerification.REFUSED,
        Grade.OBSERVED,
        "the client's alert refuses the server's certificate",
    )
    answer.settle(
        refused,
        ServerVerification.REFUSED,
        grade,
        "in place of its second flight the client sent one alert-sized encrypted record and closed",
    )


def _disproved(evidence: Evidence, answer: Answer, accepted: Mask, kubelets: Mask) -> None:
    """A certificate that no check would pass was accepted."""
    unverified = ServerVerification.UNVERIFIED
    kubelet_made, self_signed, outdated = _server_certificates(evidence)
    answer.settle(
        accepted & kubelet_made,
        unverified,
        Grade.OBSERVED,
        "the client accepted the kubelet's self-made certificate, which no CA bundle holds",
    )
    answer.settle(
        accepted & outdated, unverified, Grade.OBSERVED, "the client accepted a certificate outside its validity"
    )
    answer.settle(
        accepted & self_signed,
        unverified,
        Grade.INFERRED,
        "the client accepted a self-signed certificate; only a client that holds this very certificate could check it",
    )
    # Other servers make such chains too (the API server's loopback certificate), and their clients may hold them.
    made = accepted & kubelets & evidence.tls_is("server_self_made", Ternary.YES)
    inferred = made & (evidence.tls_grade("server_self_made_grade") == Grade.INFERRED)
    answer.settle(
        inferred,
        unverified,
        Grade.INFERRED,
        "the length of the Certificate record is that of a kubelet's self-made chain, and the client accepted it",
    )
    anonymous = accepted & (evidence.tls_column("server_hello_seen") == 1)
    anonymous &= anonymous_cipher(evidence.tls_column("cipher_suite").astype(np.uint16))
    answer.settle(anonymous, unverified, Grade.OBSERVED, "an anonymous key exchange: the server has no certificate")


def _server_certificates(evidence: Evidence) -> tuple[Mask, Mask, Mask]:
    """Readable server leaf certificates: kubelet-made, self-signed, outside their validity at the time."""
    certificates = evidence.tls.certificates
    row = evidence.leaf("server")
    parsed = row >= 0
    safe = np.maximum(row, 0)

    def column(name: str, dtype: type) -> I64:
        return np.array([getattr(c, name) for c in certificates] or [0], dtype)[safe]

    # The API server makes its loopback certificate in the same way, and its loopback client holds it.
    held = np.array([c.common_name.startswith(f"{LOOPBACK_NAME}@") for c in certificates] or [False], bool)[safe]
    when = evidence.flows.first_ns
    outdated = parsed & (when > 0)
    outdated &= (when > column("not_after_ns", np.int64)) | (when < column("not_before_ns", np.int64))
    return (
        parsed & column("kubelet_self_made", bool).astype(bool) & ~held,
        parsed & column("self_signed", bool).astype(bool),
        outdated,
    )


def _nodes(
    evidence: Evidence,
    columns: ChannelColumns,
    roles: Roles,
    declared: Declarations,
    answer: Answer,
    by_fingerprint: Mask,
) -> None:
    """Kubelet and kube-proxy: their kubeconfig decides; without it, what client-go does with any kubeconfig."""
    here = by_fingerprint & of_channel(columns, "node-to-apiserver")
    presented = evidence.tls_is("client_certificate", Ternary.YES)
    if declared.node_kubeconfig_ca is not None:
        value = ServerVerification.VERIFIED if declared.node_kubeconfig_ca else ServerVerification.UNVERIFIED
        said = "names a CA" if declared.node_kubeconfig_ca else "sets insecure-skip-tls-verify"
        answer.settle(here & presented, value, Grade.DECLARED, f"the node's kubeconfig {said}")
    own = by_fingerprint & presented & of_channel(columns, "controlplane-to-apiserver")
    if declared.controlplane_kubeconfig_ca:
        # Another Go program on the host, such as kubectl, may be the client: this is no declaration of its own.
        said = "the kubeconfigs of scheduler and controller manager, whose host this is, name a CA"
        answer.settle(own, ServerVerification.VERIFIED, Grade.INFERRED, said)
    # An inventory that names the client as a node makes it a registered kubelet's host, not a guess from addresses.
    known = here & presented & roles.client_is(NODE) & (NODE in roles.listed)
    answer.settle(
        known,
        ServerVerification.VERIFIED,
        Grade.INFERRED,
        "a registered node's Go client with a client certificate: client-go checks against its kubeconfig's CA "
        "unless insecure-skip-tls-verify is set, which the wire cannot show",
    )


def _called(
    evidence: Evidence,
    columns: ChannelColumns,
    roles: Roles,
    declared: Declarations,
    answer: Answer,
    component: Mask,
) -> None:
    """Webhooks and aggregated APIs: the object that names the server says whether it is checked."""
    for says, rows in called_by(evidence, columns, roles, declared).items():
        here = component & rows
        if says:
            answer.settle(
                here, ServerVerification.VERIFIED, Grade.DECLARED, "the webhook's or APIService's caBundle is checked"
            )
        else:
            answer.settle(
                here, ServerVerification.UNVERIFIED, Grade.DECLARED, "the APIService sets insecureSkipTLSVerify"
            )


def called_by(evidence: Evidence, columns: ChannelColumns, roles: Roles, declared: Declarations) -> dict[bool, Mask]:
    """Connections to declared webhooks and aggregated APIs, by whether the API server checks them: (F,) bool each.

    What is dialled by name is known by it, else by its address and port; where several objects name one and disagree,
    nothing is said.
    """
    n = len(evidence)
    names: dict[str, set[bool]] = {}
    ends: dict[tuple[bytes, int], set[bool]] = {}
    for service in declared.called:
        if service.name:
            names.setdefault(service.name, set()).add(service.verifies)
        for end in service.endpoints:
            ends.setdefault(end, set()).add(service.verifies)
    said = np.zeros((2, n), bool)
    if not declared.called:
        return {False: said[0], True: said[1]}
    sni = evidence.tls_text("sni")
    for row in np.flatnonzero(of_channel(columns, "apiserver-to-webhook")).tolist():
        end = roles.addresses[roles.server[row]].tobytes(), int(evidence.flows.port[row, 1])
        known = names.get(sni[row]) if sni[row] else ends.get(end)
        if known is not None and len(known) == 1:
            said[int(next(iter(known))), row] = True
    return {False: said[0], True: said[1]}


def _defaults(columns: ChannelColumns, answer: Answer, tls: Mask) -> None:
    for channel, default in (
        ("apiserver-to-kubelet", "by default the API server does not verify kubelets"),
        ("node-to-apiserver", "by default kubelets and kube-proxy check against the CA of their kubeconfig"),
        ("pod-to-apiserver", "by default in-cluster clients check against the projected ca.crt"),
        ("user-to-apiserver", "by default kubectl checks against the CA of its kubeconfig"),
        (
            "controlplane-to-apiserver",
            "by default scheduler and controller manager check against their kubeconfig's CA",
        ),
        ("apiserver-to-etcd", "by default the API server checks etcd when --etcd-cafile is set"),
        ("konnectivity-agent-to-server", "by default agents check against --ca-cert"),
        ("apiserver-to-webhook", "by default the API server checks webhooks against their caBundle"),
    ):
        answer.doubt(tls & of_channel(columns, channel), f"not shown and not declared; {default}", Grade.DEFAULT)
