"""The handshakes of T flows, walked once: records, messages, and which hello is which.

Rows of the local streams: ``t`` is the client's side of flow t, ``T + t`` the server's.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np

from analyzer.protocols.tls.extents import Extents
from analyzer.protocols.tls.handshake import CLIENT_HELLO, SERVER_HELLO, Messages, MessageWalk, walk_messages
from analyzer.protocols.tls.hello import (
    KEY_SHARE,
    PRE_SHARED_KEY,
    SUPPORTED_VERSIONS,
    HelloEnd,
    Hellos,
    is_retry,
    number_at,
    read_client_hellos,
    read_server_hellos,
    read_ssl2_hellos,
)
from analyzer.protocols.tls.records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    RecordWalk,
    WalkEnd,
    walk_records,
)
from analyzer.protocols.tls.suites import flagged
from analyzer.protocols.tls.version import unmarked_data
from analyzer.registries import HeadStop, TlsVersion
from analyzer.schema import I64, U8, Mask, StreamHeads

_ALERT_LENGTH: Final = 2


class Handshakes:
    """T flows of `heads`; all columns (T,) unless said otherwise, -1 where there is no such row."""

    def __init__(self, heads: StreamHeads, flows: I64) -> None:
        self.heads, self.flows, self.count = heads, flows.astype(np.int64), flows.shape[0]
        self.streams: I64 = np.concatenate([2 * self.flows, 2 * self.flows + 1])
        self.extents = Extents.of(heads)
        self.walk: RecordWalk = walk_records(heads, self.streams, self.extents)
        self.read: MessageWalk = walk_messages(heads.octets, self.walk)
        self._read_server_hellos()

    @property
    def messages(self) -> Messages:
        """Clear handshake messages of both sides."""
        return self.read.messages

    def first(self, rows: I64, of: I64) -> I64:
        """First element of `of` for each local stream: `rows` (K,) are the streams of `of` (K,): (2 T,) int64."""
        found = np.full(2 * self.count, -1, np.int64)
        found[rows[::-1]] = of[::-1]
        return found

    def first_message(self, kind: int, *, server: bool) -> I64:
        """First clear message of a kind that one side sent."""
        chosen = np.flatnonzero(self.messages.kind == kind)
        found = self.first(self.messages.row[chosen], chosen)
        return found[self.count :] if server else found[: self.count]

    def located(self, message: I64) -> list[tuple[U8, I64, I64]]:
        """For each of the two buffers: octets, the flows that have a `message` (T,) there, and its rows."""
        flows = np.flatnonzero(message >= 0)
        spliced = self.messages.spliced[message[flows]]
        return [
            (octets, flows[chosen], message[flows[chosen]])
            for octets, chosen in ((self.heads.octets, ~spliced), (self.read.spliced, spliced))
        ]

    def first_record(self, kind: int) -> I64:
        """First record of a content type in each local stream: (2 T,)."""
        chosen = np.flatnonzero(self.walk.records.kind == kind)
        return self.first(self.walk.records.row[chosen], chosen)

    @cached_property
    def change_cipher(self) -> I64:
        """First ChangeCipherSpec record of each local stream: (2 T,)."""
        return self.first_record(CHANGE_CIPHER_SPEC)

    @cached_property
    def data(self) -> I64:
        """First application data record of each local stream: (2 T,)."""
        return self.first_record(APPLICATION_DATA)

    @cached_property
    def client_hello(self) -> I64:
        """Message row of the first ClientHello."""
        return self.first_message(CLIENT_HELLO, server=False)

    def _read_server_hellos(self) -> None:
        """Pick each flow's ServerHello, the first that is no HelloRetryRequest, and read what it decides."""
        messages, count = self.messages, self.count
        rows = np.flatnonzero((messages.kind == SERVER_HELLO) & (messages.row >= count))
        retry = np.zeros(rows.shape[0], bool)
        for spliced, octets in ((False, self.heads.octets), (True, self.read.spliced)):
            part = np.flatnonzero(messages.spliced[rows] == spliced)
            retry[part] = is_retry(octets, messages.start[rows[part]], messages.known[rows[part]])
        self.server_hello = self.first(messages.row[rows[~retry]], rows[~retry])[count:]
        self.retried = np.zeros(count, bool)
        self.retried[messages.row[rows[retry]] - count] = True
        self.version, self.cipher = np.zeros(count, np.int64), np.full(count, -1, np.int64)
        self.group = np.zeros(count, np.int64)
        self.accepts_key = np.zeros(count, bool)
        self.server_end = np.full(count, HelloEnd.CUT, np.uint8)
        self.server_parts: list[tuple[I64, Hellos]] = []
        for spliced in (False, True):
            flows, hellos = self.server_hellos(spliced)
            if flows.shape[0]:
                self.server_parts.append((flows, hellos))
                self._decide(flows, hellos)
        # Drafts of TLS 1.3 (0x7fxx, 0xfbxx of one vendor) have larger numbers, and so will what comes after it.
        self.is_13: Mask = self.version >= TlsVersion.TLS_1_3
        # Where the ServerHello is missing, records may still show that this is the handshake of TLS 1.3.
        unmarked = unmarked_data(self.walk)
        self.is_13 |= (self.version == 0) & (unmarked[:count] | unmarked[count:])

    def _decide(self, flows: I64, hellos: Hellos) -> None:
        """Version, suite and key share of the ServerHellos of `flows`."""
        octets = hellos.octets
        selected = number_at(octets, *hellos.extensions.pick(SUPPORTED_VERSIONS, len(hellos)))
        # A suite of TLS 1.3 can be chosen in no other version (RFC 8446 B.4), so a cut hello still tells the version;
        # any other suite, and any version field but that of TLS 1.2, means that no extension changes it.
        of_13 = flagged(hellos.cipher, "tls13")
        version = np.where((hellos.version == TlsVersion.TLS_1_2) & of_13, TlsVersion.TLS_1_3, hellos.version)
        undecided = (hellos.cipher < 0) & (hellos.version == TlsVersion.TLS_1_2)
        version = np.where(undecided, 0, version)
        self.version[flows] = np.where(selected >= 0, selected, version)
        self.cipher[flows] = hellos.cipher
        share = number_at(octets, *hellos.extensions.pick(KEY_SHARE, len(hellos)))
        self.group[flows] = np.maximum(share, 0)
        self.accepts_key[flows] = hellos.extensions.pick(PRE_SHARED_KEY, len(hellos))[0] >= 0
        self.server_end[flows] = hellos.end

    def server_hellos(self, spliced: bool) -> tuple[I64, Hellos]:
        """Flows whose ServerHello stands in that buffer, and the hellos."""
        messages, octets = self.messages, self.read.spliced if spliced else self.heads.octets
        flows = np.flatnonzero(self.server_hello >= 0)
        flows = flows[messages.spliced[self.server_hello[flows]] == spliced]
        rows = self.server_hello[flows]
        return flows, read_server_hellos(octets, messages.start[rows], messages.stop[rows], messages.known[rows])

    @cached_property
    def client_parts(self) -> list[tuple[I64, Hellos]]:
        """Flows and their first ClientHellos, by buffer and form."""
        messages, flows = self.messages, np.flatnonzero(self.client_hello >= 0)
        rows = self.client_hello[flows]
        parts = []
        for spliced, ssl2 in ((False, False), (True, False), (False, True)):
            part = np.flatnonzero((messages.spliced[rows] == spliced) & (messages.ssl2[rows] == ssl2))
            octets = self.read.spliced if spliced else self.heads.octets
            reader = read_ssl2_hellos if ssl2 else read_client_hellos
            chosen = rows[part]
            if chosen.shape[0]:
                hellos = reader(octets, messages.start[chosen], messages.stop[chosen], messages.known[chosen])
                parts.append((flows[part], hellos))
        return parts

    @cached_property
    def client_end(self) -> I64:
        """`HelloEnd` of the ClientHello; CUT where there is none."""
        end = np.full(self.count, HelloEnd.CUT, np.int64)
        for flows, hellos in self.client_parts:
            end[flows] = hellos.end
        return end

    @cached_property
    def last_hello(self) -> I64:
        """Record of each local stream's last clear hello: (2 T,)."""
        messages, found = self.messages, np.full(2 * self.count, -1, np.int64)
        hello = np.where(messages.row < self.count, CLIENT_HELLO, SERVER_HELLO)
        rows = np.flatnonzero(messages.kind == hello)
        found[messages.row[rows]] = messages.record[rows]
        return found

    @cached_property
    def alerts(self) -> tuple[I64, I64, I64]:
        """First clear alert of each local stream: level, description, record; -1 = none: (2 T,) each.

        A clear alert has two octets (RFC 8446 6); an encrypted one is longer, or comes as application data. It comes
        before the stream's application data and, up to TLS 1.2, before its ChangeCipherSpec.
        """
        records, octets = self.walk.records, self.heads.octets
        rows = np.flatnonzero((records.kind == ALERT) & (records.stop - records.start == _ALERT_LENGTH))
        rows = rows[records.known[rows] == records.stop[rows]]
        stream = records.row[rows]
        data, cipher = self.data[stream], self.change_cipher[stream]
        clear = (data < 0) | (rows < data)
        clear &= (cipher < 0) | (rows < cipher) | self.is_13[stream % max(1, self.count)]
        record = self.first(stream[clear], rows[clear])
        seen, at = record >= 0, np.zeros(2 * self.count, np.int64)
        at[seen] = records.start[record[seen]]
        level, description = np.full_like(record, -1), np.full_like(record, -1)
        level[seen], description[seen] = octets[at[seen]], octets[at[seen] + 1]
        return level, description, record

    @cached_property
    def gaps(self) -> Mask:
        """Local streams in which octets are missing at the start or between records: (2 T,)."""
        records = self.walk.records
        gaps: Mask = (self.walk.end == WalkEnd.GAP) | (self.walk.end == WalkEnd.MALFORMED) | self.read.lost
        gaps[records.row[records.gap]] = True
        gaps |= ~self.heads.from_start[self.streams]
        return gaps

    def since_hello(self, record: I64, *, server: bool) -> Mask:
        """Where no octets are missing between a side's last clear hello and its `record` (T,); False for -1."""
        hello = self.last_hello[self.count :] if server else self.last_hello[: self.count]
        gaps = np.cumsum(np.append(self.walk.records.gap, False))  # one more, so that -1 reads something
        joined: Mask = (record >= 0) & (hello >= 0) & (gaps[record] == gaps[hello])
        return joined

    def record_of(self, message: I64) -> I64:
        """Record in which each message (T,) begins; -1 for -1."""
        return np.append(self.messages.record, -1)[message]

    @cached_property
    def empty(self) -> Mask:
        """Local streams of which not one octet is in the head: (2 T,)."""
        empty: Mask = self.heads.offsets[self.streams] == self.heads.offsets[self.streams + 1]
        return empty

    @cached_property
    def ended(self) -> Mask:
        """Local streams whose records were all read: nothing is missing and nothing more was captured: (2 T,)."""
        complete = self.heads.stop[self.streams] == HeadStop.COMPLETE
        ended: Mask = complete & ~self.gaps & (self.walk.end == WalkEnd.END)
        return ended

    def sealed_handshake(self) -> Mask:
        """Local streams with a handshake record right after their ChangeCipherSpec: Finished, encrypted: (2 T,)."""
        records = self.walk.records
        sealed = np.zeros(2 * self.count, bool)
        rows = np.flatnonzero(self.change_cipher >= 0)
        following = self.change_cipher[rows] + 1
        inside = following < self.walk.begin[rows + 1]
        rows, following = rows[inside], following[inside]
        sealed[rows] = (records.kind[following] == HANDSHAKE) & ~records.gap[following]
        return sealed

    def frames(self, row: I64, offset: I64) -> I64:
        """Frame of the octet at absolute `offset` of local stream `row`; 0 where `offset` is negative."""
        frames = np.zeros(row.shape[0], np.int64)
        asked = np.flatnonzero(offset >= 0)
        stream = self.streams[row[asked]]
        frames[asked] = self.heads.frames_at(stream, offset[asked] - self.heads.offsets[stream])
        return frames
