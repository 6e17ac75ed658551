"""PW402: a cipher suite without encryption or without authentication is negotiated."""

from __future__ import annotations

import numpy as np

from analyzer.protocols.tls import anonymous_cipher, null_cipher
from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
    suite = audit.evidence.tls_column("cipher_suite").astype(np.uint16)
    chosen = audit.evidence.tls_column("server_hello_seen") == 1
    return outcome(
        scope=audit.connections & (audit.evidence.tls_row >= 0),
        decidable=chosen,
        violation=null_cipher(suite) | anonymous_cipher(suite),
        grade=Grade.OBSERVED,
        frames=[audit.evidence.tls_column("server_hello_frame")],
    )


NULL_OR_ANONYMOUS = Rule(
    code="PW402",
    name="null-or-anonymous-cipher-suite",
    title="A cipher suite without encryption or without authentication is negotiated",
    severity=Severity.CRITICAL,
    channels=(),
    needs="a ServerHello",
    seen="the ServerHello chooses a NULL or anonymous cipher suite",
    why="A NULL suite does not encrypt: everything is readable although it looks like TLS. An anonymous suite has no "
    "server certificate: anyone can pose as the server.",
    remediation="Remove these suites from the server's list.",
    flags=("kube-apiserver: --tls-cipher-suites", "KubeletConfiguration: tlsCipherSuites"),
    source="https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/",
    cis="CIS Kubernetes Benchmark 1.12: 1.2.29, 4.2.12",
    limits="",
    filter="tls.handshake.type == 2",
    check=_check,
)
