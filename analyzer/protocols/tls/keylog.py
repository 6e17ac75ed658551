"""NSS key logs (SSLKEYLOGFILE): the secrets of sessions whose owner handed them over.

Format: https://datatracker.ietf.org/doc/draft-ietf-tls-keylogfile/. What a line holds is used for decryption only: it
reaches no output and no error message, and no object here shows it when printed.
"""

from __future__ import annotations

import re
from typing import Final

MAX_KEY_LOG: Final = 64 << 20
"""Octets of one key log; some 300,000 sessions of TLS 1.3."""

MASTER_SECRET: Final = b"CLIENT_RANDOM"
"""TLS <= 1.2: the master secret, extended (RFC 7627) or not."""
EARLY: Final = b"CLIENT_EARLY_TRAFFIC_SECRET"
HANDSHAKE: Final = (b"CLIENT_HANDSHAKE_TRAFFIC_SECRET", b"SERVER_HANDSHAKE_TRAFFIC_SECRET")
APPLICATION: Final = (b"CLIENT_TRAFFIC_SECRET_0", b"SERVER_TRAFFIC_SECRET_0")
"""TLS 1.3, client's and server's."""

_LABELS: Final = frozenset({MASTER_SECRET, EARLY, *HANDSHAKE, *APPLICATION})
_LINE: Final = re.compile(rb"([A-Z0-9_]+) ([0-9a-fA-F]{64}) ((?:[0-9a-fA-F]{2}){16,64})")
_OTHER: Final = re.compile(rb"[A-Z0-9_]+ [0-9a-fA-F]+ [0-9a-fA-F]+")
"""Lines of a key log that are of no use here: exporter secrets, ECH, the RSA form of old NSS."""


class KeyLog:
    """Secrets by the client random of their session.

    Attributes
    ----------
    bad_lines : int
        Lines that are none of a key log.
    first_bad_line : int
        Number of the first of them in its text, from 1; 0 = none.
    """

    def __init__(self, *texts: bytes) -> None:
        self._secrets: dict[bytes, dict[bytes, bytes]] = {}
        self.bad_lines = 0
        self.first_bad_line = 0
        for text in texts:
            self.add(text)

    def __repr__(self) -> str:
        return f"<KeyLog of {len(self)} sessions>"

    def __len__(self) -> int:
        return len(self._secrets)

    def __contains__(self, client_random: bytes) -> bool:
        return client_random in self._secrets

    def copy(self) -> KeyLog:
        """Another key log with the same secrets."""
        other = KeyLog()
        other._secrets = {random: dict(session) for random, session in self._secrets.items()}
        other.bad_lines, other.first_bad_line = self.bad_lines, self.first_bad_line
        return other

    def add(self, text: bytes) -> int:
        """Take the lines of a key log; how many secrets they gave. Comments and empty lines are passed over."""
        found = 0
        for number, line in enumerate(text[:MAX_KEY_LOG].splitlines(), 1):
            stripped = line.strip()
            if not stripped or stripped.startswith(b"#"):
                continue
            match = _LINE.fullmatch(stripped)
            if match is None:
                if _OTHER.fullmatch(stripped) is None:
                    self.bad_lines += 1
                    self.first_bad_line = self.first_bad_line or number
                continue
            if match[1] in _LABELS:
                session = self._secrets.setdefault(bytes.fromhex(match[2].decode()), {})
                session[match[1]] = bytes.fromhex(match[3].decode())
                found += 1
        return found

    def session(self, client_random: bytes) -> dict[bytes, bytes]:
        """Secrets of the session by label; empty where none were given."""
        return self._secrets.get(client_random, {})
