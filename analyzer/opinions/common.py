"""What a second opinion says, in terms that every reader of packets has: conversations and TLS handshakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Conversation(NamedTuple):
    """One transport and two endpoints, the smaller first; ``level`` 0 is outside of all tunnels, 1 inside one."""

    level: int
    transport: str
    one: tuple[str, int]
    other: tuple[str, int]

    def __str__(self) -> str:
        where = f" inside {self.level} tunnel{'s' if self.level > 1 else ''}" if self.level else ""
        return f"{self.transport} {_endpoint(self.one)} - {_endpoint(self.other)}{where}"


def _endpoint(end: tuple[str, int]) -> str:
    address, port = end
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def conversation(level: int, transport: str, one: tuple[str, int], other: tuple[str, int]) -> Conversation:
    """Make a `Conversation` of two endpoints in any order."""
    return Conversation(level, transport, min(one, other), max(one, other))


class Handshake(NamedTuple):
    """What a ServerHello settles and a ClientHello asks for; empty text = not said."""

    version: str
    cipher_suite: str
    sni: str


@dataclass
class Opinion:
    """What one reader says of a capture.

    Attributes
    ----------
    reader : str
        Its name and version.
    frames : int
        Frames it saw.
    packets, octets : Counter of Conversation
    handshakes : dict of Conversation to list of Handshake
        In order; only those whose ServerHello was read.
    cannot : dict of str to int
        Frames that it says it cannot take part in, by reason.
    deepest : int
        Innermost level of tunnels it opens.
    """

    reader: str
    frames: int = 0
    packets: Counter[Conversation] = field(default_factory=Counter)
    octets: Counter[Conversation] = field(default_factory=Counter)
    handshakes: dict[Conversation, list[Handshake]] = field(default_factory=dict)
    cannot: Counter[str] = field(default_factory=Counter)
    deepest: int = 99

    def count(self, one: Conversation, octets: int) -> None:
        """Add one packet."""
        self.packets[one] += 1
        self.octets[one] += octets


class Row(NamedTuple):
    """One line of the agreement table."""

    question: str
    reader: str
    agree: int
    disagree: int
    not_asked: int


class Disagreement(NamedTuple):
    """One thing that two readers say differently. An empty reason is one nobody knows: a defect of one of them."""

    question: str
    reader: str
    where: str
    ours: str
    theirs: str
    reason: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """All of it."""

    rows: tuple[Row, ...]
    disagreements: tuple[Disagreement, ...]

    @property
    def unexplained(self) -> int:
        """Disagreements without a known reason."""
        return sum(not d.reason for d in self.disagreements)


def merged(parts: Iterable[Agreement]) -> Agreement:
    """All rows and disagreements of several comparisons."""
    listed = list(parts)
    return Agreement(
        tuple(row for part in listed for row in part.rows),
        tuple(entry for part in listed for entry in part.disagreements),
    )
