"""What a rule is: a record of what it means, beside one pure function that decides.

`Outcome` is made by `outcome` alone, in which undecidable beats both other answers: a connection that was not seen
well enough is never called compliant and never called a violation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.cluster.channels import ChannelColumns, of_channel
from analyzer.cluster.declarations import Declarations
from analyzer.cluster.roles import LOOPBACK, Roles
from analyzer.cluster.trust import Trust
from analyzer.numbers import distinct
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Grade, Protocol, Severity
from analyzer.rules.suppressions import Suppression, Suppressions
from analyzer.schema import I64, U8, Mask
from analyzer.verdicts.columns import Verdicts

if TYPE_CHECKING:
    from analyzer.cluster.authorities import Authority


@dataclass(frozen=True, slots=True)
class CaptureQuality:
    """What the capture itself lacks; numbers of TCP connections unless said otherwise."""

    connections: int = 0
    handshake_seen: int = 0
    mid_connection: int = 0
    one_sided: int = 0
    cut_by_snaplen: int = 0
    with_gaps: int = 0
    conflicting: int = 0  #: with different octets for one place of a stream
    crowded: int = 0  #: with more distinct HTTP messages behind the head than are kept
    dropped: int | None = None  #: frames the capture itself says it dropped
    damaged: bool = False


@dataclass(frozen=True)
class Audit:
    """Everything a rule may look at; F connections throughout."""

    evidence: Evidence
    roles: Roles
    channels: ChannelColumns
    verdicts: Verdicts
    declared: Declarations
    quality: CaptureQuality
    authorities: Sequence[Authority] = ()

    @cached_property
    def trust(self) -> Trust:
        """Which of the CAs handed over issued the chains that were seen."""
        return Trust(self.evidence, self.authorities)

    def on(self, *names: str) -> Mask:
        """Connections of the named channels that are not legs of another: (F,) bool."""
        mask = np.zeros(len(self.evidence), bool)
        for name in names:
            mask |= of_channel(self.channels, name)
        mask &= self.connections
        return mask

    @cached_property
    def connections(self) -> Mask:
        """Connections that are not legs of another: (F,) bool."""
        return _kept(self.evidence.leg_of < 0)

    @cached_property
    def off_host(self) -> Mask:
        """Connections between two hosts, legs of another left out: (F,) bool."""
        roles = self.roles
        local = (roles.client == roles.server) | roles.client_is(LOOPBACK) | roles.server_is(LOOPBACK)
        return _kept(self.connections & ~local)

    @cached_property
    def recognised(self) -> Mask:
        """Connections whose payload was recognised: (F,) bool."""
        return _kept(~np.isin(self.evidence.identification.protocol, (Protocol.NO_DATA, Protocol.UNKNOWN)))

    @cached_property
    def http(self) -> Mask:
        """Connections that carry readable HTTP: (F,) bool."""
        return _kept(np.isin(self.evidence.identification.protocol, (Protocol.HTTP1, Protocol.HTTP2)))

    def with_server(self, addresses: Iterable[bytes]) -> Mask:
        """Connections to one of `addresses`, each its 16 octets: (F,) bool."""
        return self._known(addresses)[self.roles.server]

    def with_client(self, addresses: Iterable[bytes]) -> Mask:
        """Connections from one of `addresses`, each its 16 octets: (F,) bool."""
        return self._known(addresses)[self.roles.client]

    def _known(self, addresses: Iterable[bytes]) -> Mask:
        wanted = frozenset(addresses)
        if not wanted:
            return np.zeros(self.roles.addresses.shape[0], bool)
        return np.array([octets in wanted for octets in self.roles.addresses.view("V16")[:, 0].tolist()], bool)


def _kept(mask: Mask) -> Mask:
    """A mask that every rule may look at and none may change."""
    mask.setflags(write=False)
    return mask


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rule says of each connection in its scope, and what shows it.

    ``violation``, ``compliant``, ``undecidable`` (F,) bool, disjoint; ``grade`` (F,) uint8 of the violations;
    ``frames`` (F,) int64 each, best first, 0 = none; ``detail`` text by connection, for the few that need it.
    """

    violation: Mask
    compliant: Mask
    undecidable: Mask
    grade: U8
    frames: tuple[I64, ...]
    detail: dict[int, str] = field(default_factory=dict)


