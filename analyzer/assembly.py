"""What was read of flows in batches, brought together: one table of flows, one reading of all their octets.

Batches name flows as the flow builder counted them and come in any order; what is made of them does not depend on it.
What was assembled of one recording can be joined with others', in any grouping: only `finish` looks across.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from analyzer.flows import place_of
from analyzer.legs import stitch
from analyzer.numbers import distinct
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.http1 import before_switch
from analyzer.protocols.identify import Identification
from analyzer.protocols.inner import InnerReading, add_inner
from analyzer.registries import Protocol, Ternary
from analyzer.schema import (
    I64,
    TLS_STRINGS,
    U64,
    Certificate,
    CleartextReading,
    FlowTable,
    FrameTimes,
    HttpMessage,
    Mask,
    SshFacts,
    Table,
    TlsFacts,
    TlsReading,
    Traffic,
)
from analyzer.traffic import join_times, join_traffic
from analyzer.vantage import Handshakes, correlate


@dataclass
class Batch:
    """What was read of one batch of flows, by builder flow number."""

    flows: I64
    identification: Identification
    tls: TlsReading
    http: list[HttpMessage]
    ssh: list[SshFacts]
    from_start: Mask
    holed: Mask
    gap: Mask
    conflict: Mask
    hello: U64  # the client's ClientHello random: (n, 4)
    inner: InnerReading = field(default_factory=InnerReading)  # inside these flows, which it names by builder number

    def of(self, chosen: I64) -> Batch:
        """What was read of the flows `chosen` among them."""
        rows = np.flatnonzero(np.isin(self.flows, chosen))
        wanted = set(chosen.tolist())
        facts = self.tls.facts.take(np.isin(self.tls.facts.flow, chosen))
        names = tuple(r for r in self.tls.requested_names if r[0] in wanted)
        return Batch(
            self.flows[rows],
            self.identification.take(rows),
            replace(self.tls, facts=facts, requested_names=names),
            [m for m in self.http if m.flow in wanted],
            [s for s in self.ssh if s.flow in wanted],
            self.from_start[rows],
            self.holed[rows],
            self.gap[rows],
            self.conflict[rows],
            self.hello[rows],
            self.inner.of(wanted),
        )

    def renumbered(self, place: I64) -> Batch:
        """The same with flow f named ``place[f]``; all of them have a place. Its messages are renumbered in place."""
        facts = replace(self.tls.facts, flow=place[self.tls.facts.flow])
        names = tuple((int(place[f]), given) for f, given in self.tls.requested_names)
        for message in self.http:
            message.flow = int(place[message.flow])
        return replace(
            self,
            flows=place[self.flows],
            tls=replace(self.tls, facts=facts, requested_names=names),
            ssh=[replace(s, flow=int(place[s.flow])) for s in self.ssh],
            inner=self.inner.renamed({one.outer: int(place[one.outer]) for one in self.inner.connections}),
        )

    def compact(self) -> Batch:
        """The same without strings, chains and certificates that none of its flows has any more."""
        inner = replace(self.inner, tls=(compact_tls(merge_tls(self.inner.tls)),)) if self.inner.tls else self.inner
        return replace(self, tls=compact_tls(self.tls), inner=inner)

    def apart(self) -> Batch:
        """The same with messages of its own: assembling renumbers them in place."""
        return replace(self, http=copied(self.http))

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """All of several batches of different flows, which are not none, as one."""
        if len(batches) == 1:
            return batches[0]
        return Batch(
            np.concatenate([b.flows for b in batches]),
            Identification.concatenate([b.identification for b in batches]),
            merge_tls([b.tls for b in batches]),
            [m for b in batches for m in b.http],
            [s for b in batches for s in b.ssh],
            np.concatenate([b.from_start for b in batches]),
            np.concatenate([b.holed for b in batches]),
            np.concatenate([b.gap for b in batches]),
            np.concatenate([b.conflict for b in batches]),
            np.concatenate([b.hello for b in batches]),
            InnerReading.joined([b.inner for b in batches]),
        )


_VALUES: Final = attrgetter(*(field.name for field in fields(HttpMessage)))
_MessageColumns = tuple[tuple[Any, ...], ...]


def copied(messages: Iterable[HttpMessage]) -> list[HttpMessage]:
    """Messages that nobody else holds."""
    return [HttpMessage(*_VALUES(message)) for message in messages]


def complete(reading: TlsReading) -> Mask:
    """Flows of a reading whose handshake was read whole, to the first application data: (T,) bool."""
    facts = reading.facts
    done: Mask = (
        (facts.established == Ternary.YES)
        & (facts.application_data_frame > 0)
        & (facts.refused == Ternary.NO)
        & (facts.unclear < 0)
        & facts.client_hello_seen
        & facts.server_hello_seen
        & (facts.client_certificate != Ternary.UNKNOWN)
    )
    return done


@dataclass(frozen=True)
class Reading:
    """What was read of F flows, by builder number, before it is brought into the order of their table.

    Attributes
    ----------
    table : FlowTable
    numbers, order : (F,) int64
        Builder number of each row, and what sorts the rows: both are different for all flows.
    parts : sequence of Batch
    late : pair of lists
        Messages from behind the heads, HTTP/1 and HTTP/2.
    crowded : pair of (F,) bool
        Flows with more of these than are kept.
    syn_ns, first_seq : (F, 2) int64
    comments : dict
    traffic : Traffic, optional
    """

    table: FlowTable
    numbers: I64
    order: I64
    parts: Sequence[Batch]
    late: tuple[list[HttpMessage], list[HttpMessage]]
    crowded: tuple[Mask, Mask]
    syn_ns: I64
    first_seq: I64
    comments: dict[int, tuple[str, ...]]
    traffic: Traffic | None

    def among(self, share: int, shares: int) -> Reading:
        """The same with flows numbered so that no other share has the same numbers; messages in place."""
        place = np.arange(int(self.numbers.max(initial=-1)) + 1) * shares + share
        for messages in self.late:
            for message in messages:
                message.flow = int(place[message.flow])
        traffic = self.traffic
        return replace(
            self,
            numbers=place[self.numbers],
            parts=[Batch.joined(self.parts).renumbered(place)] if self.parts else [],
            comments={int(place[flow]): texts for flow, texts in self.comments.items()},
            traffic=None if traffic is None else replace(traffic, flow=place[traffic.flow]),
        )

    @staticmethod
    def joined(shares: Sequence[Reading]) -> Reading:
        """All of several shares of one recording."""
        order = np.concatenate([share.order for share in shares])
        rows = np.argsort(order)

        def column(values: Iterable[NDArray[_Scalar]]) -> NDArray[_Scalar]:
            return np.concatenate(list(values))[rows]

        traffic = [share.traffic for share in shares if share.traffic is not None]
        return Reading(
            FlowTable.concatenate([share.table for share in shares]).take(rows),
            column(share.numbers for share in shares),
            order[rows],
            [part for share in shares for part in share.parts],
            ([m for share in shares for m in share.late[0]], [m for share in shares for m in share.late[1]]),
            (column(share.crowded[0] for share in shares), column(share.crowded[1] for share in shares)),
            column(share.syn_ns for share in shares),
            column(share.first_seq for share in shares),
            {flow: texts for share in shares for flow, texts in share.comments.items()},
            Traffic(traffic[0].shift, *(np.concatenate([getattr(t, n) for t in traffic]) for n in _COUNTS))
            if traffic
            else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Messages go from process to process as columns: that takes a third of the time."""
        parts = [replace(part, http=[]) for part in self.parts]
        lists = [*(part.http for part in self.parts), *self.late]
        return {**vars(self), "parts": parts, "late": [_columns(messages) for messages in lists]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        *lists, http1, http2 = (_messages(columns) for columns in state["late"])
        parts = [replace(part, http=messages) for part, messages in zip(state["parts"], lists, strict=True)]
        vars(self).update(state, parts=parts, late=(http1, http2))


_COUNTS: Final = ("flow", "bin", "packets", "octets")


def _columns(messages: Iterable[HttpMessage]) -> _MessageColumns:
    return tuple(zip(*map(_VALUES, messages), strict=True))


def _messages(columns: _MessageColumns) -> list[HttpMessage]:
    return list(map(HttpMessage, *columns)) if columns else []


def in_table_order(traffic: Traffic, numbers: I64) -> Traffic:
    """The same counts with flows named by their row in the table; `numbers` are the rows' builder numbers."""
    row = place_of(numbers, int(numbers.max(initial=-1)) + 1)
    flow = row[traffic.flow]
    order = np.argsort(flow, kind="stable")
    return Traffic(traffic.shift, flow[order], traffic.bin[order], traffic.packets[order], traffic.octets[order])


def renumber(reading: TlsReading, numbers: I64) -> TlsReading:
    """The same reading with flows named by `numbers` instead of rows."""
    facts = replace(reading.facts, flow=numbers[reading.facts.flow])
    return replace(
        reading, facts=facts, requested_names=tuple((int(numbers[f]), n) for f, n in reading.requested_names)
    )


_Scalar = TypeVar("_Scalar", bound=np.generic)


def merge_tls(readings: Sequence[TlsReading]) -> TlsReading:
    """One reading of several over different flows; strings, chains and certificates are joined by value."""
    strings: dict[str, int] = {}
    certificates: dict[str, int] = {}
    listed: list[Certificate] = []
    chains: dict[tuple[int, ...], int] = {}
    tables: list[TlsFacts] = []
    for reading in readings:
        text = np.array([strings.setdefault(s, len(strings)) for s in reading.strings] + [-1], np.int32)
        own: list[int] = []
        for certificate in reading.certificates:
            number = certificates.setdefault(certificate.sha256, len(listed))
            if number == len(listed):
                listed.append(certificate)
            own.append(number)
        chain = np.array(
            [chains.setdefault(tuple(own[c] for c in row), len(chains)) for row in reading.chains] + [-1], np.int32
        )
        changed = {name: text[getattr(reading.facts, name)] for name in TLS_STRINGS}
        changed |= {name: chain[getattr(reading.facts, name)] for name in ("client_chain", "server_chain")}
        tables.append(replace(reading.facts, **changed))
    names = tuple(entry for reading in readings for entry in reading.requested_names)
    return TlsReading(TlsFacts.concatenate(tables), tuple(strings), tuple(chains), tuple(listed), names)


def compact_tls(reading: TlsReading) -> TlsReading:
    """The same reading without strings, chains and certificates that no row of its facts names."""
    facts = reading.facts
    texts = _used(getattr(facts, name) for name in TLS_STRINGS)
    chains = _used((facts.client_chain, facts.server_chain))
    certificates = sorted({number for row in chains.tolist() for number in reading.chains[row]})
    new_certificate = {number: place for place, number in enumerate(certificates)}
    new_text, new_chain = (place_of(used, int(used.max(initial=-1)) + 2) for used in (texts, chains))
    changed = {name: new_text[getattr(facts, name)].astype(np.int32) for name in TLS_STRINGS}
    changed |= {name: new_chain[getattr(facts, name)].astype(np.int32) for name in ("client_chain", "server_chain")}
    return TlsReading(
        replace(facts, **changed),
        tuple(reading.strings[row] for row in texts.tolist()),
        tuple(tuple(new_certificate[number] for number in reading.chains[row]) for row in chains.tolist()),
        tuple(reading.certificates[number] for number in certificates),
        reading.requested_names,
    )


def _used(columns: Iterable[NDArray[np.int32]]) -> I64:
    """Distinct indices in `columns`, without the -1 that stands for none, ascending."""
    used = distinct(np.concatenate(list(columns))).astype(np.int64)
    return used[used >= 0]


@dataclass(frozen=True, slots=True)
class Assembled:
    """What was read of the flows of some recordings, numbered from 0, before those are seen as one input.

    Attributes
    ----------
    evidence : Evidence
        Its legs are those within each vantage point; the connections inside others are still missing.
    handshakes : Handshakes
    inner : InnerReading
        Connections inside others, which they name by row, in their order.
    """

    evidence: Evidence
    handshakes: Handshakes
    inner: InnerReading


def _legs(table: FlowTable, handshakes: Handshakes) -> I64:
    """The legs of connections within each vantage point; `correlate` joins those of different ones."""
    _, first_seq, hello = handshakes
    places = distinct(table.vantage)
    if places.shape[0] <= 1:
        return stitch(table, first_seq, hello)
    leg_of = np.full(len(table), -1, np.int64)
    for place in places.tolist():
        # Captures of two vantage points may take turns in one recording.
        rows = np.flatnonzero(table.vantage == place)
        own = stitch(table.take(rows), first_seq[rows], hello[rows])
        leg_of[rows] = np.where(own >= 0, rows[own], own)
    return leg_of


def assemble(reading: Reading, paths: tuple[str, ...], frame_times: FrameTimes | None) -> Assembled:
    """Bring the parts, which name flows by builder number, into the order of the table."""
    table, numbers, parts, late, crowded = (
        reading.table,
        reading.numbers,
        reading.parts,
        reading.late,
        reading.crowded,
    )
    n = len(table)
    row = place_of(numbers, int(numbers.max(initial=-1)) + 1)
    flows = row[np.concatenate([p.flows for p in parts])] if parts else np.empty(0, np.int64)
    order = np.argsort(flows)

    def gathered(columns: Iterable[NDArray[_Scalar]]) -> NDArray[_Scalar]:
        return np.concatenate(list(columns))[order]

    identification = Identification.concatenate([p.identification for p in parts]).take(order)
    merged = merge_tls([p.tls for p in parts])
    facts = replace(merged.facts, flow=row[merged.facts.flow])
    facts = facts.take(np.argsort(facts.flow))
    names = tuple(sorted((int(row[f]), given) for f, given in merged.requested_names))
    http = [m for p in parts for m in p.http]
    # What was walked counts where HTTP/2 has been recognised: by all that is seen, or inside HTTP/1 by its upgrade.
    speaks = {m.flow for m in http if m.head.version == "2" and not m.decrypted}
    is_http2 = identification.protocol == Protocol.HTTP2
    http += [*late[0], *(m for m in late[1] if is_http2[row[m.flow]] or m.flow in speaks)]
    of_message = row[np.array([m.flow for m in http], np.int64)]
    for message, flow in zip(http, of_message.tolist(), strict=True):
        message.flow = flow
    sides = np.array([(m.frame << 1) + (not m.head.from_client) for m in http], np.int64)
    http = [http[place] for place in np.lexsort((sides, of_message)).tolist()]
    if late[0]:
        # What begins like HTTP inside another protocol, or behind a switch to one, is no message of the connection.
        is_http1 = (identification.protocol == Protocol.HTTP1).tolist()
        http = [m for m in http if is_http1[m.flow] or m.head.version == "2" or m.decrypted]
        # Of these, and they are few, some may have switched.
        turning = {m.flow for m in http if m.head.status == 101 or m.head.method == "CONNECT"}
        if turning:
            of_flow = groupby(http, key=lambda m: m.flow)
            http = [
                m
                for flow, messages in of_flow
                for m in (_until_switch(list(messages)) if flow in turning and is_http1[flow] else messages)
            ]
    ssh = sorted((replace(s, flow=int(row[s.flow])) for p in parts for s in p.ssh), key=lambda s: s.flow)
    # A segment that began like a start line was none, where all of it was captured and nothing could be read.
    unread = np.ones(n, bool)
    unread[[m.flow for m in http]] = False
    mistaken = unread & (identification.protocol == Protocol.HTTP1) & ~identification.from_start
    identification.protocol[mistaken & (table.cut_packets == 0)] = Protocol.UNKNOWN
    gap = gathered(p.gap for p in parts)
    handshakes = Handshakes(reading.syn_ns, reading.first_seq, gathered(p.hello for p in parts))
    evidence = Evidence(
        table,
        paths,
        identification,
        _canonical(replace(merged, facts=facts, requested_names=names)),
        CleartextReading(tuple(http), tuple(ssh)),
        _legs(table, handshakes),
        gathered(p.from_start for p in parts),
        gap,
        gathered(p.conflict for p in parts),
        (crowded[0] & (identification.protocol == Protocol.HTTP1)) | (crowded[1] & is_http2),
        comments={int(row[flow]): texts for flow, texts in reading.comments.items()},
    )
    if reading.traffic is not None and frame_times is not None:
        evidence = replace(evidence, traffic=in_table_order(reading.traffic, numbers), frame_times=frame_times)
    inner = InnerReading.joined([part.inner for part in parts])
    if inner.connections:
        inner = inner.renamed({number: row for row, number in enumerate(numbers.tolist())})
    return Assembled(evidence, handshakes, inner)


def finish(assembled: Assembled) -> Evidence:
    """Join what several vantage points saw of one connection, and put the connections inside others behind all."""
    evidence, handshakes = assembled.evidence, assembled.handshakes
    table = evidence.flows
    flawed = evidence.gap | (table.cut_packets > 0) | (table.packets == 0).any(axis=1)
    seen = correlate(table, evidence.leg_of, handshakes, flawed)
    whole = replace(evidence, leg_of=seen.leg_of, skews=seen.skews)
    return _with_inner(whole, assembled.inner) if assembled.inner.connections else whole


def join(parts: Sequence[Assembled], frames: Sequence[int], vantages: Sequence[int]) -> Assembled:
    """Flows of several recordings in one table, numbered through; joining joined ones gives the same.

    Parameters
    ----------
    parts : sequence of Assembled
        At least one.
    frames, vantages : sequence of int
        How many frames and vantage points each has.
    """
    if len(parts) == 1:
        return parts[0]
    paths: dict[str, int] = {}
    flows = [len(part.evidence) for part in parts]
    moved = [
        _moved(part, flow, frame, vantage, paths)
        for part, flow, frame, vantage in zip(
            parts,
            accumulate(flows, initial=0),
            accumulate(frames, initial=0),
            accumulate(vantages, initial=0),
            strict=False,
        )
    ]
    of = [part.evidence for part in moved]

    def columns(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in of])

    evidence = Evidence(
        FlowTable.concatenate([part.flows for part in of]),
        tuple(paths),
        Identification.concatenate([part.identification for part in of]),
        _canonical(merge_tls([part.tls for part in of])),
        CleartextReading(
            tuple(message for part in of for message in part.cleartext.http),
            tuple(facts for part in of for facts in part.cleartext.ssh),
        ),
        columns("leg_of"),
        columns("from_start"),
        columns("gap"),
        columns("conflict"),
        columns("crowded"),
        # These know by themselves what they have to be moved by.
        traffic=join_traffic([part.evidence.traffic for part in parts], flows),
        frame_times=join_times([part.evidence.frame_times for part in parts], frames),
        comments={flow: texts for part in of for flow, texts in part.comments.items()},
    )
    handshakes = Handshakes(*(np.concatenate(column) for column in zip(*(p.handshakes for p in moved), strict=True)))
    return Assembled(evidence, handshakes, InnerReading.joined([part.inner for part in moved]))


