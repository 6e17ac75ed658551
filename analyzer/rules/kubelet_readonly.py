"""PW102: the kubelet's read-only port is in use."""

from __future__ import annotations

import numpy as np

from analyzer.cluster.roles import ServiceKind
from analyzer.registries import Encryption, Grade, Protocol, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.encryption
    scope = audit.connections & (audit.roles.kind() == ServiceKind.KUBELET_READONLY)
    talks = np.isin(audit.evidence.identification.protocol, (Protocol.HTTP1, Protocol.HTTP2))
    return outcome(
        scope=scope,
        decidable=talks | (answer.value == Encryption.ENCRYPTED),
        violation=talks,
        grade=Grade.OBSERVED,
        frames=[audit.evidence.identification.frame, audit.evidence.flows.first_frame],
    )


KUBELET_READONLY = Rule(
    code="PW102",
    name="kubelet-read-only-port",
    title="The kubelet's read-only port answers",
    severity=Severity.HIGH,
    channels=("kubelet-readonly", "apiserver-to-node-proxy"),
    needs="the first octets of a connection",
    seen="HTTP on the kubelet's read-only port",
    why="The read-only port serves pod specifications, environment and metrics without encryption, authentication or "
    "authorization to whoever can reach the node.",
    remediation="Set readOnlyPort to 0 in the KubeletConfiguration, and move what reads it to port 10250 with a token.",
    flags=("KubeletConfiguration: readOnlyPort: 0",),
    source="https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/",
    cis="CIS Kubernetes Benchmark 1.12: 4.2.4",
    limits="Recognised by port 10255 or the declared port; a kubelet that uses another one is seen as other HTTP.",
    filter="http",
    check=_check,
)
