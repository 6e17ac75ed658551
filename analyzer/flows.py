"""Packets to bidirectional flows: exact identity, running totals, connections told apart on reused ports.

A flow's two endpoints are ordered canonically while packets are counted (side 0 is the smaller address and port), and
turned to client and server once, at the end, when everything that tells who opened the connection has been seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from analyzer.decode.gather import gather_words
from analyzer.decode.transport import TCP, UDP
from analyzer.decode.tunnel import ETHERIP, GRE, IPV4_IN_IP, IPV6_IN_IP, MPLS_IN_IP
from analyzer.flow_index import KEY_WORDS, DistinctCounter, FlowIndex, PairCache
from analyzer.numbers import grown, run_begins, run_lengths, run_starts
from analyzer.registries import Decode, InitiatorSource
from analyzer.schema import I64, U8, U64, FlowTable, Mask, PacketTable, rows_of
from analyzer.team import Team
from analyzer.traffic import TrafficCounter

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

ESP: Final = 50
AH: Final = 51
PORTLESS: Final = np.array([IPV4_IN_IP, IPV6_IN_IP, GRE, ESP, AH, ETHERIP, MPLS_IN_IP], np.uint8)
"""IP protocols without ports whose packets form flows, because they carry others' packets."""

SIGNATURES: Final = 8
TLS_HANDSHAKE, TLS_DATA, HTTP_REQUEST, HTTP_STATUS, HTTP2_PREFACE, SSH_BANNER, OTHER, PRINTABLE = range(SIGNATURES)

# What an opening octet pattern says about its sender, one bit each in `_State.opening`.
_SENT_CLIENT_HELLO, _SENT_SERVER_HELLO, _SENT_REQUEST, _SENT_STATUS, SENT_PREFACE = 1, 2, 4, 8, 16
SENT_TLS_HELLO: Final = _SENT_CLIENT_HELLO | _SENT_SERVER_HELLO
"""Bits of ``state.opening`` for a TLS hello at the start of a segment; ``SENT_PREFACE`` for HTTP/2's preface."""

_Numbers = TypeVar("_Numbers", int, I64)

_REORDER_WINDOW: Final = 1 << 16
"""Sequence distance within which a late SYN still belongs to the segments seen before it."""

_METHODS: Final = (b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"PATC", b"OPTI", b"CONN", b"TRAC")
_EPHEMERAL: Final = 32768
"""First port of Linux's default ephemeral range (net.ipv4.ip_local_port_range); NodePorts end just below it."""


def _word(text: bytes) -> int:
    return int.from_bytes(text, "big")


@dataclass
class _State:
    """Columns of all flows so far, grown by half when full. Side columns are canonical."""

    key: I64
    order: I64  # frame * 8 + depth of the first packet: the order of rows in the final table
    encapsulation: NDArray[np.int32]
    first_frame: I64
    last_frame: I64
    first_ns: I64
    last_ns: I64
    packets: I64
    octets: I64
    payload_octets: I64
    flags: U8
    syn_seq: I64
    syn_ns: I64  # when that SYN was captured; 0 = none
    syn_ack_of: I64  # sequence number that the peer's SYN+ACK acknowledges; -1 = none seen
    origin: I64  # data sequence number of the first packet of each side; -1 = none yet
    cut_packets: I64
    interfaces: U64
    signature: NDArray[np.int32]
    signature_frame: I64
    opening: U8
    hello_frame: I64  # of the first TLS hello at the start of a segment, of either side; 0 = none
    first_sender: U8


def place_of(kept: I64, count: int) -> I64:
    """Place of each of `count` numbers in `kept`, -1 where it is not there: (count,) int64."""
    place = np.full(count, -1, np.int64)
    place[kept] = np.arange(kept.shape[0])
    return place


