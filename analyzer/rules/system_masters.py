"""PW304: a client certificate of the group system:masters is in use."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.registries import ClientCertificate, Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

GROUP: Final = "system:masters"
CHANNELS = (
    "apiserver-to-kubelet",
    "controlplane-to-apiserver",
    "node-to-apiserver",
    "pod-to-apiserver",
    "user-to-apiserver",
    "user-to-kubelet",
)
"""To servers that read groups from certificates. etcd does not: it knows users by common name only."""


def _check(audit: Audit) -> Outcome:
    evidence = audit.evidence
    leaf = evidence.leaf("client")
    masters = np.array([GROUP in c.organizations for c in evidence.tls.certificates] + [False], bool)[leaf]
    presented = audit.verdicts.client_certificate.value == ClientCertificate.PRESENTED
    found = np.flatnonzero((leaf >= 0) & masters)[:1000].tolist()
    return outcome(
        scope=audit.on(*CHANNELS) & (evidence.tls_row >= 0) & (presented | (leaf >= 0)),
        decidable=leaf >= 0,
        violation=masters,
        grade=Grade.OBSERVED,
        frames=[evidence.tls_column("client_flight_frame")],
        detail={row: f"client {evidence.tls.certificates[leaf[row]].common_name}" for row in found},
    )


SYSTEM_MASTERS = Rule(
    code="PW304",
    name="system-masters-certificate",
    title="A client certificate of the group system:masters is in use",
    severity=Severity.MEDIUM,
    channels=CHANNELS,
    needs="a client certificate in clear (TLS 1.2 or below), or the keys",
    seen="a client certificate with O=system:masters",
    why="system:masters may do everything, whatever RBAC and authorization webhooks say, and a certificate cannot be "
    "revoked: whoever copies its key owns the cluster until it expires.",
    remediation="Use groups bound by RBAC: kubeadm:cluster-admins for administrators and the API server's kubelet "
    "client, and short-lived credentials for people. Keep one system:masters certificate locked away for emergencies.",
    flags=(
        "kubeadm certs renew apiserver-kubelet-client admin.conf (kubeadm 1.29 and later: O=kubeadm:cluster-admins)",
    ),
    source="https://kubernetes.io/docs/setup/best-practices/certificates/",
    cis="CIS Kubernetes Benchmark 1.12: 5.1.7",
    limits="TLS 1.3 encrypts client certificates: with it, only the keys show them.",
    filter="tls.handshake.type == 11",
    check=_check,
)
