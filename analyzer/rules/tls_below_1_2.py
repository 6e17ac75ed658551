"""PW401: TLS below 1.2 is negotiated."""

from __future__ import annotations

import numpy as np

from analyzer.registries import Severity, TlsVersion
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(audit: Audit) -> Outcome:
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


TLS_BELOW_1_2 = Rule(
    code="PW401",
    name="tls-below-1.2",
    title="TLS below 1.2 is negotiated",
    severity=Severity.HIGH,
    channels=(),
    needs="a ServerHello",
    seen="the ServerHello chooses a version below TLS 1.2",
    why="TLS 1.0 and 1.1 must not be used (RFC 8996): their handshakes rest on SHA-1 and MD5.",
    remediation="Raise the minimum version on the server, and replace the client that cannot speak TLS 1.2.",
    flags=("kube-apiserver: --tls-min-version=VersionTLS12", "KubeletConfiguration: tlsMinVersion: VersionTLS12"),
    source="https://www.rfc-editor.org/rfc/rfc8996",
    cis="",
    limits="",
    filter="tls.handshake.type == 2",
    check=_check,
)
