"""The TLS stage: stream heads in, `TlsReading` out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from analyzer.protocols.tls.chains import ChainPool, requested_by_flow
from analyzer.protocols.tls.describe import ClientColumns, Shape, describe_clients, describe_servers
from analyzer.protocols.tls.distinct import distinct_rows
from analyzer.protocols.tls.flight import ENCRYPTED_EXTENSIONS, KEYS, RSA_2048
from analyzer.protocols.tls.hello import HelloEnd
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.protocols.tls.legacy import ternary
from analyzer.protocols.tls.outcome import REASONS, Outcome, decide, offers_early_data
from analyzer.protocols.tls.stacks import Stack, request_octets
from analyzer.protocols.tls.strings import StringPool, text_of
from analyzer.protocols.tls.version import versions_by_records
from analyzer.protocols.tls.view import Handshakes
from analyzer.registries import Grade, Ternary
from analyzer.schema import I32, I64, U8, Certificate, Mask, StreamHeads, TlsFacts, TlsReading

if TYPE_CHECKING:
    from analyzer.protocols.tls.decrypted import Opened
    from analyzer.protocols.tls.opening import OpenedFlow

Columns = dict[str, NDArray[Any]]

_MESSAGE_HEADER: Final = 4
_ALPN_OVERHEAD: Final = 7
"""Octets of an ALPN extension beside the name: type, length, list length, name length (RFC 7301 3.1)."""
_NAME_ACKNOWLEDGED: Final = 4
"""Octets of an empty server_name extension (RFC 6066 3), which Go sends since 1.25."""

POST_QUANTUM: Final = (512, 513, 514, 4587, 4588, 4589, 4590, 25497, 25498)
"""Supported groups with ML-KEM or its drafts (IANA TLS Supported Groups; draft-ietf-tls-ecdhe-mlkem)."""
USUAL_AUTHORITIES: Final = ((), (23,), (23, 27))
"""Octets of the DER names CN=kubernetes and CN=front-proxy-ca: no CA, one, two."""

SELF_MADE_LENGTH: Final = (1590, 1920)
"""Record lengths of the Certificate message of a chain that a kubelet made itself: leaf and throw-away CA, both
RSA-2048. Measured 1614 for a host name of 5 octets, and 5 more for each further octet of it, up to 63."""


def read_tls(heads: StreamHeads, flows: I64, closed: U8) -> TlsReading:
    """Read the handshakes of TLS flows.

    Parameters
    ----------
    heads : StreamHeads
    flows : (T,) int64
        Flows recognised as TLS; flow f has the streams 2 f (client to server) and 2 f + 1.
    closed : (T, 2) uint8
        TCP flags each side ever set, or-ed (FIN = 1, RST = 4).

    Returns
    -------
    TlsReading
        One row of facts a flow, in the order of `flows`.

    Raises
    ------
    ValueError
        If `closed` does not have a row a flow. What the octets hold never raises.

    Notes
    -----
    RFC 8446, RFC 5246 and their predecessors; for TLS 1.3 without keys see `flight`.
    """
    return _read(heads, flows, closed, None)[0]


def read_tls_with_keys(heads: StreamHeads, flows: I64, closed: U8, keys: KeyLog) -> tuple[TlsReading, Opened]:
    """Read the handshakes of TLS flows, and decrypt those for which `keys` has secrets.

    Parameters
    ----------
    heads, flows, closed
        As for `read_tls`.
    keys : KeyLog

    Returns
    -------
    reading : TlsReading
        What was decrypted is observed; everything else is as without keys.
    opened : Opened
        Application data of the flows that were decrypted, by row of the facts.
    """
    reading, found = _read(heads, flows, closed, keys)
    from analyzer.protocols.tls.decrypted import application_streams

    return reading, application_streams(found)


def _read(heads: StreamHeads, flows: I64, closed: U8, keys: KeyLog | None) -> tuple[TlsReading, dict[int, OpenedFlow]]:
    if closed.shape != (flows.shape[0], 2):
        raise ValueError(f"closed has shape {closed.shape}, expected ({flows.shape[0]}, 2)")
    view = Handshakes(heads, flows)
    outcome = decide(view, closed)
    opened: dict[int, OpenedFlow] = {}
    if keys is not None:
        # Loaded where keys were given: `cryptography` costs as much to load as a small capture to read.
        from analyzer.protocols.tls import decrypted, opening

        opened = opening.open_flows(view, keys, np.flatnonzero(offers_early_data(view)))
    by_records = np.zeros(view.count, np.int64)
    # Asked where no ServerHello tells, and that is seldom.
    untold = np.flatnonzero(view.version == 0)
    if untold.shape[0]:
        local = np.concatenate([untold, view.count + untold])
        walk = view.walk.among(local)
        by_records[untold] = versions_by_records(heads, view.streams[local], walk, closed[untold])
    strings, chains = StringPool(), ChainPool()
    facts: Columns = {
        "flow": view.flows,
        "client_hello_seen": view.client_hello >= 0,
        "server_hello_seen": (view.server_hello >= 0) & (view.cipher >= 0),
        "version": np.where(view.version > 0, view.version, by_records),
        "version_grade": np.where(
            view.version > 0, Grade.OBSERVED, np.where(by_records > 0, Grade.INFERRED, Grade.NONE)
        ),
        "cipher_suite": np.maximum(view.cipher, 0),
        "group": np.where(view.group > 0, view.group, outcome.clear.group),
        "resumed": outcome.resumed,
        "established": outcome.established,
        "certificate_requested": outcome.requested,
        "certificate_requested_grade": outcome.requested_grade,
        "client_certificate": outcome.presented,
        "client_certificate_grade": outcome.presented_grade,
        "refused": outcome.refused,
        "refused_grade": outcome.refused_grade,
        "client_alert": view.alerts[1][: view.count],
        "server_alert": view.alerts[1][view.count :],
        "unclear": strings.column([reason or None for reason in REASONS], outcome.reason),
    }
    facts |= _hello_columns(view, outcome, strings)
    facts["client_chain"] = chains.column(view, outcome.clear.client_certificate)
    facts["server_chain"] = chains.column(view, outcome.clear.server_certificate)
    if opened:
        decrypted.chain_columns(opened, facts, chains)
    facts |= _certificate_columns(view, outcome, chains, facts["server_chain"], facts["server_stack"])
    facts["client_key"] = _keys(facts["client_chain"], outcome.flights.client_key, chains, strings)
    facts["server_key"] = _keys(facts["server_chain"], outcome.flights.server_key, chains, strings)
    facts |= _frames(view, outcome)
    facts["decrypted"] = np.full(view.count, Ternary.UNKNOWN, np.uint8)
    facts["decryption"] = np.full(view.count, -1, np.int32)
    requested = requested_by_flow(view, outcome.clear.request)
    if keys is not None:
        requested = tuple(sorted([*requested, *decrypted.add_facts(view, opened, facts, strings)]))
    types = {name: str(annotation) for name, annotation in TlsFacts.__annotations__.items()}
    facts |= _further(view, outcome, facts, requested, opened)
    table = TlsFacts(**{name: column.astype(_DTYPES[types[name]]) for name, column in facts.items()})
    reading = TlsReading(table, strings.strings(), chains.chains(), chains.certificates(), requested)
    return reading, opened


_DTYPES: Final[dict[str, type]] = {
    "I64": np.int64,
    "Mask": np.bool_,
    "U16": np.uint16,
    "I32": np.int32,
    "U8": np.uint8,
    "NDArray[np.int16]": np.int16,
}


def settled(heads: StreamHeads, flows: I64) -> Mask:
    """Where the handshake is over and no later octet of the head can change a fact: (T,) bool.

    Parameters
    ----------
    heads : StreamHeads
    flows : (T,) int64
        Flows recognised as TLS.

    Notes
    -----
    That is where every answer was found, the client has sent application data and, so that the frames of the evidence
    stand, nothing is missing before it. A gap may still be filled by a late segment: such a flow is not settled.
    """
    view = Handshakes(heads, flows)
    outcome = decide(view, np.zeros((flows.shape[0], 2), np.uint8))
    count = view.count
    done: Mask = (outcome.reason == 0) & (outcome.client_data >= 0) & (outcome.refused == Ternary.NO)
    done &= (outcome.established == Ternary.YES) & (view.client_end == HelloEnd.WHOLE)
    holes = np.zeros(len(heads), bool)
    holes[heads.holes_stream] = True
    return done & ~holes[view.streams[:count]] & ~holes[view.streams[count:]]


def _hello_columns(view: Handshakes, outcome: Outcome, strings: StringPool) -> Columns:
    """Names, offers, fingerprints and libraries."""
    count = view.count
    columns: Columns = {
        name: np.full(count, -1, np.int32) for name in ("sni", "alpn_offered", "groups_offered", "ja3", "ja4")
    }
    columns |= {"max_offered": np.zeros(count, np.int64), "client_stack": np.zeros(count, np.uint8)}
    shapes: list[Shape] = []
    shape, named = np.full(count, -1, np.int64), np.zeros(count, bool)
    for flows, hellos in view.client_parts:
        found: ClientColumns = describe_clients(hellos, strings)
        shape[flows] = found.shape + len(shapes)
        shapes.extend(found.shapes)
        named[flows] = found.sends_name
        for name in ("sni", "alpn_offered", "groups_offered", "ja3", "ja4", "max_offered"):
            columns[name][flows] = getattr(found, name)
        columns["client_stack"][flows] = found.stack
    columns["alpn"], columns["ja3s"] = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    columns["server_stack"] = np.zeros(count, np.uint8)
    for flows, hellos in view.server_parts:
        servers = describe_servers(hellos, view.is_13[flows], shape[flows], tuple(shapes), strings)
        columns["alpn"][flows], columns["ja3s"][flows] = servers.alpn, servers.ja3s
        columns["server_stack"][flows] = servers.stack
    clear = ~view.is_13 & (view.server_hello >= 0) & (view.server_end == HelloEnd.WHOLE)
    columns["alpn_grade"] = np.where(clear | (columns["alpn"] >= 0), Grade.OBSERVED, Grade.NONE)
    _infer_alpn(view, outcome, shape, shapes, named, columns, strings)
    # What the handshake shows of the server in TLS 1.3 is one message a record; anything else is not Go.
    unlike = view.is_13 & (outcome.server.count > 0) & (outcome.flights.server_finished < 0)
    columns["server_stack"] = np.where(
        unlike & (columns["server_stack"] == Stack.GO), Stack.UNKNOWN, columns["server_stack"]
    )
    return columns


def _infer_alpn(
    view: Handshakes,
    outcome: Outcome,
    shape: I64,
    shapes: list[Shape],
    named: Mask,
    columns: Columns,
    strings: StringPool,
) -> None:
    """The server's choice by the length of EncryptedExtensions, where one offer alone explains it."""
    extensions = outcome.flights.extensions_len
    whole = view.client_end == HelloEnd.WHOLE
    rows = np.flatnonzero(view.is_13 & (extensions > 0) & (shape >= 0) & whole)
    cases = shape[rows], named[rows].astype(np.int64), extensions[rows]
    inverse, first = distinct_rows(*cases)
    answers = np.full((first.shape[0], 2), -1, np.int64)
    for case, (kind, name, length) in enumerate(zip(*(column[first].tolist() for column in cases), strict=True)):
        offers = {ENCRYPTED_EXTENSIONS: None} | {
            ENCRYPTED_EXTENSIONS + _ALPN_OVERHEAD + len(offer): offer for offer in reversed(shapes[kind].alpn)
        }
        sizes = [len(offer) for offer in shapes[kind].alpn]
        fits = [base for base in offers if length in ({base, base + _NAME_ACKNOWLEDGED} if name else {base})]
        if len(fits) == 1:
            offer = offers[fits[0]]
            if offer is None or sizes.count(len(offer)) == 1:
                answers[case] = strings.number(None if offer is None else text_of(offer)), 1
    found = answers[inverse]
    chosen = found[:, 1] > 0
    columns["alpn"][rows[chosen]] = found[chosen, 0]
    columns["alpn_grade"][rows[chosen]] = Grade.INFERRED


