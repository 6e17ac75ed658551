"""From stream heads to `TlsFacts`: the record layer, the clear handshake, then what lengths tell."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.protocols.tlsread import flights, messages
from analyzer.protocols.tlsread.flights import ALPN_LENGTHS, FINISHED_SHA256, FINISHED_SHA384, KEYS, KUBELET_CHAIN
from analyzer.protocols.tlsread.hellos import is_retry, read_shapes
from analyzer.protocols.tlsread.layer import CHANGE_CIPHER_SPEC, RecordTable, walk_records
from analyzer.protocols.tlsread.messages import Handshakes, clear_records, read_messages
from analyzer.protocols.tlsread.shape import ClientShape, ServerShape, read_client_shape, read_server_shape, text
from analyzer.protocols.tlsread.suites import sha384_suite, short_tag_suite
from analyzer.protocols.tlsread.x509 import read_certificate, split_chain
from analyzer.registries import Grade, Ternary, TlsVersion
from analyzer.schema import I64, U8, Certificate, Mask, StreamHeads, TlsFacts, TlsReading

CERTIFICATE_ALERTS: Final = (42, 43, 44, 45, 46, 48)
"""bad_certificate, unsupported_certificate, certificate_revoked, certificate_expired, certificate_unknown, unknown_ca
(RFC 8446 6.2): what a client that refuses the server's certificate sends."""

_FIN_RST: Final = 1 | 4
_NAMED_CURVE: Final = 3  # ECCurveType (RFC 8422 5.4)


Column = NDArray[Any]
"""A column in the making; its final dtype is that of `TlsFacts`."""


