"""A verdict is a value, a grade and a reason, per connection; here the three are kept together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from analyzer.registries import Grade
from analyzer.schema import I64, U8, Mask
from analyzer.verdicts.anonymous import AnonymousAnswers
from analyzer.verdicts.names import NameComparison


@dataclass
class Answer:
    """Answers to one question for F connections; every row begins undecidable.

    ``value`` (F,) uint8, 0 = undecidable; ``grade`` (F,) uint8; ``reason`` (F,) int64 row of ``reasons``.
    """

    value: U8
    grade: U8
    reason: I64
    reasons: list[str] = field(default_factory=lambda: [""])

    @classmethod
    def undecided(cls, n: int) -> Answer:
        """All `n` rows undecidable, graded NONE, without a reason."""
        return cls(np.zeros(n, np.uint8), np.full(n, Grade.NONE, np.uint8), np.zeros(n, np.int64))

    def settle(self, rows: Mask, value: int, grade: U8 | Grade, reason: str) -> None:
        """Answer those of `rows` that have neither an answer nor a reason yet: the strongest evidence comes first."""
        fresh = rows & (self.reason == 0)
        if not fresh.any():
            return
        self.value[fresh] = value
        self.grade[fresh] = np.broadcast_to(np.asarray(grade, np.uint8), fresh.shape)[fresh]
        self.reasons.append(reason)
        self.reason[fresh] = len(self.reasons) - 1

    def doubt(self, rows: Mask, reason: str, grade: Grade = Grade.NONE) -> None:
        """Close those of `rows` that are open as undecidable, and say why."""
        self.settle(rows, 0, grade, reason)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The three questions, answered for every connection."""

    encryption: Answer
    client_certificate: Answer
    server_verification: Answer
    names: NameComparison  #: what certificates name, which the third answer rests on
    anonymous: AnonymousAnswers  #: who was answered without a credential, which follows from the second
