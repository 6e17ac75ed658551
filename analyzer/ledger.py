"""The ledger: every frame read is accounted for, and the sums must agree.

frames  = decoded + not decoded, by reason          (outermost packets)
packets = in flows + outside flows, by reason       (decoded packets of every nesting level)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from analyzer.registries import Decode
from analyzer.schema import I64, PacketTable

_STATUSES: Final = tuple(Decode)
_DECODED: Final = (Decode.OK, Decode.OTHER_TRANSPORT, Decode.LATER_FRAGMENT, Decode.REPEATED)

REASONS: Final[dict[Decode, str]] = {
    Decode.OTHER_TRANSPORT: "IP without ports (ICMP, OSPF ...)",
    Decode.LATER_FRAGMENT: "IP fragment without its datagram's first one before it",
    Decode.NOT_IP: "not IP (ARP, LLDP, STP ...)",
    Decode.TRUNCATED_LINK: "cut inside the link-layer header",
    Decode.TRUNCATED_NETWORK: "cut inside the IP header",
    Decode.TRUNCATED_TRANSPORT: "cut inside the TCP or UDP header",
    Decode.BAD_NETWORK: "malformed IP header",
    Decode.BAD_TRANSPORT: "malformed TCP or UDP header",
    Decode.UNSUPPORTED_LINK: "link type without a decoder",
    Decode.TOO_DEEP: "more nested headers than the limit",
    Decode.REPEATED: "recorded again on another interface",
    Decode.NOT_A_PACKET: "a record that is no packet (pcapng custom block, journal entry, system call)",
}


LEFT_OUT: Final = "of flows past the limit"


@dataclass
class Ledger:
    """Running counts; `add` takes what each table became.

    Attributes
    ----------
    frames : int
        Frames read.
    outer, inner : (statuses,) int64
        Packets by `Decode` status: outermost ones, and those found inside tunnels.
    in_flows : int
        Decoded packets that belong to a flow.
    left_out, left_out_octets : int
        Decoded packets of flows past the limit, and their octets.
    datagrams_joined, datagrams_incomplete : int
        IP datagrams that came in fragments: put together, or never complete.
    fragment_conflicts : int
        Fragments with different octets for one place of a datagram; the first copy was kept.
    """

    frames: int = 0
    outer: I64 = field(default_factory=lambda: np.zeros(len(_STATUSES), np.int64))
    inner: I64 = field(default_factory=lambda: np.zeros(len(_STATUSES), np.int64))
    in_flows: int = 0
    left_out: int = 0
    left_out_octets: int = 0
    datagrams_joined: int = 0
    datagrams_incomplete: int = 0
    fragment_conflicts: int = 0

    def add(
        self, frames: int, packets: PacketTable, in_flows: int, left_out: int = 0, left_out_octets: int = 0
    ) -> None:
        """Count one table: `frames` read, the `packets` made of them, how many of these joined a flow."""
        self.left_out += left_out
        self.left_out_octets += left_out_octets
        self.frames += frames
        status = packets.status
        if len(packets) != frames:
            outermost = packets.depth == 0
            self.inner += np.bincount(status[~outermost], minlength=len(_STATUSES))
            status = status[outermost]
        self.outer += np.bincount(status, minlength=len(_STATUSES))
        self.in_flows += in_flows

    @classmethod
    def total(cls, ledgers: Sequence[Ledger]) -> Ledger:
        """The sum of several; the very one where there is one."""
        if len(ledgers) == 1:
            return ledgers[0]
        whole = cls()
        for ledger in ledgers:
            for name, value in vars(ledger).items():
                setattr(whole, name, getattr(whole, name) + value)
        return whole

    @property
    def decoded(self) -> int:
        """Frames whose outermost packet was decoded."""
        return int(self.outer[list(_DECODED)].sum())

    @property
    def duplicates(self) -> int:
        """Frames that repeat an earlier one of another interface."""
        return int(self.outer[Decode.REPEATED])

    @property
    def inner_packets(self) -> int:
        """Packets found inside tunnels, decoded or not."""
        return int(self.inner.sum())

    def not_decoded(self) -> dict[str, int]:
        """Frames not decoded, by reason."""
        return {REASONS[s]: int(self.outer[s]) for s in _STATUSES if s not in _DECODED and self.outer[s]}

    def outside_flows(self) -> dict[str, int]:
        """Packets that belong to no flow, by reason; of every nesting level."""
        both = self.outer + self.inner
        outside = {REASONS[Decode.LATER_FRAGMENT]: int(both[Decode.LATER_FRAGMENT])}
        portless = int(both[Decode.OTHER_TRANSPORT]) + int(both[Decode.OK]) - self.in_flows - self.left_out
        outside[LEFT_OUT] = self.left_out
        outside[REASONS[Decode.OTHER_TRANSPORT]] = portless
        outside[REASONS[Decode.REPEATED]] = self.duplicates
        for status in _STATUSES:
            if status not in _DECODED and self.inner[status]:
                outside[f"inside a tunnel: {REASONS[status]}"] = int(self.inner[status])
        return {reason: n for reason, n in outside.items() if n}

    @property
    def balanced(self) -> bool:
        """Whether both sums agree."""
        frames = self.frames == self.decoded + sum(self.not_decoded().values())
        packets = self.decoded + self.inner_packets == self.in_flows + sum(self.outside_flows().values())
        return frames and packets and min(self.outside_flows().values(), default=0) >= 0


@dataclass
class CaptureBook:
    """What became of the frames of one capture."""

    ledger: Ledger = field(default_factory=Ledger)
    first_ns: int | None = None
    last_ns: int | None = None
