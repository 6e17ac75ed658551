"""Header fields that tell something about a channel, gathered into one `HttpMessage`, whichever HTTP carried them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from analyzer.protocols.cleartext.credentials import describe_authorization
from analyzer.schema import HttpMessage

MAX_TEXT: Final = 512
"""Characters kept of any text from the wire."""

_KEPT: Final = {
    "host": "host",
    ":authority": "host",
    "user-agent": "user_agent",
    "upgrade": "upgrade",
    "x-forwarded-uri": "forwarded_uri",
    "x-forwarded-for": "forwarded_for",
    "content-type": "content_type",
    "sec-websocket-protocol": "subprotocol",
    "x-stream-protocol-version": "subprotocol",
}


def make_message(
    flow: int,
    frame: int,
    *,
    from_client: bool,
    version: str,
    headers: Iterable[tuple[str, str]],
    method: str = "",
    target: str = "",
    status: int = 0,
) -> HttpMessage:
    """Make a message of lower-case header names and their values; the first of a name counts."""
    kept: dict[str, str] = {}
    credential = ""
    facts: tuple[tuple[str, str], ...] = ()
    for name, value in headers:
        if name in ("authorization", "proxy-authorization") and not credential.startswith(("bearer", "basic")):
            credential, facts = describe_authorization(value)
        elif name == "cookie" and not credential:
            credential = "cookie"
        elif name in _KEPT:
            kept.setdefault(_KEPT[name], value[:MAX_TEXT])
    return HttpMessage(
        flow=flow,
        frame=frame,
        from_client=from_client,
        version=version,
        method=method[:MAX_TEXT],
        target=_without_secrets(target)[:MAX_TEXT],
        status=status,
        credential=credential,
        credential_facts=facts,
        **kept,
    )


def _without_secrets(target: str) -> str:
    """A request target without the values of its query: tokens travel there too."""
    path, mark, query = target.partition("?")
    if not mark:
        return path
    return path + "?" + "&".join(f"{name}=" for name in (p.partition("=")[0] for p in query.split("&")[:16]))
