"""Decryption: connections of OpenSSL whose secrets it logs itself, and records sealed by an independent schedule."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from analyzer.protocols.stream import read_streams
from analyzer.protocols.tls import read_tls_with_keys
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.protocols.tls.opening import CUT, DECRYPTED, DO_NOT_FIT, NO_KEYS, NO_RANDOM, STOPPED, UNSUPPORTED
from analyzer.protocols.tls.protection import Opener13, ProtectionError, suite_parameters
from analyzer.registries import Grade, HeadStop, Ternary
from analyzer.schema import TlsReading
from tests.heads_builder import build_heads
from tests.unit.protocols.tls.ssl_pairs import Pair, client_context, connection, identity, server_context
from tests.unit.protocols.tls.wire import table

NO_ENCRYPT_THEN_MAC = 1 << 19  # SSL_OP_NO_ENCRYPT_THEN_MAC
REQUEST, RESPONSE = b"GET /pods HTTP/1.1\r\nHost: node1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SUITES_12 = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES256-CCM8",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-SHA384",
]


def made(
    folder: Path,
    version: ssl.TLSVersion,
    *,
    suite: str = "",
    client: str = "",
    ask: bool = True,
    trust: str = "",
    options: int = 0,
    size: int = 0,
) -> tuple[dict[int, bytes], KeyLog]:
    """A connection with one request, and the key log the client wrote."""
    ca = identity("lab-ca")
    server = server_context(identity("node1", issuer="lab-ca"), version, ca if ask else None)
    ours = client_context(
        identity(client, issuer="lab-ca", organization="system:masters") if client else None,
        identity(trust) if trust else None,
    )
    for context in (server, ours):
        context.options |= options
        if suite:
            context.set_ciphers(f"{suite}:@SECLEVEL=0")
    log = folder / "keys.log"
    ours.keylog_filename = str(log)
    pair = Pair(ours, server)
    if pair.handshake():
        assert pair.exchange(REQUEST, RESPONSE + bytes(size))
    return connection(pair), KeyLog(log.read_bytes())


def read(streams: dict[int, bytes], keys: KeyLog, **layout: Any) -> tuple[TlsReading, dict[str, Any], list[bytes]]:
    """The reading, its one row, and the application data of both directions."""
    heads = build_heads(streams, **layout)
    reading, opened = read_tls_with_keys(heads, np.array([0]), np.zeros((1, 2), np.uint8), keys)
    plain = [side.octets for _, *sides in read_streams(opened.heads, np.arange(len(opened.rows))) for side in sides]
    return reading, table(reading)[0], plain


@pytest.mark.parametrize("options", [0, NO_ENCRYPT_THEN_MAC])
@pytest.mark.parametrize("suite", SUITES_12)
def test_tls_1_2(tmp_path: Path, suite: str, options: int) -> None:
    streams, keys = made(tmp_path, V12, suite=suite, client="admin", options=options)

    _, row, plain = read(streams, keys)

    assert plain == [REQUEST, RESPONSE]
    assert row["decryption"] == DECRYPTED
    assert row["established"] == Ternary.YES


def test_tls_1_3_shows_what_was_encrypted(tmp_path: Path) -> None:
    streams, keys = made(tmp_path, V13, client="admin")

    reading, row, plain = read(streams, keys)

    assert plain == [REQUEST, RESPONSE]
    assert row["decrypted"] == Ternary.YES
    assert (row["client_certificate"], row["client_certificate_grade"]) == (Ternary.YES, Grade.OBSERVED)
    assert (row["certificate_requested"], row["certificate_requested_grade"]) == (Ternary.YES, Grade.OBSERVED)
    subjects = {certificate.sha256: certificate.subject for certificate in reading.certificates}
    names = [subjects[row[side][0]] for side in ("client_chain", "server_chain")]
    assert names == ["CN=admin,O=system:masters", "CN=node1"]
    assert reading.requested_names == ((0, ()),)  # Python's server names no CAs; those of Go are in the lab
    assert (row["server_self_made"], row["server_self_made_grade"]) == (Ternary.NO, Grade.OBSERVED)
    assert (row["refused"], row["refused_grade"]) == (Ternary.NO, Grade.OBSERVED)
    assert row["unclear"] is None


def test_tls_1_3_without_client_certificate(tmp_path: Path) -> None:
    streams, keys = made(tmp_path, V13)
    _, row, _ = read(streams, keys)
    assert (row["certificate_requested"], row["client_certificate"]) == (Ternary.YES, Ternary.NO)
    assert row["client_certificate_grade"] == Grade.OBSERVED

    (tmp_path / "keys.log").unlink()
    streams, keys = made(tmp_path, V13, ask=False)
    _, row, _ = read(streams, keys)
    assert (row["certificate_requested"], row["client_certificate"]) == (Ternary.NO, Ternary.NO)
    assert row["certificate_requested_grade"] == Grade.OBSERVED


def test_secrets_of_another_connection_do_not_fit(tmp_path: Path) -> None:
    """The right client random with the secrets of another session: nothing is shown, and that is said."""
    streams, keys = made(tmp_path, V13, client="admin")
    (tmp_path / "keys.log").unlink()
    _, others = made(tmp_path, V13)
    (mine,), (other,) = keys._secrets, others._secrets
    wrong = KeyLog()
    wrong._secrets[mine] = others.session(other)

    reading, row, plain = read(streams, wrong)

    assert row["decryption"] == DO_NOT_FIT
    assert row["decrypted"] == Ternary.NO
    assert plain == []
    assert reading.certificates == ()
    assert row["client_certificate_grade"] != Grade.OBSERVED


def test_a_key_log_without_this_connection(tmp_path: Path) -> None:
    streams, _ = made(tmp_path, V13)
    assert read(streams, KeyLog())[1]["decryption"] == NO_KEYS
    lost = {0: [(0, 40)]}
    assert read(streams, KeyLog(), holes=lost)[1]["decryption"] == NO_RANDOM


@pytest.mark.parametrize("version", [V12, V13])
def test_a_changed_record_ends_its_side_there(tmp_path: Path, version: ssl.TLSVersion) -> None:
    streams, keys = made(tmp_path, version)
    changed = bytearray(streams[0])
    changed[-1] ^= 1

    _, row, plain = read({0: bytes(changed), 1: streams[1]}, keys)

    assert row["decryption"] == STOPPED
    assert plain == [b"", RESPONSE]


def test_a_lost_record_does_not_end_its_side(tmp_path: Path) -> None:
    """Sequence numbers count records that were not captured whole; what they held stays a hole."""
    streams, keys = made(tmp_path, V13, size=40000)
    whole = read(streams, keys)[2][1]
    at = len(streams[1]) - 1000  # in the last record but one or later: OpenSSL writes records of 16 KiB

    heads = build_heads(streams, holes={1: [(at - 20000, at - 19990)]})
    reading, opened = read_tls_with_keys(heads, np.array([0]), np.zeros((1, 2), np.uint8), keys)

    assert table(reading)[0]["decryption"] == CUT
    assert opened.heads.holes_stream.tolist() == [1]
    hole = int(opened.heads.holes_start[0])
    shown = opened.heads.head(1).tobytes()
    assert whole.startswith(shown[:hole])
    assert len(shown) > hole + 1
    assert whole.endswith(shown[hole + 1 :])


def test_a_head_that_is_full_is_not_called_cut(tmp_path: Path) -> None:
    streams, keys = made(tmp_path, V13, size=40000)
    limited = {0: streams[0], 1: streams[1][:12000]}

    _, row, plain = read(limited, keys, stop={1: HeadStop.LIMIT})

    assert row["decryption"] == DECRYPTED
    assert plain[0] == REQUEST
    assert read(limited, keys)[1]["decryption"] == CUT


def test_frames_of_decrypted_octets_are_those_that_carried_them(tmp_path: Path) -> None:
    streams, keys = made(tmp_path, V13)
    stop = len(streams[0])
    # The last record holds the request: header 5, content, type 1, tag 16.
    start = stop - 16 - 1 - len(REQUEST)
    heads = build_heads(streams, segments={0: [(0, 3), (start + 10, 7)], 1: [(0, 4)]})

    _, opened = read_tls_with_keys(heads, np.array([0]), np.zeros((1, 2), np.uint8), keys)

    stream = np.zeros(3, np.int64)
    assert opened.heads.frames_at(stream, np.array([0, 9, 10])).tolist() == [3, 3, 7]


def test_cut_anywhere_gives_a_beginning(tmp_path: Path) -> None:
    streams, keys = made(tmp_path, V13, client="admin")
    for stop in range(0, len(streams[0]), 7):
        _, row, plain = read({0: streams[0][:stop], 1: streams[1]}, keys)
        assert not plain or REQUEST.startswith(plain[0])
        assert row["client_certificate"] != Ternary.NO or row["client_certificate_grade"] != Grade.OBSERVED


def test_refusal_is_observed(tmp_path: Path) -> None:
    streams, keys = made(tmp_path, V13, trust="somebody-else")

    _, row, _ = read(streams, keys)

    assert (row["refused"], row["refused_grade"]) == (Ternary.YES, Grade.OBSERVED)
    assert row["client_certificate"] == Ternary.NO


def test_a_version_without_support_is_said(tmp_path: Path) -> None:
    """The suite of the ServerHello changed to one that is not read here (Camellia)."""
    streams, keys = made(tmp_path, V12, suite="ECDHE-ECDSA-AES128-GCM-SHA256")
    changed = streams[1].replace(bytes.fromhex("c02b"), bytes.fromhex("c086"), 1)

    _, row, plain = read({0: streams[0], 1: changed}, keys)

    assert (row["decryption"], row["decrypted"]) == (UNSUPPORTED, Ternary.NO)
    assert plain == []


# ------------------------------------------------------------------------------- an independent schedule


def _expand(secret: bytes, label: bytes, octets: int, algorithm: hashes.HashAlgorithm) -> bytes:
    full = b"tls13 " + label
    info = octets.to_bytes(2) + bytes([len(full)]) + full + b"\0"
    return HKDFExpand(algorithm, octets, info).derive(secret)


@pytest.mark.parametrize(
    ("number", "algorithm", "octets", "aead"),
    [
        (0x1301, hashes.SHA256(), 16, AESGCM),
        (0x1302, hashes.SHA384(), 32, AESGCM),
        (0x1303, hashes.SHA256(), 32, ChaCha20Poly1305),
    ],
)
def test_records_and_key_update(number: int, algorithm: hashes.HashAlgorithm, octets: int, aead: Any) -> None:
    secret = bytes(range(algorithm.digest_size))
    suite = suite_parameters(number)
    assert suite is not None
    opener = Opener13(suite, secret)
    for generation in range(3):
        key, iv = _expand(secret, b"key", octets, algorithm), _expand(secret, b"iv", 12, algorithm)
        for sequence in range(3):
            inner = b"content %d" % sequence + b"\x17" + bytes(5)
            header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2)
            nonce = (int.from_bytes(iv) ^ sequence).to_bytes(12)
            body = aead(key).encrypt(nonce, inner, header)
            assert opener.open(23, b"\x03\x03", body) == (23, b"content %d" % sequence)
        with pytest.raises(ProtectionError):
            opener.open(23, b"\x03\x03", body)
        opener.update()
        secret = _expand(secret, b"traffic upd", algorithm.digest_size, algorithm)
        assert generation < 3
