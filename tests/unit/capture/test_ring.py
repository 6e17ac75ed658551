"""Taking blocks out of a ring, wherever the reader stands in it; live capture itself is tested in `test_live`."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture import tpacket
from analyzer.capture.ring import Ring
from analyzer.schema import U8
from tests.ring_builder import Packet, ring

BLOCK = 1 << 12


class MemoryRing(Ring):
    """A ring without a socket: `handed_over` blocks from `begin` on are the reader's."""

    def __init__(self, octets: U8, blocks: int, begin: int, handed_over: int) -> None:
        self._octets = octets
        self._block, self._blocks, self._next = BLOCK, blocks, begin
        self._begin = BLOCK * np.arange(blocks)
        self._status = octets[tpacket.BLOCK_STATUS_AT :].view(np.uint32)[:: BLOCK // 4]
        self._status[:] = tpacket.STATUS_KERNEL
        self._status[(begin + np.arange(handed_over)) % blocks] = tpacket.STATUS_USER


@given(
    st.lists(st.integers(0, 28), min_size=2, max_size=12),  # packets of 100 octets in each block; 15 and more fill it
    st.integers(0, 11),
    st.integers(0, 12),
    st.integers(1, 6 * BLOCK),
    st.integers(0, 3),
)
def test_blocks_are_taken_out_whole_in_order_and_given_back(
    counts: list[int], begin: int, handed_over: int, room: int, gap: int
) -> None:
    total = len(counts)
    begin, handed_over = begin % total, min(handed_over, total)
    stamp = iter(range(1_700_000_000 * 10**9, 1 << 62, 10**6))
    blocks = [[Packet(bytes([row]) * 40, next(stamp)) for _ in range(count)] for row, count in enumerate(counts)]
    octets, _ = ring(blocks, block_octets=BLOCK)
    one = MemoryRing(octets, total, begin, handed_over)
    order = [blocks[(begin + row) % total] for row in range(handed_over)]

    taken: list[list[tuple[bytes, int]]] = []
    left = handed_over
    while (ready := one.ready()) and left:
        assert ready == left
        oldest = one.oldest(ready, room)
        assert oldest.length.shape[0] == 1 or int(oldest.length.sum()) <= room
        target: U8 = np.full(8 * gap + int(oldest.length.sum()), 0xEE, np.uint8)
        moved = one.move(oldest, target, 8 * gap)
        left -= len(moved)
        octets[:] = np.where(np.repeat(one._status == tpacket.STATUS_KERNEL, BLOCK), 0x55, octets)  # the kernel goes on
        one._status[:] = np.where(one._status == 0x55555555, tpacket.STATUS_KERNEL, one._status)
        for block in moved.tolist():
            packets = tpacket.read_packets(target, tpacket.find_packets(target, np.array([block])))
            taken.append(
                [
                    (target[start : start + 40].tobytes(), time_ns)
                    for start, time_ns in zip(packets.start.tolist(), packets.time_ns.tolist(), strict=True)
                ]
            )
        assert oldest.packets == sum(len(block) for block in taken[-len(moved) :])

    assert taken == [[(packet.octets, packet.time_ns) for packet in block] for block in order]
    assert one.ready() == 0