class _Strings:
    """A tuple of distinct strings in the making."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def add(self, value: str | None) -> int:
        return -1 if value is None else self.index.setdefault(value, len(self.index))


class _Reader:
    """Reads one batch of T flows; each method fills some columns of ``self.c``."""

    def __init__(self, heads: StreamHeads, flows: I64, closed: U8) -> None:
        self.heads, self.flows, self.closed = heads, flows, closed
        self.n = flows.shape[0]
        self.strings = _Strings()
        self.certificates: list[Certificate] = []
        self.chains: list[tuple[int, ...]] = []
        self._der: dict[bytes, int] = {}
        self._chain: dict[bytes, int] = {}
        self.requested: list[tuple[int, tuple[str, ...]]] = []
        self.c = _empty_columns(flows)
        # Streams are numbered 2 * t and 2 * t + 1 within the batch.
        streams = np.stack([flows * 2, flows * 2 + 1], axis=1).reshape(-1)
        self.records = walk_records(heads, streams)
        local = np.full(len(heads), -1, np.int64)
        local[streams] = np.arange(2 * self.n)
        self.stream = local[self.records.stream]
        self.numbered = RecordTable(
            self.stream, *(getattr(self.records, f.name) for f in fields(RecordTable) if f.name != "stream")
        )
        self.handshakes = self._handshakes()

    def _handshakes(self) -> Handshakes:
        """Clear messages; after a HelloRetryRequest also those behind that exchange's ChangeCipherSpec."""
        n, octets = self.n, self.heads.octets
        nothing = np.zeros(2 * n, bool)
        first = read_messages(octets, self.numbered, clear_records(self.numbered, nothing), 2 * n)
        retry = is_retry(first, first.first(messages.SERVER_HELLO, 2 * n))
        self.retried = retry[1::2]
        if not retry.any():
            return first
        through = np.repeat(self.retried, 2)
        return read_messages(octets, self.numbered, clear_records(self.numbered, through), 2 * n)

    # ------------------------------------------------------------------------------------------ hellos

    def _frames(self, record: I64, offset_in_body: I64 | None = None) -> I64:
        """Frame of an octet of each record row (its last known one by default), 0 where the row is -1."""
        safe = np.maximum(record, 0)
        if len(self.records) == 0:
            return np.zeros(record.shape[0], np.int64)
        last = np.maximum(self.records.known[safe] - 1, 0) if offset_in_body is None else offset_in_body
        stream = self.records.stream[safe]
        position = self.records.start[safe] + last - self.heads.offsets[stream]
        return np.where(record >= 0, self.heads.frames_at(stream, position), 0)

    def _message_frames(self, rows: I64) -> I64:
        """Frame in which each message ends, 0 where the row is -1."""
        table = self.handshakes.messages
        safe = np.maximum(rows, 0)
        if len(table) == 0:
            return np.zeros(rows.shape[0], np.int64)
        return np.where(rows >= 0, self._frames(table.end_record[safe]), 0)

    def hellos(self) -> None:
        table, c = self.handshakes.messages, self.c
        client = self.handshakes.first(messages.CLIENT_HELLO, 2 * self.n)[0::2]
        servers = self.handshakes.last(messages.SERVER_HELLO, 2 * self.n)[1::2]
        still_retry = is_retry(self.handshakes, servers)
        servers = np.where(still_retry, -1, servers)
        complete = table.complete if len(table) else np.zeros(0, bool)
        self.client_rows = _only(client, complete)
        self.server_rows = _only(servers, complete)
        c["client_hello_seen"] = self.client_rows >= 0
        c["server_hello_seen"] = self.server_rows >= 0
        c["client_hello_frame"] = self._message_frames(client)
        c["server_hello_frame"] = self._message_frames(servers)
        self.cut_hello = (client >= 0) & (self.client_rows < 0)
        chosen = np.flatnonzero(self.client_rows >= 0)
        shapes, which = read_shapes(self.handshakes, self.client_rows[chosen], read_client_shape, server=False)
        self._apply_client(shapes, which, chosen)
        chosen = np.flatnonzero(self.server_rows >= 0)
        answers, which = read_shapes(self.handshakes, self.server_rows[chosen], read_server_shape, server=True)
        self._apply_server(answers, which, chosen)

    def _apply_client(self, shapes: list[ClientShape], which: I64, rows: I64) -> None:
        add = self.strings.add
        for name, values in (
            ("sni", [add(s.sni) for s in shapes]),
            ("alpn_offered", [add(s.alpn) for s in shapes]),
            ("groups_offered", [add(s.groups) for s in shapes]),
            ("ja3", [add(s.ja3) for s in shapes]),
            ("ja4", [add(s.ja4) for s in shapes]),
            ("max_offered", [s.max_offered for s in shapes]),
            ("client_stack", [s.stack for s in shapes]),
        ):
            self.c[name][rows] = np.array(values, np.int64)[which]

    def _apply_server(self, shapes: list[ServerShape], which: I64, rows: I64) -> None:
        add = self.strings.add
        for name, values in (
            ("version", [s.version for s in shapes]),
            ("cipher_suite", [s.cipher_suite for s in shapes]),
            ("group", [s.group for s in shapes]),
            ("alpn", [add(s.alpn) for s in shapes]),
            ("ja3s", [add(s.ja3s) for s in shapes]),
            ("server_stack", [s.stack for s in shapes]),
        ):
            self.c[name][rows] = np.array(values, np.int64)[which]
        self.c["alpn_grade"][rows] = Grade.OBSERVED
        self.psk = np.zeros(self.n, bool)
        self.psk[rows] = np.array([s.pre_shared_key for s in shapes], bool)[which]

    # ------------------------------------------------------------------------------------------- alerts

    def alerts(self) -> None:
        rows = flights.clear_alerts(self.numbered, self.heads.octets)[::-1]  # backwards: the first one wins
        description = self.heads.octets[self.numbered.start[rows] + 1]
        level = self.heads.octets[self.numbered.start[rows]]
        self.fatal = np.zeros((self.n, 2), bool)
        for side, name in ((0, "client"), (1, "server")):
            mine = self.stream[rows] % 2 == side
            flow = self.stream[rows[mine]] // 2
            self.c[f"{name}_alert"][flow] = description[mine]
            self.c[f"{name}_alert_frame"][flow] = self._frames(rows[mine])
            self.fatal[flow[level[mine] == 2], side] = True

    def change_cipher(self) -> None:
        """Record number of each stream's ChangeCipherSpec, -1 = none seen."""
        rows = np.flatnonzero(self.numbered.kind == CHANGE_CIPHER_SPEC)[::-1]
        change = np.full(2 * self.n, -1, np.int64)
        change[self.stream[rows]] = self.numbered.number[rows]
        self.change = change.reshape(self.n, 2)

    # ------------------------------------------------------------------------------- up to TLS 1.2, clear

    def clear_handshake(self) -> None:
        c, n, table = self.c, self.n, self.handshakes.messages
        older = (c["version"] > 0) & (c["version"] < TlsVersion.TLS_1_3)
        certificate = self.handshakes.first(messages.CERTIFICATE, 2 * n).reshape(n, 2)
        request = self.handshakes.first(messages.CERTIFICATE_REQUEST, 2 * n)[1::2]
        done = self.handshakes.first(messages.SERVER_HELLO_DONE, 2 * n)[1::2]
        exchange = self.handshakes.first(messages.CLIENT_KEY_EXCHANGE, 2 * n)[0::2]
        curve = self.handshakes.first(messages.SERVER_KEY_EXCHANGE, 2 * n)[1::2]
        complete = table.complete if len(table) else np.zeros(0, bool)
        self._read_chains(np.where(older, _only(certificate[:, 1], complete), -1), "server")
        self._read_chains(np.where(older, _only(certificate[:, 0], complete), -1), "client")
        self._read_curves(np.where(older, _only(curve, complete), -1))
        self._read_requests(np.where(older, _only(request, complete), -1))
        c["server_certificate_frame"] = np.where(older, self._message_frames(certificate[:, 1]), 0)

        asked = older & (request >= 0)
        not_asked = older & (done >= 0) & (request < 0)
        sent = older & (certificate[:, 0] >= 0)
        # Three octets of list length come first (RFC 5246 7.4.6): 0 is "no suitable certificate".
        empty = sent & (_message_lengths(table, certificate[:, 0]) <= 3)
        absent = empty | not_asked | (asked & (exchange >= 0) & ~sent)
        _settle(c, "certificate_requested", asked, not_asked, Grade.OBSERVED)
        _settle(c, "client_certificate", sent & ~empty, absent & ~(sent & ~empty), Grade.OBSERVED)
        shown = np.where(sent, certificate[:, 0], exchange)
        c["client_flight_frame"] = np.where(older, self._message_frames(shown), 0)
        c["client_certificate_len"] = np.where(sent & ~empty, _message_lengths(table, certificate[:, 0]), 0)
        c["server_certificate_len"] = np.where(older, _message_lengths(table, certificate[:, 1]), 0)
        both = older & (self.change >= 0).all(axis=1)
        ended = older & (self.fatal.any(axis=1) & ~both)
        _settle(c, "established", both, ended)
        resumed = older & (self.change[:, 1] >= 0) & (certificate[:, 1] < 0) & (done < 0)
        _settle(c, "resumed", resumed, older & (done >= 0))
        self.older = older

    def _read_chains(self, rows: I64, side: str) -> None:
        table, octets = self.handshakes.messages, self.handshakes.octets
        for flow in np.flatnonzero(rows >= 0).tolist():
            start = int(table.start[rows[flow]])
            body = octets[start : start + int(table.length[rows[flow]])].tobytes()
            known = self._chain.get(body)
            if known is None:
                chain = tuple(self._certificate(der) for der in split_chain(body))
                known = self._chain[body] = len(self.chains)
                self.chains.append(chain)
            if self.chains[known]:
                self.c[f"{side}_chain"][flow] = known
                leaf = self.certificates[self.chains[known][0]]
                self.c[f"{side}_key"][flow] = self.strings.add(leaf.key or None)
                if side == "server":
                    made = leaf.kubelet_self_made or leaf.self_signed
                    self.c["server_self_made"][flow] = Ternary.YES if made else Ternary.NO
                    self.c["server_self_made_grade"][flow] = Grade.OBSERVED

    def _certificate(self, der: bytes) -> int:
        known = self._der.get(der)
        if known is None:
            known = self._der[der] = len(self.certificates)
            self.certificates.append(read_certificate(der))
        return known

    def _read_curves(self, rows: I64) -> None:
        """ServerKeyExchange with a named curve (RFC 8422 5.4): curve type 3, then the group."""
        table, octets = self.handshakes.messages, self.handshakes.octets
        chosen = np.flatnonzero(rows >= 0)
        start = table.start[rows[chosen]]
        long_enough = table.length[rows[chosen]] >= 3
        chosen, start = chosen[long_enough], start[long_enough]
        named = octets[start] == _NAMED_CURVE
        group = octets[start + 1].astype(np.int64) << 8 | octets[start + 2]
        self.c["group"][chosen[named]] = group[named]

    def _read_requests(self, rows: I64) -> None:
        """Names of the CAs a clear CertificateRequest lists (RFC 5246 7.4.4)."""
        table, octets = self.handshakes.messages, self.handshakes.octets
        memo: dict[bytes, tuple[str, ...]] = {}
        for flow in np.flatnonzero(rows >= 0).tolist():
            start = int(table.start[rows[flow]])
            body = octets[start : start + int(table.length[rows[flow]])].tobytes()
            if body not in memo:
                memo[body] = _ca_names(body, int(self.c["version"][flow]))
            self.requested.append((int(self.flows[flow]), memo[body]))

    # ------------------------------------------------------------------------------------ TLS 1.3, lengths

    def lengths(self) -> None:
        c = self.c
        modern = c["version"] == TlsVersion.TLS_1_3
        suite = c["cipher_suite"].astype(np.uint16)
        finished = np.where(sha384_suite(suite), FINISHED_SHA384, FINISHED_SHA256)
        # CCM_8's records are 8 octets shorter all over; no Kubernetes component offers it: not read.
        modern &= ~short_tag_suite(suite)
        hello_record = np.where(self.server_rows >= 0, _end_records(self.handshakes, self.server_rows), -1)
        after = (
            np.where(hello_record >= 0, self.numbered.number[np.maximum(hello_record, 0)], 1 << 30)
            if len(self.numbered)
            else np.full(self.n, 1 << 30)
        )
        even = np.arange(self.n) * 2
        server_raw = flights.encrypted_records(self.numbered, even + 1, after)
        client_raw = flights.encrypted_records(self.numbered, even, np.full(self.n, -1))
        server = flights.read_server_flight(server_raw, finished, self.psk)
        client = flights.read_client_flight(client_raw, finished)
        # A flight is read only if its records' headers were walked without a gap, which `walk_records` guarantees: it
        # stops at the first header it cannot read.
        known = modern & server.known
        closes = (self.closed[:, 0] & _FIN_RST) != 0
        alerted = modern & client.alert & closes & (server_raw.total > 0)

        requested = known & server.requested
        presented, empty = modern & client.presented, modern & client.empty
        lone = modern & client.finished_only
        _settle(
            c,
            "certificate_requested",
            requested | presented | empty,
            (known & ~server.requested & ~server.resumed) | (lone & ~requested & ~self.psk),
            Grade.INFERRED,
        )
        # A flight that contradicts the request (asked, and only a Finished back) is not understood.
        absent = (empty | (lone & ~requested)) & ~self.psk
        _settle(c, "client_certificate", presented, absent, Grade.INFERRED)
        _settle(c, "resumed", known & server.resumed, known & ~server.resumed)
        flight_done = presented | empty | lone
        server_later = server_raw.total > server.size
        client_later = client_raw.total > client.size
        answered = (
            (server_raw.length[np.arange(self.n), np.minimum(server.size, flights.WIDTH - 1)]) > flights.ALERT_RECORD
        )
        proceeds = flight_done & (client_later | (server_later & answered))
        self._refusals(alerted, modern)
        refused = c["refused"] == Ternary.YES
        _settle(c, "established", proceeds & ~refused, modern & (refused | self.fatal.any(axis=1)) & ~proceeds)
        # The client refused before its turn came: it presented nothing.
        silent = refused & (c["client_certificate"] == Ternary.UNKNOWN) & ~flight_done
        c["client_certificate"][silent] = Ternary.NO
        c["client_certificate_grade"][silent] = c["refused_grade"][silent]

        c["server_certificate_len"] = np.where(known, server.certificate, c["server_certificate_len"])
        certificate_row = np.where(known, server.certificate_row, -1)
        c["server_certificate_frame"] = np.where(
            certificate_row >= 0, self._frames(certificate_row), c["server_certificate_frame"]
        )
        c["client_certificate_len"] = np.where(presented, client.certificate, c["client_certificate_len"])
        first = np.where(modern & (flight_done | alerted), client.first_row, -1)
        c["client_flight_frame"] = np.where(first >= 0, self._frames(first), c["client_flight_frame"])
        self._keys(np.where(known, server.key, -1), "server_key")
        self._keys(np.where(presented, client.key, -1), "client_key")
        self._alpn(known, server.extensions)
        low, high = KUBELET_CHAIN
        rsa = server.key == 0
        chain = known & (server.certificate >= low) & (server.certificate <= high) & rsa
        single = known & (server.certificate > 0) & ~chain
        _settle(c, "server_self_made", chain, single & (server.certificate < low), Grade.INFERRED)
        data = np.where(
            modern & flight_done & client_later,
            client_raw.row[np.arange(self.n), np.minimum(client.size, flights.WIDTH - 1)],
            -1,
        )
        self._application_data(np.where(data >= 0, data, self._first_data()))

    def _first_data(self) -> I64:
        """First application data record of each client stream up to TLS 1.2: there it always is application data."""
        even = np.arange(self.n) * 2
        raw = flights.encrypted_records(self.numbered, even, np.full(self.n, -1))
        return np.where(self.older | (self.c["version"] == 0), raw.row[:, 0], -1)

    def _application_data(self, rows: I64) -> None:
        self.c["application_data_frame"] = self._frames(rows)

    def _refusals(self, alerted: Mask, modern: Mask) -> None:
        c = self.c
        clear = np.isin(c["client_alert"], CERTIFICATE_ALERTS) & ~(self.older & (self.change >= 0).all(axis=1))
        _settle(c, "refused", clear, np.zeros(self.n, bool), Grade.OBSERVED)
        _settle(c, "refused", alerted & ~clear, np.zeros(self.n, bool), Grade.INFERRED)
        silent = clear & self.older & (c["client_certificate"] == Ternary.UNKNOWN)
        c["client_certificate"][silent] = Ternary.NO
        c["client_certificate_grade"][silent] = Grade.OBSERVED
        ended = clear & self.older
        c["established"][ended] = Ternary.NO

    def _keys(self, index: I64, name: str) -> None:
        names = np.array([*(self.strings.add(key) for _, _, key in KEYS), -1], np.int64)
        self.c[name] = np.where(index >= 0, names[index], self.c[name])

    def _alpn(self, known: Mask, extensions: I64) -> None:
        """ALPN by the length of EncryptedExtensions, where the client offered what that length means."""
        offered = np.array(list(self.strings.index), object)
        for length, protocol in ALPN_LENGTHS.items():
            if not protocol:
                continue
            rows = np.flatnonzero(known & (extensions == length) & (self.c["alpn_offered"] >= 0))
            rows = rows[[protocol in str(offered[i]).split(",") for i in self.c["alpn_offered"][rows].tolist()]]
            self.c["alpn"][rows] = self.strings.add(protocol)
            self.c["alpn_grade"][rows] = Grade.INFERRED

    # ------------------------------------------------------------------------------------------ the rest

    def settle_refusals(self) -> None:
        """A completed handshake was not refused."""
        c = self.c
        accepted = (c["established"] == Ternary.YES) & (c["refused"] == Ternary.UNKNOWN)
        c["refused"][accepted] = Ternary.NO
        c["refused_grade"][accepted] = Grade.OBSERVED

    def reasons(self) -> None:
        c = self.c
        heads, flows = self.heads, self.flows
        holes = np.zeros(len(heads), bool)
        holes[heads.holes_stream] = True
        holed = holes[flows * 2] | holes[flows * 2 + 1]
        middle = ~heads.from_start[flows * 2] & ~heads.from_start[flows * 2 + 1]
        empty = (np.diff(heads.offsets)[flows * 2] == 0) | (np.diff(heads.offsets)[flows * 2 + 1] == 0)
        open_question = (c["client_certificate"] == Ternary.UNKNOWN) | (c["version"] == 0)
        for mask, reason in (
            (middle, "joined mid-connection: the handshake was before the capture"),
            (holed, "octets of the handshake are missing from the capture"),
            (empty, "one direction was not captured"),
            (self.cut_hello, "the capture ends inside the ClientHello"),
            (open_question, "the handshake has a form this program does not read"),
        ):
            rows = mask & open_question & (c["unclear"] < 0)
            c["unclear"][rows] = self.strings.add(reason)

    def result(self) -> TlsReading:
        columns: list[Column] = []
        for f in fields(TlsFacts):
            dtype = _DTYPES.get(str(f.type), np.int64)
            columns.append(self.c[f.name].astype(dtype))
        return TlsReading(
            TlsFacts(*columns),
            tuple(self.strings.index),
            tuple(self.chains),
            tuple(self.certificates),
            tuple(self.requested),
        )


