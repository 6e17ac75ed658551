"""Runs of pcapng blocks as columns, and which of them contradict themselves.

Section numbers are those of https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.capture.facts import MAX_INTERFACES
from analyzer.capture.records import MAX_RECORD
from analyzer.schema import I64, U8, U32, Mask

SECTION_HEADER: Final = 0x0A0D0D0A
"""Reads the same in both byte orders, so that it is found before the byte order is known (4.1)."""

INTERFACE: Final = 1
OBSOLETE_PACKET: Final = 2
SIMPLE_PACKET: Final = 3
NAMES: Final = 4
STATISTICS: Final = 5
ENHANCED_PACKET: Final = 6
JOURNAL: Final = 9
SECRETS: Final = 10
CUSTOM: Final = 0x0BAD
CUSTOM_NO_COPY: Final = 0x40000BAD
SYSTEM_CALLS: Final = (0x0204, 0x0216, 0x0221)

NUMBERED: Final = np.array([JOURNAL, CUSTOM, CUSTOM_NO_COPY, *SYSTEM_CALLS], np.uint32)
"""Blocks that are no packets and that Wireshark gives a frame number (wiretap/pcapng.c: blocks it makes records of):
systemd journal entries, custom blocks of any kind, sysdig events."""

LEAST_SIZE: Final = {
    INTERFACE: 20,
    OBSOLETE_PACKET: 32,
    SIMPLE_PACKET: 16,
    ENHANCED_PACKET: 32,
    SECTION_HEADER: 28,
}
"""Octets of a block without options and content, where later octets would be misread if it were shorter."""

LEAST_BLOCK: Final = 12
MAX_BLOCK: Final = MAX_RECORD + (1 << 20)
"""A packet of `MAX_RECORD` octets with room for its options."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A run of whole blocks of one section, as columns.

    Attributes
    ----------
    start, size : (N,) int64
        Octets from one block to the next: the total length rounded up to 4.
    heads : (N, 3) or (N, 7) uint32
        The first words of each block. Where there are seven, those a block does not have are of the next one.
    enhanced_only : bool
        All are Enhanced Packet Blocks, so that what differs between kinds need not be looked at.
    """

    start: I64
    size: I64
    heads: U32
    enhanced_only: bool

    @property
    def kind(self) -> U32:
        """Block types: (N,) uint32."""
        return self.heads[:, 0]

    @property
    def claim(self) -> U32:
        """Total lengths as the blocks say them: (N,) uint32."""
        return self.heads[:, 1]

    @property
    def third(self) -> U32:
        """The words after the total lengths: (N,) uint32."""
        return self.heads[:, 2]

    def packet_fields(self, octets: U8) -> U32:
        """Return high and low time stamp, captured and original length of Enhanced Packet Blocks: (N, 4) uint32."""
        if self.heads.shape[1] == 7:
            return self.heads[:, 3:]
        fields = np.ndarray((max(octets.shape[0] - 15, 0),), "V16", octets, strides=(1,))[self.start + 12]
        return fields.view(self.heads.dtype).reshape(-1, 4)

    def interface_numbers(self) -> tuple[I64, I64]:
        """Return the rows that are packets, and the number of each one's interface in its section: (M,) int64."""
        if self.enhanced_only:
            return np.arange(self.start.shape[0]), self.third.astype(np.int64)
        rows = np.flatnonzero(is_packet(self.kind))
        kind, number = self.kind[rows], self.third[rows].astype(np.int64)
        number[kind == SIMPLE_PACKET] = 0
        # Appendix A: an obsolete block has a 16-bit interface, then a 16-bit drop count.
        obsolete = np.flatnonzero(kind == OBSOLETE_PACKET)
        little_endian = self.heads.dtype == np.dtype("<u4")
        number[obsolete] = number[obsolete] & 0xFFFF if little_endian else number[obsolete] >> 16
        return rows, number

    def take(self, rows: I64 | slice) -> Blocks:
        """Return the blocks of the given rows."""
        heads = self.heads[rows]
        enhanced_only = self.enhanced_only or bool((heads[:, 0] == ENHANCED_PACKET).all())
        return Blocks(self.start[rows], self.size[rows], heads, enhanced_only)


