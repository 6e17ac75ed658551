"""Connections counted by what was answered of them, those that left memory included."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.registries import ClientCertificate, Encryption, Grade, Protocol, ServerVerification
from analyzer.report.audit_result import AuditResult, Document
from analyzer.schema import I64, U8, Mask

_KINDS: Final[dict[str, type[Encryption | ClientCertificate | ServerVerification]]] = {
    "encryption": Encryption,
    "client_certificate": ClientCertificate,
    "server_verification": ServerVerification,
}


class Counted:
    """Connections and those that left memory, in rows that are counted with their weight.

    A row is a connection with those it stands for, or some that left without one.
    """

    def __init__(self, result: AuditResult) -> None:
        audit = result.audit
        evidence, verdicts = audit.evidence, audit.verdicts
        here = np.flatnonzero(audit.connections)
        silent = evidence.identification.protocol == Protocol.NO_DATA
        answers = {
            "encryption": (verdicts.encryption.value, verdicts.encryption.grade),
            "client_certificate": (verdicts.client_certificate.value, verdicts.client_certificate.grade),
            "server_verification": (verdicts.server_verification.value, verdicts.server_verification.grade),
        }
        gone = result.aged_out.departed if result.aged_out is not None else None

        def column(present: NDArray[Any], departed: str) -> I64:
            own = present[here].astype(np.int64)
            return own if gone is None else np.concatenate([own, getattr(gone, departed)])

        self.channel = column(audit.channels.channel, "channel")
        self._silent = column(silent, "silent")
        self._weight = column(evidence.weight, "connections")
        self._packets, self._octets = column(evidence.packets, "packets"), column(evidence.octets, "octets")
        self._values = {name: column(value, name) for name, (value, _) in answers.items()}
        self._grades = {name: column(grade, f"{name}_grade") for name, (_, grade) in answers.items()}

    def of(self, rows: Mask) -> Document:
        """Counts of the rows chosen, as channels have them."""
        weight = self._weight[rows]
        return {
            "connections": int(weight.sum()),
            "silent": int(weight[self._silent[rows] != 0].sum()),
            "packets": int(self._packets[rows].sum()),
            "octets": int(self._octets[rows].sum()),
            **{name: _tally(values[rows], _KINDS[name], weight) for name, values in self._values.items()},
            "grades": {name: _tally(grades[rows], Grade, weight) for name, grades in self._grades.items()},
        }


def _tally(
    values: U8 | I64, kind: type[Encryption | ClientCertificate | ServerVerification | Grade], weight: I64
) -> dict[str, int]:
    counts = np.bincount(values, weight, minlength=len(kind))
    ordered = [*(k for k in kind if k != 0), kind(0)] if kind is not Grade else list(kind)
    return {member.label: int(counts[member]) for member in ordered}
