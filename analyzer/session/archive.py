"""Which connections leave memory, and what stays of them: a few of each kind for good, the others as numbers.

A session keeps its open connections, the newest of those that ended, and as *stand-ins* the earliest of every kind of
connection there was (see `likeness`). Others of the kind are counted with one of them. So what is inferred from all
connections, who the API server is and which addresses are nodes, does not change when some of them leave: whatever
said so is still there in one that is just like it. Where there are too many kinds, those of the least interest leave
too, and are counted by channel and answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.cluster.catalogue import channels
from analyzer.decode.transport import TCP
from analyzer.flows import FIN, RST, FlowBuilder
from analyzer.registries import Protocol
from analyzer.report.document import AgedOutSummary, AuditResult, Departed
from analyzer.schema import I64, AgedOut, Mask
from analyzer.session.ageing import SECOND, Ageing
from analyzer.session.likeness import likenesses

OF_A_KIND: Final = 3
"""Stand-ins of one kind: what asks whether something happened once, or again and again, gets the same answer."""
_SLACK: Final = 4
"""One part in so many more than wanted are held before some leave, so that it is done for many at a time."""
_COUNTS: Final = 3  # connections, packets, octets


@dataclass(frozen=True, slots=True)
class Leaving:
    """Which flows stay, by builder number.

    ``kept`` (K,) int64 those that stay, ascending; ``into`` (F,) int64 for each flow the one that stands for it, itself
    where it stays, -1 = none.
    """

    kept: I64
    into: I64


class Archive:
    """What left memory, and which flows stand for it; flows are named by builder number."""

    def __init__(self, ageing: Ageing) -> None:
        self._ageing = ageing
        self._stands_for: I64 = np.zeros((0, _COUNTS), np.int64)
        self._stand_in: Mask = np.zeros(0, bool)
        self._departed: dict[tuple[int, ...], I64] = {}
        self._leg_packets = 0
        self._left = 0
        self._early = 0
        self._first_ns: int | None = None
        self._last_ns: int | None = None

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
        np.add.at(totals, channel[known], self._stands_for[known])
        for key, counts in self._departed.items():
            totals[key[0]] += counts
        return totals

    def _reserve(self, count: int) -> None:
        more = count - self._stand_in.shape[0]
        if more > 0:
            self._stands_for = np.concatenate([self._stands_for, np.zeros((more, _COUNTS), np.int64)])
            self._stand_in = np.concatenate([self._stand_in, np.zeros(more, bool)])

    def aged_out(self, numbers: I64, carriers: I64) -> AgedOut | None:
        """What the rows of an evidence stand for; None before anything left.

        Parameters
        ----------
        numbers : (F,) int64
            Builder numbers of its rows.
        carriers : (K,) int64
            Rows of the flows that carry the K connections behind those.
        """
        if not self._left:
            return None
        self._reserve(int(numbers.max(initial=-1)) + 1)
        own = self._stands_for[numbers]
        inside = np.zeros((carriers.shape[0], _COUNTS), np.int64)
        inside[:, 0] = own[carriers, 0]
        return AgedOut(*np.ascontiguousarray(np.concatenate([own, inside]).T))

    def summary(self) -> AgedOutSummary | None:
        """What left without a stand-in, and over all; None before anything left."""
        if not self._left:
            return None
        rows = [[*key, *counts.tolist()] for key, counts in sorted(self._departed.items())]
        table = np.array(rows, np.int64).reshape(len(rows), 8 + _COUNTS)
        departed = Departed(*np.ascontiguousarray(table.T))
        return AgedOutSummary(departed, self._leg_packets, self._early, self._first_ns, self._last_ns)

    def is_due(self, over: Mask, silent_ns: I64, flows: FlowBuilder) -> bool:
        """Whether more is held than is wanted: flows of which some are `over`, (F,) bool, silent for `silent_ns`."""
        self._reserve(len(flows))
        if len(flows) > self._ageing.most:
            return True
        ended = over & ~self._stand_in[: len(flows)] & self._forgettable(silent_ns, flows)
        retain = self._ageing.retain
        return int(ended.sum()) > retain + retain // _SLACK

    def _forgettable(self, silent_ns: I64, flows: FlowBuilder) -> Mask:
        """Flows that may leave once they are over: not TCP that merely went silent, which may speak again."""
        rows = np.arange(len(flows))
        state = flows.state
        ended = ((state.flags[rows] & (FIN | RST)) != 0).any(axis=1)
        spoke = (state.payload_octets[rows] > 0).any(axis=1)
        may_speak: Mask = (flows.protocols(rows) == TCP) & ~ended & spoke
        return ~may_speak | (silent_ns > self._ageing.tcp_forget_s * SECOND)

    def choose(self, result: AuditResult, over: Mask, silent_ns: I64, flows: FlowBuilder) -> Leaving:
        """Decide who leaves, and count them.

        Parameters
        ----------
        result : AuditResult
            Concluded of exactly these flows.
        over : (F,) bool
        silent_ns : (F,) int64
        flows : FlowBuilder
        """
        count = len(flows)
        self._reserve(count)
        groups = _Groups(result, flows)
        ended = groups.all(over & self._forgettable(silent_ns, flows))
        silent = groups.least(silent_ns)
        stand_in = groups.any(self._stand_in[:count])
        # The oldest first; those that stand in already come with them, so that kinds that have become one are joined.
        full = np.flatnonzero(ended & ~stand_in & groups.is_root)
        full = full[np.argsort(-silent[full], kind="stable")]
        leaving = full[: max(full.shape[0] - self._ageing.retain, 0)]
        leaving = np.concatenate([leaving, self._pressed(groups, silent, stand_in, leaving)])
        candidates = np.concatenate([leaving, np.flatnonzero(stand_in & groups.is_root)])
        into = np.arange(count)
        for first, others in self._kinds(result, groups, candidates):
            self._join(groups, first, others, into)
        self._evict(result, groups, silent, into)
        kept = np.flatnonzero(into == np.arange(count))
        self._note_left(groups, into, flows)
        return Leaving(kept, into)

    def _pressed(self, groups: _Groups, silent: I64, stand_in: Mask, leaving: I64) -> I64:
        """Groups that must leave early because too many flows are held, those longest silent first."""
        excess = groups.flows - int(groups.size[leaving].sum()) - self._ageing.most
        if excess <= 0:
            return leaving[:0]
        excess += self._ageing.most // _SLACK
        others = groups.is_root & ~stand_in
        others[leaving] = False
        order = np.flatnonzero(others)
        order = order[np.argsort(-silent[order], kind="stable")]
        pressed: I64 = order[: int(np.searchsorted(np.cumsum(groups.size[order]), excess)) + 1]
        self._early += pressed.shape[0]
        return pressed

    def _kinds(self, result: AuditResult, groups: _Groups, candidates: I64) -> list[tuple[I64, I64]]:
        """Of each kind among the candidates those that stay, earliest first, and the others."""
        like = likenesses(result, groups.of_row, candidates)
        kinds: dict[bytes, list[int]] = {}
        for group in np.sort(candidates).tolist():  # rows are in order of time
            kinds.setdefault(like[group], []).append(group)
        return [
            (np.array(members[:OF_A_KIND], np.int64), np.array(members[OF_A_KIND:], np.int64))
            for members in kinds.values()
        ]

    def _join(self, groups: _Groups, first: I64, others: I64, into: I64) -> None:
        """Make the groups `first` stand-ins, the first of them for `others`."""
        for group in first.tolist():
            self._stand_in[groups.members(group)] = True
        target = groups.members(int(first[0]))
        for group in others.tolist():
            leaving = groups.members(group)
            self._stands_for[target] += groups.counts[leaving] + self._stands_for[leaving]
            self._stand_in[leaving] = False
            into[leaving] = target

    def _evict(self, result: AuditResult, groups: _Groups, silent: I64, into: I64) -> None:
        """Let stand-ins go where there are too many kinds, but for one that shows each finding and each answer."""
        standing = groups.is_root & (into[groups.numbers] == groups.numbers)
        rows = np.flatnonzero(standing & groups.any(self._stand_in[: groups.flows]))
        excess = rows.shape[0] - self._ageing.stand_ins
        if excess <= 0:
            return
        rows = np.setdiff1d(rows, _telling(result, rows))
        core = np.array([channel.core for channel in channels()], bool)[result.audit.channels.channel[rows]]
        order = rows[np.lexsort((-silent[rows], core))]
        for group in order[: excess + self._ageing.stand_ins // _SLACK].tolist():
            self._depart(result, groups, group)
            into[groups.members(group)] = -1

    def _depart(self, result: AuditResult, groups: _Groups, group: int) -> None:
        audit, verdicts = result.audit, result.audit.verdicts
        answers = (verdicts.encryption, verdicts.client_certificate, verdicts.server_verification)
        silent = audit.evidence.identification.protocol[group] == Protocol.NO_DATA
        key = [int(audit.channels.channel[group]), int(silent)]
        for answer in answers:
            key += [int(answer.value[group]), int(answer.grade[group])]
        members = groups.members(group)
        total = groups.counts[members] + self._stands_for[members]
        self._departed.setdefault(tuple(key), np.zeros(_COUNTS, np.int64))
        self._departed[tuple(key)] += total[0]
        self._leg_packets += int(total[1:, 1].sum())
        self._stand_in[members] = False

    def _note_left(self, groups: _Groups, into: I64, flows: FlowBuilder) -> None:
        gone = np.flatnonzero(into != np.arange(into.shape[0]))
        if gone.shape[0] == 0:
            return
        self._left += int((groups.is_root & (into[groups.numbers] != groups.numbers)).sum())
        first, last = flows.state.first_ns[gone], flows.state.last_ns[gone]
        timed = last > 0
        if timed.any():
            first_ns, last_ns = int(first[timed].min()), int(last[timed].max())
            self._first_ns = first_ns if self._first_ns is None else min(first_ns, self._first_ns)
            self._last_ns = last_ns if self._last_ns is None else max(last_ns, self._last_ns)

    def keep(self, kept: I64) -> None:
        """Flow ``kept[i]`` is flow i from now on."""
        self._stands_for = self._stands_for[kept]
        self._stand_in = self._stand_in[kept]


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
    flows : int
    numbers : (F,) int64
        Builder number of each row.
    of_row : (F + K,) int64
        Group of each row of the evidence, the K connections found inside others included.
    is_root : (F,) bool
    size : (F,) int64
        Flows of each group, by its row.
    counts : (F, 3) int64
        Connection, packets and octets of each flow, by builder number.
    """

    def __init__(self, result: AuditResult, flows: FlowBuilder) -> None:
        evidence = result.audit.evidence
        count = len(flows)
        self.flows = count
        self.numbers = flows.in_order()
        root = evidence.root[:count]
        self.of_row = np.concatenate([root, root[evidence.carriers]])
        self.is_root: Mask = root == np.arange(count)
        self.size = np.bincount(root, minlength=count)
        self._root = root
        self._legs: dict[int, list[int]] = {}
        for row in np.flatnonzero(~self.is_root).tolist():
            self._legs.setdefault(int(root[row]), []).append(int(self.numbers[row]))
        self.counts = np.zeros((count, _COUNTS), np.int64)
        self.counts[:, 0] = 1
        self.counts[self.numbers, 1] = evidence.flows.packets[:count].sum(axis=1)
        self.counts[self.numbers, 2] = evidence.flows.octets[:count].sum(axis=1)

    def members(self, group: int) -> I64:
        """Builder numbers of a group's flows, the connection first, its legs in order."""
        return np.array([self.numbers[group], *self._legs.get(group, ())], np.int64)

    def all(self, mask: Mask) -> Mask:
        """Groups of which all flows, by builder number, are in `mask`; by row: (F,) bool."""
        found = np.ones(self.flows, bool)
        np.logical_and.at(found, self._root, mask[self.numbers])
        return found

    def any(self, mask: Mask) -> Mask:
        """Groups of which any flow, by builder number, is in `mask`; by row: (F,) bool."""
        found = np.zeros(self.flows, bool)
        np.logical_or.at(found, self._root, mask[self.numbers])
        return found

    def least(self, values: I64) -> I64:
        """Least of `values`, which are by builder number, in each group; by row: (F,) int64."""
        found = np.full(self.flows, np.iinfo(np.int64).max)
        np.minimum.at(found, self._root, values[self.numbers])
        return found
