"""Which TLS library wrote a hello: Go crypto/tls as stock Kubernetes components configure it, OpenSSL, or another.

A hello is *consistent* with a library, never proof of it: anyone can send the same octets.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from analyzer.protocols.tls.fingerprints import is_grease

_RENEGOTIATION_SCSV: Final = 0x00FF
_TLS_1_3_SUITES: Final = range(0x1301, 0x1306)
_MIN_SERVER_EVIDENCE: Final = 2
"""ServerHello extensions below which their order says nothing."""


class Stack(IntEnum):
    """Values of ``TlsFacts.client_stack`` and ``server_stack``."""

    UNKNOWN = 0
    GO = 1
    OPENSSL = 2
    OTHER = 3  #: a client that sends GREASE (RFC 8701): BoringSSL and the browsers


class _Library(NamedTuple):
    orders: tuple[tuple[int, ...], ...] = ()
    required: frozenset[int] = frozenset()
    absent: frozenset[int] = frozenset()
    suites: frozenset[int] = frozenset()
    orders_13: tuple[tuple[int, ...], ...] = ()
    suites_13: tuple[int, ...] = ()


class Release(NamedTuple):
    """One row of ``[[release]]``."""

    go: str
    ciphers: str
    extensions: str
    ja3: str
    groups: str


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(files("analyzer.data").joinpath("go_fingerprints.toml").read_text("utf-8"))


@cache
def _library(name: str, side: str) -> _Library:
    row = _data()[name][side]
    return _Library(
        tuple(map(tuple, row["orders"])),
        frozenset(row.get("required", ())),
        frozenset(row.get("absent", ())),
        frozenset(row.get("suites", ())),
        tuple(map(tuple, row.get("orders_13", ()))),
        tuple(row.get("suites_13", ())),
    )


@cache
def releases() -> tuple[Release, ...]:
    """The Go releases measured, oldest first."""
    return tuple(Release(**row) for row in _data()["release"])


def go_releases(ja4: str, groups: str) -> tuple[str, ...]:
    """Go releases whose default ClientHello has this JA4 (SNI and ALPN aside) and these groups, oldest first."""
    parts = ja4.split("_")
    return tuple(
        row.go for row in releases() if parts[1:] == [row.ciphers, row.extensions] and groups.startswith(row.groups)
    )


@cache
def kubernetes_releases() -> dict[str, str]:
    """Kubernetes releases known to be built with a Go release (a row of `releases`), as a range in words."""
    return {row["go"]: row["releases"] for row in _data()["kubernetes"]}


@cache
def request_octets() -> tuple[int, ...]:
    """Octets of a Go server's CertificateRequest message without CA names, one a group of releases."""
    return tuple(row["octets"] for row in _data()["request"])


def _in_order(kinds: Sequence[int], orders: Sequence[Sequence[int]]) -> bool:
    """`kinds` is a subsequence of one of `orders`."""
    for order in orders:
        rest = iter(order)
        if all(kind in rest for kind in kinds):
            return True
    return False


def client_stack(ciphers: Sequence[int], extensions: Sequence[int]) -> Stack:
    """Library of a ClientHello by its suites and extension types, in the order sent."""
    if any(map(is_grease, ciphers)) or any(map(is_grease, extensions)):
        return Stack.OTHER
    kinds, go, openssl = set(extensions), _library("go", "client"), _library("openssl", "client")
    if (
        go.required <= kinds
        and not go.absent & kinds
        and go.suites.issuperset(ciphers)
        and _in_order(extensions, go.orders)
    ):
        return Stack.GO
    if openssl.required <= kinds and _RENEGOTIATION_SCSV in ciphers and _in_order(extensions, openssl.orders):
        return Stack.OPENSSL
    return Stack.UNKNOWN


def server_stack(version_13: bool, cipher: int, extensions: Sequence[int], offered: Sequence[int]) -> Stack:
    """Library of a ServerHello; `offered` are the suites of the ClientHello it answers, empty where not known.

    Notes
    -----
    In TLS 1.3 Go and OpenSSL write the same two extensions in the same order; what tells is that Go chooses AES-128
    (or ChaCha20) whatever the client prefers. GO then means: nothing contradicts Go.
    """
    go, openssl = _library("go", "server"), _library("openssl", "server")
    if version_13:
        first = next((suite for suite in offered if suite in _TLS_1_3_SUITES), cipher)
        if not _in_order(extensions, go.orders_13) or cipher not in go.suites_13:
            return Stack.UNKNOWN
        chacha_first = cipher == go.suites_13[1] and go.suites_13[0] in offered and first == go.suites_13[0]
        return Stack.UNKNOWN if chacha_first else Stack.GO
    if len(extensions) < _MIN_SERVER_EVIDENCE:
        return Stack.UNKNOWN
    as_go = _in_order(extensions, go.orders) and cipher in go.suites
    as_openssl = _in_order(extensions, openssl.orders)
    if as_go == as_openssl:
        return Stack.UNKNOWN
    return Stack.GO if as_go else Stack.OPENSSL
