"""The legs of one connection: one TCP connection seen before and after address translation, or in and out of a tunnel.

A node's NAT rewrites addresses and ports and leaves sequence numbers alone, so both legs show the same pair of initial
sequence numbers. A proxy that ends TCP makes two connections, and two connections they stay.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.decode.transport import TCP
from analyzer.schema import I64, FlowTable

WINDOW_NS: Final = 1_000_000_000
"""Legs of one connection begin within this time: the same packet crosses one host's interfaces."""


def stitch(flows: FlowTable) -> I64:
    """For each flow the row of the connection it is a leg of, -1 where it is none.

    Parameters
    ----------
    flows : FlowTable
        In order of first packet.

    Returns
    -------
    (F,) int64
        The earliest leg is the connection (it is the one nearest the client) and holds -1 itself.

    Notes
    -----
    Only connections whose SYN was captured are stitched: 64 bits of initial sequence numbers, or 32 where nobody
    answered, within `WINDOW_NS`, say so beyond chance; nothing else does.
    """
    n = len(flows)
    leg_of = np.full(n, -1, np.int64)
    rows = np.flatnonzero((flows.protocol == TCP) & (flows.syn_seq[:, 0] >= 0))
    if rows.shape[0] < 2:
        return leg_of
    client, server = flows.syn_seq[rows, 0], flows.syn_seq[rows, 1]
    order = np.lexsort((rows, server, client))
    rows, client, server = rows[order], client[order], server[order]
    same = (client[1:] == client[:-1]) & (server[1:] == server[:-1])
    same &= flows.first_ns[rows[1:]] - flows.first_ns[rows[:-1]] <= WINDOW_NS
    begins = np.concatenate([[True], ~same])
    head = rows[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    leg_of[rows] = np.where(head == rows, -1, head)
    return leg_of
