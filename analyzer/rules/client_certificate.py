"""What PW301, PW302 and PW303 share: a completed handshake in which the client presented no certificate."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.registries import ClientCertificate, Encryption, Ternary
from analyzer.rules.base import Audit, Outcome, outcome


def without_client_certificate(*channels: str) -> Callable[[Audit], Outcome]:
    """The check for the named channels."""

    def check(audit: Audit) -> Outcome:
        answer = audit.verdicts.client_certificate
        encrypted = audit.verdicts.encryption.value == Encryption.ENCRYPTED
        # A handshake that the client broke off says nothing about what it would have presented.
        refused = audit.evidence.tls_is("refused", Ternary.YES)
        finished = audit.evidence.tls_is("established", Ternary.YES) | audit.evidence.mid_connection
        return outcome(
            scope=audit.on(*channels) & encrypted & ~refused,
            decidable=(answer.value != ClientCertificate.UNDECIDABLE) & finished,
            violation=answer.value == ClientCertificate.ABSENT,
            grade=answer.grade,
            frames=[
                audit.evidence.tls_column("client_flight_frame"),
                audit.evidence.tls_column("server_hello_frame"),
                audit.evidence.flows.first_frame,
            ],
        )

    return check
