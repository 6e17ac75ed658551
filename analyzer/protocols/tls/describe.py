"""What hellos say, in words: names, offers, fingerprints, libraries.

Hellos of one program differ in their random octets only. They are numbered by everything that is described here, and
Python looks at one hello of each number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from analyzer.protocols.tls.distinct import distinct_ranges, distinct_rows
from analyzer.protocols.tls.fingerprints import is_grease, ja3, ja3s, ja4
from analyzer.protocols.tls.hello import (
    ALPN,
    EARLY_DATA,
    POINT_FORMATS,
    SERVER_NAME,
    SIGNATURE_ALGORITHMS,
    SUPPORTED_GROUPS,
    SUPPORTED_VERSIONS,
    HelloEnd,
    Hellos,
    first_name,
)
from analyzer.protocols.tls.stacks import Stack, client_stack, server_stack
from analyzer.protocols.tls.strings import StringPool, text_of
from analyzer.schema import I32, I64, U8, Mask

_TLS_1_2: Final = 0x0303
_HIGHEST: Final = 0x03FF
_SHAPED_BY: Final = (ALPN, SUPPORTED_GROUPS, POINT_FORMATS, SIGNATURE_ALGORITHMS, SUPPORTED_VERSIONS)


class Shape(NamedTuple):
    """What one distinct ClientHello offers; lists in the order sent."""

    max_offered: int
    ciphers: tuple[int, ...]
    kinds: tuple[int, ...]
    alpn: tuple[bytes, ...]
    groups: tuple[int, ...] | None
    ja3: str | None
    ja4: str | None
    stack: Stack


@dataclass(frozen=True, slots=True)
class ClientColumns:
    """N described ClientHellos; string columns index the pool. ``shape`` (N,) int64 is a row of ``shapes``."""

    shapes: tuple[Shape, ...]
    shape: I64
    sni: I32
    sends_name: Mask  #: has a server_name extension
    early_data: Mask
    alpn_offered: I32
    groups_offered: I32
    ja3: I32
    ja4: I32
    max_offered: I64
    stack: U8


def describe_clients(hellos: Hellos, pool: StringPool) -> ClientColumns:
    """Describe every ClientHello of `hellos`; see `ClientColumns`."""
    count = len(hellos)
    octets, extensions = hellos.octets, hellos.extensions
    ranges = [(hellos.ciphers_start, hellos.ciphers_stop), *(extensions.pick(kind, count) for kind in _SHAPED_BY)]
    starts, stops = (np.maximum(np.concatenate(bounds), 0) for bounds in zip(*ranges, strict=True))
    kinds_octets, kinds_start, kinds_stop = _kinds(hellos)
    shape, first = distinct_rows(
        hellos.version,
        hellos.end.astype(np.int64),
        hellos.cipher_width,
        (hellos.ciphers_start < 0).astype(np.int64),
        distinct_ranges(kinds_octets, kinds_start, kinds_stop)[0],
        *distinct_ranges(octets, starts, stops)[0].reshape(len(ranges), count),
    )
    shapes = tuple(
        _shape(
            int(hellos.version[row]),
            bool(hellos.end[row] == HelloEnd.WHOLE),
            bool(hellos.cipher_width[row] != 2),
            kinds_octets[kinds_start[row] : kinds_stop[row]].tobytes(),
            *(_content(octets, start, stop, row) for start, stop in ranges),
        )
        for row in first.tolist()
    )
    name_start, _ = extensions.pick(SERVER_NAME, count)
    groups = ["-".join(map(str, s.groups)) if s.groups is not None else None for s in shapes]
    offered = [",".join(map(text_of, s.alpn)) if s.alpn else None for s in shapes]
    return ClientColumns(
        shapes,
        shape,
        _names(hellos, pool),
        name_start >= 0,
        extensions.pick(EARLY_DATA, count)[0] >= 0,
        pool.column(offered, shape),
        pool.column(groups, shape),
        pool.column([s.ja3 for s in shapes], shape),
        pool.column([s.ja4 for s in shapes], shape),
        np.array([s.max_offered for s in shapes] or [0], np.int64)[shape],
        np.array([int(s.stack) for s in shapes] or [0], np.uint8)[shape],
    )


def _kinds(hellos: Hellos) -> tuple[U8, I64, I64]:
    """Extension types of each hello as ranges of big-endian 16-bit numbers."""
    octets = hellos.extensions.kind.astype(">u2").view(np.uint8)
    counts = np.bincount(hellos.extensions.row, minlength=len(hellos))
    stop = np.cumsum(counts) * 2
    return octets, stop - counts * 2, stop


def _content(octets: U8, start: I64, stop: I64, row: int) -> bytes | None:
    return octets[start[row] : stop[row]].tobytes() if start[row] >= 0 else None


def _numbers(octets: bytes) -> tuple[int, ...]:
    """Big-endian 16-bit numbers; an odd octet at the end is dropped."""
    return tuple(np.frombuffer(octets[: len(octets) & ~1], ">u2").tolist())


def _listed(content: bytes | None) -> tuple[int, ...]:
    """Numbers of an extension that begins with the octets its list has (16 bits)."""
    if content is None or len(content) < 2:
        return ()
    return _numbers(content[2 : 2 + int.from_bytes(content[:2])])


def protocols(content: bytes | None) -> tuple[bytes, ...]:
    """Protocol names of an ALPN extension (RFC 7301 3.1), up to the first that does not fit."""
    names: list[bytes] = []
    at, stop = 2, min(len(content or b""), 2 + int.from_bytes((content or b"")[:2]))
    while content is not None and at < stop and at + 1 + content[at] <= stop:
        names.append(content[at + 1 : at + 1 + content[at]])
        at += 1 + content[at]
    return tuple(names)


def _ssl2_suites(octets: bytes) -> tuple[int, ...]:
    """Suites of three octets; those that begin with 0 are SSL 3.0's and TLS's (RFC 5246 E.2)."""
    return tuple(int.from_bytes(octets[i : i + 3]) for i in range(0, len(octets), 3))


def _max_offered(version: int, offered: tuple[int, ...], whole: bool) -> int:
    """Highest version offered; drafts of TLS 1.3 count only where no published version is offered."""
    real = [v for v in offered if v <= _HIGHEST and not is_grease(v)]
    if real:
        return max(real)
    # Without supported_versions the version field says it (RFC 8446 4.2.1); in a cut hello the extension may follow.
    return version if whole or version < _TLS_1_2 else 0


@lru_cache(maxsize=256)
def _shape(
    version: int,
    whole: bool,
    ssl2: bool,
    types: bytes,
    suites: bytes | None,
    alpn_content: bytes | None,
    groups_content: bytes | None,
    points: bytes | None,
    algorithms: bytes | None,
    versions: bytes | None,
) -> Shape:
    """What a hello offers, by the contents of its fields: programs send the same ones in every round."""
    ciphers = _ssl2_suites(suites or b"") if ssl2 else _numbers(suites or b"")
    kinds = _numbers(types)
    groups = _listed(groups_content)
    offered = _numbers(versions[1:]) if versions else ()
    alpn = protocols(alpn_content)
    highest = _max_offered(version, offered, whole)
    fingerprinted = whole and not ssl2
    return Shape(
        highest,
        ciphers,
        kinds,
        alpn,
        groups if groups_content is not None else None,
        ja3(version, ciphers, kinds, groups, tuple((points or b"")[1:])) if fingerprinted else None,
        ja4(highest, ciphers, kinds, _listed(algorithms), alpn[0] if alpn else b"") if fingerprinted else None,
        client_stack(ciphers, kinds) if fingerprinted else Stack.UNKNOWN,
    )


def _names(hellos: Hellos, pool: StringPool) -> I32:
    """String index of the server name in each hello; -1 where none is readable."""
    start, stop = first_name(hellos.octets, *hellos.extensions.pick(SERVER_NAME, len(hellos)))
    ids, first = distinct_ranges(hellos.octets, np.maximum(start, 0), np.maximum(stop, 0))
    texts: list[str | None] = [
        text_of(hellos.octets[start[row] : stop[row]].tobytes()) if start[row] >= 0 else None for row in first.tolist()
    ]
    return pool.column(texts, ids)


@dataclass(frozen=True, slots=True)
class ServerColumns:
    """N described ServerHellos; string columns index the pool."""

    alpn: I32
    ja3s: I32
    stack: U8


def describe_servers(
    hellos: Hellos, is_13: Mask, shape: I64, shapes: tuple[Shape, ...], pool: StringPool
) -> ServerColumns:
    """Describe ServerHellos.

    Parameters
    ----------
    hellos : Hellos
        N ServerHellos.
    is_13 : (N,) bool
        Negotiates TLS 1.3.
    shape : (N,) int64
        Row in `shapes` of the ClientHello that each answers, -1 = not known.
    """
    start, stop = hellos.extensions.pick(ALPN, len(hellos))
    alpn, _ = distinct_ranges(hellos.octets, np.maximum(start, 0), np.maximum(stop, 0))
    octets, kinds_start, kinds_stop = _kinds(hellos)
    kinds, _ = distinct_ranges(octets, kinds_start, kinds_stop)
    ids, first = distinct_rows(
        hellos.version, hellos.cipher, hellos.end.astype(np.int64), alpn, kinds, is_13.astype(np.int64), shape
    )
    chosen: list[str | None] = []
    prints: list[str | None] = []
    stacks: list[int] = []
    for row in first.tolist():
        names = protocols(_content(hellos.octets, start, stop, row))
        chosen.append(text_of(names[0]) if names else None)
        whole = bool(hellos.end[row] == HelloEnd.WHOLE)
        types = _numbers(octets[kinds_start[row] : kinds_stop[row]].tobytes())
        cipher = int(hellos.cipher[row])
        prints.append(ja3s(int(hellos.version[row]), cipher, types) if whole else None)
        offered = shapes[int(shape[row])].ciphers if shape[row] >= 0 else ()
        stacks.append(server_stack(bool(is_13[row]), cipher, types, offered) if whole else Stack.UNKNOWN)
    return ServerColumns(pool.column(chosen, ids), pool.column(prints, ids), np.array(stacks or [0], np.uint8)[ids])
