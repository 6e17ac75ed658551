"""Hellos of all connections: cut out what is random, read each distinct remainder once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.protocols.tlsread.messages import Handshakes
from analyzer.protocols.tlsread.shape import KEY_SHARE, PRE_SHARED_KEY
from analyzer.schema import I64, Mask

RETRY_RANDOM: Final = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")
"""ServerHello.random of a HelloRetryRequest: SHA-256 of that name (RFC 8446 4.1.3)."""

MAX_EXTENSIONS: Final = 64
"""Extensions looked through per hello for the parts that change with every connection."""

_Shape = TypeVar("_Shape")


def is_retry(handshakes: Handshakes, rows: I64) -> Mask:
    """Which ServerHello messages are HelloRetryRequests: (N,) rows, -1 = none -> (N,) bool."""
    safe = np.maximum(rows, 0)
    messages = handshakes.messages
    if len(messages) == 0:
        return np.zeros(rows.shape[0], bool)
    block = gather_block(handshakes.octets, messages.start[safe] + 2, 32)
    retry: Mask = (block == np.frombuffer(RETRY_RANDOM, np.uint8)).all(axis=1)
    return retry & (rows >= 0) & (messages.known[safe] >= 34)


def _u16(handshakes: Handshakes, at: I64) -> I64:
    block = gather_block(handshakes.octets, at, 2)
    both: I64 = block[:, 0].astype(np.int64) << 8 | block[:, 1]
    return both


def _random_extensions(handshakes: Handshakes, rows: I64, extensions: I64) -> I64:
    """Ranges of key_share and pre_shared_key data in each hello: (N, 4) int64 offsets, equal where absent.

    All hellos step over one extension at a time.
    """
    messages = handshakes.messages
    stop = messages.start[rows] + messages.length[rows]
    ranges = np.repeat(stop[:, None], 4, axis=1)
    at, alive = extensions.copy(), np.arange(rows.shape[0])
    for _ in range(MAX_EXTENSIONS):
        alive = alive[at[alive] + 4 <= stop[alive]]
        if alive.shape[0] == 0:
            break
        kind, length = _u16(handshakes, at[alive]), _u16(handshakes, at[alive] + 2)
        body = at[alive] + 4
        end = np.minimum(body + length, stop[alive])
        share, shared_key = kind == KEY_SHARE, kind == PRE_SHARED_KEY
        # The first two octets of a server's key_share name the group, and are kept; so is the length in front.
        ranges[alive[share], 0], ranges[alive[share], 1] = np.minimum(body + 2, end)[share], end[share]
        ranges[alive[shared_key], 2], ranges[alive[shared_key], 3] = body[shared_key], end[shared_key]
        at[alive] = body + length
    return ranges


def read_shapes(
    handshakes: Handshakes, rows: I64, read: Callable[[bytes], _Shape], *, server: bool
) -> tuple[list[_Shape], I64]:
    """Read complete hellos, each distinct remainder once.

    Parameters
    ----------
    handshakes : Handshakes
    rows : (N,) int64
        Message rows, all complete.
    read : callable
        From the body of a hello, its random octets blanked, to its shape.
    server : bool
        ServerHellos: one cipher suite and one compression method instead of lists.

    Returns
    -------
    list of shapes, (N,) int64
        Distinct shapes, and which one each hello has.
    """
    messages = handshakes.messages
    start, length = messages.start[rows], messages.length[rows]
    session = gather_block(handshakes.octets, start + 34, 1)[:, 0].astype(np.int64)
    after = start + 35 + session
    if server:
        extensions = after + 5
    else:
        compression = after + 2 + _u16(handshakes, after)
        extensions = compression + 1 + gather_block(handshakes.octets, compression, 1)[:, 0] + 2
    ranges = _random_extensions(handshakes, rows, np.minimum(extensions, start + length))
    flat = handshakes.octets.tobytes() if rows.shape[0] else b""
    memo: dict[tuple[bytes, ...], int] = {}
    shapes: list[_Shape] = []
    which = np.empty(rows.shape[0], np.int64)
    columns = (start, start + length, session, ranges[:, 0], ranges[:, 1], ranges[:, 2], ranges[:, 3])
    for i, (a, z, sid, k0, k1, p0, p1) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        first, second = sorted(((k0, k1), (p0, p1)))
        key = (flat[a : a + 2], flat[a + 35 + sid : first[0]], flat[first[1] : second[0]], flat[second[1] : z])
        known = memo.get(key)
        if known is None:
            known = memo[key] = len(shapes)
            body = bytearray(flat[a:z])
            for begin, end in (first, second):
                body[begin - a : end - a] = bytes(end - begin)
            shapes.append(read(bytes(body)))
        which[i] = known
    return shapes, which
