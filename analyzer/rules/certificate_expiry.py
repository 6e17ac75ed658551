"""PW204: a certificate in use expires soon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from analyzer.registries import Grade, Protocol, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.schema import I64, Certificate, Mask

DAY_NS: Final = 86400 * 10**9
SOON_DAYS: Final = 30
"""Days before expiry by which a renewal should have happened (https://letsencrypt.org/docs/integration-guide/,
"When to Renew")."""
LAST_SHARE: Final = 0.1
"""Share of its life that a certificate which renews itself never reaches: client-go's certificate manager renews when
70 to 90 % have passed (client-go util/certificate/certificate_manager.go, jitteryDuration)."""


def expires_soon(days: int = SOON_DAYS, share: float = LAST_SHARE) -> Callable[[Audit], Outcome]:
    """The check for certificates with less than `days` days and less than `share` of their life left."""

    def check(audit: Audit) -> Outcome:
        evidence, when = audit.evidence, audit.evidence.flows.first_ns
        n = len(evidence)
        seen, soon, frames = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, np.int64)
        detail: dict[int, str] = {}
        for side, frame in (("server", "server_certificate_frame"), ("client", "client_flight_frame")):
            leaf = evidence.leaf(side)
            visible = (leaf >= 0) & (when > 0)
            close = visible & _close(evidence.tls.certificates, leaf, when, days, share)
            seen |= visible
            frames = np.where(close & ~soon, evidence.tls_column(frame), frames)
            soon |= close
            for row in np.flatnonzero(close)[:1000].tolist():
                certificate = evidence.tls.certificates[leaf[row]]
                left = (certificate.not_after_ns - int(when[row])) // DAY_NS
                detail.setdefault(
                    row, f"{side} certificate {certificate.common_name or certificate.subject}: {left} days left"
                )
        return outcome(
            scope=audit.connections & (evidence.identification.protocol == Protocol.TLS),
            decidable=seen,
            violation=soon,
            grade=Grade.OBSERVED,
            frames=[frames],
            detail=detail,
        )

    return check


def _close(certificates: tuple[Certificate, ...], leaf: I64, when: I64, days: int, share: float) -> Mask:
    """Where the leaf is still valid, and for less than `days` days and less than `share` of its life."""
    begin = np.array([c.not_before_ns for c in certificates] + [0], np.int64)[leaf]
    end = np.array([c.not_after_ns for c in certificates] + [0], np.int64)[leaf]
    left = end - when
    return (left >= 0) & (left < days * DAY_NS) & (left < share * (end - begin).astype(np.float64))


CERTIFICATE_EXPIRY = Rule(
    code="PW204",
    name="certificate-expires-soon",
    title="A certificate in use expires soon",
    severity=Severity.LOW,
    channels=(),
    needs="a certificate in clear (TLS 1.2 or below), or the keys",
    seen="a certificate with less than a month and less than a tenth of its life left at the time of the capture",
    why="When it expires, clients that check it stop working, and the pressing way out is to stop checking.",
    remediation="Renew it now, and find out why its renewal did not happen by itself.",
    flags=(
        "kubeadm certs check-expiration; kubeadm certs renew all",
        "KubeletConfiguration: rotateCertificates: true, serverTLSBootstrap: true",
    ),
    source="https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/",
    cis="CIS Kubernetes Benchmark 1.12: 4.2.10, 4.2.11",
    limits="TLS 1.3 encrypts certificates. Only leaf certificates are judged; the month and the tenth are defaults.",
    filter="tls.handshake.type == 11",
    check=expires_soon(),
)