_DTYPES: Final[dict[str, type]] = {
    "I64": np.int64,
    "I32": np.int32,
    "U16": np.uint16,
    "U8": np.uint8,
    "Mask": np.bool_,
    "NDArray[np.int16]": np.int16,
}
_NO_INDEX: Final = frozenset(
    {"sni", "alpn_offered", "alpn", "groups_offered", "ja3", "ja3s", "ja4", "client_chain", "server_chain"}
    | {"client_key", "server_key", "client_alert", "server_alert", "unclear"}
)


def _empty_columns(flows: I64) -> dict[str, Column]:
    n = flows.shape[0]
    columns: dict[str, Column] = {}
    for f in fields(TlsFacts):
        fill = -1 if f.name in _NO_INDEX else Grade.NONE if f.name.endswith("_grade") else 0
        columns[f.name] = np.full(n, fill, np.bool_ if str(f.type) == "Mask" else np.int64)
    columns["flow"] = flows.astype(np.int64)
    return columns


def _settle(c: dict[str, Column], name: str, yes: Mask, no: Mask, grade: Grade | None = None) -> None:
    """Set a ternary column, and its grade, where it is still unknown."""
    fresh = c[name] == Ternary.UNKNOWN
    for mask, value in ((yes & fresh, Ternary.YES), (no & ~yes & fresh, Ternary.NO)):
        c[name][mask] = value
        if grade is not None:
            c[f"{name}_grade"][mask] = grade


