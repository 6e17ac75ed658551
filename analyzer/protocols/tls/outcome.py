"""What became of each handshake: the clear messages, the encrypted record lengths and the alerts put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from analyzer.protocols.tls.flight import ENCRYPTED_ALERT, Flights, Sequences, encrypted_sequences, read_flights
from analyzer.protocols.tls.hello import EARLY_DATA, HelloEnd
from analyzer.protocols.tls.legacy import ClearHandshakes, read_clear, ternary
from analyzer.protocols.tls.records import WalkEnd
from analyzer.protocols.tls.view import Handshakes
from analyzer.registries import Grade, Ternary
from analyzer.schema import I64, U8, Mask

_FIN_OR_RST: Final = 0b101
_USUAL_SUITE: Final = 0x1301
REFUSALS: Final = (42, 43, 44, 45, 46, 48)
"""AlertDescriptions by which a client refuses the server's certificate: bad_certificate, unsupported_certificate,
certificate_revoked, certificate_expired, certificate_unknown, unknown_ca (RFC 8446 6.2)."""

REASONS: Final = (
    "",
    "the capture begins after the handshake",
    "only one direction was captured",
    "octets of the client's hello were not captured (loss or snap length)",
    "octets of the server's hello were not captured (loss or snap length)",
    "the client's hello is malformed",
    "the server's hello is malformed",
    "octets of the client's handshake were not captured (loss or snap length)",
    "octets of the server's handshake were not captured (loss or snap length)",
    "a resumed session: certificates belong to an earlier handshake",
    "the client offered early data, whose records cannot be told from those of its handshake",
    "the flights of client and server contradict each other",
    "more records than are examined",
    "the handshake was not finished when the capture ended",
    "the connection ended before the handshake was finished",
    "record lengths fit no known flight: messages share records, or records are padded",
)
(
    _CLEAR,
    _AFTER,
    _ONE_SIDED,
    _CLIENT_HELLO_CUT,
    _SERVER_HELLO_CUT,
    _CLIENT_HELLO_BAD,
    _SERVER_HELLO_BAD,
    _CLIENT_GAP,
    _SERVER_GAP,
    _RESUMED,
    _EARLY_DATA,
    _DISAGREE,
    _TOO_MANY,
    _UNFINISHED,
    _BROKEN_OFF,
    _NO_PATTERN,
) = range(len(REASONS))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers for T flows; see `analyzer.schema.TlsFacts` for the columns of the same name.

    ``client``, ``server`` are the encrypted records after the hellos, ``flights`` what they say, ``clear`` what the
    clear messages say. ``client_data`` (T,) int64 is the record of the client's first application data, -1 = not seen.
    ``reason`` (T,) int64 is a row of `REASONS`.
    """

    clear: ClearHandshakes
    flights: Flights
    client: Sequences
    server: Sequences
    requested: U8
    requested_grade: U8
    presented: U8
    presented_grade: U8
    resumed: U8
    established: U8
    refused: U8
    refused_grade: U8
    client_data: I64
    reason: I64


def _grade(value: U8, observed: Mask) -> U8:
    grade = np.where(observed, Grade.OBSERVED, Grade.INFERRED)
    return np.where(value == Ternary.UNKNOWN, Grade.NONE, grade).astype(np.uint8)


def decide(view: Handshakes, closed: U8) -> Outcome:
    """Put the evidence of all flows of `view` together; `closed` (T, 2) uint8 are the TCP flags each side sent."""
    clear = read_clear(view)
    sequences = encrypted_sequences(view.walk, view.last_hello)
    client, server = _half(sequences, slice(None, view.count)), _half(sequences, slice(view.count, None))
    early = offers_early_data(view)
    flights = read_flights(_suite(view), view.accepts_key, early, _unread(view, client, server), client, server)
    is_13 = view.is_13

    by_alert, by_pattern = _refusals(view, flights, clear, closed)
    refused_yes = by_alert | by_pattern
    requested = np.where(is_13, flights.requested, clear.requested).astype(np.uint8)
    presented = np.where(is_13, flights.presented, clear.presented).astype(np.uint8)
    # Whom a resumed session authenticates was settled in an earlier handshake.
    presented = np.where(view.accepts_key, Ternary.UNKNOWN, presented).astype(np.uint8)
    # A client that refuses the server sends no Certificate of its own (RFC 8446 2: its flight comes after the check).
    presented = np.where(refused_yes & (presented != Ternary.YES), Ternary.NO, presented).astype(np.uint8)
    # A Certificate in clear is what it is, even where the ServerHello that would tell the version is missing.
    observed = ~is_13 | by_alert

    client_data = _client_data(view, client, flights)
    established = _established(view, clear, flights, client, refused_yes, closed)
    sent = _sent_data(view, client, flights, client_data)
    accepted = (established == Ternary.YES) & sent & ~refused_yes & _handshake_seen(view)
    outcome = Outcome(
        clear,
        flights,
        client,
        server,
        requested,
        _grade(requested, ~is_13),
        presented,
        _grade(presented, observed),
        np.where(is_13, ternary(view.accepts_key, ~view.accepts_key & _server_whole(view)), clear.resumed).astype(
            np.uint8
        ),
        established,
        ternary(refused_yes, accepted),
        _grade(ternary(refused_yes, accepted), by_alert | (accepted & ~is_13)),
        client_data,
        np.zeros(view.count, np.int64),
    )
    return replace(outcome, reason=_reason(view, outcome, early, closed))


