"""When a connection is over: closed by its ends, or silent for longer than anything that tracks connections waits.

The times are those of the Linux connection tracker (Documentation/networking/nf_conntrack-sysctl.rst) and of the RFCs
on address translation, which say how long a silent connection must be taken for alive. They are measured on a clock of
the capture's own times, so that a recording that is fed fast ages as it did when it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.decode.transport import TCP, UDP
from analyzer.flows import FIN, RST, FlowBuilder
from analyzer.numbers import grown
from analyzer.schema import I64, Mask

SECOND: Final = 1_000_000_000
"""Nanoseconds."""
_STREAM_NS: Final = 2 * SECOND
"""UDP that goes both ways for this long is a stream (net/netfilter/nf_conntrack_proto_udp.c)."""


@dataclass(frozen=True, slots=True)
class Ageing:
    """When connections end, and how many are kept after that; seconds, and numbers of connections.

    Attributes
    ----------
    closed_s : float
        After a reset, or a FIN of both sides (nf_conntrack_tcp_timeout_close).
    half_closed_s : float
        After a FIN of one side (nf_conntrack_tcp_timeout_fin_wait).
    unanswered_s : float
        TCP without payload, of which a side was never heard (nf_conntrack_tcp_timeout_syn_sent).
    tcp_idle_s : float
        Any other TCP: two hours and four minutes, below which no translator may forget one (RFC 5382 REQ-5).
    tcp_forget_s : float
        Until TCP that merely went silent may leave memory: it may speak again, and its handshake will not be repeated
        (nf_conntrack_tcp_timeout_established).
    udp_s, udp_stream_s : float
        UDP one way or as question and answer (nf_conntrack_udp_timeout), and as a stream
        (nf_conntrack_udp_timeout_stream; RFC 4787 REQ-5).
    other_s : float
        Everything else (nf_conntrack_generic_timeout).
    retain : int
        Connections kept in full after they ended.
    stand_ins : int
        Connections kept besides, for good, each in place of others like it.
    most : int
        Connections held in all, open ones too: past it those longest silent leave, whatever their state.
    """

    closed_s: float = 10.0
    half_closed_s: float = 120.0
    unanswered_s: float = 120.0
    tcp_idle_s: float = 7440.0
    tcp_forget_s: float = 432_000.0
    udp_s: float = 30.0
    udp_stream_s: float = 120.0
    other_s: float = 600.0
    retain: int = 20_000
    stand_ins: int = 5_000
    most: int = 100_000

    def patience(self, flows: FlowBuilder) -> I64:
        """How long each flow may be silent before it is over, ns: (F,) int64."""
        rows = np.arange(len(flows))
        state = flows.state
        protocol, flags, packets = flows.protocols(rows), state.flags[rows], state.packets[rows]
        tcp, udp = protocol == TCP, protocol == UDP
        ended = (flags & (FIN | RST)) != 0
        both_ways = (packets > 0).all(axis=1)
        seconds = np.select(
            [
                tcp & (ended.all(axis=1) | ((flags & RST) != 0).any(axis=1)),
                tcp & ended.any(axis=1),
                tcp & ~both_ways & (state.payload_octets[rows] == 0).all(axis=1),
                tcp,
                udp & both_ways & (state.last_ns[rows] - state.first_ns[rows] > _STREAM_NS),
                udp,
            ],
            [self.closed_s, self.half_closed_s, self.unanswered_s, self.tcp_idle_s, self.udp_stream_s, self.udp_s],
            self.other_s,
        )
        return (seconds * SECOND).astype(np.int64)


class ActivityClock:
    """When each flow was last active, by the time of the capture and not by what single packets claim.

    A packet with a time far in the future would else keep its flow for ever.
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self._wall_ns: int | None = None
        self._fed = False
        self._frames = 0
        self._active: I64 = np.zeros(1 << 10, np.int64)

    def feed(self, time_ns: I64) -> None:
        """Take the times of the frames of one chunk."""
        known = time_ns[time_ns > 0]
        if known.shape[0]:
            # The middle one: a stray time moves nothing. Clocks are set back, too.
            self.now_ns = int(np.partition(known, known.shape[0] // 2)[known.shape[0] // 2])
            self._fed = True

    def tick(self, wall_ns: int, flows: FlowBuilder, frames: int) -> None:
        """Take note of the flows that had packets since the last tick; without packets time goes on by the wall."""
        if not self._fed and self._wall_ns is not None:
            self.now_ns += max(wall_ns - self._wall_ns, 0)
        self._wall_ns, self._fed = wall_ns, False
        count = len(flows)
        self._active = grown(self._active, count)
        np.minimum(self._active, self.now_ns, out=self._active)
        self._active[np.flatnonzero(flows.state.last_frame[:count] > self._frames)] = self.now_ns
        self._frames = frames

    def silent_ns(self, count: int) -> I64:
        """How long each of the first `count` flows has been silent at the last tick: (count,) int64."""
        return self.now_ns - self._active[:count]

    def keep(self, numbers: I64) -> None:
        """Flow ``numbers[i]`` is flow i from now on."""
        self._active = self._active[numbers]


def is_over(ageing: Ageing, clock: ActivityClock, flows: FlowBuilder) -> Mask:
    """Flows that have ended by now: (F,) bool."""
    over: Mask = clock.silent_ns(len(flows)) > ageing.patience(flows)
    return over
