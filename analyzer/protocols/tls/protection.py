"""Record protection with given secrets: key schedules of TLS 1.2 and 1.3, and the removal of protection from records.

RFC 8446 5.2 and 7, RFC 5246 5 and 6.2.3, RFC 5288 (AES-GCM), RFC 6655 (AES-CCM), RFC 7905 (ChaCha20-Poly1305), RFC 7366
(encrypt-then-MAC). Every record is authenticated before its content counts: a secret that does not fit gives nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from functools import cache
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from analyzer.protocols.tls.suites import suite_name

_BLOCK: Final = 16
_EXPLICIT_NONCE: Final = 8
_SUITE: Final = re.compile(
    r"TLS_(?:.+_WITH_)?"
    r"(?:AES_(?P<bits>128|256)_(?P<mode>GCM|CCM_8|CCM|CBC)|(?P<chacha>CHACHA20_POLY1305))(?:_(?P<hash>SHA\d*))?"
)
_MAC_HASH: Final = {"SHA": "sha1", "SHA256": "sha256", "SHA384": "sha384"}


class ProtectionError(Exception):
    """A record is not what the secret says it should be: it is from another session, changed, or out of order."""


class Suite(NamedTuple):
    """What a cipher suite means for its records."""

    mode: str  #: ``GCM``, ``CCM``, ``CCM_8``, ``CBC``, ``CHACHA``
    key_octets: int
    prf: str  #: hash of the key schedule, by its name in `hashlib`
    mac: str  #: hash of the HMAC (CBC only)

    @property
    def hash_octets(self) -> int:
        """Octets of the key schedule's hash."""
        return hashlib.new(self.prf).digest_size