def gather_blocks(octets: U8, byte_order: str, starts: I64, end: int) -> Blocks:
    """Return the blocks that start at `starts`, the last of which ends at `end`."""
    # A whole block has at least 12 octets; most have 28, and one gather of those costs less than two.
    width = 28 if starts.shape[0] and int(starts[-1]) + 28 <= octets.shape[0] else 12
    heads = np.ndarray((max(octets.shape[0] - width + 1, 0),), f"V{width}", octets, strides=(1,))[starts]
    words = heads.view(f"{byte_order}u4").reshape(-1, width // 4)
    return Blocks(starts, np.diff(starts, append=end), words, bool((words[:, 0] == ENHANCED_PACKET).all()))


def is_packet(kind: U32) -> Mask:
    """Tell which block types carry a packet."""
    mask: Mask = (kind == ENHANCED_PACKET) | (kind == SIMPLE_PACKET) | (kind == OBSOLETE_PACKET)
    return mask


def is_numbered(kind: U32) -> Mask:
    """Tell which block types are no packet and have a frame number all the same."""
    mask: Mask = np.isin(kind, NUMBERED)
    return mask


def has_options(kind: U32) -> Mask:
    """Tell which of the block types that carry a packet have options behind it."""
    mask: Mask = (kind == ENHANCED_PACKET) | (kind == OBSOLETE_PACKET)
    return mask


def count_sound(octets: U8, words: U32, blocks: Blocks, known: int, room: int) -> tuple[int, str]:
    """Count the blocks before the first that contradicts itself, and say how that one does.

    Parameters
    ----------
    octets, words : (B,) uint8, (B // 4,) uint32
        The same octets, as they are and as words of the section's byte order.
    blocks : Blocks
        Of `octets`.
    known : int
        Interfaces of the section before these blocks.
    room : int
        Interfaces that may still come.

    Returns
    -------
    sound : int
    problem : str
        Empty where all blocks are sound.
    """
    rows = blocks.start.shape[0]
    if not rows:
        return 0, ""
    trailer = words[((blocks.start + blocks.size) >> 2) - 1]
    if _plainly_sound(octets, blocks, trailer, known):
        return rows, ""
    bad = (trailer != blocks.claim) | (blocks.claim < LEAST_BLOCK) | (blocks.claim > MAX_BLOCK)
    for kind, least in LEAST_SIZE.items():
        bad |= (blocks.kind == kind) & (blocks.size < least)
    interfaces = np.flatnonzero(blocks.kind == INTERFACE)
    bad[interfaces[room:]] = True
    known_there = known + np.searchsorted(interfaces, np.arange(rows))
    packets, number = blocks.interface_numbers()
    bad[packets] |= number >= known_there[packets]
    counted = np.flatnonzero(has_options(blocks.kind) & ~bad)
    captured_len = words[(blocks.start[counted] >> 2) + 5].astype(np.int64)
    bad[counted] |= (captured_len + 32 > blocks.size[counted]) | (captured_len > MAX_RECORD)
    first = int(np.argmax(bad))
    if not bad[first]:
        return rows, ""
    return first, _problem(blocks.take(slice(first, first + 1)), int(trailer[first]), int(known_there[first]))


def _plainly_sound(octets: U8, blocks: Blocks, trailer: U32, known: int) -> bool:
    """Tell whether all are Enhanced Packet Blocks and sound: the usual case, at a third the cost."""
    if not blocks.enhanced_only or int(blocks.size.min()) < LEAST_SIZE[ENHANCED_PACKET]:
        return False
    captured_len = blocks.packet_fields(octets)[:, 2].astype(np.int64)
    return (
        int(blocks.size.max()) <= MAX_RECORD
        and int(blocks.third.max()) < known
        and bool((trailer == blocks.claim).all())
        and bool((captured_len <= blocks.size - 32).all())
    )


def _problem(block: Blocks, trailer: int, known: int) -> str:
    """Say what is wrong with the one block given."""
    kind, claim = int(block.kind[0]), int(block.claim[0])
    if claim > MAX_BLOCK:
        return too_long(kind, claim)
    if trailer != claim:
        return lengths_differ(kind, claim, trailer)
    if claim < LEAST_BLOCK or int(block.size[0]) < LEAST_SIZE.get(kind, 0):
        return f"a block of type {kind} claims {claim} octets, too few for one: the file is corrupt from here on"
    if kind == INTERFACE:
        return f"more than {MAX_INTERFACES} interfaces; reading stops here"
    number = int(block.interface_numbers()[1][0])
    if number >= known:
        return f"a packet names interface {number} of a section with {known}"
    return "a packet claims more captured octets than its block holds: the file is corrupt from here on"


def too_long(kind: int, claim: int) -> str:
    """Say that a block claims more than `MAX_BLOCK`."""
    return (
        f"a block of type {kind} claims {claim} octets, more than the limit of {MAX_BLOCK}: the file is corrupt from "
        "here on"
    )


def lengths_differ(kind: int, claim: int, trailer: int) -> str:
    """Say that the two total lengths of a block differ (3.1)."""
    return (
        f"a block of type {kind} says it has {claim} octets at its start and {trailer} at its end: the file is corrupt "
        "from here on"
    )
