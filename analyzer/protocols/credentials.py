"""What a request authenticates with, told without telling the secret.

Tokens, passwords and cookies come in as octets and never leave: what leaves is the kind of the credential, and of a
JSON Web Token the registered claims that say whose it is. Its signature is not checked; nothing here could.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Final, NamedTuple

from analyzer.protocols.stream import TEXT_LIMIT, text


class Credential(NamedTuple):
    """A redacted credential: ``text`` as it may be shown, ``facts`` as (claim, value) pairs."""

    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()


NO_CREDENTIAL: Final = Credential()

SCHEMES: Final = frozenset(
    {"basic", "bearer", "digest", "dpop", "hoba", "mutual", "negotiate", "ntlm", "scram-sha-256", "vapid"}
    | {"aws4-hmac-sha256", "token"}
)
"""IANA HTTP Authentication Schemes in use, and two that are not registered. The first word of any other value may be
the secret itself and is not shown."""

MAX_TOKEN: Final = 8192
"""Octets of a token that are looked into; nginx and Go proxies bound a field line at 8 KiB."""

SERVICE_ACCOUNT_PREFIX: Final = "system:serviceaccount:"
"""apiserver/pkg/authentication/serviceaccount/util.go, ServiceAccountUsernamePrefix."""

WEBSOCKET_BEARER: Final = b"base64url.bearer.authorization.k8s.io."
"""A bearer token as a WebSocket subprotocol (apiserver/pkg/authentication/request/websocket/protocol.go)."""

REDACTED: Final = b"REDACTED"

# cluster-bootstrap/token/api/types.go, BootstrapTokenPattern.
_BOOTSTRAP_TOKEN: Final = re.compile(rb"[a-z0-9]{6}\.[a-z0-9]{16}")
# Compact form of RFC 7515 7.1. Only whole runs of base64url are tried, so that matching stays linear.
_DOTTED: Final = re.compile(rb"(?<![A-Za-z0-9_-])([A-Za-z0-9_-]{8,})\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*")
# base64url of an opening brace and a quotation mark, space, or line end.
_JSON_OPENINGS: Final = (b"eyJ", b"eyA", b"ewo", b"ewk", b"ew0")
# Secrets in a query: RFC 6750 2.3 (access_token), OAuth 2.0 and OpenID Connect names, presigned URLs of clouds.
_QUERY_SECRET: Final = re.compile(
    rb"(?P<name>[?&;](?:[a-z0-9]{1,32}[_-]){0,3}"
    rb"(?:token|password|passwd|pwd|secret|signature|sig|assertion|credential|api[_-]?key)=)[^&;#\s]+",
    re.IGNORECASE,
)
# RFC 3986 3.2.1, user information before the host. Both repetitions are bounded, so a crafted target costs no time.
_USERINFO: Final = re.compile(rb"(?P<scheme>[a-z][a-z0-9+.-]{0,15}://)[^/?#@\s]{1,512}@", re.IGNORECASE)
_SUBPROTOCOL_BEARER: Final = re.compile(rb"(?P<name>" + re.escape(WEBSOCKET_BEARER) + rb")[^,\s]+", re.IGNORECASE)

# kubelet/pkg/cri/streaming: /{exec,attach,portforward}/{token}. The token of 8 base64url octets (request_cache.go)
# opens the session to whoever shows it first. Kubelet paths of the same names have more segments.
_STREAMING_TOKEN: Final = re.compile(rb"(?P<path>/(?:exec|attach|portforward)/)[A-Za-z0-9_-]{8}(?=$|[?#\s])")


def read_authorization(value: bytes) -> Credential:
    """Redact the value of an Authorization or Proxy-Authorization field (RFC 9110 11.6.2).

    Returns
    -------
    Credential
        ``bearer``, ``bearer (service account ns/name)``, ``bearer (bootstrap token)``, ``basic`` and the other
        `SCHEMES` in lower case; ``other scheme`` where the first word is none of them; empty for an empty value.
        Facts are the claims iss, sub, aud and exp (RFC 7519 4.1) of a JSON Web Token, unverified.
    """
    scheme, _, rest = value.strip().partition(b" ")
    if not scheme:
        return NO_CREDENTIAL
    name = scheme[:32].decode("latin-1").lower()
    if name not in SCHEMES:
        return Credential("other scheme")
    return _bearer(rest.strip()) if name == "bearer" else Credential(name)


def read_subprotocols(value: bytes) -> Credential:
    """Find the bearer token a WebSocket client hides among its subprotocols (see `WEBSOCKET_BEARER`)."""
    for protocol in value[: 2 * MAX_TOKEN].split(b","):
        if protocol.strip().startswith(WEBSOCKET_BEARER):
            return _bearer(_base64url(protocol.strip()[len(WEBSOCKET_BEARER) :]) or b"")
    return NO_CREDENTIAL


def read_target(target: bytes) -> Credential:
    """Tell whether a request target carries a token or password in its query or before its host."""
    if b"=" in target and _QUERY_SECRET.search(target):
        return Credential("token (in the request target)")
    userinfo = b"@" in target and _USERINFO.search(target)
    return Credential("basic (in the request target)") if userinfo else NO_CREDENTIAL


def without_secrets(octets: bytes) -> str:
    """Text of a captured field in which tokens, passwords and user information are replaced by `REDACTED`."""
    return text(redact(octets))


def redact(octets: bytes) -> bytes:
    """Replace tokens, passwords and user information by `REDACTED`; all the rest is kept."""
    # Most fields hold none of the marks without which the pattern after it cannot match.
    if b"." in octets:
        octets = _SUBPROTOCOL_BEARER.sub(rb"\g<name>" + REDACTED, octets)
        octets = _DOTTED.sub(_redact_token, octets)
    if b"=" in octets:
        octets = _QUERY_SECRET.sub(rb"\g<name>" + REDACTED, octets)
    if b"/exec/" in octets or b"/attach/" in octets or b"/portforward/" in octets:
        octets = _STREAMING_TOKEN.sub(rb"\g<path>" + REDACTED, octets)
    if b"@" in octets:
        octets = _USERINFO.sub(rb"\g<scheme>" + REDACTED + b"@", octets)
    return octets


def _redact_token(match: re.Match[bytes]) -> bytes:
    is_token = match[1].startswith(_JSON_OPENINGS) or b"eyJ" in match[1]
    return REDACTED if is_token else match[0]


def _bearer(token: bytes) -> Credential:
    if _BOOTSTRAP_TOKEN.fullmatch(token):
        return Credential("bearer (bootstrap token)")
    claims = _claims(token)
    facts = tuple((name, value) for name in ("iss", "sub", "aud", "exp") if (value := _claim(claims.get(name))))
    subject = dict(facts).get("sub", "")
    namespace, separator, account = subject.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    if subject.startswith(SERVICE_ACCOUNT_PREFIX) and separator:
        return Credential(f"bearer (service account {namespace}/{account})", facts)
    return Credential("bearer", facts)


def _claims(token: bytes) -> dict[str, object]:
    """Payload of a JSON Web Token in compact form; empty where the token is none, or cannot be read."""
    parts = token.split(b".")
    if len(token) > MAX_TOKEN or len(parts) != 3:
        return {}
    payload = _base64url(parts[1])
    if payload is None:
        return {}
    try:
        # RecursionError: deep nesting. ValueError: not JSON, not UTF-8, or an integer past the interpreter's limit.
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _base64url(octets: bytes) -> bytes | None:
    """Decode base64url without padding (RFC 4648 5); None where it is not."""
    if len(octets) > MAX_TOKEN:
        return None
    try:
        return base64.b64decode(octets.rstrip(b"=") + b"=" * (-len(octets.rstrip(b"=")) % 4), b"-_", validate=True)
    except binascii.Error:
        return None


def _claim(value: object) -> str:
    """Text of a claim: a string, an integer, or a list of strings; empty for anything else."""
    if isinstance(value, list):
        value = ", ".join(item for item in value if isinstance(item, str))
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    # JSON may escape lone surrogates (RFC 8259 8.2), which no output encoding can carry. A claim that is itself a
    # token would carry it out.
    return redact(str(value).encode("utf-8", "replace")).decode("utf-8", "replace")[:TEXT_LIMIT]
