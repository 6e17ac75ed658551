"""TLS 1.3 without keys: what the lengths of the encrypted handshake records say.

Where each handshake message is in a record of its own, as Go's crypto/tls and OpenSSL write them, the length of a
record is the length of its message and a constant: one octet of content type and the tag of the cipher suite
(RFC 8446 5.2). The Finished message of the suite's hash (4.4.4) and the CertificateVerify of a known signature size
(4.4.3) frame the flight; only flights in which both are found, at the places where RFC 8446 2 puts them, are decided.
All answers are inferences: record padding (5.4) or messages that share a record leave them unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.numbers import run_lengths, run_starts
from analyzer.protocols.tls.records import APPLICATION_DATA, CHANGE_CIPHER_SPEC, RecordWalk
from analyzer.registries import Ternary
from analyzer.schema import I64, U8, Mask

SEEN: Final = 10
"""Encrypted records looked at, from the first one of each side."""

_HANDSHAKE_HEADER: Final = 4
_TAG: Final = {0x1305: 8, 0xC0B4: 32, 0xC0B5: 48}
"""Octets of the authentication tag where it is not 16: CCM_8 (RFC 6655), integrity-only suites (RFC 9150)."""
_HASH: Final = {0x1302: 48, 0xC0B5: 48}
"""Octets of the hash where it is not 32."""

EMPTY_CERTIFICATE: Final = 8
"""Header, empty request context, empty list: RFC 8446 4.4.2."""
MIN_CERTIFICATE: Final = 113
"""A Certificate message with one entry: eight octets, five around the entry, and no X.509 certificate is below 100."""
MIN_REQUEST: Final = 15
"""CertificateRequest must hold signature_algorithms (RFC 8446 4.3.2)."""
ENCRYPTED_EXTENSIONS: Final = 6
"""Message without any extension."""
ENCRYPTED_ALERT: Final = 2

KEYS: Final = (
    "",
    "rsa-1024",
    "rsa-2048",
    "rsa-3072",
    "rsa-4096",
    "rsa-8192",
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "ed25519",
    "ed448",
    "ml-dsa-44",
    "ml-dsa-65",
    "ml-dsa-87",
)
RSA_2048: Final = KEYS.index("rsa-2048")
# Signature octets; a DER-encoded ECDSA signature (RFC 3279 2.2.3) is a few octets shorter when a number is small.
_SIGNATURES: Final = {
    "rsa-1024": range(128, 129),
    "rsa-2048": range(256, 257),
    "rsa-3072": range(384, 385),
    "rsa-4096": range(512, 513),
    "rsa-8192": range(1024, 1025),
    "ecdsa-p256": range(67, 73),
    "ecdsa-p384": range(99, 105),
    "ecdsa-p521": range(133, 140),
    "ed25519": range(64, 65),
    "ed448": range(114, 115),
    "ml-dsa-44": range(2420, 2421),
    "ml-dsa-65": range(3309, 3310),
    "ml-dsa-87": range(4627, 4628),
}
_VERIFY_HEADER: Final = 8


def _key_table() -> U8:
    table = np.zeros(8192, np.uint8)
    for name, sizes in _SIGNATURES.items():
        for size in sizes:
            table[_VERIFY_HEADER + size] = KEYS.index(name)
    return table


_KEY_BY_LENGTH: Final = _key_table()


@dataclass(frozen=True, slots=True)
class Sequences:
    """The first encrypted records of S streams after their last clear hello.

    Attributes
    ----------
    length : (S, SEEN) int64
        Record lengths; 0 where there is no such record, or a gap comes before it.
    record : (S, SEEN) int64
        Rows of the records; -1 as above.
    count : (S,) int64
        How many follow one another without a gap, those past `SEEN` included.
    anchored : (S,) bool
        The first one is known to be the first: no gap between it and the hello, or a ChangeCipherSpec right before it.
    """

    length: I64
    record: I64
    count: I64
    anchored: Mask


def encrypted_sequences(walk: RecordWalk, hello: I64) -> Sequences:
    """Collect `Sequences`; `hello` (S,) int64 is the record of each stream's last clear hello, -1 = none."""
    records, streams = walk.records, hello.shape[0]
    length = np.zeros((streams, SEEN), np.int64)
    found = np.full((streams, SEEN), -1, np.int64)
    count, anchored = np.zeros(streams, np.int64), np.zeros(streams, bool)
    data = np.flatnonzero(records.kind == APPLICATION_DATA)
    data = data[data > hello[records.row[data]]]
    if data.shape[0] == 0:
        return Sequences(length, found, count, anchored)
    row = records.row[data]
    begins = run_starts(row)
    sizes = run_lengths(begins, data.shape[0])
    rank = np.arange(data.shape[0]) - np.repeat(begins, sizes)
    first = np.repeat(data[begins], sizes)
    gaps = np.cumsum(records.gap)
    joined = gaps[data] == gaps[first]
    shown = np.flatnonzero(joined & (rank < SEEN))
    place, seen = row[shown] * SEEN + rank[shown], data[shown]
    length.reshape(-1)[place] = records.stop[seen] - records.start[seen]
    found.reshape(-1)[place] = seen
    count = np.bincount(row[joined], minlength=streams)
    heads, opening = row[begins], data[begins]
    before = np.where(hello[heads] >= 0, hello[heads], walk.begin[heads])
    unbroken = (gaps[opening] == gaps[before]) & ((hello[heads] >= 0) | ~records.gap[before])
    previous = np.maximum(opening - 1, 0)
    marked = (opening > walk.begin[heads]) & (records.kind[previous] == CHANGE_CIPHER_SPEC) & ~records.gap[opening]
    anchored[heads] = unbroken | marked
    return Sequences(length, found, count, anchored)


