"""Certificates: what was put in comes out; nothing raises, nothing warns."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.tls.certificates import chain_ders, parse_certificate
from analyzer.protocols.tls.names import distinguished_name, requested_names
from tests.unit.protocols.tls.ssl_pairs import START, Key, identity, name
from tests.unit.protocols.tls.wire import numbers, vector

DER = serialization.Encoding.DER


def signed(
    subject: x509.Name, issuer: x509.Name, key: Key, *, signer: Key | None = None, edwards: bool = False
) -> bytes:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(START)
        .not_valid_after(START + dt.timedelta(days=30))
        .sign(signer or key, None if edwards else hashes.SHA256())
        .public_bytes(DER)
    )


def test_the_fields() -> None:
    who = identity("node1", "ecdsa-p256", "ca", "system:nodes")
    der = who.certificate.public_bytes(DER)
    parsed = parse_certificate(der)
    assert parsed.problem == ""
    assert parsed.sha256 == who.certificate.fingerprint(hashes.SHA256()).hex()
    assert (parsed.subject, parsed.issuer) == ("CN=node1,O=system:nodes", "CN=ca")
    assert (parsed.common_name, parsed.issuer_common_name) == ("node1", "ca")
    assert parsed.organizations == ("system:nodes",)
    assert (parsed.dns_names, parsed.ip_addresses) == (("node1",), ("10.0.0.11",))
    assert parsed.not_before_ns == 1704067200 * 10**9
    assert parsed.not_after_ns == (1704067200 + 36500 * 86400) * 10**9
    assert (parsed.key, parsed.signature) == ("ecdsa-p256", "ecdsa-with-sha256")
    assert not parsed.is_ca
    assert not parsed.self_signed
    assert parsed.der == der
    ca = parse_certificate(identity("ca", "ecdsa-p256").certificate.public_bytes(DER))
    assert ca.is_ca
    assert ca.self_signed


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (rsa.generate_private_key(65537, 1024), "rsa-1024"),
        (ec.generate_private_key(ec.SECP384R1()), "ecdsa-p384"),
        (ec.generate_private_key(ec.SECP521R1()), "ecdsa-p521"),
        (ec.generate_private_key(ec.SECP256K1()), "ecdsa-secp256k1"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
        (ed448.Ed448PrivateKey.generate(), "ed448"),
        (dsa.generate_private_key(1024), "dsa-1024"),
    ],
)
def test_the_key(key: Key, text: str) -> None:
    edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    parsed = parse_certificate(signed(name("x"), name("x"), key, edwards=edwards))
    assert parsed.key == text
    assert parsed.self_signed


@pytest.mark.parametrize(
    ("subject", "issuer", "made"),
    [
        ("node1@1795454043", "node1-ca@1795454042", True),
        ("ip-10-0-0-1.ec2.internal@1500000000", "ip-10-0-0-1.ec2.internal-ca@1500000000", True),
        ("node1@1795454043", "node2-ca@1795454042", False),
        ("node1@1795454043", "node1@1795454043", False),
        ("system:node:node1", "kubernetes", False),
        ("node1@soon", "node1-ca@soon", False),
    ],
)
def test_the_kubelets_own_pattern(subject: str, issuer: str, made: bool) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    assert parse_certificate(signed(name(subject), name(issuer), key, signer=other)).kubelet_self_made is made


def test_the_same_name_is_not_the_same_signer() -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    assert not parse_certificate(signed(name("x"), name("x"), key, signer=other)).self_signed


def test_every_truncation_and_every_changed_octet() -> None:
    der = identity("node1", "ecdsa-p256", "ca").certificate.public_bytes(DER)
    for size in range(len(der)):
        parsed = parse_certificate(der[:size])
        assert parsed.problem
        assert (parsed.subject, parsed.key) == ("", "")
    for place in range(len(der)):
        parsed = parse_certificate(der[:place] + bytes([der[place] ^ 0x41]) + der[place + 1 :])
        assert len(parsed.sha256) == 64
        assert parsed.problem.isprintable()
        assert not parsed.self_signed


def test_a_name_cannot_steer_a_terminal() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    parsed = parse_certificate(signed(name("a\x1b[2J\nb", "\u202eo"), name("ca"), key))
    for text in (parsed.subject, parsed.common_name, *parsed.organizations):
        assert text.isprintable()


def test_chains_are_read_as_far_as_they_are_whole() -> None:
    body = vector(3, vector(3, b"one") + vector(3, b"second"))
    assert chain_ders(body) == (b"one", b"second")
    for size in range(len(body)):
        assert chain_ders(body[:size]) == ((b"one",) if size >= 9 else ())
    assert chain_ders(vector(3, b"")) == ()
    assert chain_ders(vector(3, vector(3, b"") + vector(3, b"x"))) == ()


TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=("C", "Z")), min_size=1, max_size=20
)


@given(
    st.lists(
        st.tuples(st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME]), TEXT),
        min_size=1,
        max_size=4,
    )
)
def test_names_agree_with_cryptography(parts: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    built = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
    ours = distinguished_name(built.public_bytes())
    # RFC 4514 2.4 also escapes a leading number sign; either form denotes the same value.
    assert ours is not None
    assert ours.replace("\\#", "#") == built.rfc4514_string().replace("\\#", "#")


def test_malformed_names_are_none() -> None:
    der = name("kubernetes", "o").public_bytes()
    for size in range(len(der)):
        assert distinguished_name(der[:size]) is None
    assert distinguished_name(b"\x30\x84\xff\xff\xff\xff") is None


@given(st.binary(max_size=60))
def test_any_octets_as_name_or_request(octets: bytes) -> None:
    text = distinguished_name(octets)
    assert text is None or text.isprintable()
    for with_algorithms in (True, False):
        assert all(n.isprintable() for n in requested_names(octets, with_algorithms=with_algorithms))


def test_a_request_lists_its_names() -> None:
    names = b"".join(vector(2, name(n).public_bytes()) for n in ("kubernetes", "front-proxy-ca"))
    kinds, algorithms = vector(1, b"\1\x40"), vector(2, numbers(0x0403, 0x0804))
    wanted = ("CN=kubernetes", "CN=front-proxy-ca")
    assert requested_names(kinds + algorithms + vector(2, names), with_algorithms=True) == wanted
    assert requested_names(kinds + vector(2, names), with_algorithms=False) == wanted
