from __future__ import annotations

import numpy as np
import pytest

from analyzer.protocols.grpc import Rpc, is_grpc, rpc_of, rpcs_by_flow
from analyzer.protocols.http2 import read_http2
from analyzer.schema import HttpHead, HttpMessage
from tests.unit.protocols.streams_by_dpkt import LAB, connections, heads_of


def request(target: str, *, method: str = "POST", kind: str = "application/grpc", flow: int = 0) -> HttpMessage:
    return HttpMessage(flow, 1, HttpHead(True, "2", method=method, target=target, content_type=kind))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("Application/GRPC;charset=x", True),
        ("application/grpc-web", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_content_types(kind: str, expected: bool) -> None:
    assert is_grpc(request("/a.B/C", kind=kind)) is expected
    assert (rpc_of(request("/a.B/C", kind=kind)) is not None) is expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/etcdserverpb.KV/Range", Rpc("etcdserverpb.KV", "Range")),
        ("/AgentService/Connect", Rpc("AgentService", "Connect")),
        ("/a/b/c", None),
        ("/a", None),
        ("a/b", None),
        ("//b", None),
        ("/a/b?c", None),
    ],
)
def test_paths(target: str, expected: Rpc | None) -> None:
    assert rpc_of(request(target)) == expected


def test_only_posts_of_clients_are_calls() -> None:
    assert rpc_of(request("/a/b", method="GET")) is None
    assert rpc_of(HttpMessage(0, 1, HttpHead(False, "2", status=200, content_type="application/grpc"))) is None


def test_calls_by_flow_and_packages() -> None:
    calls = rpcs_by_flow([request("/a.b.C/D"), request("/E/F", flow=3), request("/a.b.C/D"), request("/x", flow=4)])
    assert calls == {0: (Rpc("a.b.C", "D"),), 3: (Rpc("E", "F"),)}
    assert (calls[0][0].package, calls[3][0].package) == ("a.b", "")
    assert (Rpc("etcdserverpb.KV", "Range").is_etcd, Rpc("etcdserverpbx.KV", "Range").is_etcd) == (True, False)


@pytest.mark.skipif(not LAB.is_dir(), reason="the lab captures are not beside this checkout")
def test_every_call_of_the_cleartext_etcd_capture_is_etcds() -> None:
    heads = heads_of(connections(LAB / "08b-etcd-cleartext.pcap"))
    calls = rpcs_by_flow(read_http2(heads, np.arange(len(heads) // 2)))
    assert len(calls) > 50
    assert all(rpc.is_etcd for rpcs in calls.values() for rpc in rpcs)
    assert {"Range", "Watch", "Txn"} <= {rpc.method for rpcs in calls.values() for rpc in rpcs}
