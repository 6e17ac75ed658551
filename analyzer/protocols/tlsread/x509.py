"""Certificates read once each, by `cryptography`; one that cannot be read is a certificate with a problem."""

from __future__ import annotations

import contextlib
import hashlib
import re
import warnings
from datetime import UTC, datetime
from typing import Final

from analyzer.schema import Certificate

MAX_CERTIFICATE: Final = 1 << 16
"""Octets of one certificate that are parsed; clusters' are below 4 KiB."""
MAX_CHAIN: Final = 16
MAX_TEXT: Final = 512

_KUBELET_LEAF: Final = re.compile(r"(?P<host>.+)@(?P<time>[0-9]{9,11})")
_KUBELET_ISSUER: Final = re.compile(r"(?P<host>.+)-ca@(?P<time>[0-9]{9,11})")


def split_chain(body: bytes) -> tuple[bytes, ...]:
    """DER certificates of a Certificate message up to TLS 1.2 (RFC 5246 7.4.2); a cut last one is left out."""
    listed = body[3 : 3 + int.from_bytes(body[:3], "big")]
    chain: list[bytes] = []
    at = 0
    while at + 3 <= len(listed) and len(chain) < MAX_CHAIN:
        stop = at + 3 + int.from_bytes(listed[at : at + 3], "big")
        if stop > len(listed):
            break
        chain.append(listed[at + 3 : stop])
        at = stop
    return tuple(chain)


def _nanoseconds(when: datetime) -> int:
    return int(when.replace(tzinfo=UTC).timestamp()) * 10**9


def kubelet_self_made(common_name: str, issuer_common_name: str) -> bool:
    """The pattern of a kubelet's own certificate: CN=<host>@<time> issued by CN=<host>-ca@<time>.

    Source: client-go util/cert/cert.go, GenerateSelfSignedCertKeyWithFixtures.
    """
    leaf, issuer = _KUBELET_LEAF.fullmatch(common_name), _KUBELET_ISSUER.fullmatch(issuer_common_name)
    return leaf is not None and issuer is not None and leaf["host"] == issuer["host"]


def read_certificate(der: bytes) -> Certificate:
    """Read one DER certificate; never raises."""
    digest = hashlib.sha256(der).hexdigest()
    try:
        if len(der) > MAX_CERTIFICATE:
            raise ValueError(f"{len(der)} octets are more than the limit of {MAX_CERTIFICATE}")
        with warnings.catch_warnings():
            # `cryptography` warns of certificates that break RFC 5280; what they say is reported all the same.
            warnings.simplefilter("ignore")
            return _read(der, digest)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Certificate(
            digest, "", "", "", (), "", (), (), 0, 0, "", "", False, False, False, der, f"unreadable: {reason[:200]}"
        )


def _key_name(key: object) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        short = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}
        return f"ecdsa-{short.get(key.curve.name, key.curve.name)}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ed448.Ed448PublicKey):
        return "ed448"
    return type(key).__name__.strip("_").lower()


def _read(der: bytes, digest: str) -> Certificate:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parsed = x509.load_der_x509_certificate(der)

    def named(name: x509.Name, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(a.value)[:MAX_TEXT] for a in name.get_attributes_for_oid(oid))

    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    is_ca = False
    problems: list[str] = []
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = tuple(n[:MAX_TEXT] for n in names.get_values_for_type(x509.DNSName))
        addresses = tuple(str(a) for a in names.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        pass
    except ValueError as error:
        problems.append(str(error))
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        is_ca = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    common = next(iter(named(parsed.subject, NameOID.COMMON_NAME)), "")
    issuer_common = next(iter(named(parsed.issuer, NameOID.COMMON_NAME)), "")
    try:
        key = _key_name(parsed.public_key())
    except Exception as error:
        key = "unknown"
        problems.append(str(error))
    signature = parsed.signature_algorithm_oid._name
    return Certificate(
        sha256=digest,
        subject=parsed.subject.rfc4514_string()[:MAX_TEXT],
        issuer=parsed.issuer.rfc4514_string()[:MAX_TEXT],
        common_name=common,
        organizations=named(parsed.subject, NameOID.ORGANIZATION_NAME),
        issuer_common_name=issuer_common,
        dns_names=dns,
        ip_addresses=addresses,
        not_before_ns=_nanoseconds(parsed.not_valid_before_utc),
        not_after_ns=_nanoseconds(parsed.not_valid_after_utc),
        key=key,
        signature=signature,
        is_ca=is_ca,
        self_signed=_self_signed(parsed),
        kubelet_self_made=kubelet_self_made(common, issuer_common),
        der=der,
    )


def _self_signed(parsed: object) -> bool:
    from cryptography import x509

    assert isinstance(parsed, x509.Certificate)
    if parsed.subject != parsed.issuer:
        return False
    try:
        parsed.verify_directly_issued_by(parsed)
    except Exception:
        return False
    return True