def outcome(
    *,
    scope: Mask,
    decidable: Mask,
    violation: Mask,
    grade: U8 | Grade,
    frames: Sequence[I64],
    detail: dict[int, str] | None = None,
) -> Outcome:
    """Make an `Outcome`; a row that is not decidable is neither violation nor compliant, whatever else is said.

    Parameters
    ----------
    scope, decidable, violation : (F,) bool
    grade : (F,) uint8 or Grade
        How the violations are known.
    frames : sequence of (F,) int64
        Frames that show it, best first; 0 = none.
    detail : dict of int to str, optional
        What is particular about single connections. Untrusted text, already redacted.
    """
    undecidable = scope & ~decidable
    decided = scope & decidable
    return Outcome(
        decided & violation,
        decided & ~violation,
        undecidable,
        np.broadcast_to(np.asarray(grade, np.uint8), scope.shape),
        tuple(frames),
        detail or {},
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; its fields are its documentation, in the README, in ``planewire explain`` and in every report.

    Attributes
    ----------
    code, name : str
        Stable; a code is never reused.
    channels : tuple of str
        Identifiers of the channels it judges; empty: whatever channel a connection belongs to.
    needs : str
        What must be in the capture or handed over for it to decide.
    title : str
        One line for a list of findings.
    seen : str
        What a violation says was seen, without numbers.
    why : str
        Why it matters.
    remediation : str
        What to do, in words.
    flags : tuple of str
        The exact flags or fields that change it.
    source, cis : str
        Kubernetes documentation; CIS Kubernetes Benchmark control, empty where none exists.
    limits : str
        What this rule cannot know.
    filter : str
        Wireshark display filter that shows it, joined with the endpoints of the finding.
    """

    code: str
    name: str
    title: str
    severity: Severity
    channels: tuple[str, ...]
    needs: str
    seen: str
    why: str
    remediation: str
    flags: tuple[str, ...]
    source: str
    cis: str
    limits: str
    filter: str
    check: Callable[[Audit], Outcome]
    status: str = "stable"


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that one channel violates."""

    rule: Rule
    channel: str
    grade: Grade
    grades: dict[str, int]
    connections: tuple[int, ...]  #: rows of the flow table
    frames: tuple[int, ...]
    detail: tuple[str, ...]
    suppression: Suppression | None = None  #: why it does not count, where somebody accepted it


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How a rule answered over all connections in its scope.

    ``not_observed`` counts the channels it judges of which there was no connection; for a rule of every channel it is
    1 where no connection was in its scope.
    """

    rule: Rule
    violation: int
    compliant: int
    undecidable: int
    not_observed: int = 0


MAX_FRAMES = 20
"""Frames named in one finding; the connections it lists lead to the rest."""
MAX_DETAILS = 10


def apply_rules(
    audit: Audit, rules: Sequence[Rule], suppressions: Suppressions | None = None
) -> tuple[list[Finding], list[RuleCount]]:
    """Ask every rule; one finding for each channel that violates it, and one for each suppression that covers some."""
    suppressions = suppressions or Suppressions()
    findings: list[Finding] = []
    counts: list[RuleCount] = []
    names = [channel.id for channel in channels()]
    present = np.bincount(audit.channels.channel[audit.connections], minlength=len(names)) > 0
    for rule in rules:
        said = rule.check(audit)
        judged = [audit.evidence.count(rows) for rows in (said.violation, said.compliant, said.undecidable)]
        absent = sum(not present[names.index(c)] for c in rule.channels) if rule.channels else int(not any(judged))
        counts.append(RuleCount(rule, judged[0], judged[1], judged[2], absent))
        rows = np.flatnonzero(said.violation)
        covered = suppressions.applying(rule, audit, rows)
        entries = len(suppressions.entries) + 1
        part = audit.channels.channel[rows] * entries + covered + 1
        for number in distinct(part).tolist():
            here = rows[part == number]
            channel, entry = divmod(number, entries)
            accepted = suppressions.entries[entry - 1] if entry else None
            findings.append(_finding(rule, names[channel], said, here, accepted, audit.evidence.weight[here]))
    findings.sort(key=lambda f: (-f.rule.severity, f.rule.code, f.channel, f.suppression.line if f.suppression else 0))
    return findings, counts


def _finding(
    rule: Rule, channel: str, said: Outcome, rows: I64, suppression: Suppression | None, weight: I64
) -> Finding:
    grades = np.bincount(said.grade[rows], weight, minlength=Grade.NONE + 1)
    by_grade = {Grade(i).label: int(n) for i, n in enumerate(grades) if n}
    # The finding is as well known as its best-known connection; the counts say how many that are.
    strongest = Grade(int(np.flatnonzero(grades)[0]))
    ordered = rows[np.argsort(said.grade[rows], kind="stable")][: 8 * MAX_FRAMES]
    shown = np.stack([frames[ordered] for frames in said.frames], axis=1).reshape(-1)[: 8 * MAX_FRAMES]
    frames = list(dict.fromkeys(shown[shown > 0].tolist()))[:MAX_FRAMES]
    told = (said.detail[row] for row in rows.tolist() if row in said.detail) if said.detail else ()
    details = list(dict.fromkeys(told))[:MAX_DETAILS]
    return Finding(
        rule, channel, strongest, by_grade, tuple(rows.tolist()), tuple(sorted(frames)), tuple(details), suppression
    )
