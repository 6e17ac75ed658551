"""Header fields that say something about a channel, gathered into one `HttpMessage`, whichever HTTP carried them."""

from __future__ import annotations

from collections.abc import Sequence
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
from analyzer.schema import HttpMessage

Fields = Sequence[tuple[bytes, bytes]]
"""(lower-case name, value) in the order sent."""

MAX_FIELDS: Final = 256
"""Fields kept of one message; Apache stops at 100, node.js at 2000."""

# RFC 9110 5.3: these are lists, so that repeated fields mean one joined value. Of all others the first one counts.
_LISTS: Final = frozenset(
    {b"upgrade", b"sec-websocket-protocol", b"x-stream-protocol-version", b"x-forwarded-for", b"transfer-encoding"}
)


def field_value(fields: Fields, name: bytes) -> bytes:
    """Value of the field `name`, empty where there is none; repeated list fields joined by commas (RFC 9110 5.3)."""
    values = (value for known, value in fields if known == name)
    return b", ".join(values) if name in _LISTS else next(values, b"")


def credential_of(fields: Fields, target: bytes) -> Credential:
    """What a request authenticates with; the strongest statement first, the secret never."""
    for name in (b"authorization", b"proxy-authorization"):
        found = read_authorization(field_value(fields, name))
        if found != NO_CREDENTIAL:
            return found
    found = read_subprotocols(field_value(fields, b"sec-websocket-protocol"))
    if found == NO_CREDENTIAL:
        found = read_target(target)
    if found == NO_CREDENTIAL and field_value(fields, b"cookie"):
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
    credential = credential_of(fields, target)
    return HttpMessage(
        flow=flow,
        frame=frame,
        from_client=True,
        version=version,
        method=text(method),
        target=without_secrets(target),
        host=without_secrets(field_value(fields, b"host")),
        user_agent=without_secrets(field_value(fields, b"user-agent")),
        upgrade=text(field_value(fields, b"upgrade")),
        forwarded_uri=without_secrets(field_value(fields, b"x-forwarded-uri")),
        forwarded_for=text(field_value(fields, b"x-forwarded-for")),
        content_type=text(field_value(fields, b"content-type")),
        subprotocol=_subprotocol(fields),
        credential=credential.text,
        credential_facts=credential.facts,
    )


def make_response(flow: int, frame: int, *, version: str, status: int, fields: Fields) -> HttpMessage:
    """Make the message of a response; parameters as `make_request`, `status` a three-digit code."""
    return HttpMessage(
        flow=flow,
        frame=frame,
        from_client=False,
        version=version,
        status=status,
        upgrade=text(field_value(fields, b"upgrade")),
        content_type=text(field_value(fields, b"content-type")),
        subprotocol=_subprotocol(fields),
    )


def _subprotocol(fields: Fields) -> str:
    value = field_value(fields, b"sec-websocket-protocol") or field_value(fields, b"x-stream-protocol-version")
    return without_secrets(value)