def _further(
    view: Handshakes,
    outcome: Outcome,
    facts: Columns,
    requested: tuple[tuple[int, tuple[str, ...]], ...],
    opened: dict[int, OpenedFlow],
) -> Columns:
    """Key exchange, retries, early data, renegotiation, the number of CAs asked for, and what to trust less."""
    count, older = view.count, (view.version > 0) & ~view.is_13
    hybrid = np.isin(facts["group"], POST_QUANTUM)
    whole = view.client_end == HelloEnd.WHOLE
    early = offers_early_data(view)
    again = np.zeros(count, bool)
    again[[row for row, flow in opened.items() if flow.renegotiated]] = True
    client_go, server_go = facts["client_stack"] == Stack.GO, facts["server_stack"] == Stack.GO
    sealed = view.is_13 & (facts["decrypted"] != Ternary.YES)
    names = np.full(count, -1, np.int64)
    place = dict(zip(view.flows.tolist(), range(count), strict=True)) if requested else {}
    for flow, listed in requested:
        names[place[flow]] = len(listed)
    inferred = _authorities_by_length(view, outcome, server_go & sealed)
    client_says = facts["client_certificate_grade"] == Grade.INFERRED
    server_says = (facts["certificate_requested_grade"] == Grade.INFERRED) | (facts["alpn_grade"] == Grade.INFERRED)
    return {
        "post_quantum": ternary(hybrid, (facts["group"] > 0) & ~hybrid | older),
        "hello_retry": ternary(view.retried, _comes_first(view)),
        "early_data": ternary(early, whole & ~early),
        # In clear the second handshake is seen only by its record type, and only as far as a connection is kept.
        "renegotiated": ternary(again, view.is_13),
        "authorities": np.where(names >= 0, names, inferred),
        "authorities_grade": np.where(names >= 0, Grade.OBSERVED, np.where(inferred >= 0, Grade.INFERRED, Grade.NONE)),
        "lower_confidence": (sealed & client_says & ~client_go) * 1 + (sealed & server_says & ~server_go) * 2,
    }


