from __future__ import annotations

import numpy as np
import pytest

from analyzer.decode import Decoder
from analyzer.flows import FlowBuilder
from analyzer.registries import InitiatorSource
from analyzer.schema import FlowTable
from tests.builders import ACK, FIN, RST, SYN, Conversation, chunk, ethernet, frames_of, ipv4, tcp, udp


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
