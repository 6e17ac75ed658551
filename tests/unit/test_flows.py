from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analyzer.decode import Decoder
from analyzer.flows import FlowBuilder, _set_bits
from analyzer.registries import InitiatorSource
from analyzer.schema import FlowTable
from tests.builders import ACK, FIN, RST, SYN, Conversation, chunk, ethernet, frames_of, ipv4, ipv6, tcp, udp, vxlan


def flows_of(frames: list[bytes], parts: int = 1) -> FlowTable:
    """Flows of the frames, fed in `parts` pieces."""
    decoder, builder = Decoder(), FlowBuilder()
    for rows in np.array_split(np.arange(len(frames)), parts):
        if rows.shape[0]:
            piece = chunk([frames[i] for i in rows], first_frame=int(rows[0]) + 1)
            builder.add(decoder.decode(piece), piece.octets)
    return builder.finish(np.arange(len(builder)))[0]


def segment(flags: int, seq: int, ack: int = 0, payload: bytes = b"", *, reverse: bool = False) -> bytes:
    if reverse:
        return ethernet(ipv4(tcp(payload, 6443, 40000, seq, ack, flags), "10.0.0.11", "10.0.0.10"))
    return ethernet(ipv4(tcp(payload, 40000, 6443, seq, ack, flags)))


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_both_directions_are_one_flow_with_totals_by_side(parts: int) -> None:
    frames = Conversation().open().send(0, b"a" * 3000).send(1, b"b" * 100).close().frames

    flows = flows_of(frames, parts)

    assert len(flows) == 1
    assert flows.port.tolist() == [[40000, 6443]]
    assert flows.initiator.tolist() == [InitiatorSource.SYN]
    assert flows.payload_octets.tolist() == [[3000, 100]]
    assert flows.packets.sum() == len(frames)
    assert flows.octets.sum() == sum(map(len, frames))
    assert flows.syn_seq.tolist() == [[1000, 5000]]
    assert flows.flags[0, 0] & (SYN | FIN) == SYN | FIN
    assert (flows.first_frame[0], flows.last_frame[0]) == (1, len(frames))


@pytest.mark.parametrize(
    ("frames", "client_port", "source"),
    [
        pytest.param([segment(SYN, 1)], 40000, InitiatorSource.SYN, id="syn"),
        pytest.param([segment(SYN | ACK, 1, 9, reverse=True)], 40000, InitiatorSource.SYN_ACK, id="syn+ack only"),
        pytest.param(
            [segment(ACK, 1, 1, b"HTTP/1.1 200 OK\r\n", reverse=False)], 6443, InitiatorSource.CONTENT, id="status line"
        ),
        pytest.param([segment(ACK, 1, 1, b"\0\1\2", reverse=True)], 40000, InitiatorSource.PORT, id="ports"),
        pytest.param(
            [ethernet(ipv4(udp(b"x", 50000, 50000), "10.0.0.11", "10.0.0.10", 17))],
            50000,
            InitiatorSource.FIRST_PACKET,
            id="nothing better",
        ),
    ],
)
def test_who_opened_the_connection(frames: list[bytes], client_port: int, source: InitiatorSource) -> None:
    flows = flows_of(frames)

    assert flows.port[0, 0] == client_port
    assert flows.initiator[0] == source


@pytest.mark.parametrize("parts", [1, 3, 12])
def test_a_reused_port_is_a_new_connection(parts: int) -> None:
    frames = frames_of(
        [
            Conversation(isn=(1000, 5000)).open().send(0, b"first").close(),
            Conversation(isn=(900_000, 7000)).open().send(0, b"second!").close(),
            Conversation(isn=(3_000_000_000, 7)).open().send(1, b"x"),
        ]
    )

    flows = flows_of(frames, parts)

    assert flows.payload_octets.tolist() == [[5, 0], [7, 0], [0, 1]]
    assert flows.syn_seq[:, 0].tolist() == [1000, 900_000, 3_000_000_000]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_retransmitted_syn_is_the_same_connection(parts: int) -> None:
    conversation = Conversation().open()
    frames = [conversation.frames[0], *conversation.frames, conversation.frames[0]]

    assert len(flows_of(frames, parts)) == 1


@pytest.mark.parametrize("parts", [1, 2])
def test_a_syn_behind_an_old_connection_joined_midway_opens_a_new_one(parts: int) -> None:
    frames = [segment(ACK, 70_000_000, 5, b"old"), segment(SYN, 1000), segment(SYN | ACK, 5000, 1001, reverse=True)]

    assert len(flows_of(frames, parts)) == 2


