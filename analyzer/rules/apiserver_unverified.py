"""PW207: a node or a control-plane program does not verify the API server."""

from __future__ import annotations

from analyzer.registries import Protocol, ServerVerification, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

CHANNELS = ("node-to-apiserver", "controlplane-to-apiserver")


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.server_verification
    tls = audit.evidence.identification.protocol == Protocol.TLS
    return outcome(
        scope=audit.on(*CHANNELS) & tls,
        decidable=answer.value != ServerVerification.UNDECIDABLE,
        violation=answer.value == ServerVerification.UNVERIFIED,
        grade=answer.grade,
        frames=[
            audit.evidence.tls_column("server_certificate_frame"),
            audit.evidence.tls_column("application_data_frame"),
            audit.evidence.flows.first_frame,
        ],
    )


APISERVER_UNVERIFIED = Rule(
    code="PW207",
    name="apiserver-certificate-unverified",
    title="A node or control-plane program does not verify the API server",
    severity=Severity.HIGH,
    channels=CHANNELS,
    needs="a certificate in clear, or the kubeconfigs",
    seen="clients of the API server on cluster hosts did not check its certificate",
    why="A node does what the API server tells it: whoever poses as the API server runs pods on it, and is handed its "
    "tokens. This direction is safe on untrusted networks only because nodes check.",
    remediation="Give the kubeconfig the cluster's CA and remove insecure-skip-tls-verify; renew an expired serving "
    "certificate of the API server.",
    flags=("kubeconfig: certificate-authority(-data) instead of insecure-skip-tls-verify: true",),
    source="https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/#node-to-control-plane",
    cis="",
    limits="A check that was made cannot be seen: only certificates that no check would pass, and kubeconfigs, decide.",
    filter="tls.handshake || tls.record.content_type == 23",
    check=_check,
)