def _comes_first(view: Handshakes) -> Mask:
    """Flows whose ServerHello is the first thing the server sent."""
    count = view.count
    record = view.record_of(view.server_hello)
    gap = np.append(view.walk.records.gap, True)[record]
    first: Mask = (view.server_hello >= 0) & (record == view.walk.begin[count:-1]) & ~gap
    return first & view.heads.from_start[view.streams[count:]]


def _authorities_by_length(view: Handshakes, outcome: Outcome, of_go: Mask) -> I64:
    """Number of CA names in the CertificateRequest of Go servers by its length; -1 where it fits none of the usual.

    The list has six octets, and two more than its name for every CA; what the rest of the message has is known by
    release. Names differ in length, so the answer is an inference for the CAs clusters usually name: the cluster's,
    alone or with the front proxy's (kubelet and API server), with the names that kubeadm and the documentation give.
    """
    flights = outcome.flights
    asked = of_go & (flights.requested == Ternary.YES) & (flights.server_certificate == 2)
    length = np.where(asked, outcome.server.length[:, 1] - flights.overhead, -1)
    found = np.full(view.count, -1, np.int64)
    for octets in request_octets():
        for number, names in enumerate(USUAL_AUTHORITIES):
            listed = sum(2 + name for name in names)
            found[asked & (length == octets + (6 + listed if names else 0))] = number
    return found


