"""PW202: the API server's https: proxy does not verify the server."""

from __future__ import annotations

from analyzer.registries import Encryption, Protocol, ServerVerification, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.rules.cleartext_proxy import CHANNELS


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.server_verification
    tls = audit.evidence.identification.protocol == Protocol.TLS
    encrypted = audit.verdicts.encryption.value != Encryption.CLEARTEXT
    return outcome(
        scope=audit.on(*CHANNELS) & tls & encrypted,
        decidable=answer.value != ServerVerification.UNDECIDABLE,
        violation=answer.value == ServerVerification.UNVERIFIED,
        grade=answer.grade,
        frames=[
            audit.evidence.tls_column("client_hello_frame"),
            audit.evidence.tls_column("server_certificate_frame"),
            audit.evidence.flows.first_frame,
        ],
    )


PROXY_UNVERIFIED = Rule(
    code="PW202",
    name="https-proxy-unverified",
    title="The API server's https: proxy does not verify who answers",
    severity=Severity.MEDIUM,
    channels=CHANNELS,
    needs="a TLS handshake",
    seen="TLS from the API server's proxy to a workload",
    why="With the https: prefix the connection is encrypted, but the API server neither validates the certificate nor "
    "offers a client credential: there is no guarantee of integrity.",
    remediation="Do not carry anything over the proxy subresource that relies on the server's identity; use kubectl "
    "port-forward or an Ingress that verifies, and limit who may use the subresource.",
    flags=("RBAC: pods/proxy, services/proxy, nodes/proxy",),
    source="https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/"
    "#api-server-to-nodes-pods-and-services",
    cis="",
    limits="That a TLS connection from the control plane is the proxy's is inferred from its addresses and handshake.",
    filter="tls.handshake",
    check=_check,
)