class _Columns:
    """A `_State` with room to grow."""

    _FILL: Final = {"syn_seq": -1, "syn_ack_of": -1, "origin": -1, "first_ns": np.iinfo(np.int64).max}

    def __init__(self) -> None:
        self.count = 0
        self.state = self._empty(1 << 10)

    def _empty(self, n: int) -> _State:
        def full(name: str, shape: tuple[int, ...], dtype: type) -> NDArray[np.generic]:
            return np.full(shape, self._FILL.get(name, 0), dtype)

        i64, two, sig = np.int64, (n, 2), (n, 2, SIGNATURES)
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "key": ((n,), i64),
            "order": ((n,), i64),
            "encapsulation": ((n,), np.int32),
            "first_frame": ((n,), i64),
            "last_frame": ((n,), i64),
            "first_ns": ((n,), i64),
            "last_ns": ((n,), i64),
            "packets": (two, i64),
            "octets": (two, i64),
            "payload_octets": (two, i64),
            "flags": (two, np.uint8),
            "syn_seq": (two, i64),
            "syn_ns": (two, i64),
            "syn_ack_of": (two, i64),
            "origin": (two, i64),
            "cut_packets": ((n,), i64),
            "interfaces": ((n,), np.uint64),
            "signature": (sig, np.int32),
            "signature_frame": (sig, i64),
            "opening": (two, np.uint8),
            "hello_frame": ((n,), i64),
            "first_sender": ((n,), np.uint8),
        }
        return _State(**{name: full(name, *shape) for name, shape in shapes.items()})  # type: ignore[arg-type]

    def keep(self, rows: I64) -> None:
        """Keep these rows alone, ascending, with room for as many again."""
        kept = self._empty(max(1 << 10, rows.shape[0] * 2))
        for name, column in vars(self.state).items():
            getattr(kept, name)[: rows.shape[0]] = column[rows]
        self.state, self.count = kept, rows.shape[0]

    def extend(self, more: int) -> I64:
        """Row numbers of `more` new flows."""
        capacity = self.state.key.shape[0]
        if self.count + more > capacity:
            larger = self._empty(max(self.count + more, capacity * 3 // 2))
            for name, column in vars(self.state).items():
                getattr(larger, name)[: self.count] = column[: self.count]
            self.state = larger
        rows = np.arange(self.count, self.count + more)
        self.count += more
        return rows


@dataclass(frozen=True, slots=True)
class FlowRows:
    """Which flow each packet of a table belongs to.

    ``packet`` (K,) int64 rows of the packet table that belong to a flow; ``flow`` (K,) int64 flow number in order of
    creation; ``stream`` (K,) int64 is twice that, and 1 more where the sender is canonical side 1; ``http`` (H,) int64
    which of the K begin with an HTTP/1 request or status line, ascending; ``left_out`` and ``left_out_octets`` packets,
    and their octets, of flows past the limit, ``elsewhere`` packets that another builder counts: these are in none of
    the columns.
    """

    packet: I64
    flow: I64
    stream: I64
    http: I64
    left_out: int = 0
    left_out_octets: int = 0
    elsewhere: int = 0

    @property
    def side(self) -> I64:
        """Canonical side of the sender: (K,) int64."""
        return self.stream & 1


_LEFT_OUT: Final = -2
"""In place of a key's newest flow: that one came past the limit."""
_SOFT_SHARE: Final = 4
"""One part in so many of the limit is kept free for flows that carry payload."""

_VANTAGE_BIT: Final = 20
"""Where in the last key word the vantage point stands, above the encapsulation path (decode.packets.MAX_PATHS)."""
MAX_VANTAGES: Final = 1 << (32 - _VANTAGE_BIT)


def _keys(packets: PacketTable, rows: I64, vantage: int) -> tuple[U64, I64]:
    """Canonical key words (K, 5) uint64 of some packets, and the sender's side (K,) int64."""
    src, dst = packets.src[rows].view(np.uint64), packets.dst[rows].view(np.uint64)
    src_port, dst_port = packets.src_port[rows].astype(np.uint64), packets.dst_port[rows].astype(np.uint64)
    s0, s1, d0, d1 = src[:, 0], src[:, 1], dst[:, 0], dst[:, 1]
    swap: Mask = (s0 > d0) | ((s0 == d0) & ((s1 > d1) | ((s1 == d1) & (src_port > dst_port))))
    keys = np.empty((rows.shape[0], KEY_WORDS), np.uint64)
    keys[:, 0], keys[:, 2] = np.where(swap, d0, s0), np.where(swap, s0, d0)
    keys[:, 1], keys[:, 3] = np.where(swap, d1, s1), np.where(swap, s1, d1)
    low, high = np.where(swap, dst_port, src_port), np.where(swap, src_port, dst_port)
    keys[:, 4] = (
        low << np.uint64(48)
        | high << np.uint64(32)
        | packets.encapsulation[rows].astype(np.uint64) << np.uint64(8)
        | packets.protocol[rows]
    )
    if vantage:
        keys[:, 4] |= np.uint64(vantage << _VANTAGE_BIT)
    return keys, swap.astype(np.int64)


def _endpoints(packets: PacketTable, vantage: int) -> tuple[U64, U64, Mask, Mask | None]:
    """The two endpoints of each packet's flow, as far as it is of IPv4.

    Returns
    -------
    low, high : (N,) uint64
        Address and port of canonical side 0 and 1, and half each of what else the key consists of.
    side : (N,) bool
        Canonical side of the sender, as `_keys` has it.
    usable : (N,) bool or None
        Packets of which this holds; None: all.
    """
    source, target = packets.src.view(np.uint64), packets.dst.view(np.uint64)
    other = (source[:, 1] ^ _MAPPED) | (target[:, 1] ^ _MAPPED)
    other &= _PREFIX
    other |= source[:, 0]
    other |= target[:, 0]
    sender = packets.src.view(np.uint32)[:, 3].astype(np.uint64)
    sender <<= np.uint64(16)
    sender |= packets.src_port
    receiver = packets.dst.view(np.uint32)[:, 3].astype(np.uint64)
    receiver <<= np.uint64(16)
    receiver |= packets.dst_port
    low, high = np.minimum(sender, receiver), np.maximum(sender, receiver)
    rest = packets.protocol.astype(np.uint64)
    if vantage or packets.encapsulation.any():
        rest |= packets.encapsulation.astype(np.uint64) << np.uint64(8)
        rest |= np.uint64(vantage << _VANTAGE_BIT)
        high |= rest >> np.uint64(16) << np.uint64(48)
    rest <<= np.uint64(48)
    low |= rest
    return low, high, sender > receiver, other == 0 if other.any() else None


_MAPPED: Final = np.frombuffer(b"\0\0\xff\xff\0\0\0\0", np.uint64)[0]
"""Octets 8 to 15 of an IPv4 address mapped into IPv6 (RFC 4291 2.5.5.2), without the address."""
_PREFIX: Final = np.frombuffer(b"\xff\xff\xff\xff\0\0\0\0", np.uint64)[0]
"""Those of them that every such address shares."""


def _share(packets: PacketTable, shares: int) -> I64:
    """Which of so many shares the flow of each packet belongs to, by addresses and ports of both sides: (N,) int64."""
    src, dst = packets.src.view(np.uint64), packets.dst.view(np.uint64)
    # Sums are the same in both directions.
    mixed = src[:, 0] + dst[:, 0]
    for multiplier, more in (
        (0xBF58476D1CE4E5B9, src[:, 1] + dst[:, 1]),
        (0x94D049BB133111EB, packets.src_port.astype(np.uint64) + packets.dst_port),
    ):
        mixed += more
        mixed *= np.uint64(multiplier)
        mixed ^= mixed >> np.uint64(32)
    mixed &= np.uint64(0xFFFFFFFF)
    mixed *= np.uint64(shares)
    mixed >>= np.uint64(32)
    share: I64 = mixed.view(np.int64)
    return share


def _one_of(values: NDArray[np.uint32], wanted: list[int]) -> Mask:
    """`numpy.isin` for a handful of values, without its sort."""
    found: Mask = values == np.uint32(wanted[0])
    for value in wanted[1:]:
        found |= values == np.uint32(value)
    return found


_NOT_ASCII: Final = np.uint64(0x8080808080808080)
_PAST: Final = np.array([(1 << 8 * (8 - have)) - 1 for have in range(8)], np.uint64)
"""By the octets a payload has: the others of the eight."""
_SPACES: Final = np.uint64(0x2020202020202020)


def _classify(octets: U8, start: I64, have: I64) -> tuple[I64, I64, U8]:
    """Signature class, rows whose first octets are all printable, and opening bits, of payloads of `have` octets."""
    words = gather_words(octets, start)
    signature = np.full(start.shape[0], OTHER, np.int64)
    opening = np.zeros(start.shape[0], np.uint8)
    # RFC 8446 5.1: content types 20 to 23, versions 0x0300 to 0x0304, all in one comparison of three octets.
    version = (words >> np.uint64(40)).astype(np.uint32)
    version -= np.uint32(0x140300)
    # Fragments up to 2^14, plus up to 2048 of expansion in older versions (RFC 5246 6.2.3).
    length = (words >> np.uint64(24)).astype(np.uint16)
    length -= np.uint16(1)  # 0 becomes the largest
    record = (version & np.uint32(0xFFFCFFFF)) <= 4
    record &= length < (1 << 14) + 2048
    record &= have >= 5
    records = np.flatnonzero(record)
    kind = words[records] >> np.uint64(56)
    signature[records] = np.where(kind == 23, TLS_DATA, TLS_HANDSHAKE)
    hello = records[kind == 22]
    hello = hello[have[hello] >= 6]
    message = (words[hello] >> np.uint64(16)).astype(np.uint8)
    opening[hello[message == 1]] = _SENT_CLIENT_HELLO
    opening[hello[message == 2]] = _SENT_SERVER_HELLO
    # Most segments are records or cipher text inside one. What else is told apart begins with four octets of ASCII.
    short = np.flatnonzero(have < 8)
    past = _PAST[have[short]]
    words[short] = (words[short] & ~past) | (past & _SPACES)
    text = np.flatnonzero(((words & (_NOT_ASCII << np.uint64(32))) == 0) & ~record)
    if text.shape[0] == 0:
        return signature, text, opening
    signature[text], printable, opening[text] = _classify_text(words[text], have[text])
    return signature, text[printable], opening


def _classify_text(words: U64, have: I64) -> tuple[I64, Mask, U8]:
    """As `_classify`, of payloads that begin with no TLS record but, padded with spaces, with four octets of ASCII."""
    head, second = (words >> np.uint64(32)).astype(np.uint32), words.astype(np.uint32)
    request = _one_of(head, [_word(m) for m in _METHODS]) & (have >= 4)
    status = (head == _word(b"HTTP")) & (second >> np.uint32(24) == ord("/")) & (have >= 5)
    preface = (head == _word(b"PRI ")) & (second == _word(b"* HT")) & (have >= 8)
    banner = (head == _word(b"SSH-")) & (have >= 4)
    signature = np.full(words.shape[0], OTHER, np.int64)
    # No two of them hold: their first four octets differ.
    for mask, kind in ((request, HTTP_REQUEST), (status, HTTP_STATUS), (preface, HTTP2_PREFACE), (banner, SSH_BANNER)):
        signature[mask] = kind
    printable = (words & _NOT_ASCII) == 0
    rows = np.flatnonzero(printable)
    block = words[rows].view(np.uint8).reshape(-1, 8)
    graphic = ((block >= 32) & (block < 127)) | ((block >= 9) & (block <= 13))
    printable[rows] = graphic.view(np.uint64)[:, 0] == np.uint64(0x0101010101010101)
    opening = request * _SENT_REQUEST | status * _SENT_STATUS | preface * SENT_PREFACE
    return signature, printable, opening.astype(np.uint8)


def _set_bits(column: U8, rows: I64, bits: U8) -> None:
    """Or `bits` into `column` at `rows`: what `numpy.bitwise_or.at` does, in a tenth of the time."""
    while True:
        missing = np.flatnonzero((bits & ~column.take(rows)) != 0)
        if missing.shape[0] == 0:
            return
        rows, bits = rows[missing], bits[missing]
        # Of a row that is named twice the last bits are set, and the others' turn comes again.
        column[rows] |= bits


def _members(packets: PacketTable) -> I64:
    """Rows of the packets that belong to a flow."""
    if not packets.status.any():
        return np.arange(len(packets))
    member = packets.status == Decode.OK
    other = np.flatnonzero(packets.status == Decode.OTHER_TRANSPORT)
    member[other] = np.isin(packets.protocol[other], PORTLESS)
    return np.flatnonzero(member)


def _order(packets: PacketTable, rows: I64) -> I64:
    """What sorts packets, and the flows they begin: the frame, then the nesting."""
    return packets.frame[rows] * 8 + packets.depth[rows]


def sequence_difference(delta: _Numbers) -> _Numbers:
    """Difference of two sequence numbers as RFC 9293 3.4 compares them: modulo 2^32, nearest to 0."""
    nearest: _Numbers = ((delta + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    return nearest


class FlowBuilder:
    """Count packets into flows, table after table; `finish` gives the flows.

    Parameters
    ----------
    seed : int
        See `FlowIndex`.
    limit : int or None
        Flows kept. Once three quarters are there, a new one is kept from its first packet with payload on: a SYN flood
        or a scan takes no place from connections that say something. Once all are there, no new one is. What is left
        out is counted. It does not depend on how the input was cut into tables.
    team : Team, optional
        Processes with a builder each, of which every one is given all packets and counts those of its own flows.
    """

    def __init__(self, seed: int = 0, limit: int | None = None, team: Team | None = None) -> None:
        self._team = team
        self._limit = limit
        self._soft_limit = None if limit is None else limit - limit // _SOFT_SHARE
        self._refused = DistinctCounter()
        self._closing: I64 = np.empty(0, np.int64)
        self._index = FlowIndex(seed)
        self._pairs = PairCache()
        self._current: I64 = np.full(1 << 10, -1, np.int64)  # newest flow of each key
        self._columns = _Columns()
        self._scratch: I64 = np.empty(1 << 10, np.int64)
        self.traffic = TrafficCounter() if team is None else TrafficCounter(total=team.total)

    def __len__(self) -> int:
        return self._columns.count

    @property
    def state(self) -> _State:
        """Columns of all flows so far, in order of creation; rows past ``len(self)`` are unused."""
        return self._columns.state

    def in_order(self) -> I64:
        """All flow numbers in the order of their first packets, as `finish` gives them: (F,) int64."""
        return np.argsort(self.state.order[: len(self)], kind="stable")

    def protocols(self, flows: I64) -> U8:
        """IANA protocol number of each flow: (K,) int64 -> (K,) uint8."""
        words = self._index.keys[self.state.key[flows], KEY_WORDS - 1]
        numbers: U8 = (words & np.uint64(0xFF)).astype(np.uint8)
        return numbers

    def add(self, packets: PacketTable, octets: U8, vantage: int = 0) -> FlowRows:
        """Count `packets`, whose payload offsets point into `octets`, as seen from the given vantage point.

        Returns
        -------
        FlowRows
            The packets that belong to a flow: TCP and UDP with ports, and the portless tunnels.
        """
        rows = _members(packets)
        elsewhere = 0
        if self._team is not None:
            mine = _share(packets, self._team.size) == self._team.rank
            if rows.shape[0] == len(packets):
                self.traffic.extend(packets.time_ns)
                mine = np.flatnonzero(mine)
            else:
                self.traffic.extend(packets.time_ns[rows])
                mine = rows[mine[rows]]
            elsewhere = rows.shape[0] - mine.shape[0]
            rows = mine
        if rows.shape[0] == 0:
            return FlowRows(rows, rows, rows, rows, elsewhere=elsewhere)
        if rows.shape[0] != len(packets):
            packets = packets.take(rows)
        if self._soft_limit is not None and len(self) + rows.shape[0] > self._soft_limit:
            keys, side = _keys(packets, np.arange(len(packets)), vantage)
            return replace(self._add_limited(packets, octets, rows, keys, side), elsewhere=elsewhere)
        starts, key, side = self._identify(packets, vantage)
        return replace(self._add_runs(packets, octets, rows, starts, key, side), elsewhere=elsewhere)

    @property
    def all_kept(self) -> bool:
        """Whether no flow was left out, nor could have been, of this builder and of all others of its team."""
        count = len(self) if self._team is None else self._team.total(len(self))
        return self._soft_limit is None or count <= self._soft_limit

    @property
    def left_out(self) -> int:
        """About how many flows were left out because of the limit."""
        return int(self._refused)

    # --------------------------------------------------------------------------------- past the limit

    def _add_limited(self, packets: PacketTable, octets: U8, rows: I64, keys: U64, side: I64) -> FlowRows:
        """`add` near and past the limit: in slices that cannot step over it, in order of frame."""
        order = np.argsort(packets.frame * 8 + packets.depth, kind="stable")
        packets, rows, keys, side = packets.take(order), rows[order], keys[order], side[order]
        parts: list[FlowRows] = []
        stack = [(0, rows.shape[0])]
        while stack:
            start, stop = stack.pop()
            part = slice(start, stop)
            kept = self._admitted(packets.take(part), keys[part], side[part], single=stop - start == 1)
            if kept is None:
                middle = (start + stop) // 2
                stack += [(middle, stop), (start, middle)]
                continue
            left_out = np.flatnonzero(~kept) + start
            if left_out.shape[0]:
                self._refused.add(keys[left_out])
            chosen = np.flatnonzero(kept) + start
            added = FlowRows(chosen, chosen, chosen, chosen)
            if chosen.shape[0]:
                key = self._index.lookup(keys[chosen])
                starts = run_starts(key)
                there = packets.take(chosen)
                added = self._add_runs(there, octets, rows[chosen], starts, key[starts], side[chosen])
            # What came before the packets that were cut off has been counted: now nothing more of these is.
            self._current[self._closing] = _LEFT_OUT
            self._closing = self._closing[:0]
            octets_out = int(packets.wire_len[left_out].sum())
            parts.append(replace(added, left_out=int(left_out.shape[0]), left_out_octets=octets_out))
        before = np.cumsum([0, *(part.packet.shape[0] for part in parts)])
        return FlowRows(
            np.concatenate([part.packet for part in parts]),
            np.concatenate([part.flow for part in parts]),
            np.concatenate([part.stream for part in parts]),
            np.concatenate([part.http + shift for part, shift in zip(parts, before[:-1].tolist(), strict=True)]),
            sum(part.left_out for part in parts),
            sum(part.left_out_octets for part in parts),
        )

    def _admitted(self, packets: PacketTable, keys: U64, side: I64, *, single: bool) -> Mask | None:
        """Which of `packets` belong to flows that are kept: (N,) bool; None where a smaller slice must be asked."""
        assert self._limit is not None
        assert self._soft_limit is not None
        n, count = len(packets), len(self)
        if count + n <= self._soft_limit or (single and count < self._soft_limit):
            return np.ones(n, bool)
        if count < self._soft_limit:
            return None
        known = self._index.find(keys)
        current = np.where(known >= 0, self._current[np.maximum(known, 0)], -1)
        fresh = current < 0
        if count >= self._limit:
            kept: Mask = ~fresh
            self._cut_reopened(packets, known, current, side, kept)
            return kept
        speaks = (packets.payload_len > 0) | np.isin(packets.protocol, PORTLESS)
        opening = fresh & speaks
        syn = (packets.protocol == TCP) & ((packets.tcp_flags & (SYN | ACK)) == SYN)
        if count + int((opening | syn).sum()) > self._limit and not single:
            return None
        kept = ~fresh
        if opening.any():
            # From its first packet that says something on, a flow is kept.
            late = np.flatnonzero(fresh)
            spoken = self._key_of_each(keys[opening])
            key = self._index.find(keys[late])
            first = np.full(int(key.max()) + 1, n, np.int64)
            np.minimum.at(first, spoken, np.flatnonzero(opening))
            kept[late] = (key >= 0) & (late >= np.where(key >= 0, first[np.maximum(key, 0)], n))
        return kept

    def _key_of_each(self, keys: U64) -> I64:
        """Identifiers of new keys, with room for their newest flow."""
        key = self._index.lookup(keys)
        self._reserve_current()
        return key

    def _cut_reopened(self, packets: PacketTable, known: I64, current: I64, side: I64, kept: Mask) -> None:
        """Take out of `kept` what follows a SYN that opens one more connection on the ports of a flow that is kept."""
        rows = np.flatnonzero(kept)
        if rows.shape[0] == 0:
            return
        there = packets.take(rows)
        reopening = rows[self._reopening(there, current[rows], side[rows])]
        if reopening.shape[0] == 0:
            return
        first = np.full(int(known.max()) + 1, len(packets), np.int64)
        np.minimum.at(first, known[reopening], reopening)
        kept[rows] = rows < first[known[rows]]
        self._closing = known[reopening]

    # ------------------------------------------------------------------------------ identity over time

    def _identify(self, packets: PacketTable, vantage: int) -> tuple[I64, I64, I64]:
        """First packets (R,) of the runs of one key, the number of each run's key (R,), and each packet's side (N,)."""
        low, high, swapped, usable = _endpoints(packets, vantage)
        side = swapped.astype(np.int64)
        new = run_begins(low) | run_begins(high)
        if usable is not None:
            new |= ~usable
            new[1:] |= ~usable[:-1]
        starts = np.flatnonzero(new)

        def canonical(runs: I64) -> I64:
            rows = starts[runs]
            keys, side[rows] = _keys(packets, rows, vantage)
            return self._index.lookup(keys)

        usable = None if usable is None else usable[starts]
        key = self._pairs.lookup(low[starts], high[starts], usable, len(self._index), canonical)
        return starts, key, side

    def _create(self, key: I64, order: I64) -> I64:
        rows = self._columns.extend(key.shape[0])
        self.state.key[rows] = key
        self.state.order[rows] = order
        return rows

    def _reserve_current(self) -> None:
        self._current = grown(self._current, len(self._index), -1)

    def _add_runs(self, packets: PacketTable, octets: U8, rows: I64, starts: I64, key: I64, side: I64) -> FlowRows:
        """Count packets of which each run, from `starts` on, has one key; `rows` are theirs in the caller's table."""
        starts, flow, stream = self._assign(packets, starts, key, side)
        http = self._count(packets, octets, starts, flow, stream)
        return FlowRows(rows, flow, stream, http)

    def _assign(self, packets: PacketTable, starts: I64, key: I64, side: I64) -> tuple[I64, I64, I64]:
        """Flow of each packet: the newest of its key, and a new one from each SYN that opens another connection.

        Returns
        -------
        starts : (R,) int64
            Where runs of one flow begin.
        flow, stream : (N,) int64
        """
        self._reserve_current()
        newest = self._current.take(key)
        fresh = np.flatnonzero(newest < 0)
        if fresh.shape[0]:
            # Keys without a flow are the newest ones.
            least = int(key[fresh].min())
            first = np.full(len(self._index) - least, -1, np.int64)
            first[key[fresh[::-1]] - least] = starts[fresh[::-1]]  # backwards: the first packet stays
            begun = np.flatnonzero(first >= 0)
            self._current[begun + least] = self._create(begun + least, _order(packets, first[begun]))
            newest[fresh] = self._current[key[fresh]]
        lengths = run_lengths(starts, side.shape[0])
        flow = np.repeat(newest, lengths)
        stream = flow * 2
        stream += side
        reopening = self._reopening(packets, flow, side)
        if reopening.shape[0]:
            flow = self._split(packets, np.repeat(key, lengths), flow, reopening)
            stream = flow * 2 + side
            starts = run_starts(flow)
        self._note_origins(packets, stream)
        return starts, flow, stream

    def _note_origins(self, packets: PacketTable, stream: I64) -> None:
        """Remember the first data sequence number of each side."""
        origin = self.state.origin.reshape(-1)
        unset = np.flatnonzero(origin.take(stream) < 0)[::-1]  # backwards: the first packet wins
        tcp = unset[packets.protocol[unset] == TCP]
        syn = (packets.tcp_flags[tcp] & SYN) != 0
        origin[stream[tcp]] = (packets.seq[tcp].astype(np.int64) + syn) & 0xFFFFFFFF

    def _reopening(self, packets: PacketTable, flow: I64, side: I64) -> I64:
        """Rows of SYNs (without ACK) that do not belong to the connection their flow holds so far, in order.

        A side opens a connection with one sequence number, which every copy of its SYN repeats, with ACK or without
        (RFC 9293 3.4.1, 3.5): another number opens another connection. What is asked is the flow from its first packet
        to the one before the SYN, whichever tables they came in.
        """
        rows = np.flatnonzero((packets.tcp_flags & (SYN | ACK)) == SYN)  # no other protocol has these
        state = self.state
        later: I64 = rows[state.order[flow[rows]] != _order(packets, rows)]  # the others begin their flow
        if later.shape[0] == 0:
            return later
        rows = np.flatnonzero((packets.tcp_flags & SYN) != 0)
        rows = rows[np.isin(flow[rows], flow[later])]
        f, s, seq = flow[rows], side[rows], packets.seq[rows].astype(np.int64)
        stream = f * 2 + s
        order = np.argsort(stream, kind="stable")
        previous = np.full(rows.shape[0], -1, np.int64)
        same = stream[order][1:] == stream[order][:-1]
        previous[order[1:][same]] = seq[order[:-1][same]]
        earlier = np.where(previous >= 0, previous, state.syn_seq[f, s])
        answers = (packets.tcp_flags[rows] & ACK) != 0
        flows, local = np.unique(f, return_inverse=True)
        # Where all SYNs say that one and the same side opens, its own ones alone follow each other.
        opener = np.bincount(local, s ^ answers)
        in_turn = (opener > 0) & (opener < np.bincount(local))
        in_turn[local[~answers & (earlier < 0) & (state.order[f] != _order(packets, rows))]] = True
        reopening: I64 = rows[~answers & (earlier >= 0) & (earlier != seq) & ~in_turn[local]]
        if in_turn.any():
            rest = np.flatnonzero(np.isin(flow, flows[in_turn]))
            found = self._reopening_in_turn(packets.take(rest), flow[rest], side[rest])
            reopening = np.sort(np.concatenate([reopening, rest[found]]))
        return reopening

    def _reopening_in_turn(self, packets: PacketTable, flow: I64, side: I64) -> list[int]:
        """As `_reopening`, of all packets of a few flows, one packet after the other."""
        state, found = self.state, []
        connections = {
            number: (state.syn_seq[number].tolist(), state.origin[number].tolist(), state.flags[number].tolist())
            for number in np.unique(flow).tolist()
        }
        columns = (flow, side, packets.tcp_flags, packets.seq)
        for row, (number, s, bits, seq) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            syn_seq, origin, flags = connections[number]
            if bits & (SYN | ACK) == SYN:
                if syn_seq[s] >= 0:
                    reopens = syn_seq[s] != seq
                elif origin[s] >= 0:  # what the side itself was at decides
                    reopens = abs(sequence_difference(seq + 1 - origin[s])) > _REORDER_WINDOW
                else:  # of a connection joined in its middle only the peer was seen, and it has ended
                    reopens = (flags[1 - s] & (FIN | RST)) != 0
                if reopens:
                    found.append(row)
                    connections[number] = syn_seq, origin, flags = [-1, -1], [-1, -1], [0, 0]
            if bits & SYN and syn_seq[s] < 0:
                syn_seq[s] = seq
            if origin[s] < 0:
                origin[s] = (seq + ((bits & SYN) != 0)) & 0xFFFFFFFF
            flags[s] |= bits
        return found

    def _split(self, packets: PacketTable, key: I64, flow: I64, reopening: I64) -> I64:
        """Create one flow for each reopening SYN and move the packets behind it there."""
        # Retransmissions of one reopening SYN were sorted out by `_reopening`: each row here is a connection.
        created = self._create(key[reopening], _order(packets, reopening))
        width = np.int64(packets.frame.shape[0] + 1)
        sorter = np.argsort(key[reopening] * width + reopening, kind="stable")
        openings = (key[reopening] * width + reopening)[sorter]
        rows = np.flatnonzero(np.isin(key, key[reopening]))
        place = np.searchsorted(openings, key[rows] * width + rows, side="right") - 1
        ahead = np.maximum(place, 0)
        moved = (place >= 0) & (key[reopening][sorter][ahead] == key[rows])
        flow = flow.copy()
        flow[rows[moved]] = created[sorter][ahead[moved]]
        self._current[key[reopening][sorter]] = created[sorter]
        return flow

    # ------------------------------------------------------------------------------------------ totals

    def _local(self, flow: I64) -> tuple[I64, I64]:
        """Distinct flows among the packets, and each packet's index into them, without sorting."""
        if self._scratch.shape[0] < len(self):
            self._scratch = np.empty(len(self) * 3 // 2, np.int64)
        rows = np.arange(flow.shape[0])
        self._scratch[flow] = rows
        distinct = flow[np.flatnonzero(self._scratch.take(flow) == rows)]
        self._scratch[distinct] = np.arange(distinct.shape[0])
        return distinct, self._scratch.take(flow)

    def _count(self, packets: PacketTable, octets: U8, starts: I64, flow: I64, stream: I64) -> I64:
        """Add `packets` to the totals of their flows; rows of those that begin with an HTTP/1 start line.

        `starts` (R,) are the first packets of runs of one flow; `stream` (N,) is twice the flow, and the side.
        """
        state = self.state
        flow_of_run = flow.take(starts)
        flows, local = self._local(flow_of_run)
        self.traffic.add(packets.time_ns, packets.wire_len, flows, np.repeat(local, run_lengths(starts, len(flow))))
        last = np.append(starts[1:], len(flow)) - 1
        # Backwards: the first of several packets stays.
        new = np.flatnonzero(state.first_frame.take(flow_of_run) == 0)[::-1]
        first, opened = starts[new], flow_of_run[new]
        state.first_frame[opened] = packets.frame[first]
        state.encapsulation[opened] = packets.encapsulation[first]
        state.first_sender[opened] = stream[first] & 1
        np.maximum.at(state.last_frame, flow_of_run, packets.frame[last])
        if (packets.time_ns[1:] >= packets.time_ns[:-1]).all():
            # In order of time, as nearly every chunk is, a run's first and last packet have its extremes.
            np.minimum.at(state.first_ns, flow_of_run, packets.time_ns[starts])
            np.maximum.at(state.last_ns, flow_of_run, packets.time_ns[last])
        else:
            np.minimum.at(state.first_ns, flow, packets.time_ns)
            np.maximum.at(state.last_ns, flow, packets.time_ns)
        np.add.at(state.packets.reshape(-1), stream, 1)
        np.add.at(state.octets.reshape(-1), stream, packets.wire_len)
        np.add.at(state.payload_octets.reshape(-1), stream, packets.payload_len)
        _set_bits(state.flags.reshape(-1), stream, packets.tcp_flags)
        have = packets.payload_stop - packets.payload_start
        cut = np.flatnonzero(have < packets.payload_len)
        np.add.at(state.cut_packets, flow[cut], 1)
        if (packets.interface == packets.interface[0]).all():
            state.interfaces[flows] |= np.uint64(1) << np.uint64(min(int(packets.interface[0]), 63))
        else:
            interface = np.minimum(packets.interface, 63).astype(np.uint64)
            np.bitwise_or.at(state.interfaces, flow, np.uint64(1) << interface)
        self._note_handshakes(packets, stream)
        return self._note_signatures(packets, octets, have, stream)

    def _note_handshakes(self, packets: PacketTable, stream: I64) -> None:
        syn = np.flatnonzero((packets.tcp_flags & SYN) != 0)[::-1]  # backwards: the first SYN of a side wins
        if syn.shape[0] == 0:
            return
        seen, at, acknowledged = (
            column.reshape(-1) for column in (self.state.syn_seq, self.state.syn_ns, self.state.syn_ack_of)
        )
        unset = syn[seen.take(stream[syn]) < 0]
        seen[stream[unset]], at[stream[unset]] = packets.seq[unset], packets.time_ns[unset]
        answer = syn[(packets.tcp_flags[syn] & ACK) != 0]
        answer = answer[acknowledged.take(stream[answer] ^ 1) < 0]
        acknowledged[stream[answer] ^ 1] = (packets.ack[answer].astype(np.int64) - 1) & 0xFFFFFFFF

    def _note_signatures(self, packets: PacketTable, octets: U8, have: I64, stream: I64) -> I64:
        """`have` (N,) are the captured octets of each payload."""
        rows = np.flatnonzero(have > 0)
        if rows.shape[0] == 0:
            return rows
        signature, printable, opening = _classify(octets, packets.payload_start[rows], have[rows])
        state = self.state
        base = stream[rows] * SIGNATURES
        codes = np.concatenate([base + signature, base[printable] + PRINTABLE])
        totals, firsts = state.signature.reshape(-1), state.signature_frame.reshape(-1)
        np.add.at(totals, codes, np.int32(1))  # of their type: another costs thirty times as much
        unset = np.flatnonzero(firsts.take(codes) == 0)[::-1]  # backwards: the first packet stays
        if unset.shape[0]:
            carriers = np.concatenate([rows, rows[printable]])[unset]
            firsts[codes[unset]] = packets.frame[carriers]
        telling = np.flatnonzero(opening != 0)
        _set_bits(state.opening.reshape(-1), stream[rows[telling]], opening[telling])
        hello = rows[telling[(opening[telling] & SENT_TLS_HELLO) != 0]]
        hello = hello[state.hello_frame[stream[hello] >> 1] == 0][::-1]
        state.hello_frame[stream[hello] >> 1] = packets.frame[hello]
        http: I64 = rows[(signature == HTTP_REQUEST) | (signature == HTTP_STATUS)]
        return http

    # -------------------------------------------------------------------------------------- forgetting

    def keep(self, kept: I64, into: I64) -> None:
        """Forget all flows but `kept`, ascending; flow ``kept[i]`` is flow i from now on.

        Parameters
        ----------
        kept : (K,) int64
        into : (F,) int64
            For each flow that is there now the flow, one of `kept`, with which its traffic over time is counted from
            now on; -1 = with none.

        Notes
        -----
        A packet that comes for a flow which was forgotten begins a new one, as after the end of a connection.
        """
        place = place_of(kept, len(self))
        self.traffic.keep(np.where(into >= 0, place[into], -1))
        self._columns.keep(kept)
        keys = np.unique(self.state.key[: len(self)])
        key_place = place_of(keys, len(self._index))
        self.state.key[: len(self)] = key_place[self.state.key[: len(self)]]
        newest = self._current[keys]
        self._current = np.full(max(1 << 10, keys.shape[0] * 2), -1, np.int64)
        self._current[: keys.shape[0]] = np.where(newest >= 0, place[newest], -1)
        self._pairs.keep(key_place)
        self._index.keep(keys)
        self._scratch = np.empty(1 << 10, np.int64)

    # --------------------------------------------------------------------------------------- the result

    def finish(self, chosen: I64) -> tuple[FlowTable, I64]:
        """Flows in order of their first packet, turned to client and server.

        Parameters
        ----------
        chosen : (F,) int64
            Flow numbers, as `add` gave them.

        Returns
        -------
        FlowTable
        (F, 2) int64
            For each row of the table: the stream number (``flow * 2 + side``, as `add` numbered them) of its client
            and of its server.
        """
        state, count = self.state, chosen.shape[0]
        order = chosen[np.argsort(state.order[chosen], kind="stable")]
        keys = self._index.keys[state.key[order]]
        ports = np.stack([keys[:, 4] >> np.uint64(48), (keys[:, 4] >> np.uint64(32)) & np.uint64(0xFFFF)], axis=1)
        client, source = self._client_side(
            order, ports.astype(np.int64), (keys[:, 4] & np.uint64(0xFF)).astype(np.int64)
        )
        # Streams of client and server, as they are numbered and in the order of `keys`.
        streams = order[:, None] * 2 + np.stack([client, 1 - client], axis=1)
        picked = (np.arange(0, 2 * count, 2) + client)[:, None] ^ np.arange(2)
        address = np.ascontiguousarray(keys[:, :4]).view(np.uint8).reshape(2 * count, 16)

        def of_sides(column: NDArray[Any]) -> NDArray[Any]:
            rows = column.reshape(-1, *column.shape[2:])
            return rows_of(rows, streams.reshape(-1)).reshape(count, 2, *column.shape[2:])

        return FlowTable(
            address=rows_of(address, picked.reshape(-1)).reshape(count, 2, 16),
            port=ports.astype(np.uint16).take(picked),
            protocol=(keys[:, 4] & np.uint64(0xFF)).astype(np.uint8),
            encapsulation=state.encapsulation.take(order),
            initiator=source,
            vantage=(keys[:, 4] >> np.uint64(_VANTAGE_BIT) & np.uint64(MAX_VANTAGES - 1)).astype(np.int32),
            first_frame=state.first_frame.take(order),
            last_frame=state.last_frame.take(order),
            first_ns=state.first_ns.take(order),
            last_ns=state.last_ns.take(order),
            packets=of_sides(state.packets),
            octets=of_sides(state.octets),
            payload_octets=of_sides(state.payload_octets),
            flags=of_sides(state.flags),
            syn_seq=of_sides(state.syn_seq),
            cut_packets=state.cut_packets.take(order),
            interfaces=state.interfaces.take(order),
            signature=of_sides(state.signature),
            signature_frame=of_sides(state.signature_frame),
        ), streams

    def _client_side(self, order: I64, ports: I64, protocol: I64) -> tuple[I64, U8]:
        """Canonical side that opened each flow, and how that is known; the strongest evidence decides."""
        state = self.state
        first = state.first_sender[order].astype(np.int64)
        flags_syn = state.syn_seq[order] >= 0
        answered = state.syn_ack_of[order] >= 0  # a SYN+ACK acknowledged this side's SYN
        opening = state.opening[order]
        side, source = first.copy(), np.full(order.shape[0], InitiatorSource.FIRST_PACKET, np.uint8)

        def settle(where: Mask, value: I64, how: InitiatorSource) -> None:
            side[where] = value[where]
            source[where] = how

        ported = (protocol == TCP) | (protocol == UDP)
        low, high = ports.min(axis=1), ports.max(axis=1)
        server = np.argmin(ports, axis=1)
        settle(ported & (low < _EPHEMERAL) & (low != high), 1 - server, InitiatorSource.PORT)
        asks = (opening & (_SENT_CLIENT_HELLO | _SENT_REQUEST | SENT_PREFACE)) != 0
        answers = (opening & (_SENT_SERVER_HELLO | _SENT_STATUS)) != 0
        client_like = asks | answers[:, ::-1]
        settle(client_like[:, 0] ^ client_like[:, 1], np.argmax(client_like, axis=1), InitiatorSource.CONTENT)
        settle(answered[:, 0] ^ answered[:, 1], np.argmax(answered, axis=1), InitiatorSource.SYN_ACK)
        plain_syn = flags_syn & ~answered[:, ::-1]
        settle(plain_syn[:, 0] ^ plain_syn[:, 1], np.argmax(plain_syn, axis=1), InitiatorSource.SYN)
        settle(plain_syn[:, 0] & plain_syn[:, 1], first, InitiatorSource.SYN)
        return side, source