def _moved(part: Assembled, flow: int, frame: int, vantage: int, paths: dict[str, int]) -> Assembled:
    """The same with flows, frames and vantage points numbered from others than 0; `paths` gets its paths."""
    evidence = part.evidence
    path = np.array([paths.setdefault(text, len(paths)) for text in evidence.paths], np.int32)
    flows = replace(
        _later(evidence.flows, frame),
        encapsulation=path[evidence.flows.encapsulation],
        vantage=evidence.flows.vantage + np.int32(vantage),
    )
    inner = replace(
        part.inner,
        connections=tuple(
            replace(one, outer=one.outer + flow, frame=one.frame + frame, last_frame=one.last_frame + frame)
            for one in part.inner.connections
        ),
        frame=_behind(part.inner.frame, frame),
        tls=tuple(_tls_moved(reading, 0, frame) for reading in part.inner.tls),
        http=_messages_moved(part.inner.http, 0, frame),
        ssh=_ssh_moved(part.inner.ssh, 0, frame),
    )
    cleartext = CleartextReading(
        _messages_moved(evidence.cleartext.http, flow, frame), _ssh_moved(evidence.cleartext.ssh, flow, frame)
    )
    moved = replace(
        evidence,
        flows=flows,
        identification=_later(evidence.identification, frame),
        tls=_tls_moved(evidence.tls, flow, frame),
        cleartext=cleartext,
        leg_of=np.where(evidence.leg_of >= 0, evidence.leg_of + flow, -1),
        comments={row + flow: texts for row, texts in evidence.comments.items()},
    )
    return Assembled(moved, part.handshakes, inner)


