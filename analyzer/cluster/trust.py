"""Which of the CAs that were handed over issued a certificate chain, by the CA's role.

These are facts about the certificates that were seen, not about what a client checked: a chain that leads to the right
CA would pass that part of a check, one that does not would fail it. Validity in time and names are facts of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from analyzer.protocols.evidence import Evidence
from analyzer.schema import Certificate

if TYPE_CHECKING:
    from cryptography import x509

    from analyzer.cluster.authorities import Authority

MAX_PATH: Final = 8
"""Certificates followed from a leaf to a CA; clusters have two or three."""
UNNAMED: Final = "other"
"""Role of a CA that neither its name nor its file's name tells the role of."""


@dataclass(frozen=True)
class Trust:
    """Chains of `evidence` against CAs; F connections.

    Parameters
    ----------
    evidence : Evidence
    authorities : sequence of Authority
        The CAs that were handed over; where there are none, nothing can be said of any chain.
    """

    evidence: Evidence
    authorities: Sequence[Authority] = ()

    @cached_property
    def by_chain(self) -> tuple[tuple[str, ...], ...]:
        """Roles of the CAs that each chain of the reading leads to; empty = none of those given."""
        if not self.authorities:
            return ((),) * len(self.evidence.tls.chains)
        certificates = [_load(c) for c in self.evidence.tls.certificates]
        roots = [(a.role or UNNAMED, a.certificate.sha256, _load(a.certificate)) for a in self.authorities]
        sums = [c.sha256 for c in self.evidence.tls.certificates]
        return tuple(
            tuple(sorted({role for role, digest, root in roots if _leads_to(chain, certificates, sums, digest, root)}))
            for chain in self.evidence.tls.chains
        )

    def roles(self, side: str) -> list[str]:
        """Roles of the CAs behind each connection's chain, comma-joined; ``none`` where no CA given issued it.

        Empty where no chain is visible or no CA was given. `side` is ``server`` or ``client``.
        """
        rows = self.evidence.tls_column(f"{side}_chain", -1).tolist()
        if not self.authorities:
            return [""] * len(rows)
        texts = [",".join(roles) or "none" for roles in self.by_chain]
        return [texts[row] if row >= 0 else "" for row in rows]


def _load(certificate: Certificate) -> x509.Certificate | None:
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(certificate.der)
    except Exception:  # crafted input: see `parse_certificate`
        return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # a signature or a name that does not fit, or an algorithm that is not supported
        return False
    return True


def _leads_to(
    chain: Sequence[int],
    certificates: Sequence[x509.Certificate | None],
    sums: Sequence[str],
    digest: str,
    root: x509.Certificate | None,
) -> bool:
    """Whether the leaf of `chain` was issued by `root`, through CA certificates of the chain in any order."""
    at = chain[0] if chain else -1
    seen: set[int] = set()
    while at >= 0 and at not in seen and len(seen) < MAX_PATH:
        seen.add(at)
        certificate = certificates[at]
        if certificate is None or root is None:
            return False
        if sums[at] == digest or _issued(certificate, root):
            return True
        at = next(
            (
                other
                for other in chain[1:]
                if other not in seen and (issuer := certificates[other]) is not None and _issued(certificate, issuer)
            ),
            -1,
        )
    return False
