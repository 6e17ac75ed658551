"""The version by records alone, over connections of OpenSSL cut behind their handshake, and over built ones."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

import pytest

from analyzer.registries import Grade, HeadStop, Ternary, TlsVersion
from tests.heads_builder import build_heads
from tests.unit.protocols.tls.ssl_pairs import Pair, client_context, identity, server_context
from tests.unit.protocols.tls.wire import ALERT, CCS, DATA, HANDSHAKE, fact, read, record, sealed, table

FIN = 0x11
CLIENT_FLIGHT = record(CCS, b"\x01") + sealed(860)
CUT_HELLO = record(HANDSHAKE, b"\x01\x00\x05\xdd\x03\x03" + bytes(1500))


def behind_the_handshake(version: ssl.TLSVersion, suite: str) -> dict[int, bytes]:
    """What both sides sent once the handshake was over, to the closing alerts."""
    server = server_context(identity("node1"), version)
    client = client_context()
    if suite:
        server.set_ciphers(suite)
        client.set_ciphers(suite)
    pair = Pair(client, server)
    assert pair.handshake()
    done = [len(octets) for octets in pair.sent]
    for _ in range(2):
        assert pair.exchange()
    for side in (pair.client, pair.server):
        with suppress(ssl.SSLWantReadError):
            side.unwrap()
        pair._move()
    return {side: bytes(pair.sent[side][done[side] :]) for side in (0, 1)}


@pytest.mark.parametrize(
    ("version", "suite", "label"),
    [
        (ssl.TLSVersion.TLSv1_3, "", "1.3"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", "1.2"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-CCM", "1.2"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA384", "1.2"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", "1.2"),
    ],
)
def test_a_connection_that_was_open_when_the_capture_began(version: ssl.TLSVersion, suite: str, label: str) -> None:
    heads = build_heads(behind_the_handshake(version, suite), mid_connection=(0, 1))

    reading = read(heads, (FIN, FIN))

    assert TlsVersion(fact(reading, "version")).label == label
    assert fact(reading, "version_grade") == Grade.INFERRED
    assert not fact(reading, "server_hello_seen")


def middle(client: bytes, server: bytes = b"", closed: tuple[int, int] = (FIN, FIN), **layout: Any) -> tuple[int, int]:
    heads = build_heads({0: client, 1: server}, mid_connection=(0, 1), flows=1, **layout)
    reading = read(heads, closed)
    return fact(reading, "version"), fact(reading, "version_grade")


OPEN = (0, int(Grade.NONE))


def test_what_does_not_tell_stays_open() -> None:
    assert middle(sealed(100, 200)) == OPEN
    # The size of an alert, but not the last record, not of a side that closed, or the only record there is.
    assert middle(sealed(100, 19, 200)) == OPEN
    assert middle(sealed(100, 19), closed=(0, 0)) == OPEN
    assert middle(sealed(19)) == OPEN
    # The head is full: the last record kept is not the last one sent.
    assert middle(sealed(100, 19), stop={0: HeadStop.LIMIT}) == OPEN


def test_signs_of_both_versions_are_no_answer() -> None:
    counting = b"".join(record(DATA, n.to_bytes(8) + bytes(30)) for n in range(3))
    assert middle(counting)[0] == TlsVersion.TLS_1_2
    assert middle(sealed(100, 19))[0] == TlsVersion.TLS_1_3
    assert middle(counting, sealed(100, 19)) == OPEN


def test_a_gap_between_records_is_no_count() -> None:
    records = [record(DATA, n.to_bytes(8) + bytes(30)) for n in range(2)]
    octets = records[0] + bytes(10) + records[1]
    assert middle(octets, holes={0: [(len(records[0]), len(records[0]) + 10)]}) == OPEN


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302])
def test_older_records_carry_their_version(version: int) -> None:
    assert middle(record(DATA, bytes(40), version))[0] == version


def test_an_encrypted_alert_is_visible_up_to_tls_1_2() -> None:
    assert middle(sealed(100) + record(ALERT, bytes(26)))[0] == TlsVersion.TLS_1_2


def snapped(client: bytes, server: bytes, keep: int = 30, frames: tuple[int, ...] = (1, 2, 4)) -> dict[str, Any]:
    """Facts where a snap length cut each segment: the hello, the server's flight, the client's flight."""
    first = len(CUT_HELLO)
    heads = build_heads(
        {0: CUT_HELLO + client, 1: server},
        holes={0: [(keep, first), (first + keep, first + len(client))], 1: [(keep, len(server))]},
        segments={0: [(0, frames[0]), (first, frames[2])], 1: [(0, frames[1])]},
    )
    return table(read(heads))[0]


ANSWER = record(HANDSHAKE, b"\x02\x00\x04\xb6\x03\x03" + bytes(1204)) + record(CCS, b"\x01") + sealed(32, 125, 700)


def test_a_flight_behind_change_cipher_spec_shows_version_and_certificate() -> None:
    row = snapped(CLIENT_FLIGHT + bytes(300), ANSWER)
    assert (row["version"], row["version_grade"]) == (TlsVersion.TLS_1_3, Grade.INFERRED)
    assert (row["client_certificate"], row["client_certificate_grade"]) == (Ternary.YES, Grade.INFERRED)


def test_early_data_is_not_taken_for_a_certificate() -> None:
    """It is sent before the server answers, right behind the hello (RFC 8446 D.4)."""
    row = snapped(CLIENT_FLIGHT + bytes(300), ANSWER, frames=(1, 3, 2))
    assert row["version"] == TlsVersion.TLS_1_3
    assert row["client_certificate"] == Ternary.UNKNOWN


def test_tls_1_2_sends_finished_behind_change_cipher_spec() -> None:
    row = snapped(record(CCS, b"\x01") + record(HANDSHAKE, bytes(40)) + sealed(860), ANSWER[:40])
    assert row["version"] == 0
    assert row["client_certificate"] == Ternary.UNKNOWN