def _only(rows: I64, chosen: Mask) -> I64:
    """Rows for which `chosen` (per message) holds, -1 for the others."""
    if chosen.shape[0] == 0:
        return np.full(rows.shape[0], -1, np.int64)
    return np.where((rows >= 0) & chosen[np.maximum(rows, 0)], rows, -1)


def _message_lengths(table: messages.MessageTable, rows: I64) -> I64:
    if len(table) == 0:
        return np.zeros(rows.shape[0], np.int64)
    return np.where(rows >= 0, table.length[np.maximum(rows, 0)], 0)


def _end_records(handshakes: Handshakes, rows: I64) -> I64:
    if len(handshakes.messages) == 0:
        return np.full(rows.shape[0], -1, np.int64)
    return handshakes.messages.end_record[np.maximum(rows, 0)]


def _ca_names(body: bytes, version: int) -> tuple[str, ...]:
    """Distinguished names of a CertificateRequest body; TLS 1.2 has a list of signature algorithms in front."""
    at = 1 + (body[0] if body else 0)
    if version == TlsVersion.TLS_1_2:
        at += 2 + int.from_bytes(body[at : at + 2], "big")
    listed = body[at + 2 : at + 2 + int.from_bytes(body[at : at + 2], "big")]
    names: list[str] = []
    at = 0
    while at + 2 <= len(listed) and len(names) < 32:
        stop = at + 2 + int.from_bytes(listed[at : at + 2], "big")
        names.append(_name_text(listed[at + 2 : stop]))
        at = stop
    return tuple(names)


