"""Konnectivity (apiserver-network-proxy) recognised by what is asked in clear or after decryption.

Paths: konnectivity-client/proto/client/client.proto and proto/agent/agent.proto; HTTP mode: CONNECT (RFC 9110 9.3.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from analyzer.schema import HttpMessage

AGENT_CONNECT: Final = "/AgentService/Connect"
"""An agent's connection to the proxy server (agent.proto)."""
PROXY: Final = "/ProxyService/Proxy"
"""The API server's request to the proxy server (client.proto)."""


class Tunnel(NamedTuple):
    """A CONNECT request: whereto, and what it was answered."""

    flow: int
    frame: int
    host: str
    port: int
    status: int  #: of the answer; 0 = none was seen


def is_agent_connect(message: HttpMessage) -> bool:
    """Whether the request opens an agent's connection."""
    return message.from_client and message.version == "2" and message.target == AGENT_CONNECT


def is_proxy_request(message: HttpMessage) -> bool:
    """Whether the request asks a proxy server for a connection by gRPC."""
    return message.from_client and message.version == "2" and message.target == PROXY


def split_authority(authority: str) -> tuple[str, int] | None:
    """Split ``host:port`` (RFC 9110 7.1); brackets of an IPv6 address are taken off. None where it is neither."""
    host, colon, port = authority.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not colon or not host or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        return None
    return host, int(port)


def connect_target(message: HttpMessage) -> tuple[str, int] | None:
    """Host and port a CONNECT request names; None for any other message (RFC 9112 3.2.3, RFC 9113 8.5)."""
    if not message.from_client or message.method != "CONNECT":
        return None
    return split_authority(message.target or message.host)


def tunnels(messages: Sequence[HttpMessage]) -> list[Tunnel]:
    """Tunnels that the HTTP/1 messages ask for, in their order.

    Parameters
    ----------
    messages : sequence of HttpMessage
        As `read_http1` orders them.
    """
    final: dict[int, list[HttpMessage]] = {}
    for message in messages:
        if not message.from_client and message.status >= 200:
            final.setdefault(message.flow, []).append(message)
    found: list[Tunnel] = []
    for message in messages:
        target = connect_target(message)
        if target is None:
            continue
        answers = final.get(message.flow, [])
        status = next((answer.status for answer in answers if answer.frame >= message.frame), 0)
        found.append(Tunnel(message.flow, message.frame, *target, status))
    return found


def agent_flows(messages: Iterable[HttpMessage]) -> frozenset[int]:
    """Flows on which an agent connects to a proxy server."""
    return frozenset(message.flow for message in messages if is_agent_connect(message))


def proxy_flows(messages: Iterable[HttpMessage]) -> frozenset[int]:
    """Flows on which an API server asks a proxy server for connections, by gRPC or by CONNECT."""
    return frozenset(m.flow for m in messages if is_proxy_request(m) or connect_target(m) is not None)
