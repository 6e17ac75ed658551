"""PW404: a deprecated key-exchange group is negotiated."""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

LAST_DEPRECATED: Final = 22
"""Groups 1 to 22 of the IANA registry: RFC 8422 5.1.1 keeps secp256r1 (23) and its larger siblings only."""


def _check(audit: Audit) -> Outcome:
    group = audit.evidence.tls_column("group")
    return outcome(
        scope=audit.connections & (audit.evidence.tls_row >= 0),
        decidable=group > 0,
        violation=(group > 0) & (group <= LAST_DEPRECATED),
        grade=Grade.OBSERVED,
        frames=[audit.evidence.tls_column("server_hello_frame")],
        detail={
            int(row): f"group {int(group[row])}"
            for row in np.flatnonzero((group > 0) & (group <= LAST_DEPRECATED))[:1000]
        },
    )


WEAK_GROUP = Rule(
    code="PW404",
    name="weak-key-exchange-group",
    title="A deprecated key-exchange group is negotiated",
    severity=Severity.LOW,
    channels=(),
    needs="a ServerHello of TLS 1.3, or the ServerKeyExchange below",
    seen="the key exchange uses a curve that RFC 8422 withdrew",
    why="These curves are small, or were chosen in ways nobody trusts any more; implementations of them are old.",
    remediation="Update the server's TLS library; X25519, P-256 and the post-quantum hybrids replace them.",
    flags=("the program's TLS library; Kubernetes components cannot negotiate these",),
    source="https://www.rfc-editor.org/rfc/rfc8422#section-5.1.1",
    cis="",
    limits="The size of a finite-field Diffie-Hellman group of TLS 1.2 is not judged.",
    filter="tls.handshake.type == 2 || tls.handshake.type == 12",
    check=_check,
)
