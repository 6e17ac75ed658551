"""HTTP/2 messages behind the head: cleartext connections walked frame by frame for as long as they last.

The connections of one cluster that speak HTTP/2 in clear are few (etcd, konnectivity, gRPC behind the API server's
proxy): their segments are looked at one by one, those of all others never. Each distinct message is kept once.
"""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from analyzer.decode.gather import gather_block
from analyzer.decode.transport import TCP
from analyzer.flows import SENT_PREFACE, TLS_DATA, FlowBuilder, FlowRows, place_of
from analyzer.heads import HeadCollector
from analyzer.late import LATE_REQUESTS, LATE_RESPONSES
from analyzer.protocols.http2 import PREFACE, is_chain
from analyzer.protocols.http2_walk import FrameWalk, Segment, WalkedBlock
from analyzer.schema import I64, U8, HttpMessage, Mask, PacketTable

HEAD_MESSAGES: Final = 64
"""Messages read of the head of a direction; what follows them is late, wherever it lies."""
_EITHER_PREFACE: Final = np.uint16(SENT_PREFACE | SENT_PREFACE << 8)


@dataclass(slots=True)
class _Side:
    """One direction: its walk, and what was kept of it."""

    walk: FrameWalk = field(default_factory=FrameWalk)
    in_head: int = 0
    reached: bool = False  # a segment ends behind the head
    behind: bool = False  # a message does
    seen: set[str] = field(default_factory=set)