@dataclass(frozen=True, slots=True)
class Flights:
    """What N handshakes of TLS 1.3 show; `Ternary` columns are inferences.

    Attributes
    ----------
    requested, presented : (N,) uint8
        `Ternary`: the server asked for a certificate; the client sent one that is not empty.
    disagree : (N,) bool
        The two sides' flights contradict each other: both answers are UNKNOWN.
    extensions_len : (N,) int64
        Octets of the EncryptedExtensions message; 0 = not known.
    server_certificate, client_certificate : (N,) int64
        Number of the Certificate record in the side's sequence; -1 = not known.
    server_key, client_key : (N,) uint8
        Row of `KEYS`, by CertificateVerify.
    server_finished, client_finished : (N,) int64
        Number of the Finished record in the side's sequence; -1 = not known.
    alerted : (N,) bool
        The client's only encrypted record is the size of an alert.
    overhead : (N,) int64
        Octets of a record that are not its content.
    """

    requested: U8
    presented: U8
    disagree: Mask
    extensions_len: I64
    server_certificate: I64
    client_certificate: I64
    server_key: U8
    client_key: U8
    server_finished: I64
    client_finished: I64
    alerted: Mask
    overhead: I64


def _lookup(cipher: I64, usual: int, others: dict[int, int]) -> I64:
    value = np.full(cipher.shape[0], usual, np.int64)
    for suite, octets in others.items():
        value[cipher == suite] = octets
    return value


def _key(message: I64) -> U8:
    inside = (message >= 0) & (message < _KEY_BY_LENGTH.shape[0])
    keys: U8 = np.where(inside, _KEY_BY_LENGTH[np.where(inside, message, 0)], 0).astype(np.uint8)
    return keys


