from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from analyzer.cluster import authorities
from analyzer.cluster.authorities import read_authorities, read_authority_data, role_of_authority

KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def certificate(common_name: str, *, is_ca: bool = True) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 7)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2036, 1, 1, tzinfo=UTC)
    )
    return builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True).sign(KEY, hashes.SHA256())


def pem(common_name: str, *, is_ca: bool = True) -> bytes:
    return certificate(common_name, is_ca=is_ca).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("common_name", "file", "expected"),
    [
        ("kubernetes", "x.crt", "kubernetes"),
        ("kubernetes-ca", "x.crt", "kubernetes"),
        ("etcd-ca", "ca.crt", "etcd-ca"),
        ("front-proxy-ca", "x.crt", "front-proxy-ca"),
        ("kubernetes-front-proxy-ca", "x.crt", "front-proxy-ca"),
        ("konnectivity-ca", "x.crt", "konnectivity"),
        ("k3s-server-ca@1700000000", "x", "kubernetes"),
        ("Example Root", "pki/ca.crt", "kubernetes"),
        ("Example Root", "pki/etcd/ca.crt", "etcd-ca"),
        ("Example Root", "front-proxy-ca.pem", "front-proxy-ca"),
        ("Example Root", "kubelet-ca.crt", "kubelet"),
        ("Example Root", "other-ca.crt", ""),
    ],
)
def test_roles(common_name: str, file: str, expected: str) -> None:
    assert role_of_authority(common_name, file) == expected


def test_a_bundle() -> None:
    content = b"# comment\n" + pem("kubernetes") + pem("leaf", is_ca=False) + b"junk\n" + pem("Example Root") + KEY_PEM
    found, notes = read_authorities(content, "bundle.pem")
    assert [(a.role, a.certificate.common_name, a.source_file) for a in found] == [
        ("kubernetes", "kubernetes", "bundle.pem"),
        ("", "Example Root", "bundle.pem"),
    ]
    assert len(notes) == 2
    assert "is not a CA's" in notes[0]
    assert "private key" in notes[1]
    assert KEY_PEM.splitlines()[1].decode() not in repr((found, notes))


def test_der_and_kubeconfig_data() -> None:
    der = certificate("Example Root").public_bytes(serialization.Encoding.DER)
    assert [a.role for a in read_authorities(der, "ca.der")[0]] == ["kubernetes"]
    data = base64.b64encode(pem("Example Root")).decode()
    assert [a.role for a in read_authority_data(data, "kubelet.conf")[0]] == ["kubernetes"]
    assert read_authority_data("no base64!", "f") == ([], ["f: certificate-authority-data is not base64"])


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n" + b"A" * 100_000 + b"\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA",
        b"",
        b"\x30\x82" + b"x" * 100_000,
    ],
)
def test_what_cannot_be_read_is_noted(content: bytes) -> None:
    assert read_authorities(content, "f.crt") == ([], ["f.crt: certificate 1 cannot be read"])


def test_the_number_of_certificates_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorities, "MAX_CERTIFICATES", 2)
    found, notes = read_authorities(pem("kubernetes") * 3, "f.crt")
    assert (len(found), notes) == (2, ["f.crt: only the first 2 certificates were read"])


def test_every_truncation_is_noted_and_never_raises() -> None:
    content = pem("kubernetes")
    for stop in range(0, len(content), 7):
        found, notes = read_authorities(content[:stop], "f.crt")
        assert (found, len(notes)) == ([], 0 if b"-----BEGIN " in content[:stop] and stop < 27 else 1)