def _behind(numbers: I64, frame: int) -> I64:
    """Frame numbers counted on from `frame`; 0 is no frame and stays."""
    return np.where(numbers > 0, numbers + frame, 0) if frame else numbers


_AnyTable = TypeVar("_AnyTable", bound=Table)


def _later(table: _AnyTable, frame: int) -> _AnyTable:
    """The same with all of its columns of frame numbers counted on from `frame`."""
    names = [column.name for column in fields(table) if column.name.endswith("frame")]
    return replace(table, **{name: _behind(getattr(table, name), frame) for name in names})


def _tls_moved(reading: TlsReading, flow: int, frame: int) -> TlsReading:
    facts = _later(reading.facts, frame)
    return replace(
        reading,
        facts=replace(facts, flow=facts.flow + flow),
        requested_names=tuple((row + flow, names) for row, names in reading.requested_names),
    )


def _messages_moved(messages: Sequence[HttpMessage], flow: int, frame: int) -> tuple[HttpMessage, ...]:
    if not flow and not frame:
        return tuple(messages)
    return tuple(replace(m, flow=m.flow + flow, frame=m.frame + frame if m.frame else 0) for m in messages)


def _ssh_moved(readings: Sequence[SshFacts], flow: int, frame: int) -> tuple[SshFacts, ...]:
    return tuple(
        replace(
            one,
            flow=one.flow + flow,
            client_frame=one.client_frame + frame if one.client_frame else 0,
            server_frame=one.server_frame + frame if one.server_frame else 0,
        )
        for one in readings
    )