@pytest.mark.parametrize("parts", [1, 2])
def test_a_syn_with_another_number_than_the_sides_syn_ack_opens_a_new_connection(parts: int) -> None:
    """Copies of a SYN have its number, those with ACK too (RFC 9293 3.5): 1889 octets on is no copy."""
    frames = [segment(SYN | ACK, 805_097_105, 1), segment(SYN, 805_098_994)]

    assert flows_of(frames, parts).syn_seq.tolist() == [[-1, 805_097_105], [805_098_994, -1]]


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize(
    ("frames", "count"),
    [
        pytest.param([segment(ACK, 1, 1, reverse=True), segment(RST, 2, reverse=True), segment(SYN, 5)], 2, id="ended"),
        pytest.param([segment(ACK, 1, 1, reverse=True), segment(ACK, 2, 1, reverse=True), segment(SYN, 5)], 1, id="on"),
        pytest.param([segment(ACK, 6, 1), segment(RST, 2, reverse=True), segment(SYN, 5)], 1, id="its own segments"),
    ],
)
def test_a_syn_after_the_end_of_a_peer_that_alone_was_seen(frames: list[bytes], count: int, parts: int) -> None:
    assert len(flows_of(frames, parts)) == count


def test_a_late_syn_belongs_to_the_segments_before_it() -> None:
    frames = Conversation().open().send(0, b"x").frames
    swapped = [frames[3], frames[1], frames[0], frames[2]]

    flows = flows_of(swapped)

    assert len(flows) == 1
    assert flows.initiator.tolist() == [InitiatorSource.SYN]


def test_simultaneous_open_is_one_connection() -> None:
    frames = [
        segment(SYN, 1000),
        segment(SYN, 5000, reverse=True),
        segment(SYN | ACK, 1000, 5001),
        segment(SYN | ACK, 5000, 1001, reverse=True),
    ]

    assert len(flows_of(frames)) == 1


def test_a_flood_of_syns_is_as_many_connections() -> None:
    frames = [segment(SYN, 10_000 * i) for i in range(500)]

    flows = flows_of(frames, 4)

    assert len(flows) == 500
    assert flows.packets.sum() == 500


def test_flags_of_a_refused_connection() -> None:
    flows = flows_of([segment(SYN, 1), segment(RST | ACK, 0, 2, reverse=True)])

    assert flows.flags.tolist() == [[SYN, RST | ACK]]
    assert flows.payload_octets.sum() == 0


# ----------------------------------------------------------------------------------------- the limit


def limited(frames: list[bytes], limit: int, cuts: list[int]) -> tuple[FlowTable, int, int, int]:
    """Flows kept, packets in them, packets left out and about how many flows those are of."""
    decoder, builder = Decoder(), FlowBuilder(limit=limit)
    counted = left_out = octets = 0
    edges = [0, *sorted(set(cuts) & set(range(1, len(frames)))), len(frames)]
    for start, stop in pairwise(edges):
        piece = chunk(frames[start:stop], first_frame=start + 1)
        rows = builder.add(decoder.decode(piece), piece.octets)
        assert rows.packet.shape == rows.flow.shape == rows.side.shape
        counted, left_out = counted + rows.packet.shape[0], left_out + rows.left_out
        octets += rows.left_out_octets
    flows = builder.finish(np.arange(len(builder)))[0]
    assert counted == flows.packets.sum()
    assert octets + flows.octets.sum() == sum(map(len, frames))
    return flows, counted, left_out, builder.left_out


def flood(count: int, first: int = 0) -> list[bytes]:
    return [
        ethernet(
            ipv4(tcp(b"", 1024 + n % 60000, 6443, n * 7919, 0, SYN), f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}")
        )
        for n in range(first, first + count)
    ]


def test_a_flood_takes_no_place_from_those_who_speak() -> None:
    early = Conversation(sport=1).open().send(0, b"GET / HTTP/1.1\r\n\r\n").frames
    late = (
        Conversation(sport=2, isn=(7, 8))
        .open()
        .send(0, b"GET / HTTP/1.1\r\n\r\n")
        .send(1, b"HTTP/1.1 200 OK\r\n")
        .frames
    )

    flows, counted, left_out, about = limited(early + flood(3000) + late + flood(3000, 3000), 1000, [500, 501, 2999])

    assert len(flows) == 751  # three quarters, and the one that spoke
    spoke = flows.payload_octets.sum(axis=1) > 0
    assert flows.port[spoke].tolist() == [[1, 6443], [2, 6443]]
    # The late one is kept from its first payload on: its handshake came when nothing without payload was kept.
    assert flows.packets[spoke].sum(axis=1).tolist() == [4, 2]
    assert counted + left_out == len(early) + len(late) + 6000
    assert abs(about - (6000 - 749 + 1)) < 0.05 * 6000


def test_at_the_limit_nothing_new_is_kept() -> None:
    talk = [segment for n in range(50) for segment in Conversation(sport=n + 1).send(0, b"x").frames]
    reopened = Conversation(sport=1, isn=(99_000_000, 5)).open().send(0, b"y" * 50).frames

    flows, _, left_out, about = limited(talk + reopened + talk, 20, [30])

    assert len(flows) == 20
    # What follows a SYN that opens another connection on the ports of a kept one is not counted into that.
    assert flows.packets.sum(axis=1).tolist() == [1] + [2] * 19
    assert left_out == 30 * 2 + len(reopened) + 1
    assert about in (30, 31)


