"""PW201: the API server does not verify the kubelet's serving certificate."""

from __future__ import annotations

from analyzer.registries import Encryption, ServerVerification, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.server_verification
    encrypted = audit.verdicts.encryption.value != Encryption.CLEARTEXT
    return outcome(
        scope=audit.on("apiserver-to-kubelet") & encrypted,
        decidable=answer.value != ServerVerification.UNDECIDABLE,
        violation=answer.value == ServerVerification.UNVERIFIED,
        grade=answer.grade,
        frames=[
            audit.evidence.tls_column("server_certificate_frame"),
            audit.evidence.tls_column("application_data_frame"),
            audit.evidence.flows.first_frame,
        ],
    )


KUBELET_UNVERIFIED = Rule(
    code="PW201",
    name="kubelet-certificate-unverified",
    title="The API server does not verify kubelet certificates",
    severity=Severity.HIGH,
    channels=("apiserver-to-kubelet",),
    needs="a TLS handshake, or the API server flags",
    seen="the API server completed handshakes with kubelets whose certificate it cannot have checked",
    why="The API server fetches logs and opens exec, attach and port-forward sessions over this channel. Without "
    "verification anyone on the path can pose as the kubelet, read and change them: unsafe over untrusted networks.",
    remediation="Have kubelet serving certificates signed by the cluster CA (serverTLSBootstrap: true and approve the "
    "CSRs), then give the API server that CA.",
    flags=(
        "kube-apiserver: --kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt",
        "KubeletConfiguration: serverTLSBootstrap: true",
    ),
    source="https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/#api-server-to-kubelet",
    cis="CIS Kubernetes Benchmark 1.12: 1.2.5",
    limits="A request with --insecure-skip-tls-verify-backend looks the same on the wire. A channel without this "
    "finding is not proved verified: only a refusal or the configuration shows that.",
    filter="tls.handshake || tls.record.content_type == 23",
    check=_check,
)
