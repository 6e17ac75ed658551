"""One packet recorded on several interfaces counts once; a retransmission counts every time."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.decode import Decoder
from analyzer.decode.sightings import WINDOW_NS, WINDOW_PACKETS
from analyzer.ledger import Ledger
from analyzer.registries import Decode, LinkType
from analyzer.schema import CaptureChunk
from tests.builders import chunk, ethernet, ipv4, ipv6, tcp, udp, vxlan

T0 = 1_700_000_000_000_000_000
SEGMENT = tcp(b"payload", seq=7)


def sll2(packet: bytes, index: int, kind: int = 0, protocol: int = 0x0800) -> bytes:
    return struct.pack(">HHIHBB8s", protocol, 0, index, 1, kind, 6, b"\x02\0\0\0\0\x01\0\0") + packet


def sll(packet: bytes, kind: int = 0, address: bytes = b"\x02\0\0\0\0\x01\0\0") -> bytes:
    return struct.pack(">HHH8sH", kind, 1, 6, address, 0x0800) + packet


def statuses(frames: Sequence[bytes], gaps_us: Sequence[int] = (), link: int = LinkType.LINUX_SLL2) -> list[int]:
    gaps = gaps_us or [10] * (len(frames) - 1)
    times = [T0 + 1000 * sum(gaps[:i]) for i in range(len(frames))]
    found: list[int] = Decoder().decode(chunk(frames, link, times_ns=times)).status.tolist()
    return found


def hop(packet: bytes) -> bytes:
    """The packet after a router: TTL less one, another checksum."""
    changed = bytearray(packet)
    changed[8] -= 1
    changed[10:12] = b"\x12\x34"
    return bytes(changed)


AGAIN = Decode.REPEATED
ONCE = Decode.OK


def test_a_packet_crossing_three_interfaces_counts_once() -> None:
    packet = ipv4(SEGMENT)

    assert statuses([sll2(packet, 5), sll2(packet, 4, 4), sll2(hop(packet), 2, 4)]) == [ONCE, AGAIN, AGAIN]


def test_checksums_filled_in_by_the_card_do_not_matter() -> None:
    filled = bytearray(SEGMENT)
    filled[16:18] = b"\xab\xcd"

    assert statuses([sll2(ipv4(SEGMENT), 5), sll2(ipv4(bytes(filled)), 2)]) == [ONCE, AGAIN]
    dns = udp(b"query")
    assert statuses([sll2(ipv4(dns, protocol=17), 5), sll2(ipv4(dns[:6] + b"\1\2" + dns[8:], protocol=17), 2)]) == [
        ONCE,
        AGAIN,
    ]


def test_retransmissions_are_not_repetitions() -> None:
    packet = sll2(ipv4(SEGMENT), 5)

    assert statuses([packet, packet]) == [ONCE, ONCE]


def test_a_retransmission_seen_on_two_interfaces_counts_as_one_more() -> None:
    one, other = sll2(ipv4(SEGMENT), 5), sll2(ipv4(SEGMENT), 2)

    assert statuses([one, other, one, other]) == [ONCE, AGAIN, ONCE, AGAIN]
    assert statuses([one, one, other, other]) == [ONCE, ONCE, AGAIN, AGAIN]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(ipv4(SEGMENT, identification=2), id="identification"),
        pytest.param(ipv4(tcp(b"payload", seq=8)), id="sequence number"),
        pytest.param(ipv4(tcp(b"payloaD", seq=7)), id="payload"),
        pytest.param(ipv4(tcp(b"payload!", seq=7)), id="length"),
        pytest.param(ipv4(SEGMENT, src="10.0.0.99"), id="address (a leg behind NAT)"),
        pytest.param(ipv4(tcp(b"payload", seq=7, options=b"\x01" * 4)), id="options"),
    ],
)
def test_what_differs_is_another_packet(other: bytes) -> None:
    assert statuses([sll2(ipv4(SEGMENT), 5), sll2(other, 2)]) == [ONCE, ONCE]


def test_outside_the_window_nothing_repeats() -> None:
    one, other = sll2(ipv4(SEGMENT), 5), sll2(ipv4(SEGMENT), 2)

    assert statuses([one, other], [WINDOW_NS // 1000]) == [ONCE, AGAIN]
    assert statuses([one, other], [WINDOW_NS // 1000 + 1]) == [ONCE, ONCE]
    between = [sll2(ipv4(tcp(seq=i)), 5) for i in range(WINDOW_PACKETS)]
    assert statuses([one, *between, other], [1] * (len(between) + 1))[-1] == ONCE
    assert statuses([one, *between[1:], other], [1] * len(between))[-1] == AGAIN


def test_without_an_interface_the_identification_decides() -> None:
    """LINKTYPE_LINUX_SLL names none: bridge port and bridge look alike in it."""
    assert statuses([sll(ipv4(SEGMENT))] * 2, link=LinkType.LINUX_SLL) == [ONCE, AGAIN]
    unnumbered = ipv4(SEGMENT, identification=0)
    assert statuses([sll(unnumbered)] * 2, link=LinkType.LINUX_SLL) == [ONCE, ONCE]
    assert statuses([sll(unnumbered), sll(unnumbered, 4)], link=LinkType.LINUX_SLL) == [ONCE, AGAIN]


def test_ipv6_and_hop_limits() -> None:
    packet = ipv6(SEGMENT)
    routed = packet[:7] + bytes([packet[7] - 1]) + packet[8:]

    assert statuses([sll2(packet, 5, protocol=0x86DD), sll2(routed, 2, protocol=0x86DD)]) == [ONCE, AGAIN]


def on_interfaces(frames: Sequence[bytes], interfaces: Sequence[int]) -> CaptureChunk:
    times = [T0 + 1000 * i for i in range(len(frames))]
    return replace(chunk(frames, times_ns=times), interface=np.array(interfaces, np.int32))


def test_ethernet_of_several_interfaces() -> None:
    frame = ethernet(ipv4(SEGMENT))

    assert Decoder().decode(on_interfaces([frame] * 3, [0, 1, 0])).status.tolist() == [ONCE, AGAIN, ONCE]
    assert Decoder().decode(on_interfaces([frame] * 3, [0, 0, 0])).status.tolist() == [ONCE] * 3


def test_a_tunnelled_packet_recorded_again_is_not_looked_into() -> None:
    frame = ipv4(udp(vxlan(ethernet(ipv4(SEGMENT))), dport=8472), "1.1.1.1", "2.2.2.2", 17)
    capture = chunk([sll2(frame, 5), sll2(frame, 2)], LinkType.LINUX_SLL2, times_ns=[T0, T0 + 1])

    table = Decoder().decode(capture)

    assert table.depth.tolist() == [0, 0, 1]
    assert table.frame.tolist() == [1, 2, 1]
    ledger = Ledger()
    ledger.add(2, table, 2)
    assert (ledger.duplicates, ledger.balanced) == (1, True)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2500)), min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_any_chunking_finds_the_same_and_agrees_with_the_plain_rule(
    packets: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    """Packets (which, interface, microseconds since the one before), against one loop over them."""
    frames = [ethernet(ipv4(tcp(seq=which))) for which, _, _ in packets]
    whole = on_interfaces(frames, [place for _, place, _ in packets])
    times = T0 + 1000 * np.cumsum([gap for _, _, gap in packets])
    whole = replace(whole, time_ns=times)
    bounds = sorted({0, len(packets), *(cut for cut in cuts if cut < len(packets))})
    decoder = Decoder()
    found: list[int] = []
    for first, last in pairwise(bounds):
        part = slice(first, last)
        piece = replace(
            whole,
            start=whole.start[part],
            captured_len=whole.captured_len[part],
            wire_len=whole.wire_len[part],
            time_ns=times[part],
            interface=whole.interface[part],
            link_type=whole.link_type[part],
            first_frame=first + 1,
        )
        found += decoder.decode(piece).status.tolist()

    runs: dict[int, tuple[int, list[tuple[int, int]]]] = {}
    expected = []
    for (which, place, _), when in zip(packets, times.tolist(), strict=True):
        last_seen, run = runs.get(which, (-1, []))
        if last_seen < 0 or when - last_seen > WINDOW_NS:
            run = []
        nth = sum(where == place for where, _ in run)
        expected.append(AGAIN if any(n == nth for _, n in run) else ONCE)
        runs[which] = (when, [*run, (place, nth)])
    assert found == expected
