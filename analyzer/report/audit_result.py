"""What an audit found, with what its inputs were: everything that the outputs are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from analyzer.ledger import CaptureBook, Ledger
from analyzer.rules import Audit, Finding, RuleCount
from analyzer.rules.suppressions import Suppressions
from analyzer.schema import I64, CaptureOrigin, Damage, Interface, Skipped, Table, VantagePoint

Document = dict[str, Any]

YEAR_10000_NS: Final = min(253402300800 * 10**9, 2**63 - 1)


@dataclass(frozen=True)
class CaptureSummary:
    """What one input was."""

    name: str
    format: str
    octets: int
    frames: int
    first_ns: int | None
    last_ns: int | None
    interfaces: Sequence[Interface] = ()
    damage: Sequence[Damage] = ()
    first_number: int = 0  #: frames of the captures before it; see `schema.CaptureChunk`
    vantage: str = ""
    comments: Sequence[tuple[int, str]] = ()
    ledger: Ledger | None = None

    @classmethod
    def of(cls, origin: CaptureOrigin, book: CaptureBook, vantage: str = "") -> CaptureSummary:
        """What a capture that was read was, with what became of its frames, and the name of where it was made."""
        return cls(
            origin.name,
            origin.format,
            origin.octets,
            book.ledger.frames,
            book.first_ns,
            book.last_ns,
            origin.interfaces,
            origin.damage,
            origin.first_number,
            vantage,
            tuple(origin.comments),
            book.ledger,
        )


@dataclass(frozen=True)
class LeftOut:
    """Flows that came past the limit: about how many, the limit, of what, and the option that raises it."""

    flows: int = 0
    limit: int = 0
    where: str = "of one recording; where limits differ, the least"
    option: str = "--max-flows"


@dataclass(frozen=True)
class InputSummary:
    """What all captures of a run were together."""

    vantages: Sequence[VantagePoint] = ()
    skipped: Sequence[Skipped] = ()
    skipped_count: int = 0
    names: Sequence[tuple[str, str]] = ()  #: addresses with names that the captures give them, untrusted text
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True)
class ClusterSummary:
    """What was handed over with ``--cluster``."""

    given: bool = False
    sources: Sequence[str] = ()
    nodes: int = 0
    pods: int = 0
    services: int = 0
    declared: Sequence[tuple[str, str, str, str]] = ()  #: component, setting, value, source
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Departed(Table):
    """Connections that left memory without one like them to stand for them, by channel and answers; (N,) int64 each."""

    channel: I64  #: row of `catalogue.channels()`
    silent: I64  #: 1: without payload
    encryption: I64
    encryption_grade: I64
    client_certificate: I64
    client_certificate_grade: I64
    server_verification: I64
    server_verification_grade: I64
    connections: I64
    packets: I64
    octets: I64


@dataclass(frozen=True)
class AgedOutSummary:
    """What left the memory of a live session, besides what ``evidence.aged_out`` says."""

    departed: Departed
    leg_packets: int = 0  #: of second sightings of them
    early: int = 0  #: connections that left although they might have gone on: too many were held
    first_ns: int | None = None  #: of the first packet of any of them
    last_ns: int | None = None


@dataclass(frozen=True)
class AuditResult:
    """Everything the outputs need."""

    audit: Audit
    findings: Sequence[Finding]
    counts: Sequence[RuleCount]
    ledger: Ledger
    captures: Sequence[CaptureSummary]
    cluster: ClusterSummary = field(default_factory=ClusterSummary)
    suppressions: Suppressions = field(default_factory=Suppressions)
    inputs: InputSummary = field(default_factory=InputSummary)
    aged_out: AgedOutSummary | None = None  #: in a live session, once connections have left its memory


def time_text(ns: int | None) -> str | None:
    """RFC 3339 in UTC with nanoseconds; None where there is no time."""
    if ns is None or ns <= 0 or ns >= YEAR_10000_NS:
        return None
    whole = datetime.fromtimestamp(ns // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"