def _suite(view: Handshakes) -> I64:
    """The suite that gives tag and hash: where the ServerHello is missing, the one that TLS 1.3 must implement."""
    return np.where((view.cipher < 0) & view.is_13, _USUAL_SUITE, view.cipher)


def _unread(view: Handshakes, client: Sequences, server: Sequences) -> Mask:
    """Flows of which only the client's flight was captured, and in which it holds no early data.

    Early data follows the ClientHello (RFC 8446 2.3, D.4); a flight that was sent after the server had answered begins
    with Certificate or Finished.
    """
    count = view.count
    unread: Mask = view.is_13 & ~server.anchored & client.anchored
    unread &= view.heads.from_start[view.streams].reshape(2, count).all(axis=0) & ~view.empty[count:]
    rows = np.flatnonzero(unread)
    if rows.shape[0]:
        sent = view.frames(rows, view.walk.records.header[client.record[rows, 0]])
        answered = view.frames(rows + count, view.heads.offsets[view.streams[rows + count]])
        unread[rows] = (answered > 0) & (sent > answered)
    return unread


def _half(sequences: Sequences, rows: slice) -> Sequences:
    return Sequences(sequences.length[rows], sequences.record[rows], sequences.count[rows], sequences.anchored[rows])


def _closed(closed: U8) -> Mask:
    """Either side sent FIN or RST."""
    over: Mask = ((closed[:, 0] | closed[:, 1]) & _FIN_OR_RST) > 0
    return over


def offers_early_data(view: Handshakes) -> Mask:
    """Flows whose ClientHello has the early_data extension (RFC 8446 4.2.10): (T,) bool."""
    early = np.zeros(view.count, bool)
    for flows, hellos in view.client_parts:
        early[flows] = hellos.extensions.pick(EARLY_DATA, len(hellos))[0] >= 0
    return early


def _server_whole(view: Handshakes) -> Mask:
    whole: Mask = (view.server_hello >= 0) & (view.server_end == HelloEnd.WHOLE)
    return whole


def _handshake_seen(view: Handshakes) -> Mask:
    seen: Mask = (view.client_hello >= 0) | (view.server_hello >= 0)
    return seen


def _refusals(view: Handshakes, flights: Flights, clear: ClearHandshakes, closed: U8) -> tuple[Mask, Mask]:
    """The client refused the server's certificate: by an alert in clear; by the pattern of an encrypted one.

    The pattern: in place of its second flight the client sends one record of an alert's size, and closes. Only where
    the whole of its stream was captured is "one record" known.
    """
    count = view.count
    by_alert = np.isin(view.alerts[1][:count], REFUSALS) & (clear.presented != Ternary.YES)
    pattern = view.is_13 & flights.alerted & (closed[:, 0] & _FIN_OR_RST > 0) & view.ended[:count]
    # Without the end of the server's flight the client may have had another reason to give up.
    pattern &= flights.server_finished > 0
    return by_alert, pattern & ~by_alert & ~view.accepts_key


def _client_data(view: Handshakes, client: Sequences, flights: Flights) -> I64:
    """Record of the first application data the client sent; -1 where none is known to be that."""
    rows = np.arange(view.count)
    after = np.minimum(flights.client_finished + 1, client.record.shape[1] - 1)
    of_13 = np.where(flights.client_finished >= 0, client.record[rows, after], -1)
    first = view.data[: view.count]
    # Without a hello on either side the records are what follows a handshake before the capture.
    middle = ~_handshake_seen(view)
    legacy = (view.version > 0) & ~view.is_13
    return np.where(view.is_13, of_13, np.where(middle | legacy, first, -1))