def _certificate_columns(
    view: Handshakes, outcome: Outcome, chains: ChainPool, server_chain: I32, server_stack: U8
) -> Columns:
    """Lengths of the Certificate messages, and whether the server made its certificate itself."""
    flights, rows = outcome.flights, np.arange(view.count)
    lengths: Columns = {}
    for name, message, number, sequences in (
        ("server_certificate_len", outcome.clear.server_certificate, flights.server_certificate, outcome.server),
        ("client_certificate_len", outcome.clear.client_certificate, flights.client_certificate, outcome.client),
    ):
        clear = (
            np.where(message >= 0, view.messages.stop[message] - view.messages.start[message], -1)
            if len(view.messages)
            else np.full(view.count, -1, np.int64)
        )
        sealed = np.where(view.is_13 & (number >= 0), sequences.length[rows, np.maximum(number, 0)], 0)
        lengths[name] = np.where(message >= 0, clear + _MESSAGE_HEADER, sealed)
    leaf_yes, leaf_no = _leaves(server_chain, chains)
    length = lengths["server_certificate_len"]
    go = view.is_13 & (server_chain < 0) & (server_stack == Stack.GO) & (flights.server_certificate >= 0)
    fits = (length >= SELF_MADE_LENGTH[0]) & (length <= SELF_MADE_LENGTH[1])
    of_rsa = flights.server_key == RSA_2048
    # No length shows that a certificate is *not* self-signed: sealed, the answer is YES or stays open.
    value = ternary(leaf_yes | (go & fits & of_rsa), leaf_no)
    grade = np.where(leaf_yes | leaf_no, Grade.OBSERVED, Grade.INFERRED)
    return lengths | {
        "server_self_made": value,
        "server_self_made_grade": np.where(value == Ternary.UNKNOWN, Grade.NONE, grade),
    }


