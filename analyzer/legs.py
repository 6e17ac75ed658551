"""The legs of one connection: one TCP connection seen before and after address translation, or in and out of a tunnel.

A node's NAT (a service's virtual address, masquerading) rewrites addresses and ports and leaves sequence numbers alone,
so both legs show the same ones. A proxy that ends TCP makes two connections, and two connections they stay, even where
it passes one TLS handshake through. UDP has nothing of the kind: its flows are never stitched.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.decode.transport import TCP
from analyzer.schema import I64, U64, FlowTable, Mask, StreamHeads

WINDOW_NS: Final = 1_000_000_000
"""Legs of one connection begin within this time: the same packet crosses one host's interfaces."""
_RANDOM_AT: Final = 11


def stitch(flows: FlowTable, first_seq: I64, hello: U64) -> I64:
    """For each flow the row of the connection it is a leg of, -1 where it is none.

    Parameters
    ----------
    flows : FlowTable
        In order of first packet.
    first_seq : (F, 2) int64
        Sequence number of the first octet seen, or expected after the first packet seen, of client and server;
        -1 = nothing of that side.
    hello : (F, 4) uint64
        The random of the client's TLS ClientHello; 0 where none was read.

    Returns
    -------
    (F,) int64
        The earliest leg is the connection (it is the one nearest the client) and holds -1 itself.

    Notes
    -----
    Any of these says so beyond chance, within `WINDOW_NS`:

    - both initial sequence numbers agree (64 bits; 32 where nobody answered);
    - the ClientHello's random and the client's first sequence number agree (288 bits), where a SYN was missed;
    - joined in the middle, the first sequence numbers of both sides agree (64 bits).
    """
    n = len(flows)
    rows = np.arange(n)
    tcp = flows.protocol == TCP
    opened = tcp & (flows.syn_seq[:, 0] >= 0)
    greeted = tcp & hello.any(axis=1) & (first_seq[:, 0] >= 0)
    # Which side is the client is a guess there: the pair is compared without an order.
    joined = tcp & (flows.syn_seq < 0).all(axis=1) & (first_seq >= 0).all(axis=1)
    pair = np.sort(first_seq, axis=1)
    pairs = [
        _alike(opened, (flows.syn_seq[:, 1], flows.syn_seq[:, 0]), flows.first_ns),
        _alike(greeted, (first_seq[:, 0], *hello.view(np.int64).T), flows.first_ns),
        _alike(joined, (pair[:, 1], pair[:, 0]), flows.first_ns),
    ]
    one, other = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    first = rows.copy()
    while one.shape[0]:
        before = first.copy()
        least = np.minimum(first[one], first[other])
        np.minimum.at(first, one, least)
        np.minimum.at(first, other, least)
        first = first[first]
        if (first == before).all():
            break
    return np.where(first == rows, -1, first)


def hello_randoms(heads: StreamHeads) -> U64:
    """The random of the ClientHello that each head begins with, 0 where it does not: (M, 4) uint64.

    RFC 8446 5.1 and 4: record type 22 and version 2, length 2, message type 1 and length 3, then legacy_version 2 and
    random 32.
    """
    randoms = np.zeros((len(heads), 4), np.uint64)
    rows = np.flatnonzero(heads.known_until() >= _RANDOM_AT + 32)
    block = gather_block(heads.octets, heads.offsets[rows], _RANDOM_AT + 32)
    opens = (block[:, 0] == 22) & (block[:, 1] == 3) & (block[:, 5] == 1)
    randoms[rows[opens]] = np.ascontiguousarray(block[opens, _RANDOM_AT:]).view(np.uint64)
    return randoms


def _alike(chosen: Mask, keys: tuple[I64, ...], first_ns: I64) -> tuple[I64, I64]:
    """Pairs of neighbours among the `chosen` flows whose keys agree and that begin within the window."""
    rows = np.flatnonzero(chosen)
    columns = [key[rows] for key in keys]
    order = np.lexsort((rows, *columns))
    ahead, behind = rows[order[1:]], rows[order[:-1]]
    same = np.abs(first_ns[ahead] - first_ns[behind]) <= WINDOW_NS
    for column in columns:
        same &= column[order[1:]] == column[order[:-1]]
    return behind[same], ahead[same]
