"""gRPC as a fact about HTTP/2 messages: which service and method a path names."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from analyzer.protocols.stream import Piece
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


MAX_MESSAGE: Final = 4 << 20
"""Octets of one message; grpc-go's default limit of what is received."""


def read_messages(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Yield the messages that DATA frames of one direction carry, each with the frame it begins in.

    grpc/grpc doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message: one octet that says whether it is compressed, four of
    length, the message. A compressed one is passed over; the last one may be cut.
    """
    octets = b"".join(piece.octets for piece in pieces)
    ends = list(itertools.accumulate(len(piece.octets) for piece in pieces))
    at = 0
    while at + 5 <= len(octets):
        compressed, length = octets[at], int.from_bytes(octets[at + 1 : at + 5])
        if compressed > 1 or length > MAX_MESSAGE:
            return
        if not compressed:
            yield Piece(pieces[bisect_right(ends, at)].frame, octets[at + 5 : at + 5 + length])
        at += 5 + length


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