def _leaves(chain: I32, chains: ChainPool) -> tuple[Mask, Mask]:
    """Whether the leaf of each chain was made by the server itself, and whether it is known not to be."""
    certificates = [chains.certificates()[rows[0]] for rows in chains.chains()]
    yes = np.array([c.kubelet_self_made or c.self_signed for c in certificates] + [False], bool)
    no = np.array([not (c.kubelet_self_made or c.self_signed or c.problem) for c in certificates] + [False], bool)
    return yes[chain], no[chain]  # -1 reads the last one: neither


def _keys(chain: I32, by_length: U8, chains: ChainPool, strings: StringPool) -> I32:
    """Key type by the leaf where it is visible, else by the length of the CertificateVerify."""
    leaves: list[Certificate] = [chains.certificates()[rows[0]] for rows in chains.chains()]
    texts: list[str | None] = [leaf.key or None for leaf in leaves] + [name or None for name in KEYS]
    return strings.column(texts, np.where(chain >= 0, chain, len(leaves) + by_length.astype(np.int64)))


def _frames(view: Handshakes, outcome: Outcome) -> Columns:
    """Frames of the evidence, looked up together."""
    count, records, flights = view.count, view.walk.records, outcome.flights
    rows = np.arange(count)

    def of_record(record: I64) -> I64:
        return np.append(records.header, -1)[record]

    def of_message(message: I64) -> I64:
        return np.append(view.messages.header, -1)[message]

    def sealed(record: I64, number: I64) -> I64:
        return of_record(np.where(view.is_13 & (number >= 0), record[rows, np.maximum(number, 0)], -1))

    clear = outcome.clear
    certificate = of_message(clear.server_certificate)
    flight = of_message(np.where(clear.client_certificate >= 0, clear.client_certificate, clear.key_exchange))
    stands_in = np.where(view.is_13 & outcome.client.anchored, of_record(outcome.client.record[:, 0]), -1)
    alert = view.alerts[2]
    offsets = {
        "client_hello_frame": (0, of_message(view.client_hello)),
        "server_hello_frame": (1, of_message(view.server_hello)),
        "server_certificate_frame": (
            1,
            np.where(certificate >= 0, certificate, sealed(outcome.server.record, flights.server_certificate)),
        ),
        "client_flight_frame": (0, np.where(flight >= 0, flight, stands_in)),
        "client_alert_frame": (0, of_record(alert[:count])),
        "server_alert_frame": (1, of_record(alert[count:])),
        "application_data_frame": (0, of_record(outcome.client_data)),
    }
    row = np.concatenate([rows + side * count for side, _ in offsets.values()])
    frames = view.frames(row, np.concatenate([offset for _, offset in offsets.values()]))
    return dict(zip(offsets, frames.reshape(len(offsets), count), strict=True))
