"""One analysis from end to end: recordings read, here or elsewhere, joined, and what follows from all of them.

`pipeline` composes the stages up to what was read of one recording; this module says who reads which, and composes what
looks at everything together: roles, channels, verdicts, findings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from analyzer.assembly import Reading, finish
from analyzer.capture.inventory import MAX_SKIPPED, Inventory, Vantage
from analyzer.capture.ranges import SHARED_OCTETS
from analyzer.capture.several import CaptureSet, Portion, Recording
from analyzer.cluster.channels import assign_channels
from analyzer.cluster.roles import DeclaredRoles, assign_roles
from analyzer.ledger import CaptureBook, Ledger
from analyzer.partial import Partial, merge
from analyzer.pipeline import Limits, Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.report.audit_result import AuditResult, CaptureSummary, ClusterSummary, InputSummary, LeftOut
from analyzer.rules import RULES, Audit, CaptureQuality, apply_rules
from analyzer.rules.suppressions import Suppressions
from analyzer.schema import CaptureOrigin, CaptureReader, Skipped
from analyzer.team import MOST, GivenUp, Team
from analyzer.verdicts import Declarations, judge
from analyzer.workers import Tally, can_fork, in_children, together

if TYPE_CHECKING:
    from analyzer.cluster.authorities import Authority

LEAST_SHARED: Final = 64 << 20
"""Octets of a recording from which on it is worth to have it read by several processes."""
TOGETHER: Final = 4
"""Times `Limits.max_flows` that are kept of all recordings of a run together."""


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """What was handed over about the cluster, in the forms the stages take."""

    roles: DeclaredRoles | None = None
    declared: Declarations = field(default_factory=Declarations)
    summary: ClusterSummary = field(default_factory=ClusterSummary)
    suppressions: Suppressions = field(default_factory=Suppressions)
    authorities: tuple[Authority, ...] = ()  #: CA certificates


def measure_quality(evidence: Evidence, captures: Sequence[CaptureSummary]) -> CaptureQuality:
    """What the capture lacks, over TCP connections that carried payload."""
    drops = [i.dropped for c in captures for i in c.interfaces if i.dropped is not None]
    counts = {name: int(evidence.weight[mask].sum()) for name, mask in evidence.quality.items()}
    dropped, damaged = sum(drops) if drops else None, any(c.damage for c in captures)
    return CaptureQuality(**counts, dropped=dropped, damaged=damaged)


def conclude(
    evidence: Evidence, ledger: Ledger, captures: Sequence[CaptureSummary], cluster: ClusterContext
) -> AuditResult:
    """Roles, channels, verdicts and findings of what was read."""
    roles = assign_roles(evidence, cluster.roles)
    channels = assign_channels(evidence, roles)
    verdicts = judge(evidence, channels, roles, cluster.declared)
    quality = measure_quality(evidence, captures)
    audit = Audit(evidence, roles, channels, verdicts, cluster.declared, quality, cluster.authorities)
    findings, counts = apply_rules(audit, RULES, cluster.suppressions)
    return AuditResult(audit, findings, counts, ledger, captures, cluster.summary, cluster.suppressions)


def flow_limits(portions: Sequence[Portion], each: int) -> tuple[int, ...]:
    """Flows kept of each recording, by its number: `each`, and less where together they may be too many.

    Half of `TOGETHER` times `each` is for all alike, half goes by the octets of their files. It is settled before
    anything is read, so that it is the same whoever reads what, and one that is flooded takes nothing from the others.
    """
    octets: dict[int, int] = {}
    for portion in portions:
        # The members of an archive lie in one file.
        octets |= {number: portion.size // len(portion.recordings) for number, _ in portion.recordings}
    if len(octets) <= TOGETHER:
        return (each,) * len(octets)
    half, whole = TOGETHER * each // 2, max(sum(octets.values()), 1)
    return tuple(max(1, min(each, half // len(octets) + half * octets[number] // whole)) for number in sorted(octets))


@dataclass(frozen=True)
class Work:
    """What is to be done with a recording: the same wherever it is done.

    Attributes
    ----------
    limits : Limits
    keys : KeyLog or None
    flow_limits : tuple of int
        Flows kept of each recording (`flow_limits`); none where `limits` say it.
    """

    limits: Limits
    keys: KeyLog | None
    flow_limits: tuple[int, ...] = ()

    def read(
        self, reader: CaptureReader, number: int = 0, workers: int = 1, progress: Progress | None = None
    ) -> Partial:
        """Read all frames of one reader and everything they say, by several processes where that can pay."""
        again = reader.again if isinstance(reader, CaptureSet) and (reader.size or 0) >= LEAST_SHARED else None
        if workers == 1 or again is None or not can_fork():
            pipeline, inventory = self._read_frames(reader, number, progress)
            left_out = pipeline.flows.left_out
            return Partial(number, 1, pipeline.assembled(last=True), inventory, _books(pipeline, inventory), left_out)
        try:
            return self._read_together(again, number, min(workers, MOST), progress)
        except GivenUp:
            with again() as afresh:
                return self.read(afresh, number, 1, progress)

    def _read_together(
        self,
        again: Callable[[], CaptureSet],
        number: int,
        processes: int,
        progress: Progress | None,
    ) -> Partial:
        """Read all frames in each of several processes, and what they say in the one whose share they are of."""
        _load_for_children()
        here: list[tuple[Pipeline, Inventory]] = []

        def read(team: Team) -> tuple[Reading, str]:
            with again() as mine:
                mine.team = team
                pipeline, inventory = self._read_frames(mine, number, progress if team.rank == 0 else None, team)
            reading = pipeline.reading(last=True)
            if not pipeline.flows.all_kept:
                raise GivenUp
            if team.rank == 0:
                here.append((pipeline, inventory))
            seen = repr((pipeline.frames, pipeline.decoder.paths, inventory, _books(pipeline, inventory)))
            return reading.among(team.rank, team.size), seen

        readings = together(processes, read, SHARED_OCTETS)
        pipeline, inventory = here[0]
        if len({seen for _, seen in readings}) > 1:  # the file has changed meanwhile
            raise GivenUp
        assembled = pipeline.assemble(Reading.joined([reading for reading, _ in readings]))
        return Partial(number, 1, assembled, inventory, _books(pipeline, inventory), 0)

    def _read_frames(
        self, reader: CaptureReader, number: int, progress: Progress | None, team: Team | None = None
    ) -> tuple[Pipeline, Inventory]:
        limits = replace(self.limits, max_flows=self.flow_limits[number]) if self.flow_limits else self.limits
        pipeline = Pipeline(limits, None if self.keys is None else self.keys.copy(), team)
        comments = secrets = 0
        for chunk in reader:
            for key_log in reader.secrets[secrets:]:
                pipeline.use_secrets(key_log)
            secrets = len(reader.secrets)
            pipeline.add(chunk, reader.comments[comments:])
            comments = len(reader.comments)
            if progress is not None:
                progress(reader.octets_read, pipeline.frames)
        if isinstance(reader, CaptureSet):
            inventory = reader.inventory
        else:
            facts = (tuple(reader.interfaces), tuple(reader.damage), tuple(reader.comments))
            origin = CaptureOrigin(reader.name, reader.format, reader.octets_read, 0, 0, *facts)
            names = list(dict.fromkeys(reader.names))
            inventory = Inventory(pipeline.frames, [origin], [Vantage(captures=[0])], names=names)
        return pipeline, inventory

    def nothing(self, number: int, recording: Recording, reason: str) -> Partial:
        """What stands in place of a recording that could not be read: its captures are named and skipped."""
        skipped = [Skipped(capture.name, reason, named=True) for capture in recording.captures]
        inventory = Inventory(skipped=skipped[:MAX_SKIPPED], skipped_count=len(skipped))
        return Partial(number, 1, Pipeline(self.limits).assembled(last=True), inventory, (), 0)

    def read_portion(self, portion: Portion, workers: int = 1, progress: Progress | None = None) -> list[Partial]:
        """Read recordings one after the other."""
        partials: list[Partial] = []
        octets = frames = 0
        for number, recording in portion.recordings:

            def advanced(more: int, of_them: int, octets: int = octets, frames: int = frames) -> None:
                if progress is not None:
                    progress(octets + more, frames + of_them)

            with recording.open() as reader:
                partials.append(self.read(reader, number, workers, advanced))
            octets += sum(origin.octets for origin in partials[-1].inventory.origins)
            frames += partials[-1].inventory.frames
        return partials


def _load_for_children() -> None:
    """Load here once what is loaded late, not in every child that meets a certificate."""
    import analyzer.protocols.tls.certificates  # noqa: F401


def _books(pipeline: Pipeline, inventory: Inventory) -> tuple[CaptureBook, ...]:
    return tuple(pipeline.book(capture) for capture in range(len(inventory.origins)))


Progress = Callable[[int, int], None]
"""Is told octets of input and frames read so far."""
Spread = Callable[[Sequence[Portion], Work, int, Progress | None], list[Partial]]
"""Has portions read by so many processes, or elsewhere, and returns what all of them gave."""


def movable_of(portions: Sequence[Portion]) -> list[Portion]:
    """Portions that other processes can read, the largest first: what is left at the end keeps no one waiting."""
    return sorted((portion for portion in portions if portion.portable), key=lambda portion: -portion.size)


def _in_children(portions: Sequence[Portion], work: Work, workers: int, progress: Progress | None) -> list[Partial]:
    """Read portions in children, one each; where there is one worker or none of them is a file, here."""
    movable = movable_of(portions)
    told = Tally(progress)
    partials: list[Partial] = []
    if workers > 1 and len(movable) > 1 and can_fork():
        _load_for_children()
        share = max(1, workers // len(movable))
        tasks = [partial(work.read_portion, portion, share) for portion in movable]
        for answer in in_children(tasks, min(workers, len(movable)), told):
            partials += answer
        portions = [portion for portion in portions if not portion.portable]
    for portion in portions:
        partials += work.read_portion(portion, workers, told.here())
    return partials


def run(
    reader: CaptureReader,
    cluster: ClusterContext | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    keys: KeyLog | None = None,
    workers: int = 1,
    spread: Spread | None = None,
) -> AuditResult:
    """Analyse one input: a capture, or several as `capture.discovery.open_captures` gives them.

    Parameters
    ----------
    reader : CaptureReader
    cluster : ClusterContext, optional
    limits : Limits, optional
    progress : callable, optional
        Called after each chunk with octets of input and frames read so far.
    keys : KeyLog, optional
        TLS secrets, besides those that the capture itself holds (pcapng decryption secrets).
    workers : int
        Processes on this machine; the result is the same for any number.
    spread : Spread, optional
        Has the work done elsewhere, where there are several recordings; the result is the same.
    """
    several = reader if isinstance(reader, CaptureSet) and reader.portions else None
    if several is not None and several.leading_secrets:
        keys = KeyLog() if keys is None else keys.copy()
        for key_log in several.leading_secrets:
            keys.add(key_log)
    limits = limits or Limits()
    work = Work(limits, keys, flow_limits(several.portions, limits.max_flows) if several is not None else ())
    if several is not None:
        merged = merge((spread or _in_children)(several.portions, work, workers, progress))
        assert len(merged) == 1, "every recording gives a result"
        whole = merged[0]
        found = Inventory(skipped=several.skipped, skipped_count=several.skipped_count)
        inventory = Inventory.joined([found, whole.inventory])
    else:
        whole = work.read(reader, 0, workers, progress)
        inventory = whole.inventory
    if not inventory.origins and isinstance(reader, CaptureSet):
        raise reader.nothing(inventory)
    origins, vantages = inventory.origins, inventory.vantage_points()
    summaries = [
        CaptureSummary.of(origin, book, vantages[origin.vantage].name)
        for origin, book in zip(origins, whole.books, strict=True)
    ]
    ledger = Ledger.total([book.ledger for book in whole.books])
    left_out = LeftOut(whole.left_out, min(work.flow_limits, default=limits.max_flows))
    evidence = finish(whole.assembled)
    del whole  # what is joined is as large as what is concluded from it
    result = conclude(evidence, ledger, summaries, cluster or ClusterContext())
    skipped, count = tuple(inventory.skipped), inventory.skipped_count
    inputs = InputSummary(tuple(vantages), skipped, count, tuple(inventory.names), left_out)
    return replace(result, inputs=inputs)
