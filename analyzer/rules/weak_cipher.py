"""PW403: a weak cipher suite is negotiated."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from analyzer.protocols.tls.suites import anonymous_cipher, cipher_suites, null_cipher
from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.schema import Mask

BROKEN: Final = frozenset({"export", "rc4", "rc2", "des", "3des"})
"""Flags of suites that RFC 9325 4.1 forbids: RC4, and keys below 112 bits of strength (3DES: SP 800-131A)."""
STATIC: Final = ("TLS_RSA_WITH_", "TLS_RSA_EXPORT", "TLS_DH_RSA_", "TLS_DH_DSS_", "TLS_ECDH_RSA_", "TLS_ECDH_ECDSA_")
"""Key exchange without forward secrecy, which RFC 9325 4.1 says not to negotiate."""


@cache
def _weak() -> tuple[Mask, Mask]:
    broken, static = np.zeros(1 << 16, bool), np.zeros(1 << 16, bool)
    for number, suite in cipher_suites().items():
        broken[number] = bool(BROKEN & suite.flags)
        static[number] = suite.name.startswith(STATIC)
    return broken, static


def _check(audit: Audit) -> Outcome:
    suite = audit.evidence.tls_column("cipher_suite")
    chosen = audit.evidence.tls_column("server_hello_seen") == 1
    broken, static = (table[suite] for table in _weak())
    # Suites that do not encrypt or authenticate at all are PW402's.
    other = null_cipher(suite.astype(np.uint16)) | anonymous_cipher(suite.astype(np.uint16))
    weak = (broken | static) & ~other
    names = cipher_suites()
    return outcome(
        scope=audit.connections & (audit.evidence.tls_row >= 0),
        decidable=chosen,
        violation=weak,
        grade=Grade.OBSERVED,
        frames=[audit.evidence.tls_column("server_hello_frame")],
        detail={
            int(row): f"{names[int(suite[row])].name}: {'broken cipher' if broken[row] else 'no forward secrecy'}"
            for row in np.flatnonzero(chosen & weak)[:1000]
        },
    )


WEAK_CIPHER = Rule(
    code="PW403",
    name="weak-cipher-suite",
    title="A weak cipher suite is negotiated",
    severity=Severity.MEDIUM,
    channels=(),
    needs="a ServerHello",
    seen="the ServerHello chooses a suite with a broken cipher or without forward secrecy",
    why="RC4, DES, 3DES and export ciphers can be broken. Without forward secrecy whoever records the traffic now and "
    "obtains the server's key later reads all of it.",
    remediation="Allow only AEAD suites with ephemeral keys on the server; TLS 1.3 has no others.",
    flags=(
        "kube-apiserver: --tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,...",
        "KubeletConfiguration: tlsCipherSuites",
        "etcd: --cipher-suites",
    ),
    source="https://www.rfc-editor.org/rfc/rfc9325#section-4",
    cis="CIS Kubernetes Benchmark 1.12: 1.2.29, 4.2.12",
    limits="The suite that was chosen is judged, not those the server would also accept.",
    filter="tls.handshake.type == 2",
    check=_check,
)
