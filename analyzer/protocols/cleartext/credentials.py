"""Credentials in cleartext: what kind, and whose, never the secret itself."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

MAX_TOKEN: Final = 16 * 1024
MAX_CLAIM: Final = 256
_CLAIMS: Final = ("iss", "sub", "aud", "exp")
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"


def _payload(token: str) -> dict[str, Any]:
    """Claims of a JSON Web Token (RFC 7519 3), unverified; empty where it is none."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_TOKEN:
        return {}
    try:
        octets = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = json.loads(octets)
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _claim(value: object) -> str:
    if isinstance(value, list):
        return ",".join(str(v) for v in value[:8])[:MAX_CLAIM]
    return str(value)[:MAX_CLAIM] if isinstance(value, str | int | float) else ""


def describe_authorization(value: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Describe an Authorization header (RFC 9110 11.6.2) without repeating it.

    Returns
    -------
    str
        ``bearer (service account NAMESPACE/NAME)``, ``bearer``, ``basic`` ...; only the scheme of unknown ones.
    tuple of (claim, value)
        Issuer, subject, audience and expiry of a JWT.
    """
    scheme, _, rest = value.strip().partition(" ")
    scheme = scheme.lower()
    if scheme != "bearer":
        return (scheme if scheme in ("basic", "digest", "negotiate", "token") else "other scheme"), ()
    claims = _payload(rest.strip())
    facts = tuple((name, _claim(claims[name])) for name in _CLAIMS if name in claims)
    subject = dict(facts).get("sub", "")
    if subject.startswith(_SERVICE_ACCOUNT):
        owner = subject.removeprefix(_SERVICE_ACCOUNT).replace(":", "/", 1)
        return f"bearer (service account {owner})", facts
    return "bearer", facts
