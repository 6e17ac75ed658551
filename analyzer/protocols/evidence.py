"""Everything read from the octets, bundled for the stages that interpret it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from analyzer.decode.transport import TCP
from analyzer.protocols.http_table import HttpTable, Test
from analyzer.protocols.identify import Identification
from analyzer.protocols.tls.stacks import Stack
from analyzer.registries import Grade, Ternary
from analyzer.schema import (
    I64,
    U8,
    AgedOut,
    CleartextReading,
    FlowTable,
    FrameTimes,
    HttpMessage,
    Mask,
    SshFacts,
    TlsReading,
    Traffic,
)
from analyzer.vantage import ClockSkew


@dataclass(frozen=True)
class Evidence:
    """Flows and what was read of them; F flows throughout.

    Attributes
    ----------
    flows : FlowTable
    paths : tuple of str
        Encapsulation paths that ``flows.encapsulation`` indexes.
    identification : Identification
    tls : TlsReading
    cleartext : CleartextReading
    leg_of : (F,) int64
        See `analyzer.legs.stitch`; over several vantage points `analyzer.vantage.correlate`.
    from_start : (F, 2) bool
        Per side: the head begins with the stream's first octet.
    gap : (F,) bool
        A head has a hole.
    conflict : (F,) bool
        Overlapping segments carried different octets.
    crowded : (F,) bool
        More distinct HTTP messages lie behind the head than are kept.
    traffic : Traffic
        Packets and octets over time; flows are rows of `flows`.
    frame_times : FrameTimes
    skews : tuple of ClockSkew
        Clock differences between vantage points that share connections.
    comments : mapping
        By flow: the first distinct comments that the capture has on its packets, untrusted text.
    carriers : (K,) int64
        The last K flows were found inside others (behind CONNECT, in a konnectivity tunnel): the flow that carries
        each. Their packets and octets are counted there.
    aged_out : AgedOut, optional
        In a live session: what the flows stand for that left memory.
    """

    flows: FlowTable
    paths: tuple[str, ...]
    identification: Identification
    tls: TlsReading
    cleartext: CleartextReading
    leg_of: I64
    from_start: Mask
    gap: Mask
    conflict: Mask
    crowded: Mask
    traffic: Traffic = field(default_factory=lambda: Traffic(0, *(np.empty(0, np.int64) for _ in range(4))))
    frame_times: FrameTimes = field(default_factory=lambda: FrameTimes.of(1, np.empty(0, np.int64)))
    skews: tuple[ClockSkew, ...] = ()
    comments: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    carriers: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    aged_out: AgedOut | None = None

    def __len__(self) -> int:
        return len(self.flows)

    @cached_property
    def weight(self) -> I64:
        """Connections that each flow stands for, itself included: (F,) int64."""
        return np.ones(len(self), np.int64) if self.aged_out is None else 1 + self.aged_out.connections

    def count(self, flows: Mask) -> int:
        """Connections that those of `flows`, (F,) bool, stand for."""
        return int(np.count_nonzero(flows)) if self.aged_out is None else int(self.weight[flows].sum())

    @cached_property
    def packets(self) -> I64:
        """Packets of each flow and of those it stands for: (F,) int64."""
        own: I64 = self.flows.packets[:, 0] + self.flows.packets[:, 1]
        return own if self.aged_out is None else own + self.aged_out.packets

    @cached_property
    def octets(self) -> I64:
        """Octets likewise: (F,) int64."""
        own: I64 = self.flows.octets[:, 0] + self.flows.octets[:, 1]
        return own if self.aged_out is None else own + self.aged_out.octets

    @cached_property
    def tls_row(self) -> I64:
        """Row of each flow in ``tls.facts``, -1 = none: (F,) int64."""
        row = np.full(len(self), -1, np.int64)
        row[self.tls.facts.flow] = np.arange(len(self.tls.facts))
        return row

    def tls_column(self, name: str, missing: int = 0) -> I64:
        """A column of the TLS facts for every flow, `missing` where a flow has none: (F,) int64."""
        column: I64 = np.append(getattr(self.tls.facts, name).astype(np.int64), missing)
        return column.take(self.tls_row)  # -1 is the last

    def tls_is(self, name: str, value: Ternary) -> Mask:
        """Flows whose ternary TLS fact `name` has `value`: (F,) bool."""
        chosen: Mask = np.append(getattr(self.tls.facts, name) == value, False)
        return chosen.take(self.tls_row)

    def tls_grade(self, name: str) -> U8:
        """A grade column of the TLS facts, NONE where a flow has none: (F,) uint8."""
        return self.tls_column(name, Grade.NONE).astype(np.uint8)

    def tls_text(self, name: str) -> list[str]:
        """A string column of the TLS facts for every flow, empty where none."""
        texts = np.empty(len(self.tls.strings) + 1, object)
        texts[:] = [*self.tls.strings, ""]
        picked: list[str] = texts.take(self.tls_column(name, -1)).tolist()  # -1 is the last: the empty one
        return picked

    def tls_text_in(self, name: str, values: frozenset[str]) -> Mask:
        """Flows whose string fact `name` is one of `values`: (F,) bool."""
        chosen = [i for i, text in enumerate(self.tls.strings) if text in values]
        return np.isin(self.tls_column(name, -1), chosen)

    def tls_text_where(self, name: str, wanted: Mask) -> Mask:
        """Flows whose string fact `name` is a string for which `wanted` (per string) holds: (F,) bool."""
        index = self.tls_column(name, -1)
        if not len(wanted):
            return np.zeros(len(self), bool)
        return (index >= 0) & wanted[np.maximum(index, 0)]

    def leaf(self, side: str) -> I64:
        """Row of ``tls.certificates`` of each flow's readable leaf, -1 = none: (F,) int64. `side`: client or server."""
        first = np.array([chain[0] if chain else -1 for chain in self.tls.chains] + [-1], np.int64)
        problem = np.array([bool(c.problem) for c in self.tls.certificates] + [False], bool)
        row = first[self.tls_column(f"{side}_chain", -1)]
        return np.where(problem[row], -1, row)

    @cached_property
    def client_is_go(self) -> Mask:
        """Flows whose ClientHello is that of Go's crypto/tls, as every Kubernetes component's is: (F,) bool."""
        chosen: Mask = self.tls_column("client_stack") == Stack.GO
        return chosen

    @cached_property
    def client_may_be_go(self) -> Mask:
        """Flows whose ClientHello shows no other library than Go's: (F,) bool."""
        chosen: Mask = self.client_is_go | (self.tls_column("client_stack") == Stack.UNKNOWN)
        return chosen

    @cached_property
    def root(self) -> I64:
        """Row of the connection each flow is (a leg of): (F,) int64."""
        return np.where(self.leg_of >= 0, self.leg_of, np.arange(len(self)))

    @cached_property
    def http(self) -> HttpTable:
        """HTTP messages of all flows."""
        return HttpTable.of(self.cleartext.http)

    def asked(self, test: Test | None = None) -> Mask:
        """Flows with an HTTP request for which `test`, asked of each distinct one, holds: (F,) bool."""
        return self._flows(self.http.requests(test))

    def answered(self, test: Test | None = None) -> Mask:
        """Flows with such a response: (F,) bool."""
        return self._flows(self.http.responses(test))

    def first_asked(self, test: Test) -> I64:
        """Row of `http` of each flow's first request for which `test` holds, -1 = none: (F,) int64."""
        rows = self.http.requests(test)[::-1]
        first = np.full(len(self), -1, np.int64)
        first[self.http.flow[rows]] = rows  # of several to one place the last is kept
        return first

    def _flows(self, messages: I64) -> Mask:
        mask = np.zeros(len(self), bool)
        mask[self.http.flow[messages]] = True
        return mask

    @cached_property
    def requests(self) -> dict[int, list[HttpMessage]]:
        """HTTP requests by flow, in order."""
        found: dict[int, list[HttpMessage]] = {}
        for message in self.cleartext.http:
            if message.method:
                found.setdefault(message.flow, []).append(message)
        return found

    @cached_property
    def responses(self) -> dict[int, list[HttpMessage]]:
        """HTTP responses by flow, in order."""
        found: dict[int, list[HttpMessage]] = {}
        for message in self.cleartext.http:
            if not message.method:
                found.setdefault(message.flow, []).append(message)
        return found

    @cached_property
    def ssh(self) -> dict[int, SshFacts]:
        """SSH banners by flow."""
        return {facts.flow: facts for facts in self.cleartext.ssh}

    @cached_property
    def mid_connection(self) -> Mask:
        """TCP flows of which no SYN was captured, with or without ACK: (F,) bool."""
        syn = self.flows.syn_seq
        joined: Mask = (self.flows.protocol == TCP) & (syn[:, 0] < 0) & (syn[:, 1] < 0)
        return joined & (self.carrier < 0)

    @cached_property
    def carried_payload(self) -> Mask:
        """Flows of which a packet carried payload: (F,) bool."""
        payload = self.flows.payload_octets
        spoke: Mask = (payload[:, 0] > 0) | (payload[:, 1] > 0)
        return spoke

    @cached_property
    def one_sided(self) -> Mask:
        """Flows of which packets of one direction only were captured: (F,) bool."""
        packets = self.flows.packets
        half: Mask = (packets[:, 0] == 0) | (packets[:, 1] == 0)
        return half

    @cached_property
    def carrier(self) -> I64:
        """Flow that carries each flow inside itself, -1 = none: it has packets of its own: (F,) int64."""
        return np.concatenate([np.full(len(self) - self.carriers.shape[0], -1, np.int64), self.carriers])

    @cached_property
    def quality(self) -> dict[str, Mask]:
        """What the capture shows of each TCP connection that carried payload, and what it lacks: (F,) bool each.

        ``connections`` are all of them; the rest are subsets. A connection's legs are not counted again.
        """
        flows = self.flows
        tcp = (flows.protocol == TCP) & (self.leg_of < 0) & self.carried_payload
        tcp &= self.carrier < 0
        seen = self.tls_column("client_hello_seen") | self.tls_column("server_hello_seen")
        cut = flows.cut_packets > 0
        return {
            "connections": tcp,
            "handshake_seen": tcp & (seen == 1),
            "mid_connection": tcp & self.mid_connection,
            "one_sided": tcp & self.one_sided,
            "cut_by_snaplen": tcp & cut,
            "with_gaps": tcp & self.gap & ~cut,
            "crowded": tcp & self.crowded,
            "conflicting": tcp & self.conflict,
        }