@cache
def suite_parameters(number: int) -> Suite | None:
    """Parameters of a suite; None for one whose records cannot be opened here."""
    match = _SUITE.fullmatch(suite_name(number))
    if match is None:
        return None
    name = match["hash"] or "SHA256"
    prf = "sha384" if name == "SHA384" else "sha256"
    if match["chacha"]:
        return Suite("CHACHA", 32, prf, "")
    return Suite(match["mode"], int(match["bits"]) // 8, prf, _MAC_HASH[name])


class _Aead(Protocol):
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


def _aead(suite: Suite, key: bytes) -> _Aead:
    if suite.mode == "CHACHA":
        return ChaCha20Poly1305(key)
    if suite.mode == "GCM":
        return AESGCM(key)
    return AESCCM(key, tag_length=8 if suite.mode == "CCM_8" else 16)


class Opener(Protocol):
    """Removes the protection of one direction's records, one after the other."""

    prefix: int
    """Octets before the ciphertext in a record: positions of plain octets count from there."""

    def open(self, kind: int, version: bytes, body: bytes) -> tuple[int, bytes]:
        """Content type and content of the next record.

        Raises
        ------
        ProtectionError
            If the record does not authenticate.
        """
        ...

    def skip(self) -> None:
        """Count a record that was not captured whole."""
        ...


def expand_label(suite: Suite, secret: bytes, label: bytes, octets: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 7.1)."""
    full = b"tls13 " + label
    info = octets.to_bytes(2) + bytes([len(full)]) + full + b"\x00"
    output, block = b"", b""
    for number in range(1, -(-octets // suite.hash_octets) + 1):
        block = hmac.digest(secret, block + info + bytes([number]), suite.prf)
        output += block
    return output[:octets]


class Opener13:
    """Records of TLS 1.3 under one traffic secret (RFC 8446 5.2, 5.3)."""

    prefix = 0

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self._suite, self._secret = suite, secret
        self._rekey()

    def _rekey(self) -> None:
        self._aead = _aead(self._suite, expand_label(self._suite, self._secret, b"key", self._suite.key_octets))
        self._iv = int.from_bytes(expand_label(self._suite, self._secret, b"iv", 12))
        self.sequence = 0

    def open(self, kind: int, version: bytes, body: bytes) -> tuple[int, bytes]:
        """See `Opener`; the padding (5.4) is taken off."""
        header = bytes([kind]) + version + len(body).to_bytes(2)
        nonce = (self._iv ^ self.sequence).to_bytes(12)
        try:
            inner = self._aead.decrypt(nonce, body, header)
        except (InvalidTag, ValueError) as error:
            raise ProtectionError from error
        self.sequence += 1
        inner = inner.rstrip(b"\x00")
        if not inner:
            raise ProtectionError
        return inner[-1], inner[:-1]

    def skip(self) -> None:
        """See `Opener`."""
        self.sequence += 1

    def update(self) -> None:
        """Go on with the next application traffic secret, after a KeyUpdate (7.2)."""
        self._secret = expand_label(self._suite, self._secret, b"traffic upd", self._suite.hash_octets)
        self._rekey()


def _prf(suite: Suite, secret: bytes, label: bytes, seed: bytes, octets: int) -> bytes:
    """The PRF of TLS 1.2 (RFC 5246 5)."""
    seed = label + seed
    output, a = b"", seed
    while len(output) < octets:
        a = hmac.digest(secret, a, suite.prf)
        output += hmac.digest(secret, a + seed, suite.prf)
    return output[:octets]


def openers_12(
    suite: Suite, master_secret: bytes, client_random: bytes, server_random: bytes, *, encrypt_then_mac: bool
) -> tuple[Opener, Opener]:
    """Openers of the client's and the server's records after their ChangeCipherSpec (RFC 5246 6.3)."""
    mac = hashlib.new(suite.mac).digest_size if suite.mode == "CBC" else 0
    iv = {"CBC": 0, "CHACHA": 12}.get(suite.mode, 4)
    seed = server_random + client_random
    block = _prf(suite, master_secret, b"key expansion", seed, 2 * (mac + suite.key_octets + iv))

    def take(octets: int) -> bytes:
        nonlocal block
        taken, block = block[:octets], block[octets:]
        return taken

    macs = take(mac), take(mac)
    keys = take(suite.key_octets), take(suite.key_octets)
    ivs = take(iv), take(iv)
    if suite.mode == "CBC":
        client, server = (_OpenerCbc(suite, keys[s], macs[s], encrypt_then_mac=encrypt_then_mac) for s in (0, 1))
        return client, server
    return _OpenerAead(suite, keys[0], ivs[0]), _OpenerAead(suite, keys[1], ivs[1])


class _OpenerAead:
    """AEAD records of TLS 1.2 (RFC 5246 6.2.3.3)."""

    def __init__(self, suite: Suite, key: bytes, iv: bytes) -> None:
        self._aead, self._iv, self._sequence = _aead(suite, key), iv, 0
        self._tag = 8 if suite.mode == "CCM_8" else 16
        self.prefix = 0 if suite.mode == "CHACHA" else _EXPLICIT_NONCE

    def open(self, kind: int, version: bytes, body: bytes) -> tuple[int, bytes]:
        """See `Opener`."""
        if self.prefix:
            nonce, body = self._iv + body[: self.prefix], body[self.prefix :]
        else:  # RFC 7905 2: as in TLS 1.3
            nonce = (int.from_bytes(self._iv) ^ self._sequence).to_bytes(12)
        content = len(body) - self._tag
        if content < 0:
            raise ProtectionError
        header = self._sequence.to_bytes(8) + bytes([kind]) + version + content.to_bytes(2)
        try:
            plain = self._aead.decrypt(nonce, body, header)
        except (InvalidTag, ValueError) as error:
            raise ProtectionError from error
        self._sequence += 1
        return kind, plain

    def skip(self) -> None:
        """See `Opener`."""
        self._sequence += 1


class _OpenerCbc:
    """CBC records of TLS 1.2 (RFC 5246 6.2.3.2): explicit IV, then MAC-then-encrypt or encrypt-then-MAC."""

    prefix = _BLOCK

    def __init__(self, suite: Suite, key: bytes, mac_key: bytes, *, encrypt_then_mac: bool) -> None:
        self._key, self._mac_key, self._hash = key, mac_key, suite.mac
        self._mac_octets = hashlib.new(suite.mac).digest_size
        self._encrypt_then_mac, self._sequence = encrypt_then_mac, 0

    def _check(self, kind: int, version: bytes, covered: bytes, mac: bytes) -> None:
        header = self._sequence.to_bytes(8) + bytes([kind]) + version + len(covered).to_bytes(2)
        if not hmac.compare_digest(hmac.digest(self._mac_key, header + covered, self._hash), mac):
            raise ProtectionError

    def open(self, kind: int, version: bytes, body: bytes) -> tuple[int, bytes]:
        """See `Opener`."""
        if self._encrypt_then_mac:
            body, mac = body[: -self._mac_octets], body[-self._mac_octets :]
            self._check(kind, version, body, mac)
        if len(body) < 2 * _BLOCK or len(body) % _BLOCK:
            raise ProtectionError
        decryptor = Cipher(algorithms.AES(self._key), modes.CBC(body[:_BLOCK])).decryptor()
        plain = decryptor.update(body[_BLOCK:]) + decryptor.finalize()
        padding = plain[-1] + 1
        if padding > len(plain) or plain[-padding:] != bytes([padding - 1]) * padding:
            raise ProtectionError
        plain = plain[:-padding]
        if not self._encrypt_then_mac:
            if len(plain) < self._mac_octets:
                raise ProtectionError
            plain, mac = plain[: -self._mac_octets], plain[-self._mac_octets :]
            self._check(kind, version, plain, mac)
        self._sequence += 1
        return kind, plain

    def skip(self) -> None:
        """See `Opener`."""
        self._sequence += 1