def _until_switch(messages: list[HttpMessage]) -> list[HttpMessage]:
    """Messages of a connection that is HTTP/1 until it switches, and those of HTTP/2 where it switches to that."""
    first = {id(m) for m in before_switch([m for m in messages if m.version != "2"])}
    return [m for m in messages if m.version == "2" or id(m) in first]


def _with_inner(evidence: Evidence, inner: InnerReading) -> Evidence:
    """The connections found inside others as flows behind all others."""
    first = len(evidence)
    readings = [
        replace(
            reading,
            facts=replace(reading.facts, flow=reading.facts.flow + first),
            requested_names=tuple((flow + first, given) for flow, given in reading.requested_names),
        )
        for reading in inner.tls
    ]
    tls = merge_tls([evidence.tls, *readings])
    tls = replace(tls, facts=tls.facts.take(np.argsort(tls.facts.flow, kind="stable")))
    return replace(add_inner(evidence, inner), tls=_canonical(tls))


def _canonical(reading: TlsReading) -> TlsReading:
    """Number strings, chains and certificates by value, so that the order of reading leaves no trace."""
    text_order = sorted(range(len(reading.strings)), key=reading.strings.__getitem__)
    text_rank = np.append(np.argsort(text_order).astype(np.int32), -1).astype(np.int32)
    certificate_order = sorted(range(len(reading.certificates)), key=lambda i: reading.certificates[i].sha256)
    certificate_rank = np.argsort(certificate_order).tolist()
    chains = [tuple(certificate_rank[c] for c in chain) for chain in reading.chains]
    chain_order = sorted(range(len(chains)), key=chains.__getitem__)
    chain_rank = np.append(np.argsort(chain_order), -1).astype(np.int32)
    changed = {name: text_rank[getattr(reading.facts, name)] for name in TLS_STRINGS}
    changed |= {name: chain_rank[getattr(reading.facts, name)] for name in ("client_chain", "server_chain")}
    return replace(
        reading,
        facts=replace(reading.facts, **changed),
        strings=tuple(reading.strings[i] for i in text_order),
        chains=tuple(chains[i] for i in chain_order),
        certificates=tuple(reading.certificates[i] for i in certificate_order),
    )
