"""PW305: a kubelet or the API server serves anonymous requests."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.registries import ClientCertificate, Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.schema import Mask

CHANNELS = (
    "apiserver-to-kubelet",
    "controlplane-to-apiserver",
    "node-to-apiserver",
    "pod-to-apiserver",
    "user-to-apiserver",
    "user-to-kubelet",
)
_OPEN: Final = ("/healthz", "/livez", "/readyz", "/version")
"""Paths that everyone may read by default: ClusterRole system:public-info-viewer (rbac/bootstrappolicy/policy.go)."""


def anonymous_answers(audit: Audit) -> tuple[Mask, Mask, dict[int, tuple[int, str]]]:
    """Connections on which requests without any credential were answered with success.

    Returns
    -------
    served, read : (F,) bool
        Served anonymously; requests and their answers are readable, in clear or decrypted.
    shown : dict of int to (int, str)
        Frame and request line by connection.
    """
    n = len(audit.evidence)
    served, read = np.zeros(n, bool), np.zeros(n, bool)
    shown: dict[int, tuple[int, str]] = {}
    absent = audit.verdicts.client_certificate.value == ClientCertificate.ABSENT
    for flow, requests in audit.evidence.requests.items():
        answers = [m.status for m in audit.evidence.responses.get(flow, ())]
        if not answers:
            continue
        read[flow] = True
        if not absent[flow] or any(r.credential for r in requests):
            continue
        # Answers are not paired with requests: all of them must be to requests that tell something.
        telling = [r for r in requests if not r.target.split("?", 1)[0].startswith(_OPEN)]
        if len(telling) == len(requests) and any(status == 101 or 200 <= status < 300 for status in answers):
            served[flow] = True
            shown[flow] = (telling[0].frame, f"{telling[0].method} {telling[0].target.split('?', 1)[0]}")
    return served, read, shown


def _check(audit: Audit) -> Outcome:
    served, read, shown = anonymous_answers(audit)
    presented = audit.verdicts.client_certificate.value == ClientCertificate.PRESENTED
    frames = np.zeros(len(audit.evidence), np.int64)
    for flow, (frame, _) in shown.items():
        frames[flow] = frame
    return outcome(
        scope=audit.on(*CHANNELS) & audit.recognised,
        decidable=presented | read,
        violation=served & ~presented,
        grade=Grade.OBSERVED,
        frames=[frames, audit.evidence.tls_column("client_flight_frame"), audit.evidence.flows.first_frame],
        detail={flow: line for flow, (_, line) in shown.items()},
    )


ANONYMOUS_ACCESS = Rule(
    code="PW305",
    name="anonymous-access",
    title="Anonymous requests are answered",
    severity=Severity.HIGH,
    channels=CHANNELS,
    needs="the keys of the TLS connections (SSLKEYLOGFILE or a pcapng with secrets)",
    seen="requests without certificate, token or password that were answered with success",
    why="Whoever reaches the port gets the same answer. A kubelet that answers anonymous callers gives away pods and "
    "logs, and with authorization off it runs commands for them.",
    remediation="Switch anonymous authentication off on kubelets and use webhook authorization; on the API server "
    "limit it to health paths, and give system:anonymous and system:unauthenticated no roles.",
    flags=(
        "KubeletConfiguration: authentication.anonymous.enabled: false, authorization.mode: Webhook",
        "kube-apiserver: --anonymous-auth=false, or AuthenticationConfiguration: anonymous.conditions",
    ),
    source="https://kubernetes.io/docs/reference/access-authn-authz/authentication/#anonymous-requests",
    cis="CIS Kubernetes Benchmark 1.12: 1.2.1, 4.2.1, 4.2.2",
    limits="Without keys an anonymous request and one with a token look alike. Health and version paths, which are "
    "open by default, do not count.",
    filter="http || http2",
    check=_check,
)
