"""The stages from octets to what was read of every connection; the same for files, pipes and live capture.

Frames are counted and their first octets collected chunk by chunk. At fixed frame numbers, whatever the size of the
chunks, connections whose facts are complete are read and their octets dropped, so that memory follows the number of
connections and the result does not depend on how the input was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from analyzer.assembly import Assembled, Batch, Reading, assemble, complete, copied, finish, renumber
from analyzer.bounds import MAX_FLOWS
from analyzer.decode import Decoder
from analyzer.flows import FIN, RST, SENT_TLS_HELLO, FlowBuilder, FlowRows, place_of
from analyzer.heads import HEAD_LIMIT, HeadCollector
from analyzer.late import LateCollector
from analyzer.ledger import CaptureBook, Ledger
from analyzer.legs import hello_randoms
from analyzer.numbers import either, without
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.http1 import read_http1, read_late
from analyzer.protocols.http2 import read_http2
from analyzer.protocols.http2_late import Http2Collector
from analyzer.protocols.identify import identify, openings
from analyzer.protocols.inner import InnerReading, read_inner
from analyzer.protocols.ssh import read_ssh
from analyzer.protocols.tls import read_tls, read_tls_with_keys
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.protocols.tunnelled import Tunnelled, read_tunnelled
from analyzer.registries import Decode, Protocol, Ternary
from analyzer.schema import (
    I64,
    U8,
    CaptureChunk,
    HttpMessage,
    Mask,
    PacketTable,
    StreamHeads,
    TlsReading,
)
from analyzer.team import GivenUp, Team
from analyzer.traffic import FrameClock

_TUNNELS: Final = {
    "vxlan": Protocol.VXLAN,
    "geneve": Protocol.GENEVE,
    "ipip": Protocol.IPIP,
    "ipv6ip": Protocol.IPIP,
    "gre": Protocol.GRE,
    "erspan": Protocol.GRE,
    "ah": Protocol.AH,
}
"""What carries a packet, by the last step of the packet's encapsulation path; all others are `Protocol.TUNNEL`."""
EPOCH_FRAMES: Final = 1 << 16
"""Frames between two looks at how much is held: fixed numbers, so that no result depends on the size of chunks."""
SETTLE_OCTETS: Final = 48 << 20
"""Octets of stream heads from which settled connections are read: few large rounds cost less than many small ones."""
_LAST_SLICE: Final = 1 << 12
"""Connections read together at the end."""
HEADS_BUDGET: Final = 192 << 20
"""Octets of stream heads held at most; past it the connections longest without a packet are read as they are."""
LATE_OCTETS: Final = 16 << 20
"""Octets of messages from behind the heads from which they are read and their octets dropped."""

MAX_COMMENTS: Final = 3
"""Distinct packet comments kept of one connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one run; the defaults hold everything a cluster really does."""

    head_octets: int = HEAD_LIMIT
    heads_budget: int = HEADS_BUDGET
    epoch_frames: int = EPOCH_FRAMES
    settle_octets: int = SETTLE_OCTETS
    max_flows: int = MAX_FLOWS
    late_octets: int = LATE_OCTETS


