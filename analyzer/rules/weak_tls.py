"""PW401 and PW402: TLS below 1.2, and cipher suites that do not encrypt or do not authenticate."""

from __future__ import annotations

import numpy as np

from analyzer.protocols.tls import anonymous_cipher, null_cipher
from analyzer.registries import Grade, Severity, TlsVersion
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _below(audit: Audit) -> Outcome:
    version = audit.evidence.tls_column("version")
    return outcome(
        scope=audit.connections & (audit.evidence.tls_row >= 0),
        decidable=version > 0,
        violation=version < TlsVersion.TLS_1_2,
        grade=audit.evidence.tls_grade("version_grade"),
        frames=[audit.evidence.tls_column("server_hello_frame"), audit.evidence.identification.frame],
        detail={
            int(row): f"TLS {TlsVersion(int(version[row])).label}"
            for row in np.flatnonzero((version > 0) & (version < TlsVersion.TLS_1_2))[:1000]
        },
    )


def _suites(audit: Audit) -> Outcome:
    suite = audit.evidence.tls_column("cipher_suite").astype(np.uint16)
    chosen = audit.evidence.tls_column("server_hello_seen") == 1
    return outcome(
        scope=audit.connections & (audit.evidence.tls_row >= 0),
        decidable=chosen,
        violation=null_cipher(suite) | anonymous_cipher(suite),
        grade=Grade.OBSERVED,
        frames=[audit.evidence.tls_column("server_hello_frame")],
    )


TLS_BELOW_1_2 = Rule(
    code="PW401",
    name="tls-below-1.2",
    title="TLS below 1.2 is negotiated",
    severity=Severity.HIGH,
    seen="the ServerHello chooses a version below TLS 1.2",
    why="TLS 1.0 and 1.1 must not be used (RFC 8996): their handshakes rest on SHA-1 and MD5.",
    remediation="Raise the minimum version on the server, and replace the client that cannot speak TLS 1.2.",
    flags=("kube-apiserver: --tls-min-version=VersionTLS12", "KubeletConfiguration: tlsMinVersion: VersionTLS12"),
    source="https://www.rfc-editor.org/rfc/rfc8996",
    cis="",
    limits="",
    filter="tls.handshake.type == 2",
    check=_below,
)

NULL_OR_ANONYMOUS = Rule(
    code="PW402",
    name="null-or-anonymous-cipher-suite",
    title="A cipher suite without encryption or without authentication is negotiated",
    severity=Severity.CRITICAL,
    seen="the ServerHello chooses a NULL or anonymous cipher suite",
    why="A NULL suite does not encrypt: everything is readable although it looks like TLS. An anonymous suite has no "
    "server certificate: anyone can pose as the server.",
    remediation="Remove these suites from the server's list.",
    flags=("kube-apiserver: --tls-cipher-suites", "KubeletConfiguration: tlsCipherSuites"),
    source="https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/",
    cis="CIS Kubernetes Benchmark 1.10: 4.2.12",
    limits="",
    filter="tls.handshake.type == 2",
    check=_suites,
)