class Http2Collector:
    """Walk cleartext HTTP/2 connections table after table; `take` hands over the messages found behind the heads.

    Parameters
    ----------
    flows : FlowBuilder
    heads : HeadCollector
        Has what is read by its own reader: messages that end inside the heads are left to it.
    """

    def __init__(self, flows: FlowBuilder, heads: HeadCollector) -> None:
        self._flows, self._heads = flows, heads
        self._sides: dict[int, _Side] = {}  # by stream
        self._walked: Mask = np.zeros(1 << 10, bool)  # by flow
        self._done: list[HttpMessage] = []
        self._full: set[int] = set()

    def __len__(self) -> int:
        """Directions walked."""
        return len(self._sides)

    @property
    def pending(self) -> bool:
        """Whether `take` has something to hand over."""
        return bool(self._done)

    def add(self, packets: PacketTable, rows: FlowRows, octets: U8) -> None:
        """Walk the segments among `packets`; to be called once the heads have been given them."""
        chosen = self._candidates(packets, rows, octets)
        if chosen.shape[0] == 0:
            return
        packet = rows.packet[chosen]
        columns = (
            rows.flow[chosen],
            rows.side[chosen],
            packets.seq[packet],
            packets.payload_len[packet],
            packets.frame[packet],
            packets.payload_start[packet],
            packets.payload_stop[packet],
            self._heads.is_behind(
                rows.flow[chosen] * 2 + rows.side[chosen],
                packets.seq[packet].astype(np.int64) + packets.payload_len[packet] - 1,
            ),
        )
        view = octets.data
        for flow, side, seq, length, frame, start, stop, behind in zip(*(c.tolist() for c in columns), strict=True):
            stream = 2 * flow + side
            one = self._sides.get(stream)
            if one is None:
                payload = bytes(view[start:stop])
                # Row by row, so that the same segments are walked however the capture was cut into tables.
                if self._walked[flow] or not (payload.startswith(PREFACE) or is_chain(payload, 0)):
                    continue
                self._walked[flow] = True
                one, self._sides[stream ^ 1] = _Side(), _Side()
                self._sides[stream] = one
            if stream not in self._full:
                one.reached |= behind
                found = one.walk.add(Segment(seq, length, frame, bytes(view[start:stop])))
                if found:
                    self._keep(stream, one, found)

    def take(self, *, all_of_them: bool = False) -> list[HttpMessage]:
        """Hand over the messages found, flows by builder number; with `all_of_them` no more segments come."""
        if all_of_them:
            self.close(np.array([stream >> 1 for stream in self._sides if not stream & 1], np.int64))
        taken, self._done = self._done, []
        return taken

    def under_way(self) -> list[HttpMessage]:
        """What could be said besides if no more segments came, flows by builder number; the walks go on."""
        apart = copy(self)
        apart._done, apart._full = [], set(self._full)
        for stream, one in self._sides.items():
            if one.walk.waits and stream not in self._full:
                ended = deepcopy(one)
                apart._keep(stream, ended, ended.walk.finish())
        return apart._done

    def close(self, flows: I64) -> None:
        """Forget the connections among `flows`, of which nothing more is expected; what they said is kept."""
        for flow in flows[self._walked[flows]].tolist() if self._sides else ():
            for stream in (2 * flow, 2 * flow + 1):
                one = self._sides.pop(stream, None)
                if one is not None:
                    self._keep(stream, one, one.walk.finish())

    def keep(self, kept: I64, count: int) -> None:
        """Forget all of the `count` flows but `kept`, ascending; flow ``kept[i]`` is flow i from now on.

        What was found must have been taken.
        """
        place = place_of(kept, count).tolist()
        self._sides = {place[s >> 1] * 2 + (s & 1): one for s, one in self._sides.items() if place[s >> 1] >= 0}
        self._full = {place[s >> 1] * 2 + (s & 1) for s in self._full if place[s >> 1] >= 0}
        walked = np.zeros(max(1 << 10, kept.shape[0] * 2), bool)
        known = kept < self._walked.shape[0]
        walked[np.flatnonzero(known)] = self._walked[kept[known]]
        self._walked = walked

    def full_streams(self) -> I64:
        """Streams in which a message found no room, ascending: (K,) int64."""
        return np.array(sorted(self._full), np.int64)

    def _candidates(self, packets: PacketTable, rows: FlowRows, octets: U8) -> I64:
        """Rows with payload of connections walked, and of those that may have to be."""
        count = len(self._flows)
        if count > self._walked.shape[0]:
            grown = np.zeros(count * 3 // 2, bool)
            grown[: self._walked.shape[0]] = self._walked
            self._walked = grown
        state = self._flows.state
        # The bits of both sides in one number: most rows are told by it alone.
        opening = state.opening.view(np.uint16).reshape(-1).take(rows.flow)
        preface = (opening & _EITHER_PREFACE) != 0
        told = preface | (opening == 0)
        if self._sides:
            told |= self._walked.take(rows.flow)
        row: I64 = np.flatnonzero(told)
        packet = rows.packet[row]
        row = row[(packets.protocol[packet] == TCP) & (packets.payload_stop[packet] > packets.payload_start[packet])]
        flow = rows.flow[row]
        known = preface[row] | self._walked[flow]
        # Joined in its middle: of no other protocol, as far as that has been seen.
        joined = ~known & (state.syn_seq[flow] < 0).all(axis=1)
        joined &= (state.signature[flow, :, TLS_DATA] == 0).all(axis=1)
        kept = np.flatnonzero(known | joined)
        row, known, flow = row[kept], known[kept], flow[kept]
        maybe = np.flatnonzero(~known)
        if maybe.shape[0] == 0:
            return row
        looks: Mask = np.ones(row.shape[0], bool)
        looks[maybe] = _may_be_frames(gather_block(octets, packets.payload_start[rows.packet[row[maybe]]], 8))
        # All rows of a flow with one that does: the walk begins at it and goes on with what follows.
        begun = np.zeros(len(self._flows), bool)
        begun[flow[looks]] = True
        return row[begun[flow]]

    def _keep(self, stream: int, one: _Side, found: list[WalkedBlock]) -> None:
        for block in found:
            from_client = block.said.is_request
            # Of answers the status alone tells, as behind the heads of HTTP/1.
            identity = block.said.identity(from_client=from_client)
            if not identity or stream in self._full:
                continue
            if not one.behind:
                one.behind = one.reached and self._heads.lies_behind(stream, block.last)
                one.in_head += not one.behind
                if not one.behind and one.in_head <= HEAD_MESSAGES:
                    continue
            if identity in one.seen:
                continue
            room = LATE_REQUESTS if from_client else LATE_RESPONSES
            if len(one.seen) >= room:
                self._full.add(stream)
                one.walk = FrameWalk()
                continue
            one.seen.add(identity)
            message = block.said.message(stream >> 1, block.frame, from_client=from_client)
            assert message is not None
            self._done.append(message)


def _may_be_frames(block: U8) -> Mask:
    """Whether payloads may begin with a frame header: (N, 8) uint8 -> (N,) bool."""
    length = (block[:, 0].astype(np.int32) << 16) | (block[:, 1].astype(np.int32) << 8) | block[:, 2]
    may: Mask = (length <= 1 << 14) & (block[:, 3] <= 16) & (block[:, 5] < 128)
    return may