def _sent_data(view: Handshakes, client: Sequences, flights: Flights, client_data: I64) -> Mask:
    """The client sent application data after its Finished: a record that is not the size of an alert."""
    later = np.arange(client.length.shape[1]) > flights.client_finished[:, None]
    content = client.length - flights.overhead[:, None]
    data = ((content != ENCRYPTED_ALERT) & (client.length > 0) & later).any(axis=1) & (flights.client_finished >= 0)
    sent: Mask = np.where(view.is_13, data, client_data >= 0)
    return sent


def _established(
    view: Handshakes,
    clear: ClearHandshakes,
    flights: Flights,
    client: Sequences,
    refused: Mask,
    closed: U8,
) -> U8:
    count = view.count
    both_finished = (flights.client_finished >= 0) & (flights.server_finished >= 0)
    fatal = clear.established == Ternary.NO
    both_data = (view.data[:count] >= 0) & (view.data[count:] >= 0)
    # Before TLS 1.3, and where the handshake was before the capture, application data records hold nothing else.
    flowed = both_data & ((~_handshake_seen(view)) | ((view.version > 0) & ~view.is_13))
    yes = np.where(view.is_13, both_finished, (clear.established == Ternary.YES) | flowed)
    over = _closed(closed) & view.ended[:count] & view.ended[count:] & _handshake_seen(view)
    # Closed without the client's Finished, and everything was captured.
    sealed = view.sealed_handshake()
    nothing_13 = over & view.is_13 & ((client.count == 0) | flights.alerted)
    nothing = over & ~view.is_13 & ~sealed[:count]
    return ternary(yes.astype(bool) & ~refused & ~fatal, refused | fatal | nothing_13 | nothing)


def _reason(view: Handshakes, outcome: Outcome, early: Mask, closed: U8) -> I64:
    """Why an answer is missing: the first reason that applies, 0 where all were found."""
    count = view.count
    client_hello, server_hello = view.client_hello >= 0, view.server_hello >= 0
    open_ = (outcome.presented == Ternary.UNKNOWN) | (outcome.requested == Ternary.UNKNOWN)
    open_ |= (outcome.established == Ternary.UNKNOWN) | (view.version == 0)
    open_ |= client_hello & (view.client_end != HelloEnd.WHOLE)
    open_ |= ~client_hello | (server_hello & (view.server_end != HelloEnd.WHOLE))
    open_ &= (outcome.refused != Ternary.YES) | ~client_hello
    starts = view.heads.from_start[view.streams]
    over = _closed(closed)
    every = np.ones(count, bool)
    reasons: list[tuple[Mask, int]] = [
        (~client_hello & ~server_hello & ~starts[:count] & ~starts[count:], _AFTER),
        (view.client_end == HelloEnd.MALFORMED, _CLIENT_HELLO_BAD),
        (view.server_end == HelloEnd.MALFORMED, _SERVER_HELLO_BAD),
        ((view.empty[:count] ^ view.empty[count:]) & (outcome.established != Ternary.NO), _ONE_SIDED),
        ((view.client_end == HelloEnd.CUT) & (client_hello | view.gaps[:count]), _CLIENT_HELLO_CUT),
        ((view.server_end == HelloEnd.CUT) & (server_hello | view.gaps[count:]), _SERVER_HELLO_CUT),
        (outcome.resumed == Ternary.YES, _RESUMED),
        (early, _EARLY_DATA),
        (view.is_13 & outcome.flights.disagree, _DISAGREE),
        (view.gaps[:count], _CLIENT_GAP),
        (view.gaps[count:], _SERVER_GAP),
        ((view.walk.end[:count] == WalkEnd.LIMIT) | (view.walk.end[count:] == WalkEnd.LIMIT), _TOO_MANY),
        (_short(view, outcome) & over, _BROKEN_OFF),
        (_short(view, outcome), _UNFINISHED),
        (view.is_13, _NO_PATTERN),
        (over, _BROKEN_OFF),
        (every, _UNFINISHED),
    ]
    return np.select([open_ & mask for mask, _ in reasons], [number for _, number in reasons], _CLEAR).astype(np.int64)


def _short(view: Handshakes, outcome: Outcome) -> Mask:
    """Fewer encrypted records than a handshake of TLS 1.3 needs, on either side."""
    few: Mask = view.is_13 & ((outcome.client.count == 0) | (outcome.server.count == 0))
    return few
