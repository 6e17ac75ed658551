"""Header fields that say something about a channel, gathered into one `HttpHead`, whichever HTTP carried them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from analyzer.protocols.credentials import (
    NO_CREDENTIAL,
    Credential,
    read_authorization,
    read_subprotocols,
    read_target,
    without_secrets,
)
from analyzer.protocols.stream import text
from analyzer.schema import HttpHead, HttpMessage

Fields = Sequence[tuple[bytes, bytes]]
"""(lower-case name, value) in the order sent."""


MAX_FIELDS: Final = 256
"""Fields kept of one message; Apache stops at 100, node.js at 2000."""

# RFC 9110 5.3: these are lists, so that repeated fields mean one joined value. Of all others the first one counts.
_LISTS: Final = frozenset(
    {b"upgrade", b"sec-websocket-protocol", b"x-stream-protocol-version", b"x-forwarded-for", b"transfer-encoding"}
)


SHOWN: Final = _LISTS | {
    *(b"authorization", b"content-type", b"cookie", b"host", b"proxy-authorization", b"user-agent", b"x-forwarded-uri"),
}
"""Names of the fields that anything is kept of, or that tell what a request authenticates with."""


def values_by_name(fields: Fields) -> dict[bytes, bytes]:
    """Value of each field: of repeated ones the first, of repeated lists all, joined by commas (RFC 9110 5.3)."""
    values: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in values:
            values[name] = value
        elif name in _LISTS:
            values[name] += b", " + value
    return values


def credential_of(values: Mapping[bytes, bytes], target: bytes) -> Credential:
    """What a request authenticates with; the strongest statement first, the secret never."""
    for name in (b"authorization", b"proxy-authorization"):
        found = read_authorization(values.get(name, b""))
        if found != NO_CREDENTIAL:
            return found
    found = read_subprotocols(values.get(b"sec-websocket-protocol", b""))
    if found == NO_CREDENTIAL:
        found = read_target(target)
    if found == NO_CREDENTIAL and values.get(b"cookie"):
        return Credential("cookie")
    return found


def make_request(flow: int, frame: int, *, version: str, method: bytes, target: bytes, fields: Fields) -> HttpMessage:
    """Make the message of a request.

    Parameters
    ----------
    flow, frame : int
        Row of the flow table; frame that carried the first octet.
    version : str
        ``1.0``, ``1.1``, ``2``.
    method, target : bytes
        As sent (RFC 9112 3); secrets in the target are replaced.
    fields : sequence of (bytes, bytes)
        Lower-case names. What a request whose head is cut does not show is left empty.
    """
    return HttpMessage(flow, frame, request_head(version, method, target, tuple(fields)))


@lru_cache(maxsize=512)
def request_head(version: str, method: bytes, target: bytes, fields: Fields) -> HttpHead:
    """What of a request is kept: probes and pollers send the same head again and again, and it is read once."""
    values = values_by_name(fields)
    credential = credential_of(values, target)
    return HttpHead(
        True,
        version,
        method=text(method),
        target=without_secrets(target),
        host=without_secrets(values.get(b"host", b"")),
        user_agent=without_secrets(values.get(b"user-agent", b"")),
        upgrade=text(values.get(b"upgrade", b"")),
        forwarded_uri=without_secrets(values.get(b"x-forwarded-uri", b"")),
        forwarded_for=text(values.get(b"x-forwarded-for", b"")),
        content_type=text(values.get(b"content-type", b"")),
        subprotocol=_subprotocol(values),
        credential=credential.text,
        credential_facts=credential.facts,
    )


def make_response(flow: int, frame: int, *, version: str, status: int, fields: Fields) -> HttpMessage:
    """Make the message of a response; parameters as `make_request`, `status` a three-digit code."""
    return HttpMessage(flow, frame, response_head(version, status, tuple(fields)))


@lru_cache(maxsize=512)
def response_head(version: str, status: int, fields: Fields) -> HttpHead:
    """What of a response is kept."""
    values = values_by_name(fields)
    return HttpHead(
        False,
        version,
        status=status,
        upgrade=text(values.get(b"upgrade", b"")),
        content_type=text(values.get(b"content-type", b"")),
        subprotocol=_subprotocol(values),
    )


def _subprotocol(values: Mapping[bytes, bytes]) -> str:
    value = values.get(b"sec-websocket-protocol", b"") or values.get(b"x-stream-protocol-version", b"")
    return without_secrets(value)
