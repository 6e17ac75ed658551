"""TLS 1.3 without keys: what the lengths of the encrypted handshake records tell.

Most implementations, Go's crypto/tls always, put each encrypted handshake message into a record of its own. A record
is message + 1 octet content type + 16 octets tag (RFC 8446 5.2), so a Finished is 53 or 69 octets, an empty
Certificate 25, a CertificateVerify tells the key. Where a flight does not have exactly the shape of one, the answer is
"not known". All flows are compared at once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from analyzer.protocols.tlsread.layer import ALERT, APPLICATION_DATA, HANDSHAKE, RecordTable
from analyzer.schema import I64, Mask

WIDTH: Final = 8
"""Encrypted records looked at per direction: a server's flight has five, a client's three, some follow."""
_OVERHEAD: Final = 1 + 16
_HEADER: Final = 4

EMPTY_CERTIFICATE: Final = _HEADER + 1 + 3 + _OVERHEAD
ALERT_RECORD: Final = 2 + _OVERHEAD
FINISHED_SHA256: Final = _HEADER + 32 + _OVERHEAD
FINISHED_SHA384: Final = _HEADER + 48 + _OVERHEAD
MIN_CERTIFICATE: Final = 200
"""A Certificate message with an actual certificate: the smallest Ed25519 leaf is above 200 octets."""
MIN_CERTIFICATE_REQUEST: Final = _HEADER + 1 + 2 + 8 + _OVERHEAD
"""certificate_request_context, an extension list, and signature_algorithms with one entry (RFC 8446 4.3.2)."""

# CertificateVerify: header 4, algorithm 2, length 2, signature; ECDSA signatures are DER and vary by a few octets.
_VERIFY: Final = _HEADER + 2 + 2 + _OVERHEAD
KEYS: Final[tuple[tuple[int, int, str], ...]] = (
    (_VERIFY + 256, _VERIFY + 256, "rsa-2048"),
    (_VERIFY + 384, _VERIFY + 384, "rsa-3072"),
    (_VERIFY + 512, _VERIFY + 512, "rsa-4096"),
    (_VERIFY + 68, _VERIFY + 72, "ecdsa-p256"),
    (_VERIFY + 100, _VERIFY + 104, "ecdsa-p384"),
    (_VERIFY + 135, _VERIFY + 139, "ecdsa-p521"),
    (_VERIFY + 64, _VERIFY + 64, "ed25519"),
)

# EncryptedExtensions: header 4, list length 2, then ALPN (9 for h2, 15 for http/1.1) and an empty server_name (4).
_EE: Final = _HEADER + 2 + _OVERHEAD
ALPN_LENGTHS: Final = {_EE + 9: "h2", _EE + 13: "h2", _EE + 15: "http/1.1", _EE + 19: "http/1.1", _EE: "", _EE + 4: ""}

KUBELET_CHAIN: Final = (1560, 1850)
"""Length of the Certificate record with a kubelet's self-made chain: a leaf and a throw-away CA, both RSA-2048.
Measured 1614 to 1791 over host names of different length; widened for longer names."""


class Flight(NamedTuple):
    """Encrypted records of one direction of each flow.

    ``length`` (T, WIDTH) int64, -1 = none; ``row`` (T, WIDTH) int64 row of the record table; ``total`` (T,) int64 how
    many there are in all, unbounded by WIDTH.
    """

    length: I64
    row: I64
    total: I64


def encrypted_records(records: RecordTable, streams: I64, after: I64) -> Flight:
    """Application-data-typed records of each stream that follow record number `after` ((T,) int64)."""
    n = streams.shape[0]
    of = np.full(int(max(streams.max(initial=-1), records.stream.max(initial=-1))) + 1, -1, np.int64)
    of[streams] = np.arange(n)
    flow = of[records.stream]
    rows = np.flatnonzero((flow >= 0) & (records.kind == APPLICATION_DATA) & (records.number > after[flow]))
    owner = flow[rows]
    count = np.bincount(owner, minlength=n)
    begins = np.concatenate([[True], owner[1:] != owner[:-1]]) if rows.shape[0] else np.zeros(0, bool)
    place = np.arange(rows.shape[0]) - np.maximum.accumulate(np.where(begins, np.arange(rows.shape[0]), 0))
    kept = place < WIDTH
    length, row = np.full((n, WIDTH), -1, np.int64), np.full((n, WIDTH), -1, np.int64)
    length[owner[kept], place[kept]] = records.length[rows[kept]]
    row[owner[kept], place[kept]] = rows[kept]
    return Flight(length, row, count)


def key_index(length: I64) -> I64:
    """Row of `KEYS` that a CertificateVerify record of each `length` belongs to, -1 = none."""
    index = np.full(length.shape, -1, np.int64)
    for i, (low, high, _) in enumerate(KEYS):
        index[(length >= low) & (length <= high)] = i
    return index


class ServerFlight(NamedTuple):
    """A server's encrypted flight, by flow.

    ``known`` (T,) bool: it has exactly a known shape; ``requested`` (T,) bool; ``resumed`` (T,) bool;
    ``certificate`` (T,) int64 length of the Certificate record, 0 = none; ``certificate_row`` (T,) int64; ``key``
    (T,) int64 row of `KEYS`, -1; ``size`` (T,) int64 records in the flight; ``extensions`` (T,) int64 length of
    EncryptedExtensions.
    """

    known: Mask
    requested: Mask
    resumed: Mask
    certificate: I64
    certificate_row: I64
    key: I64
    size: I64
    extensions: I64


def read_server_flight(flight: Flight, finished: I64, psk: Mask) -> ServerFlight:
    """EncryptedExtensions, [CertificateRequest], Certificate, CertificateVerify, Finished (RFC 8446 4.3 and 4.4).

    Parameters
    ----------
    flight : Flight
    finished : (T,) int64
        Length of a Finished record with the suite chosen.
    psk : (T,) bool
        The ServerHello accepts a pre-shared key: no certificates follow.
    """
    length = flight.length
    keys = key_index(length)
    opens = length[:, 0] >= _EE
    plain = opens & (length[:, 1] >= MIN_CERTIFICATE) & (keys[:, 2] >= 0) & (length[:, 3] == finished)
    asking = opens & (length[:, 1] >= MIN_CERTIFICATE_REQUEST) & (length[:, 2] >= MIN_CERTIFICATE)
    asking &= (keys[:, 3] >= 0) & (length[:, 4] == finished)
    # Both shapes at once would need a CertificateRequest that is also a certificate's length; then neither is known.
    plain, asking = plain & ~asking & ~psk, asking & ~plain & ~psk
    resumed = opens & psk & (length[:, 1] == finished)
    at = np.where(asking, 2, 1)
    rows = np.arange(length.shape[0])
    full = plain | asking
    return ServerFlight(
        full | resumed,
        asking,
        resumed,
        np.where(full, length[rows, at], 0),
        np.where(full, flight.row[rows, at], -1),
        np.where(full, keys[rows, at + 1], -1),
        np.select([asking, plain, resumed], [5, 4, 2], 0),
        np.where(opens, length[:, 0], 0),
    )


class ClientFlight(NamedTuple):
    """A client's second flight, by flow.

    ``finished_only``, ``empty``, ``presented``, ``alert`` (T,) bool, at most one of them; ``certificate`` (T,) int64
    length of the Certificate record, 0 = none; ``key`` (T,) int64 row of `KEYS`, -1; ``size`` (T,) int64 records in
    the flight; ``first_row`` (T,) int64 its first record, -1.
    """

    finished_only: Mask
    empty: Mask
    presented: Mask
    alert: Mask
    certificate: I64
    key: I64
    size: I64
    first_row: I64


def read_client_flight(flight: Flight, finished: I64) -> ClientFlight:
    """Finished alone; an empty Certificate and Finished; Certificate, CertificateVerify and Finished; or an alert."""
    length = flight.length
    keys = key_index(length)
    finished_only = length[:, 0] == finished
    empty = (length[:, 0] == EMPTY_CERTIFICATE) & (length[:, 1] == finished)
    presented = (length[:, 0] >= MIN_CERTIFICATE) & (keys[:, 1] >= 0) & (length[:, 2] == finished)
    alert = (length[:, 0] == ALERT_RECORD) & (flight.total == 1)
    return ClientFlight(
        finished_only,
        empty,
        presented,
        alert,
        np.where(presented, length[:, 0], 0),
        np.where(presented, keys[:, 1], -1),
        np.select([presented, empty, finished_only], [3, 2, 1], 0),
        flight.row[:, 0],
    )


def clear_alerts(records: RecordTable, octets: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> I64:
    """Rows of readable alerts: two octets, level warning or fatal, a registered description (RFC 8446 6)."""
    rows = np.flatnonzero((records.kind == ALERT) & (records.length == 2) & (records.known == 2))
    level, description = octets[records.start[rows]], octets[records.start[rows] + 1]
    fits = ((level == 1) | (level == 2)) & (description <= 121)
    chosen: I64 = rows[fits]
    return chosen


def handshake_after(records: RecordTable, change: I64, flow: I64) -> Mask:
    """Whether a handshake-typed record follows record number `change` of its stream (<= 1.2: an encrypted Finished)."""
    n = change.shape[0]
    later = np.zeros(n, bool)
    rows = np.flatnonzero((records.kind == HANDSHAKE) & (flow >= 0))
    hits = rows[(records.number[rows] > change[flow[rows]]) & (change[flow[rows]] >= 0)]
    later[flow[hits]] = True
    return later