class Pipeline:
    """One analysis under way: `add` chunks, then `finish`.

    Parameters
    ----------
    limits : Limits, optional
    keys : KeyLog, optional
        Secrets to decrypt TLS connections with; `use_secrets` adds those that the capture itself holds.
    team : Team, optional
        Processes with a pipeline each, of which every one is given all chunks and reads its share of the connections:
        `reading` instead of `assembled`. What depends on all of them is settled by what they hold together, so that
        the result is the same for any number of processes.
    """

    def __init__(self, limits: Limits | None = None, keys: KeyLog | None = None, team: Team | None = None) -> None:
        self.limits = limits or Limits()
        self.team = team
        self.decoder = Decoder()
        self.flows = FlowBuilder(limit=self.limits.max_flows, team=team)
        self.heads = HeadCollector(self.flows, self.limits.head_octets)
        self.books: list[CaptureBook] = []
        self.frames = 0
        self._vantage = 0
        self._said: dict[int, str] = {}
        self._comments: dict[int, dict[str, None]] = {}
        self.late = LateCollector(self.heads)
        self.late_http2 = Http2Collector(self.flows, self.heads)
        self.keys = keys
        if keys is not None:
            self.heads.keep_protected()
        self._late_messages: list[HttpMessage] = []
        self._late_http2: list[HttpMessage] = []
        self.clock = FrameClock()
        self._read: list[Batch] = []
        self._shelf: list[Batch] = []
        self._tunnels: dict[int, Protocol] = {}
        self._settle_at = self.limits.settle_octets
        self._total: Callable[[int], int] = int if team is None else team.total

    @property
    def ledger(self) -> Ledger:
        """The books of all captures as one."""
        return Ledger.total([book.ledger for book in self.books])

    @property
    def first_ns(self) -> int | None:
        """Time of the earliest frame; None where no frame has one."""
        return min((book.first_ns for book in self.books if book.first_ns is not None), default=None)

    @property
    def last_ns(self) -> int | None:
        """Time of the latest frame; None where no frame has one."""
        return max((book.last_ns for book in self.books if book.last_ns is not None), default=None)

    def book(self, capture: int) -> CaptureBook:
        """The book of one capture, empty where none of its frames came."""
        while len(self.books) <= capture:
            self.books.append(CaptureBook())
        return self.books[capture]

    def use_secrets(self, key_log: bytes) -> None:
        """Take a key log that the capture holds: for connections that have not been read yet."""
        if self.keys is None:
            self.keys = KeyLog()
            self.heads.keep_protected()
        self.keys.add(key_log)

    def add(self, chunk: CaptureChunk, comments: Sequence[tuple[int, str]] = ()) -> None:
        """Take the frames of one chunk, and what the capture says of some of them, or of later ones: (frame, text).

        Raises
        ------
        GivenUp
            Only one process can do what is needed now.
        """
        # Whoever reads ahead of the chunks knows what is said of frames that are yet to come.
        self._said = {frame: text for frame, text in self._said.items() if frame >= chunk.first_frame}
        self._said |= {frame: text for frame, text in comments if frame}
        if chunk.vantage != self._vantage:
            # What a decoder remembers of one vantage point's packets says nothing of another's.
            self._vantage = chunk.vantage
            self.decoder = self.decoder.afresh()
        start = 0
        while start < len(chunk):
            number = chunk.first_frame + start
            stop = min(len(chunk), start + self.limits.epoch_frames - (number - 1) % self.limits.epoch_frames)
            self._add_part(chunk if stop - start == len(chunk) else chunk.take(slice(start, stop), number))
            ends_epoch = (chunk.first_frame + stop - 1) % self.limits.epoch_frames == 0
            if ends_epoch:
                self.flows.traffic.settle()
                if self.team is not None and not self.flows.all_kept:
                    raise GivenUp
            if ends_epoch and self._total(self.heads.pending_octets) >= self.limits.settle_octets:
                self._settle()
            if ends_epoch and self.late.pending_octets >= self.limits.late_octets:
                self._late_messages += read_late(self.late.take())
            start = stop

    def _add_part(self, chunk: CaptureChunk) -> None:
        packets = self.decoder.decode(chunk)
        octets = self.decoder.octets
        rows = self.flows.add(packets, octets, chunk.vantage)
        self.clock.add(chunk.first_frame, chunk.time_ns)
        self.heads.add(packets, rows, octets)
        self.late.add(packets, rows, octets)
        self.late_http2.add(packets, rows, octets)
        if self._said:
            self._note_comments(packets.frame[rows.packet], rows.flow)
        book = self.book(chunk.capture)
        in_flows = rows.packet.shape[0] + rows.elsewhere
        book.ledger.add(len(chunk), packets, in_flows, rows.left_out, rows.left_out_octets)
        self.frames += len(chunk)
        if len(packets) > len(chunk):
            self._note_tunnels(packets, rows)
        last = int(chunk.time_ns.max(initial=0))
        if last > 0:
            first = int(chunk.time_ns.min())
            first = first if first > 0 else int(chunk.time_ns[chunk.time_ns > 0].min())
            book.first_ns = first if book.first_ns is None else min(first, book.first_ns)
            book.last_ns = last if book.last_ns is None else max(last, book.last_ns)

    def _note_comments(self, frame: I64, flow: I64) -> None:
        """Remember the first distinct comments on packets of each flow."""
        at = np.flatnonzero(np.isin(frame, list(self._said)))
        for number, row in zip(frame[at].tolist(), flow[at].tolist(), strict=True):
            kept = self._comments.setdefault(row, {})
            if len(kept) < MAX_COMMENTS:
                kept[self._said[number]] = None

    def _note_tunnels(self, packets: PacketTable, rows: FlowRows) -> None:
        """Remember which flows carried packets, of any protocol: the flow one level up in the same frame."""
        levels = np.int64(256)
        place = packets.frame * levels + packets.depth
        carriers = place[rows.packet]
        order = np.argsort(carriers, kind="stable")
        inner = np.flatnonzero((packets.depth > 0) & (packets.status != Decode.TOO_DEEP))
        at = np.minimum(np.searchsorted(carriers[order], place[inner] - 1), order.shape[0] - 1)
        if order.shape[0] == 0:
            return
        carried = carriers[order[at]] == place[inner] - 1
        pairs = np.stack([rows.flow[order[at[carried]]], packets.encapsulation[inner[carried]]], axis=1)
        for outer, path in np.unique(pairs, axis=0).tolist():
            if outer not in self._tunnels:
                step = self.decoder.paths[path].rsplit("/", 1)[-1].split(":", 1)[0]
                self._tunnels[outer] = _TUNNELS.get(step, Protocol.TUNNEL)

    # -------------------------------------------------------------------------------- reading the heads

    @property
    def late_words(self) -> bool:
        """Whether messages from behind the heads wait to be read."""
        return bool(self.late.pending_octets) or self.late_http2.pending

    def _settle(self) -> None:
        """Read the connections that can tell no more, and drop their octets, where there are enough of them.

        These are TLS connections past their handshake, and connections that have ended and been silent for an epoch:
        nothing more is collected of those, whether they are read now or with more.
        Under pressure the ones longest silent follow, whatever their state.
        """
        state = self.flows.state
        held = self.heads.held()
        quiet = state.last_frame.take(held) <= self.frames - self.limits.epoch_frames
        flags = state.flags.reshape(-1)
        over = held[quiet & ((flags.take(2 * held) | flags.take(2 * held + 1)) & (FIN | RST) != 0)]
        self.heads.finish(over)
        self.late_http2.close(over)
        if self._total(self.heads.pending_octets) < self._settle_at:
            return
        touched = self.heads.touched()
        handshakes = touched[(state.opening[touched] & SENT_TLS_HELLO).any(axis=1)]
        over = self.heads.held(finished=True)
        chosen = either(handshakes, over)
        if self._total(chosen.shape[0]):
            self._keep_settled(chosen, over)
        if self._total(self.heads.pending_octets) > self.limits.heads_budget:
            self._close(self._longest_silent(self.heads.held()))

    def _longest_silent(self, flows: I64) -> I64:
        """Those of `flows` that are in the half longest without a packet, of all processes' ones together."""
        last, order = self.flows.state.last_frame[flows], self.flows.state.order[flows]
        wanted = max(1, self._total(flows.shape[0]) // 2)
        bound = _reached_by(last, wanted, self._total)
        earlier = last < bound
        # Several flows have a packet in one frame, where one carries another.
        wanted -= self._total(int(earlier.sum()))
        latest = last == bound
        chosen: Mask = earlier | (latest & (order <= _reached_by(order[latest], wanted, self._total)))
        return flows[np.flatnonzero(chosen)]

    def _keep_settled(self, chosen: I64, over: I64) -> None:
        """Read the flows `chosen`; keep what can tell no more, the flows `over` among it, and drop its octets."""
        if chosen.shape[0]:
            batch = self.interpret(chosen)
            # A hole may still be filled by a late segment, and what it hid be read then.
            ready = without(batch.tls.facts.flow[complete(batch.tls)], batch.flows[batch.holed])
            # Where keys open a connection its requests are still to come.
            ready = without(ready, batch.tls.facts.flow[batch.tls.facts.decrypted == Ternary.YES])
            ready = either(ready, over)
            self._keep(batch, ready)
            self.heads.release(ready)
        # What is left cannot be settled yet, and looking at it again every epoch tells nothing.
        more = self._total(self.heads.pending_octets) + self.limits.settle_octets // 2
        self._settle_at = min(max(more, self.limits.settle_octets), self.limits.heads_budget)

    def _close(self, flows: I64) -> None:
        """Read `flows` as they are and collect no more of them."""
        if flows.shape[0]:
            self._keep(self.interpret(flows), flows)
            self.heads.release(flows)

    def _keep(self, batch: Batch, chosen: I64) -> None:
        """Store what was read of the flows `chosen` from a batch."""
        if chosen.shape[0] == 0:
            return
        self._read.append(batch.of(chosen))

    def interpret(self, chosen: I64) -> Batch:
        """Assemble and read the heads of the flows `chosen`; facts name flows by builder number."""
        table, streams = self.flows.finish(chosen)
        heads = self.heads.assemble(streams.reshape(-1))
        n = len(table)
        numbers = streams[:, 0] >> 1
        tunnels: dict[int, Protocol] = {}
        if self._tunnels:
            place = {flow: row for row, flow in enumerate(numbers.tolist())}
            tunnels = {place[flow]: kind for flow, kind in self._tunnels.items() if flow in place}
        identification = identify(table, heads, tunnels)
        protocol = identification.protocol
        tls_rows = np.flatnonzero(protocol == Protocol.TLS)
        reading, http, found = self._read_tls(heads, tls_rows, table.flags[tls_rows], numbers)
        rows = {p: np.flatnonzero(protocol == p) for p in (Protocol.HTTP1, Protocol.HTTP2, Protocol.SSH)}
        clear, tunnelled = _read_http(heads, rows[Protocol.HTTP1], rows[Protocol.HTTP2], numbers, decrypted=False)
        http, found = http + clear, found + tunnelled
        ssh = read_ssh(heads, rows[Protocol.SSH], numbers[rows[Protocol.SSH]])
        holed = np.zeros(2 * n, bool)
        holed[heads.holes_stream] = True
        either = holed[0::2] | holed[1::2]
        gap = either.copy()
        # A gap behind a handshake that was read whole hides nothing.
        gap[reading.facts.flow[complete(reading)]] = False
        return Batch(
            numbers,
            identification,
            renumber(reading, numbers),
            http,
            ssh,
            heads.from_start.reshape(n, 2),
            either,
            gap,
            heads.conflict[0::2] | heads.conflict[1::2],
            hello_randoms(heads)[0::2],
            read_inner(found, self.keys) if found else InnerReading(),
        )

    def _read_tls(
        self, heads: StreamHeads, rows: I64, closed: U8, numbers: I64
    ) -> tuple[TlsReading, list[HttpMessage], list[Tunnelled]]:
        """Read the TLS flows `rows`; with keys, also the HTTP inside them, each message marked as decrypted."""
        if self.keys is None:
            return read_tls(heads, rows, closed), [], []
        reading, opened = read_tls_with_keys(heads, rows, closed, self.keys)
        inside = openings(opened.heads)
        http1, http2 = (inside[p].reshape(-1, 2).any(axis=1) for p in (Protocol.HTTP1, Protocol.HTTP2))
        names = numbers[rows[opened.rows]]
        chosen = np.flatnonzero(http1 & ~http2), np.flatnonzero(http2)
        return reading, *_read_http(opened.heads, *chosen, names, decrypted=True)

    def evidence(
        self, *, last: bool = False, read: Callable[[I64], list[Batch]] | None = None, glance: I64 | None = None
    ) -> Evidence:
        """Everything read so far, seen as one input; see `assembled`."""
        return finish(self.assembled(last=last, read=read, glance=glance))

    def assembled(
        self, *, last: bool = False, read: Callable[[I64], list[Batch]] | None = None, glance: I64 | None = None
    ) -> Assembled:
        """Everything read so far, for all flows in order of their first packet; may be asked again after more packets.

        Parameters
        ----------
        last : bool
            Nothing more is to be added or asked: what is held is let go as soon as it has been read.
        read : callable, optional
            Reads the flows given that have not been settled, in place of `interpret`.
        glance : (K,) int64, optional
            These flows alone, without traffic over time, the times of frames, and messages that are still under way.
            None of them must be shelved.
        """
        reading = self.reading(last=last, read=read, glance=glance)
        return self.assemble(reading, timed=glance is None)

    def assemble(self, reading: Reading, *, timed: bool = True) -> Assembled:
        """Put in order what this pipeline has read, or it and all others of its team; `timed` with times of frames."""
        return assemble(reading, tuple(self.decoder.paths), self.clock.result() if timed else None)

    def reading(
        self, *, last: bool = False, read: Callable[[I64], list[Batch]] | None = None, glance: I64 | None = None
    ) -> Reading:
        """What `assembled` puts in order: one process's share of it, where there are several."""
        if self.books:
            # Datagrams may end in another capture of one recording than they began in: the sum is what is shown.
            datagrams, book = self.decoder.fragments.counts, self.books[-1].ledger
            book.datagrams_joined, book.fragment_conflicts = datagrams.joined, datagrams.conflicts
            book.datagrams_incomplete = datagrams.given_up + self.decoder.fragments.incomplete
        wanted = np.ones(len(self.flows), bool)
        if glance is not None:
            wanted[:] = False
            wanted[glance] = True
        parts = self._read if glance is None else [_among(part, wanted) for part in self._read]
        parts = [*parts, *(self._shelf if glance is None else ())]
        rest = wanted.copy()
        for part in parts:
            rest[part.flows] = False
        parts += (read or self._read_all)(np.flatnonzero(rest))
        self._late_messages += read_late(self.late.take(all_of_them=last))
        self._late_http2 += self.late_http2.take(all_of_them=last)
        late = self._late_messages, self._late_http2
        if not last:
            # More may come, and these are renumbered in place.
            parts = [part.apart() for part in parts]
            late = (
                copied(m for m in self._late_messages if wanted[m.flow]),
                copied(m for m in self._late_http2 if wanted[m.flow]),
            )
            if glance is None:
                late[0].extend(read_late(self.late.under_way()))
                late[1].extend(self.late_http2.under_way())
        full, full_http2 = self.late.full_streams() >> 1, self.late_http2.full_streams() >> 1
        if last:
            self._read.clear()
            self._shelf.clear()
            self.heads = HeadCollector(self.flows, self.limits.head_octets)
            self.late = LateCollector(self.heads)
            self.late_http2 = Http2Collector(self.flows, self.heads)
        table, streams = self.flows.finish(np.flatnonzero(wanted))
        # Read where the protocols were recognised, and by nobody after that: 128 octets a flow are not held for it.
        table = replace(table, signature_frame=np.empty((len(table), 0, 0), np.int64))
        numbers = streams[:, 0] >> 1
        crowded = np.isin(numbers, full), np.isin(numbers, full_http2)
        flat = streams.reshape(-1)
        first_seq = self.flows.state.origin.reshape(-1)[flat].reshape(-1, 2)
        syn_ns = self.flows.state.syn_ns.reshape(-1)[flat].reshape(-1, 2)
        said = numbers[np.isin(numbers, list(self._comments))].tolist() if self._comments else []
        return Reading(
            table,
            numbers,
            self.flows.state.order[numbers],
            parts,
            late,
            crowded,
            syn_ns,
            first_seq,
            {flow: tuple(self._comments[flow]) for flow in said},
            self.flows.traffic.result() if glance is None else None,
        )

    def shelve(self, flows: I64) -> None:
        """Put what was read of `flows` where no glance looks, as far as it is settled."""
        self._move(self._read, self._shelf, flows)

    def unshelve(self, flows: I64) -> None:
        """Take it back."""
        self._move(self._shelf, self._read, flows)

    def _move(self, source: list[Batch], target: list[Batch], flows: I64) -> None:
        moved = np.zeros(len(self.flows), bool)
        moved[flows] = True
        parts = [(_among(part, moved), _among(part, ~moved)) for part in source]
        source[:] = _joined([left for _, left in parts])
        target[:] = _joined([*target, *(gone for gone, _ in parts)])

    def keep(self, kept: I64, into: I64) -> None:
        """Forget all flows but `kept`; parameters as of `FlowBuilder.keep`.

        What is known of the others, and their messages, is gone: whoever calls this has asked for `evidence` before.
        """
        count = len(self.flows)
        place = place_of(kept, count)
        self._late_messages += read_late(self.late.take())
        self._late_http2 += self.late_http2.take()
        for messages in (self._late_messages, self._late_http2):
            messages[:] = [message for message in messages if place[message.flow] >= 0]
            for message in messages:
                message.flow = int(place[message.flow])
        for batches in (self._read, self._shelf):
            batches[:] = [part.of(kept).renumbered(place) for part in _joined(batches)]
        self._comments = {int(place[f]): said for f, said in self._comments.items() if place[f] >= 0}
        self._tunnels = {int(place[f]): kind for f, kind in self._tunnels.items() if place[f] >= 0}
        self.late.keep(kept, count)
        self.late_http2.keep(kept, count)
        self.heads.keep(kept, count)
        self.flows.keep(kept, into)

    def _read_all(self, rest: I64) -> list[Batch]:
        """Read the flows `rest` as they are."""
        parts: list[Batch] = []
        # In slices, so that laying out the last heads needs no more memory than a round of settling does.
        for i in range(0, max(rest.shape[0], 1), _LAST_SLICE):
            parts.append(self.interpret(rest[i : i + _LAST_SLICE]))
        return parts


def _reached_by(numbers: I64, count: int, total: Callable[[int], int]) -> int:
    """The least number that so many of all `numbers` are not above; `total` adds up what processes have of them."""
    low, high = 0, 1 << 62
    while low < high:
        middle = (low + high) // 2
        if total(int((numbers <= middle).sum())) >= count:
            high = middle
        else:
            low = middle + 1
    return low


def _among(batch: Batch, wanted: Mask) -> Batch:
    """What was read of those flows of a batch that are wanted; the very same where all are."""
    chosen = wanted[batch.flows]
    return batch if chosen.all() else batch.of(batch.flows[chosen])


def _joined(batches: Sequence[Batch]) -> list[Batch]:
    """As one batch, without what none of its flows needs, or none at all."""
    batches = [batch for batch in batches if batch.flows.shape[0]]
    return [Batch.joined(batches).compact()] if batches else []


def _read_http(
    heads: StreamHeads, http1: I64, http2: I64, names: I64, *, decrypted: bool
) -> tuple[list[HttpMessage], list[Tunnelled]]:
    """Messages of the flows `http1` and `http2` by place in `heads`, and the connections found inside them."""
    messages = read_http1(heads, http1, names[http1]) + read_http2(heads, http2, names[http2])
    flows = np.concatenate([http1, http2])
    found, upgraded = read_tunnelled(heads, flows, names[flows], messages, decrypted=decrypted)
    messages += upgraded
    if decrypted:
        for message in messages:
            message.decrypted = True
    return messages, found