def read_flights(
    cipher: I64, resumed: Mask, early_data: Mask, unread: Mask, client: Sequences, server: Sequences
) -> Flights:
    """Decide N handshakes.

    Parameters
    ----------
    cipher : (N,) int64
        The suite chosen: it gives tag and hash.
    resumed : (N,) bool
        The ServerHello accepts a pre-shared key: no certificates follow (RFC 8446 2.2).
    early_data : (N,) bool
        The client offered early data, which may come before its handshake records (RFC 8446 2.3).
    unread : (N,) bool
        The server's flight was not captured, and the client's can only begin with Certificate or Finished.
    client, server : Sequences
        N streams each.
    """
    overhead = 1 + _lookup(cipher, 16, _TAG)
    finished = _HANDSHAKE_HEADER + _lookup(cipher, 32, _HASH)
    s = np.where(server.length > 0, server.length - overhead[:, None], -1)
    c = np.where(client.length > 0, client.length - overhead[:, None], -1)
    s[~server.anchored] = -1
    c[~client.anchored | early_data] = -1

    short = resumed & (s[:, 1] == finished)
    unasked = ~resumed & (s[:, 3] == finished) & (_key(s[:, 2]) > 0) & (s[:, 1] >= MIN_CERTIFICATE)
    asked = ~resumed & (s[:, 4] == finished) & (_key(s[:, 3]) > 0) & (s[:, 2] >= MIN_CERTIFICATE)
    asked &= (s[:, 1] >= MIN_REQUEST) & ~unasked
    by_server = np.where(asked, Ternary.YES, np.where(unasked | short, Ternary.NO, Ternary.UNKNOWN)).astype(np.uint8)

    ends = c[:, 0] == finished
    # Coalesced, an empty Certificate and Finished can be nothing else: no other message may come first.
    joined_empty = c[:, 0] == EMPTY_CERTIFICATE + finished
    empty = (c[:, 0] == EMPTY_CERTIFICATE) & ((c[:, 1] == finished) | asked) | joined_empty
    key = np.where(c[:, 0] >= MIN_CERTIFICATE, _key(c[:, 1]), 0).astype(np.uint8)
    full = (key > 0) & (c[:, 2] == finished)
    # Where the server asked, a first record of a certificate's size holds one, whatever else it holds.
    joined = asked & (c[:, 0] >= MIN_CERTIFICATE)
    # So it does where the server's flight was not captured and nothing is seen of what follows.
    joined |= unread & (c[:, 0] >= MIN_CERTIFICATE) & (c[:, 1] < 0)
    by_client = np.where(empty | full, Ternary.YES, np.where(ends, Ternary.NO, Ternary.UNKNOWN)).astype(np.uint8)

    both = (by_server != Ternary.UNKNOWN) & (by_client != Ternary.UNKNOWN)
    disagree = both & (by_server != by_client)
    requested = np.where(disagree, Ternary.UNKNOWN, np.maximum(by_server, by_client)).astype(np.uint8)
    # What a client that was not asked sends first is its Finished or an alert; anything else casts doubt on it all.
    odd = (c[:, 0] > 0) & ~ends & (c[:, 0] != ENCRYPTED_ALERT)
    absent = (ends | empty | (unasked & ~odd)) & ~disagree
    presented = np.where(
        (full | joined) & ~disagree, Ternary.YES, np.where(absent, Ternary.NO, Ternary.UNKNOWN)
    ).astype(np.uint8)
    known = asked | unasked
    return Flights(
        requested,
        presented,
        disagree,
        np.where(known | short, s[:, 0], 0),
        np.where(asked, 2, np.where(unasked, 1, -1)),
        np.where((full | joined) & ~disagree, 0, -1),
        np.where(asked, _key(s[:, 3]), np.where(unasked, _key(s[:, 2]), 0)).astype(np.uint8),
        np.where(disagree, 0, np.where(full | joined, key, 0)).astype(np.uint8),
        np.where(asked, 4, np.where(unasked, 3, np.where(short, 1, -1))),
        np.where(ends | joined_empty, 0, np.where(empty & (c[:, 1] == finished), 1, np.where(full, 2, -1))),
        (c[:, 0] == ENCRYPTED_ALERT) & (client.count == 1),
        overhead,
    )
