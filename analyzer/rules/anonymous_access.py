"""PW305: a kubelet or the API server serves anonymous requests."""

from __future__ import annotations

import numpy as np

from analyzer.registries import ClientCertificate, Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

CHANNELS = (
    "apiserver-to-kubelet",
    "controlplane-to-apiserver",
    "node-to-apiserver",
    "pod-to-apiserver",
    "user-to-apiserver",
    "user-to-kubelet",
)


def _check(audit: Audit) -> Outcome:
    served, read, shown = audit.verdicts.anonymous
    presented = audit.verdicts.client_certificate.value == ClientCertificate.PRESENTED
    frames = np.zeros(len(audit.evidence), np.int64)
    frames[list(shown)] = [frame for frame, _ in shown.values()]
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
