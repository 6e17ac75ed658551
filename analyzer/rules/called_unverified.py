"""PW206: the API server does not verify a webhook or an aggregated API."""

from __future__ import annotations

from analyzer.registries import Protocol, ServerVerification, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.server_verification
    tls = audit.evidence.identification.protocol == Protocol.TLS
    return outcome(
        scope=audit.on("apiserver-to-webhook") & tls,
        decidable=answer.value != ServerVerification.UNDECIDABLE,
        violation=answer.value == ServerVerification.UNVERIFIED,
        grade=answer.grade,
        frames=[
            audit.evidence.tls_column("client_hello_frame"),
            audit.evidence.tls_column("server_certificate_frame"),
            audit.evidence.flows.first_frame,
        ],
    )


CALLED_UNVERIFIED = Rule(
    code="PW206",
    name="called-service-unverified",
    title="The API server does not verify a webhook or aggregated API",
    severity=Severity.MEDIUM,
    channels=("apiserver-to-webhook",),
    needs="the APIService and webhook objects, or a certificate in clear",
    seen="the API server calls a service whose certificate it does not check",
    why="An aggregated API is trusted with the caller's identity, and a webhook decides what is admitted: whoever "
    "poses as it reads requests and changes answers.",
    remediation="Put the CA that signs the service's certificate into caBundle and remove insecureSkipTLSVerify.",
    flags=("APIService: spec.caBundle instead of spec.insecureSkipTLSVerify: true",),
    source="https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/",
    cis="",
    limits="A channel without this finding is not proved verified unless the objects were handed over.",
    filter="tls.handshake",
    check=_check,
)
