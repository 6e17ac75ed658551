"""PW103: etcd is spoken to in cleartext."""

from __future__ import annotations

from analyzer.registries import Encryption, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    answer = audit.verdicts.encryption
    return outcome(
        scope=audit.on("apiserver-to-etcd", "etcd-peer"),
        decidable=answer.value != Encryption.UNDECIDABLE,
        violation=answer.value == Encryption.CLEARTEXT,
        grade=answer.grade,
        frames=[audit.evidence.identification.frame, audit.evidence.flows.first_frame],
    )


ETCD_CLEARTEXT = Rule(
    code="PW103",
    name="etcd-cleartext",
    title="etcd traffic is in cleartext",
    severity=Severity.CRITICAL,
    channels=("apiserver-to-etcd",),
    needs="the first octets of a connection",
    seen="requests to etcd are readable",
    why="etcd holds every object of the cluster: Secrets that are not encrypted at rest cross the wire readable, and "
    "whoever can write to etcd owns the cluster.",
    remediation="Serve etcd over TLS with client certificates and give the API server its CA, certificate and key.",
    flags=(
        "kube-apiserver: --etcd-cafile, --etcd-certfile, --etcd-keyfile, --etcd-servers=https://...",
        "etcd: --cert-file, --key-file, --client-cert-auth=true, --trusted-ca-file",
    ),
    source="https://kubernetes.io/docs/tasks/administer-cluster/configure-upgrade-etcd/#securing-etcd-clusters",
    cis="CIS Kubernetes Benchmark 1.12: 1.2.23, 1.2.26, 2.1, 2.2",
    limits="",
    filter="http2 || tcp.len > 0",
    check=_check,
)
