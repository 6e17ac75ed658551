"""Which connections leave memory, and what stays of them: a few of each kind for good, the others as numbers.

Of connections that are over the earliest of every kind (see `likeness`) are kept for good, as *stand-ins* for the
others of their kind. The others are set aside: a glance at the session counts them with their stand-in and looks at
them no more. The newest of those stay in memory, for reports that list them; the oldest leave. So what is inferred from
all connections, who the API server is and which addresses are nodes, does not change when some of them are gone:
whatever said so is still there in one that is just like it. Where there are too many kinds, those of the least interest
leave too, and are counted by channel and answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.cluster.catalogue import channels
from analyzer.decode.transport import TCP
from analyzer.flows import FIN, RST, FlowBuilder, place_of
from analyzer.registries import Protocol
from analyzer.report.audit_result import AgedOutSummary, AuditResult, Departed
from analyzer.schema import I64, AgedOut, Mask
from analyzer.session.ageing import SECOND, Ageing
from analyzer.session.likeness import likenesses

OF_A_KIND: Final = 3
"""Stand-ins of one kind: what asks whether something happened once, or again and again, gets the same answer."""
_SLACK: Final = 4
"""One part in so many more than wanted are held before some leave, so that it is done for many at a time."""
_ASIDE_SHARE: Final = 8
"""One part in so many of what is looked at is over before it is set aside."""
_COUNTS: Final = 3  # connections, packets, octets
_ANSWERS: Final = 8  # channel, whether it was silent, and three answers with their grades


@dataclass(frozen=True, slots=True)
class Leaving:
    """Which flows stay, by builder number.

    ``kept`` (K,) int64 those that stay, ascending; ``into`` (F,) int64 for each flow the one that stands for it, itself
    where it stays, -1 = none.
    """

    kept: I64
    into: I64


@dataclass
class _Columns:
    """What is known of each flow, by builder number."""

    stand_in: Mask
    stands_for: I64  # connections, packets and octets of those that left and that it stands for
    behind: I64  # the stand-in of a flow that is set aside; -1 = it is not
    party: I64  # of a flow that is set aside, and of a stand-in: the flow of the connection it is so with
    place: I64  # of a stand-in: its place among the flows of that connection
    kind: I64  # of a stand-in: the same for those that are alike
    told: NDArray[np.int16]  # of a stand-in: as in `Archive._departed`
    counted: I64  # what a flow was counted as when it was set aside
    last_frame: I64  # its last frame when it was set aside, or became a stand-in
    early: Mask  # it was not over

    @classmethod
    def of(cls, count: int) -> _Columns:
        """Columns of new flows."""
        counts = (count, _COUNTS)
        return cls(
            np.zeros(count, bool),
            np.zeros(counts, np.int64),
            np.full(count, -1, np.int64),
            np.full(count, -1, np.int64),
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
            np.zeros((count, _ANSWERS), np.int16),
            np.zeros(counts, np.int64),
            np.zeros(count, np.int64),
            np.zeros(count, bool),
        )


class Archive:
    """What left memory or is set aside, and which flows stand for it; flows are named by builder number."""

    def __init__(self, ageing: Ageing) -> None:
        self._ageing = ageing
        # However many kinds there are, half of what may be held is for connections that are not over.
        self._stand_ins = min(ageing.stand_ins, ageing.most // 2)
        self._least = 0
        self._of = _Columns.of(0)
        self._departed: dict[tuple[int, ...], I64] = {}
        self._leg_packets = 0
        self._left = 0
        self._early = 0
        self._first_ns: int | None = None
        self._last_ns: int | None = None

    def _reserve(self, count: int) -> None:
        more = count - self._of.stand_in.shape[0]
        if more > 0:
            fresh = _Columns.of(more)
            for name, column in vars(self._of).items():
                setattr(self._of, name, np.concatenate([column, getattr(fresh, name)]))

    # ------------------------------------------------------------------------------- what is asked of it

    @property
    def connections(self) -> int:
        """Connections that left."""
        return self._left

    def by_channel(self, channel: I64) -> I64:
        """Connections, packets and octets of what left, by channel: (channels, 3) int64.

        `channel` (F,) int64 is that of each flow, negative for legs and for what is not known yet.
        """
        totals = np.zeros((len(channels()), _COUNTS), np.int64)
        self._reserve(channel.shape[0])
        known = np.flatnonzero(channel >= 0)
        np.add.at(totals, channel[known], self._of.stands_for[known])
        for key, counts in self._departed.items():
            totals[key[0]] += counts
        return totals

    def looked_at(self, count: int) -> I64:
        """Those of `count` flows that are not set aside, ascending."""
        self._reserve(count)
        return np.flatnonzero(self._of.behind[:count] < 0)

    def set_aside_now(self) -> I64:
        """Flows that are set aside, ascending."""
        return np.flatnonzero(self._of.behind >= 0)

    def behind(self) -> tuple[I64, I64]:
        """Flows that are set aside, ascending, and the stand-in of each."""
        aside = self.set_aside_now()
        return aside, self._of.behind[aside]

    def aged_out(self, numbers: I64, carriers: I64, *, glance: bool) -> AgedOut | None:
        """What the rows of an evidence stand for; None where that is nothing.

        Parameters
        ----------
        numbers : (F,) int64
            Builder numbers of its rows.
        carriers : (K,) int64
            Rows of the flows that carry the K connections behind those.
        glance : bool
            Also for what is set aside.
        """
        self._reserve(int(numbers.max(initial=-1)) + 1)
        stands_for = self._of.stands_for
        if glance:
            aside = self.set_aside_now()
            stands_for = stands_for.copy()
            np.add.at(stands_for, self._of.behind[aside], self._of.counted[aside])
        own = stands_for[numbers]
        if not own.any():
            return None
        inside = np.zeros((carriers.shape[0], _COUNTS), np.int64)
        inside[:, 0] = own[carriers, 0]
        return AgedOut(*np.ascontiguousarray(np.concatenate([own, inside]).T))

    def summary(self) -> AgedOutSummary | None:
        """What left without a stand-in, and over all; None before anything left."""
        if not self._left:
            return None
        rows = [[*key, *counts.tolist()] for key, counts in sorted(self._departed.items())]
        table = np.array(rows, np.int64).reshape(len(rows), _ANSWERS + _COUNTS)
        departed = Departed(*np.ascontiguousarray(table.T))
        return AgedOutSummary(departed, self._leg_packets, self._early, self._first_ns, self._last_ns)

    # ---------------------------------------------------------------------------------- setting aside

    def take_back(self, flows: FlowBuilder) -> I64:
        """No longer set aside what had packets since, with its legs; which flows these are.

        Nor does a stand-in that had packets stand for any other: it may be like them no more.
        """
        self._reserve(len(flows))
        columns, aside = self._of, self.set_aside_now()
        spoke = flows.state.last_frame[: columns.last_frame.shape[0]] != columns.last_frame
        moved = columns.party[aside[spoke[aside]]]
        standing = np.flatnonzero(columns.stand_in)
        leaving = np.unique(columns.party[standing[spoke[standing]]])
        if leaving.shape[0]:
            moved = np.concatenate([moved, self._dismiss(leaving, standing, aside)])
        back: I64 = aside[np.isin(columns.party[aside], moved)]
        columns.behind[back], columns.party[back], columns.early[back] = -1, -1, False
        return back

    def _dismiss(self, leaving: I64, standing: I64, aside: I64) -> I64:
        """Let others of their kind stand in for the stand-ins with the parties `leaving`.

        Where there is none, those that left are counted as what was said of them last; the parties of those that are
        set aside are returned.
        """
        columns = self._of
        standing = standing[np.argsort(columns.place[standing], kind="stable")]
        party = columns.party[standing]
        staying = standing[~np.isin(party, leaving)]
        orphans = [np.empty(0, np.int64)]
        for root in leaving.tolist():
            members = standing[party == root]
            heirs = staying[columns.kind[staying] == columns.kind[root]]
            heirs = heirs[columns.party[heirs] == columns.party[heirs[:1]]]
            behind = columns.behind[aside]
            if heirs.shape[0]:
                for flow, heir in zip(members.tolist(), heirs.tolist(), strict=True):
                    columns.stands_for[heir] += columns.stands_for[flow]
                    columns.behind[aside[behind == flow]] = heir
            else:
                self._count_departed(columns.told[root], columns.stands_for[members])
                orphans.append(columns.party[aside[np.isin(behind, members)]])
            columns.stands_for[members] = 0
            columns.stand_in[members], columns.party[members], columns.early[members] = False, -1, False
        return np.concatenate(orphans)

    def may_set_aside(self, over: Mask, silent_ns: I64, flows: FlowBuilder) -> bool:
        """Whether it pays to set flows aside: some are `over`, (F,) bool, silent for `silent_ns`; or too many held."""
        count = len(flows)
        self._reserve(count)
        looked_at = self._of.behind[:count] < 0
        ended = over & looked_at & ~self._of.stand_in[:count] & self._forgettable(silent_ns, flows)
        return int(ended.sum()) > int(looked_at.sum()) // _ASIDE_SHARE or self._is_crowded(count)

    def _is_crowded(self, count: int) -> bool:
        """Whether `count` flows are more than may be held, and than could not but stay when last some had to leave."""
        return count > max(self._ageing.most, self._least)

    def is_overrun(self, count: int) -> bool:
        """Whether `count` flows are so many more than may be held that some have to leave soon."""
        return self._is_crowded(count) and count > self._ageing.most + self._ageing.most // _SLACK

    def _forgettable(self, silent_ns: I64, flows: FlowBuilder) -> Mask:
        """Flows that may leave once they are over: not TCP that merely went silent, which may speak again."""
        rows = np.arange(len(flows))
        state = flows.state
        ended = ((state.flags[rows] & (FIN | RST)) != 0).any(axis=1)
        spoke = (state.payload_octets[rows] > 0).any(axis=1)
        may_speak: Mask = (flows.protocols(rows) == TCP) & ~ended & spoke
        return ~may_speak | (silent_ns > self._ageing.tcp_forget_s * SECOND)

    def set_aside(self, result: AuditResult, numbers: I64, over: Mask, silent_ns: I64, flows: FlowBuilder) -> None:
        """Make stand-ins of the first of each kind among what is over, and set the others aside.

        Parameters
        ----------
        result : AuditResult
            Concluded of the flows that are looked at.
        numbers : (R,) int64
            Their builder numbers, row by row.
        over : (F,) bool
        silent_ns : (F,) int64
        flows : FlowBuilder
        """
        self._reserve(len(flows))
        groups = _Groups(result, numbers, len(flows))
        ended = groups.all(over & self._forgettable(silent_ns, flows))
        stand_in = groups.any(self._of.stand_in)
        ended |= self._pressed(groups, groups.least(silent_ns), stand_in | ended)
        # Those that stand in already come too, so that kinds that have become one are joined.
        candidates = np.flatnonzero((ended | stand_in) & groups.is_root)
        said = _said(result)
        for kind, first, others in self._kinds(result, groups, candidates):
            self._join(groups, first, others, flows)
            for group in first.tolist():
                members = groups.members(group)
                self._of.kind[members], self._of.told[members] = kind, said[group]

    def _pressed(self, groups: _Groups, silent: I64, others: Mask) -> Mask:
        """Groups that must go early because more flows are held than may be, those longest silent first."""
        pressed = np.zeros(groups.rows, bool)
        excess = groups.rows - self._ageing.most
        if excess > 0:
            order = np.flatnonzero(groups.is_root & ~others)
            order = order[np.argsort(-silent[order], kind="stable")]
            pressed[order[: excess + self._ageing.most // _SLACK]] = True
            for group in np.flatnonzero(pressed).tolist():
                self._of.early[groups.members(group)] = True
        return pressed

    def _kinds(self, result: AuditResult, groups: _Groups, candidates: I64) -> list[tuple[int, I64, I64]]:
        """Of each kind among the candidates its number, those that stay, earliest first, and the others."""
        like = likenesses(result, groups.of_row, candidates)
        kinds: dict[bytes, list[int]] = {}
        for group in candidates.tolist():  # rows are in order of time
            kinds.setdefault(like[group], []).append(group)
        return [
            (
                int.from_bytes(kind[:8], "little", signed=True),
                np.array(members[:OF_A_KIND], np.int64),
                np.array(members[OF_A_KIND:], np.int64),
            )
            for kind, members in kinds.items()
        ]

    def _join(self, groups: _Groups, first: I64, others: I64, flows: FlowBuilder) -> None:
        """Make the groups `first` stand-ins, the first of them for `others`."""
        columns = self._of
        for group in first.tolist():
            members = groups.members(group)
            columns.stand_in[members], columns.party[members] = True, members[0]
            columns.place[members] = np.arange(members.shape[0])
            columns.last_frame[members] = flows.state.last_frame[members]
        target = groups.members(int(first[0]))
        for group in others.tolist():
            members = groups.members(group)
            for flow, stand_in in zip(members.tolist(), target.tolist(), strict=True):
                if columns.stand_in[flow]:
                    # It stood for others itself.
                    columns.stands_for[stand_in] += columns.stands_for[flow]
                    columns.stands_for[flow] = 0
                    columns.behind[columns.behind == flow] = stand_in
                    columns.stand_in[flow] = False
            columns.behind[members], columns.party[members] = target, members[0]
            columns.counted[members] = groups.counts[members]
            columns.last_frame[members] = flows.state.last_frame[members]

    # -------------------------------------------------------------------------------------- leaving

    def must_leave(self, count: int) -> bool:
        """Whether more of `count` flows are held than are wanted."""
        aside = self.set_aside_now()
        connections = int((self._of.party[aside] == aside).sum())
        retain = self._ageing.retain
        standing = self._of.stand_in & (self._of.party == np.arange(self._of.party.shape[0]))
        standing[self._of.behind[aside]] = False
        return (
            connections > retain + retain // _SLACK or int(standing.sum()) > self._stand_ins or self._is_crowded(count)
        )

    def leave(self, result: AuditResult, numbers: I64, silent_ns: I64, flows: FlowBuilder) -> Leaving:
        """Decide who leaves, and count them; parameters as of `set_aside`."""
        count = len(flows)
        columns = self._of
        into = np.arange(count)
        aside = self.set_aside_now()
        parties = aside[columns.party[aside] == aside]
        parties = parties[np.argsort(-silent_ns[parties], kind="stable")]
        many = parties.shape[0] - self._ageing.retain
        if count > self._ageing.most:
            many = max(many, count - self._ageing.most + self._ageing.most // _SLACK)
        going = parties[: max(many, 0)]
        gone = aside[np.isin(columns.party[aside], going)]
        into[gone] = columns.behind[gone]
        np.add.at(columns.stands_for, columns.behind[gone], columns.counted[gone])
        self._left += going.shape[0]
        self._early += int(columns.early[going].sum())
        self._evict(result, _Groups(result, numbers, count), silent_ns, into)
        kept = np.flatnonzero(into == np.arange(count))
        self._note_times(np.flatnonzero(into != np.arange(count)), flows)
        self._least = kept.shape[0]
        return Leaving(kept, into)

    def _evict(self, result: AuditResult, groups: _Groups, silent_ns: I64, into: I64) -> None:
        """Let stand-ins go where there are too many kinds, but for one that shows each finding and each answer.

        So it is where too much is held even without those that leave now. None goes that somebody stands behind who
        is still there.
        """
        still = self.set_aside_now()
        still = still[into[still] == still]
        free = self._of.stand_in.copy()
        free[self._of.behind[still]] = False
        rows = np.flatnonzero(groups.is_root & groups.all(free[: into.shape[0]]))
        too_many = rows.shape[0] - self._stand_ins
        excess = int((into == np.arange(into.shape[0])).sum()) - self._ageing.most
        going = max(
            too_many + self._stand_ins // _SLACK if too_many > 0 else 0,
            excess + self._ageing.most // _SLACK if excess > 0 else 0,
        )
        if going == 0:
            return
        rows = np.setdiff1d(rows, _telling(result, rows))
        core = np.array([channel.core for channel in channels()], bool)[result.audit.channels.channel[rows]]
        order = rows[np.lexsort((-silent_ns[groups.numbers[rows]], core))]
        said = _said(result)
        for group in order[:going].tolist():
            self._depart(said, groups, group)
            into[groups.members(group)] = -1

    def _depart(self, said: NDArray[np.int16], groups: _Groups, group: int) -> None:
        members = groups.members(group)
        self._count_departed(said[group], groups.counts[members] + self._of.stands_for[members])
        self._of.stand_in[members] = False
        self._left += 1
        self._early += int(self._of.early[members[0]])

    def _count_departed(self, said: NDArray[np.int16], counts: I64) -> None:
        """Count a connection and its legs, (members, 3), without a stand-in."""
        if counts.any():
            own = self._departed.setdefault(tuple(said.tolist()), np.zeros(_COUNTS, np.int64))
            own += counts[0]
            self._leg_packets += int(counts[1:, 1].sum())

    def _note_times(self, gone: I64, flows: FlowBuilder) -> None:
        first, last = flows.state.first_ns[gone], flows.state.last_ns[gone]
        timed = last > 0
        if timed.any():
            first_ns, last_ns = int(first[timed].min()), int(last[timed].max())
            self._first_ns = first_ns if self._first_ns is None else min(first_ns, self._first_ns)
            self._last_ns = last_ns if self._last_ns is None else max(last_ns, self._last_ns)

    def keep(self, kept: I64, count: int) -> None:
        """Forget all of the `count` flows but `kept`, ascending; flow ``kept[i]`` is flow i from now on."""
        place = place_of(kept, count)
        for name, column in vars(self._of).items():
            setattr(self._of, name, column[kept])
        for name in ("behind", "party"):
            column = getattr(self._of, name)
            setattr(self._of, name, np.where(column >= 0, place[column], -1))


def _said(result: AuditResult) -> NDArray[np.int16]:
    """What was said of each row, as the first columns of `Departed` have it: (F, 8)."""
    audit, verdicts = result.audit, result.audit.verdicts
    columns: list[NDArray[Any]] = [
        audit.channels.channel,
        audit.evidence.identification.protocol == Protocol.NO_DATA,
    ]
    for answer in (verdicts.encryption, verdicts.client_certificate, verdicts.server_verification):
        columns += [answer.value, answer.grade]
    return np.stack(columns, axis=1).astype(np.int16)


def _telling(result: AuditResult, rows: I64) -> I64:
    """Of `rows`, ascending, the first to show each finding, and the first of each channel with each of its answers."""
    audit, verdicts = result.audit, result.audit.verdicts
    columns: list[NDArray[np.integer[Any]]] = [audit.channels.channel[rows]]
    for answer in (verdicts.encryption, verdicts.client_certificate, verdicts.server_verification):
        columns += [answer.value[rows], answer.grade[rows]]
    _, first = np.unique(np.stack(columns, axis=1), axis=0, return_index=True)
    shown = [np.intersect1d(rows, finding.connections)[:1] for finding in result.findings]
    return np.unique(np.concatenate([rows[first], *shown]).astype(np.int64))


class _Groups:
    """Flows that can only leave together: a connection with its legs. Groups are named by the connection's row.

    Attributes
    ----------
    rows : int
    numbers : (F,) int64
        Builder number of each row.
    of_row : (F + K,) int64
        Group of each row of the evidence, the K connections found inside others included.
    is_root : (F,) bool
    counts : (flows, 3) int64
        Connection, packets and octets of each flow, by builder number.
    """

    def __init__(self, result: AuditResult, numbers: I64, flows: int) -> None:
        evidence = result.audit.evidence
        self.rows = count = numbers.shape[0]
        self.numbers = numbers
        root = evidence.root[:count]
        self.of_row = np.concatenate([root, root[evidence.carriers]])
        self.is_root: Mask = root == np.arange(count)
        self._root = root
        self._legs: dict[int, list[int]] = {}
        for row in np.flatnonzero(~self.is_root).tolist():
            self._legs.setdefault(int(root[row]), []).append(int(self.numbers[row]))
        self.counts = np.zeros((flows, _COUNTS), np.int64)
        self.counts[:, 0] = 1
        self.counts[self.numbers, 1] = evidence.flows.packets[:count].sum(axis=1)
        self.counts[self.numbers, 2] = evidence.flows.octets[:count].sum(axis=1)

    def members(self, group: int) -> I64:
        """Builder numbers of a group's flows, the connection first, its legs in order."""
        return np.array([self.numbers[group], *self._legs.get(group, ())], np.int64)

    def all(self, mask: Mask) -> Mask:
        """Groups of which all flows, by builder number, are in `mask`; by row: (F,) bool."""
        found = np.ones(self.rows, bool)
        np.logical_and.at(found, self._root, mask[self.numbers])
        return found

    def any(self, mask: Mask) -> Mask:
        """Groups of which any flow, by builder number, is in `mask`; by row: (F,) bool."""
        found = np.zeros(self.rows, bool)
        np.logical_or.at(found, self._root, mask[self.numbers])
        return found

    def least(self, values: I64) -> I64:
        """Least of `values`, which are by builder number, in each group; by row: (F,) int64."""
        found = np.full(self.rows, np.iinfo(np.int64).max)
        np.minimum.at(found, self._root, values[self.numbers])
        return found
