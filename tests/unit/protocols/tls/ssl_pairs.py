"""TLS connections made in memory by OpenSSL: handshakes whose every option the test knows."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

Key = CertificateIssuerPrivateKeyTypes
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
KEYS: dict[str, Callable[[], Key]] = {
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
}


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, and the file that holds both."""

    certificate: x509.Certificate
    key: Key
    file: str


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@cache
def _key(kind: str, number: int) -> Key:
    del number  # only tells keys of one kind apart
    return KEYS[kind]()


def name(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@cache
def identity(
    common_name: str, kind: str = "ecdsa-p256", issuer: str = "", organization: str = "", days: int = 36500
) -> Identity:
    """A certificate issued by the CA called `issuer`, or self-signed."""
    key = _key(kind, hash((common_name, issuer)))
    ca = identity(issuer, kind) if issuer else None
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name(common_name, organization))
        .issuer_name(ca.certificate.subject if ca else name(common_name, organization))
        .public_key(key.public_key())
        .serial_number(0x1234567890ABCDEF)
        .not_valid_before(START)
        .not_valid_after(START + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=not issuer, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("node1"), x509.IPAddress(ipaddress.ip_address("10.0.0.11"))]),
            critical=False,
        )
        .sign(ca.key if ca else key, hashes.SHA256())
    )
    path = Path(_folder().name) / f"{len(list(Path(_folder().name).iterdir()))}.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Identity(certificate, key, str(path))


def server_context(
    who: Identity, version: ssl.TLSVersion, ask: Identity | None = None, *, require: bool = False
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(who.file)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED if require else ssl.CERT_OPTIONAL
        context.load_verify_locations(ask.file)
    return context


def client_context(who: Identity | None = None, trust: Identity | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if trust else ssl.CERT_NONE
    if trust:
        context.load_verify_locations(trust.file)
    if who:
        context.load_cert_chain(who.file)
    return context


class Pair:
    """One connection; `sent` collects the octets of client and server."""

    def __init__(
        self,
        client: ssl.SSLContext,
        server: ssl.SSLContext,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._bios = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
        self.client = client.wrap_bio(*self._bios[0], server_hostname=server_name, session=session)
        self.server = server.wrap_bio(*self._bios[1], server_side=True)
        self.sent = [bytearray(), bytearray()]
        self.failed = [False, False]

    def _move(self) -> bool:
        """Carry what each side wrote to the other; False when there was nothing."""
        moved = False
        for side in (0, 1):
            octets = self._bios[side][1].read()
            self.sent[side] += octets
            self._bios[1 - side][0].write(octets)
            moved |= bool(octets)
        return moved

    def handshake(self) -> bool:
        """Run it to its end; True where both sides are content."""
        done = [False, False]
        for _ in range(20):
            for side, ends in enumerate((self.client, self.server)):
                if not done[side] and not self.failed[side]:
                    try:
                        ends.do_handshake()
                        done[side] = True
                    except ssl.SSLWantReadError:
                        pass
                    except ssl.SSLError:
                        self.failed[side] = True
            if not self._move():
                break
        return all(done)

    def exchange(
        self, request: bytes = b"GET / HTTP/1.1\r\n\r\n", response: bytes = b"HTTP/1.1 200 OK\r\n\r\n"
    ) -> bool:
        """One request and its response; False where a side finds the connection broken."""
        try:
            self.client.write(request)
            self._move()
            self.server.read()
            self.server.write(response)
            self._move()
            self.client.read()
        except ssl.SSLError:
            self._move()
            return False
        return True


def connection(pair: Pair) -> dict[int, bytes]:
    """Both directions of a finished pair as streams of flow 0."""
    return {0: bytes(pair.sent[0]), 1: bytes(pair.sent[1])}
