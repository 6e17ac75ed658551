from __future__ import annotations

import numpy as np
import pytest

from analyzer.protocols.http1 import read_http1
from analyzer.protocols.konnectivity import (
    AGENT_CONNECT,
    PROXY,
    agent_flows,
    connect_target,
    is_agent_connect,
    is_proxy_request,
    proxy_flows,
    split_authority,
    tunnels,
)
from analyzer.schema import HttpHead, HttpMessage
from tests.heads_builder import build_heads


def request(flow: int, target: str, *, method: str = "POST", version: str = "2", host: str = "") -> HttpMessage:
    return HttpMessage(flow, 1, HttpHead(True, version, method=method, target=target, host=host))


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("10.0.0.11:10250", ("10.0.0.11", 10250)),
        ("[fd00::11]:10250", ("fd00::11", 10250)),
        ("node1:1", ("node1", 1)),
        ("fd00::11:10250", None),
        ("node1", None),
        ("node1:", None),
        (":10250", None),
        ("node1:65536", None),
        ("node1:-1", None),
        ("node1:\u0661", None),
        ("", None),
    ],
)
def test_authorities(authority: str, expected: tuple[str, int] | None) -> None:
    assert split_authority(authority) == expected
    assert connect_target(request(0, authority, method="CONNECT", version="1.1")) == expected


def test_paths_name_agents_and_frontends() -> None:
    agent, proxy, other = request(1, AGENT_CONNECT), request(2, PROXY), request(3, AGENT_CONNECT, version="1.1")
    connect = request(4, "", method="CONNECT", host="10.0.0.11:10250")
    messages = [agent, proxy, other, connect]
    assert [is_agent_connect(m) for m in messages] == [True, False, False, False]
    assert [is_proxy_request(m) for m in messages] == [False, True, False, False]
    assert (agent_flows(messages), proxy_flows(messages)) == (frozenset({1}), frozenset({2, 4}))


def test_tunnels_with_their_answers() -> None:
    ask = b"CONNECT 10.0.0.11:10250 HTTP/1.1\r\nHost: 10.0.0.11:10250\r\nUser-Agent: Go-http-client/1.1\r\n\r\n"
    tls = bytes.fromhex("16030105f4010005f00303")
    refused = b"HTTP/1.1 503 No agent\r\nContent-Length: 0\r\n\r\n"
    heads = build_heads(
        {
            0: ask + tls,
            1: b"HTTP/1.1 200 Connection established\r\n\r\n" + tls,
            2: ask * 2,
            3: refused + b"HTTP/1.1 200 OK\r\n\r\n",
            4: ask,
        },
        segments={2: [(0, 10), (len(ask), 12)], 3: [(0, 11), (len(refused), 13)]},
    )
    found = tunnels(read_http1(heads, np.arange(3)))
    assert [(t.flow, t.host, t.port, t.status) for t in found] == [
        (0, "10.0.0.11", 10250, 200),
        (1, "10.0.0.11", 10250, 503),
        (1, "10.0.0.11", 10250, 200),
        (2, "10.0.0.11", 10250, 0),
    ]
