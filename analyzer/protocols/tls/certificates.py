"""Certificates seen in clear: each distinct one is parsed once, by ``cryptography``.

A certificate is hostile input like any other octets: one that cannot be parsed is a `Certificate` with a ``problem``.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from analyzer.protocols.tls.strings import printable
from analyzer.schema import Certificate

_CURVES: Final = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521", "secp224r1": "p224"}
_SIGNATURES: Final = {
    oid.dotted_string: name.lower().replace("_", "-")
    for name, oid in vars(SignatureAlgorithmOID).items()
    if isinstance(oid, x509.ObjectIdentifier)
}
_SELF_MADE: Final = re.compile(r"(?P<host>.+)@\d{9,11}")
_SELF_MADE_CA: Final = re.compile(r"(?P<host>.+)-ca@\d{9,11}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=256)
def parse_certificate(der: bytes) -> Certificate:
    """Read one X.509 certificate (RFC 5280); never raises.

    Parameters
    ----------
    der : bytes
        The certificate as it stood in the Certificate message.
    """
    digest = hashlib.sha256(der).hexdigest()
    # The parser and every property of its result raise what they please on crafted input (ValueError, TypeError,
    # UnsupportedAlgorithm, DuplicateExtension ...) and warn about old encodings: all of it is this one outcome.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _read(x509.load_der_x509_certificate(der), der, digest)
        except Exception as error:
            return _unreadable(der, digest, f"{type(error).__name__}: {printable(str(error))}"[:200])


def _unreadable(der: bytes, digest: str, problem: str) -> Certificate:
    return Certificate(
        sha256=digest,
        subject="",
        issuer="",
        common_name="",
        organizations=(),
        issuer_common_name="",
        dns_names=(),
        ip_addresses=(),
        not_before_ns=0,
        not_after_ns=0,
        key="",
        signature="",
        is_ca=False,
        self_signed=False,
        kubelet_self_made=False,
        der=der,
        problem=problem,
    )


def _read(certificate: x509.Certificate, der: bytes, digest: str) -> Certificate:
    subject, issuer = certificate.subject, certificate.issuer
    common_name, issuer_name = _common_name(subject), _common_name(issuer)
    dns_names, addresses, is_ca = _extensions(certificate)
    signature = certificate.signature_algorithm_oid.dotted_string
    return Certificate(
        sha256=digest,
        subject=_text(subject),
        issuer=_text(issuer),
        common_name=common_name,
        organizations=tuple(_value(a) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)),
        issuer_common_name=issuer_name,
        dns_names=dns_names,
        ip_addresses=addresses,
        not_before_ns=_nanoseconds(certificate.not_valid_before_utc),
        not_after_ns=_nanoseconds(certificate.not_valid_after_utc),
        key=_key(certificate),
        signature=_SIGNATURES.get(signature, signature),
        is_ca=is_ca,
        self_signed=subject == issuer and _signs_itself(certificate),
        kubelet_self_made=_kubelet_self_made(common_name, issuer_name),
        der=der,
    )


def _text(name: x509.Name) -> str:
    text = name.rfc4514_string()
    return text if text.isprintable() else printable(text)


def _value(attribute: x509.NameAttribute[str | bytes]) -> str:
    value = attribute.value
    return printable(value if isinstance(value, str) else value.hex())


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return _value(found[0]) if found else ""


def _extensions(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """DNS names, IP addresses (RFC 5280 4.2.1.6), and the CA flag (4.2.1.9)."""
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    is_ca = False
    try:
        extensions = certificate.extensions
    except ValueError:
        # One odd extension (an empty name, a URL that is none) must not hide who the certificate is for.
        return dns_names, addresses, is_ca
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            dns_names = tuple(printable(name) for name in value.get_values_for_type(x509.DNSName))
            addresses = tuple(str(address) for address in value.get_values_for_type(x509.IPAddress))
        elif isinstance(value, x509.BasicConstraints):
            is_ca = value.ca
    return dns_names, addresses, is_ca


def _nanoseconds(when: datetime) -> int:
    # Exact: a float of seconds would lose the last digits.
    return (when - _EPOCH) // timedelta(microseconds=1) * 1000


def _key(certificate: x509.Certificate) -> str:
    try:
        key: CertificatePublicKeyTypes = certificate.public_key()
    except Exception as error:  # the key may be of a kind or curve that is not supported; the names are still good
        return f"unknown ({type(error).__name__})"
    match key:
        case rsa.RSAPublicKey():
            return f"rsa-{key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ecdsa-{_CURVES.get(key.curve.name, key.curve.name)}"
        case ed25519.Ed25519PublicKey():
            return "ed25519"
        case ed448.Ed448PublicKey():
            return "ed448"
        case dsa.DSAPublicKey():
            return f"dsa-{key.key_size}"
        case _:
            return type(key).__name__.removesuffix("PublicKey").lower()


def _signs_itself(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except Exception:  # InvalidSignature, or an algorithm that is not supported: not shown to be self-signed
        return False
    return True


def _kubelet_self_made(common_name: str, issuer_name: str) -> bool:
    """``CN=<host>@<unix time>`` issued by ``CN=<host>-ca@<unix time>``: client-go util/cert/cert.go."""
    own, ca = _SELF_MADE.fullmatch(common_name), _SELF_MADE_CA.fullmatch(issuer_name)
    return own is not None and ca is not None and own["host"] == ca["host"]


def chain_ders(body: bytes, *, tls13: bool = False) -> tuple[bytes, ...]:
    """Certificates of a Certificate message, as far as they are whole.

    RFC 5246 7.4.2; in TLS 1.3 a context stands before the list and extensions behind each of them (RFC 8446 4.4.2).
    """
    found: list[bytes] = []
    at = 1 + body[0] if tls13 and body else 0
    stop = min(len(body), at + 3 + int.from_bytes(body[at : at + 3]))
    at += 3
    while at + 3 <= stop:
        length = int.from_bytes(body[at : at + 3])
        at += 3
        if length == 0 or at + length > stop:
            break
        found.append(body[at : at + length])
        at += length
        if tls13:
            at += 2 + int.from_bytes(body[at : at + 2])
    return tuple(found)
