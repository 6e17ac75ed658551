"""Whole connections made by OpenSSL: every answer is known beforehand, in every version of TLS."""

from __future__ import annotations

import itertools
import ssl
import warnings
from typing import Any

import numpy as np
import pytest

from analyzer.protocols.tls import read_tls, settled
from analyzer.protocols.tls.stacks import Stack
from analyzer.registries import Grade, HeadStop, Ternary
from analyzer.schema import TlsReading
from tests.heads_builder import build_heads
from tests.unit.protocols.tls.ssl_pairs import Pair, client_context, connection, identity, server_context
from tests.unit.protocols.tls.wire import HANDSHAKE, client_hello, fact, read, record, sealed, table

VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
NUMBERS = {"1.0": 0x0301, "1.1": 0x0302, "1.2": 0x0303, "1.3": 0x0304}
YES, NO, UNKNOWN = int(Ternary.YES), int(Ternary.NO), int(Ternary.UNKNOWN)


def contexts(
    version: str, kind: str, *, asks: bool = False, requires: bool = False, has: bool = False, trust: str | None = None
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Client and server context; their certificates come from the CA ``ca``, `trust` names the client's."""
    ca = identity("ca", kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions on purpose
        server = server_context(
            identity("node1", kind, "ca"), VERSIONS[version], ca if asks or requires else None, require=requires
        )
        client = client_context(
            identity("client", kind, "ca", "system:nodes") if has else None, identity(trust, kind) if trust else None
        )
        if version in ("1.0", "1.1"):
            client.set_ciphers("ALL:@SECLEVEL=0")
            server.set_ciphers("ALL:@SECLEVEL=0")
            client.minimum_version = VERSIONS[version]
    return client, server


def run(version: str, kind: str, **options: Any) -> tuple[Pair, bool]:
    """A pair after its handshake and, where it came about, one exchange."""
    pair = Pair(*contexts(version, kind, **options), server_name="node1.example")
    fine = pair.handshake()
    return pair, pair.exchange() and fine


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["rsa-2048", "ecdsa-p256"])
@pytest.mark.parametrize(("asks", "has"), list(itertools.product((False, True), repeat=2)))
def test_every_answer_of_a_completed_handshake(version: str, kind: str, asks: bool, has: bool) -> None:
    pair, fine = run(version, kind, asks=asks, has=has, trust="ca")
    assert fine
    heads = build_heads(connection(pair))
    reading = read(heads, (1, 1))
    clear = version != "1.3"
    presents = asks and has
    grade = Grade.OBSERVED if clear else Grade.INFERRED
    cipher = pair.client.cipher()
    assert cipher is not None
    assert {
        "version": NUMBERS[version],
        "sni": "node1.example",
        "alpn": None,
        "alpn_grade": grade,
        "established": YES,
        "resumed": NO,
        "refused": NO,
        "refused_grade": grade,
        "certificate_requested": YES if asks else NO,
        "certificate_requested_grade": grade,
        "client_certificate": YES if presents else NO,
        "client_certificate_grade": grade,
        "server_key": kind,
        "client_key": kind if presents else None,
        "server_self_made": NO if clear else UNKNOWN,
        "group": 29,
        "client_stack": Stack.OPENSSL,
        "unclear": None,
    }.items() <= table(reading)[0].items()
    assert (fact(reading, "server_chain") >= 0) == clear
    assert (fact(reading, "client_chain") >= 0) == (clear and presents)
    assert fact(reading, "application_data_frame") > 0
    assert settled(heads, np.array([0])).tolist() == [True]
    if clear:
        subjects = [[reading.certificates[i].common_name for i in chain] for chain in reading.chains]
        # OpenSSL adds what it trusts to its own chain.
        assert ["node1"] in [s[:1] for s in subjects]
        assert (["client"] in [s[:1] for s in subjects]) == presents
        # Python's server asks without naming a CA.
        assert reading.requested_names == (((0, ()),) if asks else ())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asks", [False, True])
def test_a_client_that_trusts_another_ca_refuses(version: str, asks: bool) -> None:
    pair, fine = run(version, "ecdsa-p256", asks=asks, has=True, trust="other")
    assert not fine
    heads = build_heads(connection(pair))
    reading = read(heads, (1, 1))
    assert (fact(reading, "refused"), fact(reading, "refused_grade")) == (YES, Grade.OBSERVED)
    assert fact(reading, "client_alert") == 48
    assert fact(reading, "client_certificate") == NO
    assert fact(reading, "established") == NO
    assert not settled(heads, np.array([0]))[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_requires_a_certificate_is_not_a_client_that_refuses(version: str) -> None:
    pair, fine = run(version, "ecdsa-p256", requires=True)
    assert not fine
    reading = read(build_heads(connection(pair)), (1, 1))
    assert fact(reading, "refused") != YES
    assert (fact(reading, "certificate_requested"), fact(reading, "client_certificate")) == (YES, NO)
    if version != "1.3":
        assert fact(reading, "server_alert") == 40
        assert fact(reading, "established") == NO


def test_a_resumed_session_leaves_the_certificates_open() -> None:
    client, server = contexts("1.2", "ecdsa-p256", asks=True, has=True, trust="ca")
    first = Pair(client, server)
    assert first.handshake()
    assert first.exchange()
    second = Pair(client, server, session=first.client.session)
    assert second.handshake()
    assert second.exchange()
    assert second.client.session_reused
    reading = read(build_heads(connection(second)), (1, 1))
    assert fact(reading, "resumed") == YES
    assert fact(reading, "established") == YES
    assert (fact(reading, "certificate_requested"), fact(reading, "client_certificate")) == (NO, UNKNOWN)
    assert "resumed" in fact(reading, "unclear")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_alpn(version: str) -> None:
    client, server = contexts(version, "ecdsa-p256")
    client.set_alpn_protocols(["http/1.1", "h2"])
    pair = Pair(client, server)
    assert pair.handshake()
    reading = read(build_heads(connection(pair)))
    assert fact(reading, "alpn") == pair.client.selected_alpn_protocol() == "h2"
    assert fact(reading, "alpn_offered") == "http/1.1,h2"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_every_truncation_of_both_sides(version: str) -> None:
    """A head cut anywhere gives the whole's answer or none."""
    pair, _ = run(version, "ecdsa-p256", asks=True, has=True)
    streams = connection(pair)
    whole = table(read(build_heads(streams), (1, 1)))[0]
    answers = (
        "certificate_requested",
        "client_certificate",
        "established",
        "refused",
        "version",
        "cipher_suite",
        "group",
        "server_self_made",
        "sni",
    )
    cuts = [(a, side) for side in (0, 1) for a in range(0, len(streams[side]), 3)]
    heads = build_heads(
        {
            2 * row + s: streams[s][:cut] if s == side else streams[s]
            for row, (cut, side) in enumerate(cuts)
            for s in (0, 1)
        },
        stop=dict.fromkeys(range(2 * len(cuts)), HeadStop.LIMIT),
    )
    for (cut, side), row in zip(cuts, table(read(heads, (0, 0))), strict=True):
        for name in answers:
            assert row[name] in (whole[name], 0, None), (cut, side, name)


def test_every_truncation_of_a_certificate_message() -> None:
    pair, _ = run("1.2", "ecdsa-p256")
    server = bytes(pair.sent[1])
    certificate = server.index(b"\x16\x03\x03", 5)  # the second record
    length = int.from_bytes(server[certificate + 3 : certificate + 5])
    ends = range(certificate, certificate + 5 + length)
    heads = build_heads({2 * i + 1: server[:end] for i, end in enumerate(ends)})
    reading = read(heads)
    assert (reading.facts.server_chain == -1).all()
    assert reading.certificates == ()
    reading = read(build_heads({1: server[: ends.stop]}))
    assert fact(reading, "server_chain") == 0
    assert fact(reading, "server_key") == "ecdsa-p256"


def test_a_malformed_certificate_is_a_problem_not_an_error() -> None:
    pair, _ = run("1.2", "ecdsa-p256")
    server = bytearray(pair.sent[1])
    place = bytes(server).index(b"\x30\x82", 40)
    server[place + 4] = 0x55
    reading = read(build_heads({0: bytes(pair.sent[0]), 1: bytes(server)}))
    assert reading.certificates[0].problem
    assert fact(reading, "server_self_made") == UNKNOWN
    assert fact(reading, "server_key") is None
    assert fact(reading, "established") == YES


def test_a_self_signed_leaf_in_clear_is_observed() -> None:
    server = server_context(identity("node2@1500000000"), ssl.TLSVersion.TLSv1_2)
    pair = Pair(client_context(), server)
    assert pair.handshake()
    reading = read(build_heads(connection(pair)))
    assert (fact(reading, "server_self_made"), fact(reading, "server_self_made_grade")) == (YES, Grade.OBSERVED)


def test_mid_connection_and_one_sided() -> None:
    streams = {0: sealed(90, 60), 1: sealed(800, 900)}
    reading = read(build_heads(streams, mid_connection={0, 1}))
    row = table(reading)[0]
    assert (row["version"], row["client_certificate"], row["established"]) == (0, UNKNOWN, YES)
    assert row["unclear"] == "the capture begins after the handshake"
    assert row["application_data_frame"] == 1
    reading = read(build_heads({0: sealed(90), 1: b""}, mid_connection={0, 1}))
    assert fact(reading, "established") == UNKNOWN
    reading = read(build_heads({0: record(HANDSHAKE, client_hello()), 1: b""}))
    assert fact(reading, "unclear") == "only one direction was captured"


def test_a_connection_that_ended_before_the_server_answered() -> None:
    streams = {0: record(HANDSHAKE, client_hello()), 1: b""}
    assert fact(read(build_heads(streams), (1, 4)), "established") == NO
    assert fact(read(build_heads(streams), (0, 0)), "established") == UNKNOWN


def test_rows_follow_the_flows_asked_for() -> None:
    pair, _ = run("1.2", "ecdsa-p256")
    streams = connection(pair)
    heads = build_heads({0: b"SSH-2.0-Go\r\n", 2: streams[0], 3: streams[1], 4: b"", 6: streams[0], 7: streams[1]})
    reading: TlsReading = read_tls(heads, np.array([3, 1]), np.zeros((2, 2), np.uint8))
    assert reading.facts.flow.tolist() == [3, 1]
    assert reading.facts.server_hello_frame.tolist() == [5, 3]
    assert [fact(reading, "established", row) for row in (0, 1)] == [YES, YES]
    empty = read_tls(heads, np.empty(0, np.int64), np.zeros((0, 2), np.uint8))
    assert len(empty.facts) == 0
    assert settled(heads, np.empty(0, np.int64)).shape == (0,)
    with pytest.raises(ValueError, match="closed"):
        read_tls(heads, np.array([1]), np.zeros((2, 2), np.uint8))


def test_a_hole_that_a_late_segment_may_fill_is_not_settled() -> None:
    pair, _ = run("1.2", "ecdsa-p256", asks=True, has=True)
    streams = connection(pair)
    assert settled(build_heads(streams), np.array([0])).tolist() == [True]
    for side, chain in enumerate(("client_chain", "server_chain")):
        certificate = streams[side].index(b"\x30\x82", 40)
        holed = build_heads(streams, holes={side: [(certificate + 20, certificate + 40)]})
        assert settled(holed, np.array([0])).tolist() == [False]
        reading = read(holed)
        assert fact(reading, "established") == YES
        assert fact(reading, chain) == -1


@pytest.mark.parametrize(("version", "asks"), list(itertools.product(["1.2", "1.3"], [False, True])))
def test_after_settled_no_octet_changes_a_fact(version: str, asks: bool) -> None:
    pair, _ = run(version, "ecdsa-p256", asks=asks, has=True)
    for _ in range(3):
        assert pair.exchange()
    streams = connection(pair)
    whole = table(read(build_heads(streams), (1, 1)))[0]
    cuts = [(a, b) for a in range(0, len(streams[0]) + 1, 11) for b in range(0, len(streams[1]) + 1, 61)]
    heads = build_heads({2 * i + s: streams[s][: cut[s]] for i, cut in enumerate(cuts) for s in (0, 1)})
    done = settled(heads, np.arange(len(cuts)))
    assert done.any()
    assert not done.all()
    rows = table(read(heads, (1, 1)))
    for row, is_done in zip(rows, done.tolist(), strict=True):
        if is_done:
            frames = [n for n in row if n.endswith("_frame")]
            assert {n: v for n, v in row.items() if n not in (*frames, "flow")} == {
                n: v for n, v in whole.items() if n not in (*frames, "flow")
            }
            assert [row[n] > 0 for n in frames] == [whole[n] > 0 for n in frames]
