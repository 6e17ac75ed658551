"""Fragments: ports for later ones, whole datagrams where they are complete, the same for any order and any chunking."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.decode import Decoder, fragments
from analyzer.registries import Decode, LinkType
from analyzer.schema import PacketTable
from tests.builders import ACK, SYN, chunk, ethernet, ipv4, ipv6, tcp, udp, vxlan

MORE = 0x2000
BODY = bytes(range(256)) * 4


def pieces(packet: bytes, size: int, identification: int = 7, protocol: int = 6) -> list[bytes]:
    """An IPv4 payload in fragments of `size` octets."""
    return [
        ipv4(
            packet[at : at + size],
            protocol=protocol,
            flags_offset=at // 8 | (MORE if at + size < len(packet) else 0),
            identification=identification,
        )
        for at in range(0, len(packet), size)
    ]


def pieces_v6(payload: bytes, size: int, following: int = 6, before: bytes = b"") -> list[bytes]:
    out = []
    for at in range(0, len(payload), size):
        header = struct.pack(">BBHI", following, 0, at | (at + size < len(payload)), 99)
        out.append(ipv6(before + header + payload[at : at + size], next_header=60 if before else 44))
    return out


def run(
    packets: Sequence[bytes], cuts: Sequence[int] = (), times_ns: Sequence[int] | None = None
) -> tuple[list[dict[str, Any]], Decoder]:
    """What each packet became, whatever chunks they came in."""
    decoder = Decoder()
    rows: list[dict[str, Any]] = []
    bounds = [0, *cuts, len(packets)]
    times = times_ns or [10**18] * len(packets)
    for first, last in pairwise(bounds):
        if first == last:
            continue
        part = chunk(packets[first:last], LinkType.RAW, first_frame=first + 1, times_ns=times[first:last])
        table = decoder.decode(part)
        rows += [row(table, i, decoder) for i in range(len(table))]
    return sorted(rows, key=lambda r: (r["frame"], r["depth"])), decoder


def row(table: PacketTable, i: int, decoder: Decoder) -> dict[str, Any]:
    start, stop = int(table.payload_start[i]), int(table.payload_stop[i])
    return {
        "frame": int(table.frame[i]),
        "depth": int(table.depth[i]),
        "status": int(table.status[i]),
        "ports": (int(table.src_port[i]), int(table.dst_port[i])),
        "seq": int(table.seq[i]),
        "claimed": int(table.payload_len[i]),
        "payload": decoder.octets[start:stop].tobytes(),
    }


def payloads(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [r["payload"] for r in rows]


def test_later_fragments_have_the_ports_of_the_first_and_the_last_brings_the_rest() -> None:
    segment = tcp(BODY, 40000, 6443, seq=1000)

    rows, decoder = run(pieces(segment, 400))

    assert [r["status"] for r in rows] == [Decode.OK] * 3
    assert {r["ports"] for r in rows} == {(40000, 6443)}
    assert payloads(rows) == [BODY[:380], b"", BODY[380:]]
    assert [r["seq"] for r in rows] == [1000, 1380, 1380]
    assert decoder.fragments.counts.joined == 1
    assert decoder.fragments.incomplete == 0


def test_a_fragmented_syn_opens_once() -> None:
    rows, _ = run(pieces(tcp(BODY, seq=1000, flags=SYN | ACK), 512))

    # RFC 9293 3.4: the SYN takes a sequence number itself.
    assert [r["seq"] for r in rows] == [1000, 1001 + 492, 1001 + 492]


def test_ipv6_with_extension_headers_on_both_sides_of_the_fragment_header() -> None:
    destination = bytes([6, 0, 1, 4, 0, 0, 0, 0])
    packets = pieces_v6(destination + tcp(BODY, 1, 2), 256, 60, before=bytes([44, 0, 1, 4, 0, 0, 0, 0]))

    rows, _ = run(packets)

    assert {r["status"] for r in rows} == {Decode.OK}
    assert b"".join(payloads(rows)) == BODY


def test_a_header_spread_over_fragments_is_known_once_it_is_whole() -> None:
    segment = tcp(b"abcd", 12345, 8080)

    rows, _ = run(pieces(segment, 8))

    assert [r["status"] for r in rows[1:]] == [Decode.LATER_FRAGMENT, Decode.OK]
    assert rows[-1]["ports"] == (12345, 8080)
    assert rows[-1]["payload"] == b"abcd"


@given(st.permutations(range(5)), st.lists(st.integers(0, 5), max_size=3))
def test_any_order_and_any_chunks_give_the_same_datagram(order: list[int], cuts: list[int]) -> None:
    parts = pieces(udp(BODY, 5, 6), 256, protocol=17)
    packets = [parts[i] for i in order]

    rows, decoder = run(packets, sorted(cuts))

    assert rows == run(packets)[0]
    assert decoder.fragments.counts.joined == 1
    assert rows[-1]["status"] == Decode.OK
    first = order.index(0)
    # A datagram is known by its beginning: what a later fragment brings would pass for another one.
    assert payloads(rows)[-1] == (BODY if first == 4 else b"")
    assert payloads(rows)[first] == (BODY if first == 4 else BODY[:248])
    # Ports are known from the first fragment on.
    assert [r["status"] for r in rows[:first]] == [Decode.LATER_FRAGMENT] * (first if first < 4 else 4)


def test_a_tunnelled_packet_in_fragments_is_read_once_it_is_whole() -> None:
    inner = ethernet(ipv4(tcp(BODY, 40000, 6443)))

    rows, decoder = run(pieces(udp(vxlan(inner, 9), dport=8472), 512, protocol=17))

    inside = [r for r in rows if r["depth"] == 1]
    assert [(r["frame"], r["ports"], r["payload"]) for r in inside] == [(3, (40000, 6443), BODY)]
    assert decoder.paths == ["", "vxlan:9"]


def test_fragments_inside_a_tunnel_are_put_together_too() -> None:
    parts = pieces(tcp(BODY, 1, 2), 512)

    rows, _ = run([ipv4(part, "1.1.1.1", "2.2.2.2", 4) for part in parts])

    assert b"".join(r["payload"] for r in rows if r["depth"] == 1) == BODY


def test_the_first_copy_of_overlapping_octets_stays_and_a_difference_is_counted() -> None:
    datagram = tcp(BODY[:24], 5, 6)
    liar = ipv4(b"X" * 16, flags_offset=2 | MORE, identification=7)
    parts = pieces(datagram, 24)

    rows, decoder = run([parts[0], liar, parts[1]])

    # What the liar brings where nothing was before is taken, as the first copy of it.
    assert rows[-1]["payload"] == b"X" * 8 + datagram[32:]
    assert decoder.fragments.counts.conflicts == 2


def test_the_same_fragment_twice_changes_nothing() -> None:
    parts = pieces(tcp(BODY, 5, 6), 256)

    rows, decoder = run([parts[0], parts[1], parts[1], parts[2], parts[3], parts[4]])

    assert rows[-1]["payload"] == BODY[236:]
    assert decoder.fragments.counts.conflicts == 0
    assert decoder.fragments.incomplete == 0


def test_a_hole_leaves_the_datagram_incomplete() -> None:
    parts = pieces(udp(BODY, 5, 6), 256, protocol=17)

    rows, decoder = run([parts[0], *parts[2:]])

    assert decoder.fragments.incomplete == 1
    assert payloads(rows) == [BODY[:248], b"", b"", b""]
    assert {r["ports"] for r in rows} == {(5, 6)}


def test_fragments_cut_by_the_snap_length_complete_a_datagram_with_a_hole() -> None:
    parts = pieces(tcp(BODY, 5, 6), 512)

    rows, _ = run([part[:100] for part in parts])

    assert rows[-1]["status"] == Decode.OK
    # 1024 octets of payload less the first fragment's own 492.
    assert rows[-1]["claimed"] == 532
    assert rows[-1]["payload"] == b""


def test_an_old_fragment_belongs_to_another_datagram() -> None:
    parts = pieces(udp(BODY, 5, 6), 1024, protocol=17)
    times = [10**18, 10**18 + fragments.TIMEOUT_NS + 1]

    rows, decoder = run(parts, times_ns=times)

    assert rows[1]["status"] == Decode.LATER_FRAGMENT
    assert (decoder.fragments.counts.given_up, decoder.fragments.counts.joined) == (1, 0)


def test_datagrams_of_other_identification_protocol_or_tunnel_are_apart() -> None:
    ones, others = pieces(udp(BODY, 5, 6), 1024, 7, 17), pieces(udp(BODY[::-1], 7, 8), 1024, 8, 17)

    rows, _ = run([ones[0], others[0], others[1], ones[1]])

    assert [r["ports"] for r in rows] == [(5, 6), (7, 8), (7, 8), (5, 6)]


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MAX_DATAGRAMS", 100)
    packets = [pieces(udp(BODY, 5, 6), 512, number, 17)[0] for number in range(1000)]

    _, decoder = run(packets)

    assert decoder.fragments.incomplete == 100
    assert decoder.fragments.counts.given_up == 900
    monkeypatch.setattr(fragments, "MAX_OCTETS", 5000)
    _, decoder = run(packets[:50])
    assert decoder.fragments.incomplete == 5000 // (512 + 128)


def test_fragments_without_octets_cost_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MAX_OCTETS", 128 * 50)
    empty = [ipv4(bytes(8), flags_offset=n | MORE)[:20] for n in range(1, 200, 2)]

    _, decoder = run(empty)

    assert decoder.fragments.counts.given_up == 1


def test_a_datagram_past_the_largest_is_refused() -> None:
    _, decoder = run([ipv4(bytes(64), protocol=17, flags_offset=0x1FFF)])

    assert decoder.fragments.counts.refused == 1


def test_frames_without_fragments_share_the_chunks_octets() -> None:
    capture = chunk([ethernet(ipv4(tcp()))])
    decoder = Decoder()
    decoder.decode(capture)

    assert np.shares_memory(decoder.octets, capture.octets)