def _name_text(der: bytes) -> str:
    """The last text value of a DER Name, which is its common name in every CA that Kubernetes makes."""
    values = [der[i + 2 : i + 2 + der[i + 1]] for i in range(len(der) - 1) if der[i] in (0x0C, 0x13)]
    return text(values[-1]) if values else ""


def read_tls(heads: StreamHeads, flows: I64, closed: U8) -> TlsReading:
    """Read the TLS facts of the given flows.

    Parameters
    ----------
    heads : StreamHeads
        Stream ``2 * flow`` is client to server, ``2 * flow + 1`` server to client.
    flows : (T,) int64
        Flows identified as TLS, each at most once.
    closed : (T, 2) uint8
        All TCP flags each side ever sent.
    """
    reader = _Reader(heads, flows, closed)
    reader.psk = np.zeros(reader.n, bool)
    reader.hellos()
    reader.alerts()
    reader.change_cipher()
    reader.clear_handshake()
    reader.lengths()
    reader.settle_refusals()
    reader.reasons()
    return reader.result()


def settled(reading: TlsReading) -> Mask:
    """Flows of a reading whose facts no later octet of the head can change: (T,) bool."""
    facts = reading.facts
    done: Mask = (
        (facts.established == Ternary.YES)
        & (facts.application_data_frame > 0)
        & facts.client_hello_seen
        & facts.server_hello_seen
        & (facts.client_certificate != Ternary.UNKNOWN)
    )
    return done
