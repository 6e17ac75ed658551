"""gRPC as a fact about HTTP/2 messages: which service and method a path names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from analyzer.schema import HttpMessage

# grpc/grpc doc/PROTOCOL-HTTP2.md: Content-Type is "application/grpc" [("+proto" / "+json" / {custom})].
_CONTENT_TYPE: Final = re.compile(r"application/grpc(?:[+;\s].*)?", re.IGNORECASE | re.DOTALL)
_PATH: Final = re.compile(r"/(?P<service>[^/?#\s]{1,255})/(?P<method>[^/?#\s]{1,255})")

ETCD_PACKAGES: Final = ("etcdserverpb", "v3lockpb", "v3electionpb")
"""etcd api/etcdserverpb/rpc.proto, server/etcdserver/api/v3lock and v3election."""


class Rpc(NamedTuple):
    """One remote procedure call: ``etcdserverpb.KV`` and ``Range``."""

    service: str
    method: str

    @property
    def package(self) -> str:
        """Package of the service, empty where it has none (``AgentService``)."""
        return self.service.rpartition(".")[0]

    @property
    def is_etcd(self) -> bool:
        """Whether the call belongs to etcd's client API."""
        return self.package in ETCD_PACKAGES


def is_grpc(message: HttpMessage) -> bool:
    """Whether the message says it is gRPC by its content type."""
    return message.version == "2" and _CONTENT_TYPE.fullmatch(message.content_type) is not None


def rpc_of(message: HttpMessage) -> Rpc | None:
    """Service and method a gRPC request names (grpc/grpc doc/PROTOCOL-HTTP2.md: Path is "/" Service "/" Method)."""
    if not message.from_client or message.method != "POST" or not is_grpc(message):
        return None
    path = _PATH.fullmatch(message.target)
    return Rpc(path["service"], path["method"]) if path else None


def rpcs_by_flow(messages: Iterable[HttpMessage]) -> dict[int, tuple[Rpc, ...]]:
    """Distinct calls of each flow that has any, in order of appearance."""
    found: dict[int, dict[Rpc, None]] = {}
    for message in messages:
        rpc = rpc_of(message)
        if rpc is not None:
            found.setdefault(message.flow, {})[rpc] = None
    return {flow: tuple(calls) for flow, calls in found.items()}