@settings(max_examples=20)
@given(st.data())
def test_what_is_left_out_does_not_depend_on_how_the_input_was_cut(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    streams = [
        Conversation(sport=100 + n, isn=(n * 1000, n)).open().send(0, b"a" * n).close().frames for n in range(12)
    ]
    streams += [Conversation(sport=100 + n, isn=(n * 10**6 + 7, 3)).open().send(1, b"b").frames for n in range(4)]
    streams += [[frame] for frame in flood(30)]
    order = rng.permutation(np.repeat(np.arange(len(streams)), [len(s) for s in streams]))
    iterators = [iter(s) for s in streams]
    frames = [next(iterators[n]) for n in order.tolist()]
    cuts = data.draw(st.lists(st.integers(1, len(frames) - 1), max_size=8))
    limit = data.draw(st.sampled_from([4, 8, 13, 20, 40, 60]))

    one, *counts = limited(frames, limit, cuts)
    other, *others = limited(frames, limit, list(range(1, len(frames))))

    assert len(one) <= limit
    assert counts == others
    for name in ("first_frame", "last_frame", "packets", "octets", "flags", "syn_seq", "port", "address"):
        assert (getattr(one, name) == getattr(other, name)).all(), name


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    frames = frames_of([Conversation(sport=n, isn=(n, n)).open().send(0, b"abc").close() for n in range(1, 40)])
    one = limited(frames, 52, [17])[0]
    other = flows_of(frames)
    for name in ("first_frame", "packets", "octets", "signature", "port"):
        assert (getattr(one, name) == getattr(other, name)).all(), name


HOSTS = {4: ("10.0.0.10", "10.0.0.11", "10.0.1.10"), 6: ("fd00::a00:a", "fd00::a00:b", "fd01::a00:a")}
"""Of IPv6, addresses that end like those of IPv4: by their last octets alone they would be taken for one another."""
PACKETS = st.tuples(
    st.sampled_from([4, 6]),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.sampled_from([6, 17]),
    st.sampled_from([None, 1, 2]),  # VXLAN network
    st.integers(1, 3),  # such packets in a row
)


SAME_ENDS = [(version, (0, 1), (0, 0), 6, None, 1) for version in (6, 4, 6)]


@settings(max_examples=60, deadline=None)
@example(SAME_ENDS, 1)
@given(st.lists(PACKETS, min_size=1, max_size=40), st.integers(1, 4))
def test_flows_are_those_of_a_dictionary(
    drawn: list[tuple[int, tuple[int, int], tuple[int, int], int, int | None, int]], parts: int
) -> None:
    frames: list[bytes] = []
    expected: dict[object, list[int]] = {}
    for version, hosts, ports, protocol, network, times in drawn:
        here, there = ((HOSTS[version][hosts[i]], 7000 + ports[i]) for i in (0, 1))
        layer = tcp(b"x", here[1], there[1], 1, 1, ACK) if protocol == 6 else udp(b"x", here[1], there[1])
        wrapped = (ipv4 if version == 4 else ipv6)(layer, here[0], there[0], protocol)
        frame = ethernet(wrapped, 0x0800 if version == 4 else 0x86DD)
        keys: list[object] = [(frozenset([here, there]), protocol, network)]
        if network is not None:
            frame = ethernet(ipv4(udp(vxlan(frame, network), 50000, 4789), "10.9.9.1", "10.9.9.2", 17))
            keys.append("carrier")
        for key in keys:
            expected.setdefault(key, []).extend(len(frames) + 1 + i for i in range(times))
        frames += [frame] * times

    # When the same frames are seen from two places
    decoder, builder = Decoder(), FlowBuilder()
    for rows in np.array_split(np.arange(len(frames)), parts):
        if rows.shape[0]:
            piece = chunk([frames[i] for i in rows], first_frame=int(rows[0]) + 1)
            for vantage in (0, 3):
                builder.add(decoder.decode(piece), piece.octets, vantage)
    flows = builder.finish(np.arange(len(builder)))[0]

    totals = (flows.vantage, flows.first_frame, flows.last_frame, flows.packets.sum(axis=1))
    found = sorted(zip(*(column.tolist() for column in totals), strict=True))
    assert found == sorted((place, of[0], of[-1], len(of)) for of in expected.values() for place in (0, 3))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 255)), max_size=60))
def test_bits_are_set_like_one_by_one(setting: list[tuple[int, int]]) -> None:
    column, expected = np.zeros(6, np.uint8), np.zeros(6, np.uint8)
    rows = np.array([row for row, _ in setting], np.int64)
    bits = np.array([bit for _, bit in setting], np.uint8)
    _set_bits(column, rows, bits)
    np.bitwise_or.at(expected, rows, bits)
    assert column.tolist() == expected.tolist()
