"""pcapng files: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html (section numbers below are its).

Blocks are a chain like pcap's records. The blocks that carry packets are read as columns, the few others one by one.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

import numpy as np

from analyzer.capture import options
from analyzer.capture.blocks import (
    ENHANCED_PACKET,
    INTERFACE,
    LEAST_BLOCK,
    LEAST_SIZE,
    MAX_BLOCK,
    NAMES,
    SECRETS,
    SECTION_HEADER,
    SIMPLE_PACKET,
    STATISTICS,
    Blocks,
    count_sound,
    gather_blocks,
    has_options,
    is_numbered,
    is_packet,
    lengths_differ,
    too_long,
)
from analyzer.capture.clocks import to_nanoseconds
from analyzer.capture.facts import MAX_INTERFACES, CaptureFacts
from analyzer.capture.records import MAX_RECORD, WINDOW, Chain, FrameColumns, Stretch, first_of_each, walk, words_at
from analyzer.schema import I32, I64, NO_LINK, U8, U32, Damage

_FIRST_SPAN: Final = 256
"""Octets of a section that are walked first; eight times as many each time after. Otherwise a file of many tiny
sections would have the whole chunk walked once for each of them."""


def section_problem(header: bytes) -> str:
    """Say why the first 16 octets of a Section Header Block cannot be used; empty where they can (4.1)."""
    byte_order = _byte_order(header)
    if byte_order is None:
        return f"the byte-order magic of the pcapng section is {header[8:12].hex()}, not 1a2b3c4d in either order"
    major, minor = struct.unpack_from(f"{byte_order}HH", header, 12)
    # 1.2 is written by some and reads like 1.0 (4.1); no other version has been defined.
    if (major, minor) not in ((1, 0), (1, 2)):
        return f"pcapng version {major}.{minor}; the only version in use is 1.0"
    return ""


def _byte_order(header: bytes) -> str | None:
    return {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(header[8:12])


class PcapngParser:
    """Reads the blocks of a pcapng file, sections of either byte order one after the other.

    Parameters
    ----------
    facts : CaptureFacts
        Receives interfaces, names, secrets, comments and statistics.
    """

    def __init__(self, facts: CaptureFacts) -> None:
        self._facts: Final = facts
        self._clocks: list[options.Clock] = []
        self._first_interface = 0
        self._chain = Chain("<", 8, (4,), 0, 4, LEAST_BLOCK)
        self._span = _FIRST_SPAN
        self._usual_kind = ENHANCED_PACKET
        self._dropped: dict[int, int] = {}  # by interface: the sum of epb_dropcount

    def parse(self, octets: U8, offset: int, first_frame: int) -> Stretch:
        """See `records.RecordParser`. `octets` is aligned to 4 octets."""
        pieces = [_no_frames()]
        at, needed, reason = 0, LEAST_BLOCK, ""
        while not reason and octets.shape[0] - at >= LEAST_BLOCK:
            if int(octets[at : at + 4].view("<u4")[0]) == SECTION_HEADER:
                size, needed, reason = self._open_section(octets[at:], offset + at)
                at += size
            else:
                stop = min(octets.shape[0], at + self._span)
                size, frames, reason = self._read_span(octets[:stop], at, offset, first_frame)
                pieces.append(frames)
                first_frame += len(frames)
                at += size
                needed = LEAST_BLOCK
                if not size and not reason and stop == octets.shape[0]:
                    needed, reason = self._pending(octets[at:])
            if not size and needed > octets.shape[0] - at:
                break
        frames = FrameColumns.concatenate([piece for piece in pieces if len(piece)] or pieces[:1])
        return Stretch(frames, at, needed, Damage(offset + at, reason) if reason else None)

    def describe_cut(self, octets: U8, first_frame: int) -> str:
        """See `records.RecordParser`."""
        left = octets.shape[0]
        if left < LEAST_BLOCK:
            return f"the file is cut inside a block header after frame {first_frame - 1}: {left} octets are left"
        kind, claim = words_at(octets[:8], self._chain.byte_order)[[0, 4]].tolist()
        if kind == SECTION_HEADER:
            return f"the file is cut inside a section header after frame {first_frame - 1}: {left} octets are left"
        return (
            f"the file is cut inside a block of type {kind} after frame {first_frame - 1}: {left} of {claim} octets "
            "are left"
        )

    def _open_section(self, octets: U8, offset: int) -> tuple[int, int, str]:
        """Start the section whose header `octets` begins with; returns (size, octets needed, problem)."""
        if octets.shape[0] < 16:
            return 0, 16, ""
        header = octets[:16].tobytes()
        if problem := section_problem(header):
            return 0, 16, f"{problem}; reading stops at this section"
        byte_order = _byte_order(header) or "<"
        (claim,) = struct.unpack_from(f"{byte_order}I", header, 4)
        size = (claim + 3) & ~3
        if not LEAST_SIZE[SECTION_HEADER] <= size <= MAX_BLOCK:
            return 0, 16, f"a section header claims {claim} octets: the file is corrupt from here on"
        if size > octets.shape[0]:
            return 0, size, ""
        (trailer,) = struct.unpack(f"{byte_order}I", octets[size - 4 : size].tobytes())
        if trailer != claim:
            return 0, size, lengths_differ(SECTION_HEADER, claim, trailer)
        for code, value in options.read_options(octets[24 : size - 4].tobytes(), byte_order):
            if code == options.OPT_COMMENT:
                self._facts.add_comment(0, options.text(value), offset)
        self._chain = Chain(byte_order, 8, (4,), 0, 4, LEAST_BLOCK)
        self._first_interface = len(self._facts.interfaces)
        self._clocks = []
        self._span = _FIRST_SPAN
        return size, LEAST_BLOCK, ""

    def _pending(self, octets: U8) -> tuple[int, str]:
        """Return the octets the incomplete block at the start of `octets` needs, and what is wrong with it."""
        kind, claim = words_at(octets[:8], self._chain.byte_order)[[0, 4]].tolist()
        if claim > MAX_BLOCK:
            return LEAST_BLOCK, too_long(kind, claim)
        return (claim + 3) & ~3, ""

    def _read_span(self, octets: U8, at: int, offset: int, first_frame: int) -> tuple[int, FrameColumns, str]:
        """Read whole blocks from `at` on, up to the next section; returns (octets read, frames, problem)."""
        starts, end = walk(self._chain, octets, at, self._find)
        words = octets[: octets.shape[0] & ~3].view(f"{self._chain.byte_order}u4")
        blocks = gather_blocks(octets, self._chain.byte_order, starts, end)
        sections = np.flatnonzero(blocks.kind == SECTION_HEADER) if not blocks.enhanced_only else starts[:0]
        if sections.shape[0]:
            blocks = blocks.take(slice(0, int(sections[0])))
        else:
            self._span = min(self._span * 8, 1 << 40)
        room = MAX_INTERFACES - len(self._facts.interfaces)
        sound, reason = count_sound(octets, words, blocks, len(self._clocks), room)
        if not sound:
            return 0, _no_frames(), reason
        if reason:
            blocks = blocks.take(slice(0, sound))
        frames = self._read_blocks(octets, words, blocks, offset, first_frame)
        return int(blocks.start[-1] + blocks.size[-1]) - at, frames, reason

    def _read_blocks(self, octets: U8, words: U32, blocks: Blocks, offset: int, first_frame: int) -> FrameColumns:
        """Read sound blocks: first those that describe, then the packets."""
        if blocks.enhanced_only:
            return self._read_packets(octets, words, blocks, offset, first_frame + np.arange(blocks.start.shape[0]))
        packet, other = is_packet(blocks.kind), is_numbered(blocks.kind)
        for row in np.flatnonzero(~packet & ~other).tolist():
            start, size = int(blocks.start[row]), int(blocks.size[row])
            self._describe(int(blocks.kind[row]), octets[start + 8 : start + size - 4].tobytes(), offset + start)
        chosen = np.flatnonzero(packet | other)
        number = first_frame + np.arange(chosen.shape[0])
        frames = self._read_packets(octets, words, blocks.take(np.flatnonzero(packet)), offset, number[packet[chosen]])
        if not other.any():
            return frames
        both = FrameColumns.concatenate([frames, _no_packets(blocks.start[other])])
        order = np.argsort(np.concatenate([np.flatnonzero(packet), np.flatnonzero(other)]), kind="stable")
        return both.take(order)

    def _read_packets(self, octets: U8, words: U32, packets: Blocks, offset: int, number: I64) -> FrameColumns:
        """Read packet blocks with their options; `number` is each one's frame number."""
        frames = self._packets(octets, packets)
        # Padding is at most 3 octets; Simple Packet Blocks have no options.
        rest = packets.start + packets.size - 4 - frames.start - frames.captured_len
        with_options = np.flatnonzero(rest >= 4 if packets.enhanced_only else (rest >= 4) & has_options(packets.kind))
        if with_options.shape[0]:
            begin = (frames.start + frames.captured_len + 3)[with_options] & ~3
            stop = (packets.start + packets.size - 4)[with_options]
            interface = frames.interface[with_options]
            self._read_options(octets, words, begin, stop, number[with_options], interface, offset)
        return frames

    def _describe(self, kind: int, body: bytes, offset: int) -> None:
        """Take in one block that is not a packet; other kinds than these say nothing about frames (3.1)."""
        byte_order = self._chain.byte_order
        if kind == INTERFACE:
            interface, clock, comments = options.read_interface(body, byte_order)
            self._facts.interfaces.append(interface)
            self._clocks.append(clock)
            for comment in comments:
                self._facts.add_comment(0, comment, offset)
        elif kind == STATISTICS and len(body) >= 12:
            (local,) = struct.unpack_from(f"{byte_order}I", body)
            if local < len(self._clocks):
                row = self._first_interface + local
                interfaces = self._facts.interfaces
                told = options.add_statistics(interfaces[row], body[12:], byte_order)
                if row in self._dropped:
                    told = replace(told, dropped=max(told.dropped or 0, self._dropped[row]))
                interfaces[row] = told
        elif kind == NAMES:
            for address, name in options.read_names(body, byte_order):
                self._facts.add_name(address, name, offset)
        elif kind == SECRETS and (key_log := options.read_secrets(body, byte_order)):
            self._facts.add_secrets(key_log, offset)

    def _packets(self, octets: U8, packets: Blocks) -> FrameColumns:
        """Read the frames of sound packet blocks."""
        rows = packets.start.shape[0]
        if not rows:
            return _no_frames()
        self._usual_kind = int(packets.kind[-1])
        _, local = packets.interface_numbers()
        simple = np.flatnonzero(packets.kind == SIMPLE_PACKET) if not packets.enhanced_only else local[:0]
        stamped = np.flatnonzero(packets.kind != SIMPLE_PACKET) if simple.shape[0] else slice(None)
        start = packets.start + 28
        captured_len, wire_len, time_ns = (np.zeros(rows, np.int64) for _ in range(3))
        with_fields = packets.take(stamped) if simple.shape[0] else packets
        high, low, captured, original = with_fields.packet_fields(octets).T
        captured_len[stamped] = captured
        wire_len[stamped] = np.maximum(captured, original)
        time_ns[stamped] = self._time_ns(high, low, local[stamped])
        if simple.shape[0]:
            # 4.4: the snap length of the section's first interface tells how much of the packet is there.
            start[simple] -= 16
            wire_len[simple] = packets.third[simple]
            snaplen = self._facts.interfaces[self._first_interface].snaplen or MAX_RECORD
            limit = np.minimum(packets.size[simple] - 16, snaplen)
            captured_len[simple] = np.minimum(wire_len[simple], limit)
        known = self._facts.interfaces[self._first_interface :]
        link_types = np.array([interface.link_type for interface in known], np.int32)
        return FrameColumns(
            start=start,
            captured_len=captured_len,
            wire_len=wire_len,
            time_ns=time_ns,
            interface=(local + self._first_interface).astype(np.int32),
            link_type=link_types[local],
        )

    def _time_ns(self, high: U32, low: U32, local: I64) -> I64:
        """Convert time stamps by each interface's clock: (N,) int64 nanoseconds since the epoch."""
        ticks = high.astype(np.uint64)
        ticks <<= np.uint64(32)
        ticks |= low
        distinct = sorted(set(self._clocks), key=lambda clock: (clock.resolution, clock.offset_s))
        if len(distinct) == 1:
            return to_nanoseconds(ticks, distinct[0].resolution, distinct[0].offset_s)
        clock_row = {clock: row for row, clock in enumerate(distinct)}
        clock_of = np.array([clock_row[clock] for clock in self._clocks], np.int64)[local]
        time_ns = np.zeros(ticks.shape[0], np.int64)
        for row in np.unique(clock_of).tolist():
            rows = clock_of == row
            time_ns[rows] = to_nanoseconds(ticks[rows], distinct[row].resolution, distinct[row].offset_s)
        return time_ns

    def _read_options(
        self, octets: U8, words: U32, begin: I64, stop: I64, frame: I64, interface: I32, offset: int
    ) -> None:
        """Walk the options of all packets that have any, one option of each a step: comments and drop counts."""
        found: list[tuple[int, int, int]] = []
        drops: list[tuple[int, bytes]] = []
        big_endian = self._chain.byte_order == ">"
        while begin.shape[0] >= 16:
            word = words[begin >> 2].astype(np.int64)
            code, length = (word >> 16, word & 0xFFFF) if big_endian else (word & 0xFFFF, word >> 16)
            following = begin + 4 + ((length + 3) & ~3)
            whole = (code != 0) & (begin + 4 + length <= stop)
            rows = np.flatnonzero(whole & (code == options.OPT_COMMENT))
            value_start = begin[rows] + 4
            value_stop = value_start + length[rows]
            found += zip(frame[rows].tolist(), value_start.tolist(), value_stop.tolist(), strict=True)
            counted = np.flatnonzero(whole & (code == options.EPB_DROPCOUNT) & (length == 8))
            drops += [
                (row, octets[at : at + 8].tobytes())
                for row, at in zip(interface[counted].tolist(), (begin[counted] + 4).tolist(), strict=True)
            ]
            going = np.flatnonzero(whole & (following + 4 <= stop))
            begin, stop, frame = following[going], stop[going], frame[going]
            interface = interface[going]
        comments = [(number, at, octets[at:end].tobytes()) for number, at, end in found]
        left = zip(frame.tolist(), begin.tolist(), stop.tolist(), interface.tolist(), strict=True)
        for number, at, end, row in left:
            for code, value in options.read_options(octets[at:end].tobytes(), self._chain.byte_order):
                if code == options.OPT_COMMENT:
                    comments.append((number, end, value))
                elif code == options.EPB_DROPCOUNT and len(value) == 8:
                    drops.append((row, value))
        self._note_drops(drops)
        for number, at, value in sorted(comments, key=lambda comment: comment[:2]):
            self._facts.add_comment(number, options.text(value), offset + at)

    def _note_drops(self, drops: list[tuple[int, bytes]]) -> None:
        """Add up what packets say was lost before them; the statistics of the interface may say it as well (4.3)."""
        for row, value in drops:
            (count,) = struct.unpack(f"{self._chain.byte_order}Q", value)
            self._dropped[row] = self._dropped.get(row, 0) + count
        for row in {row for row, _ in drops}:
            one = self._facts.interfaces[row]
            self._facts.interfaces[row] = replace(one, dropped=max(one.dropped or 0, self._dropped[row]))

    def _find(self, octets: U8, begin: int, stride: int, lanes: int) -> I64:
        """Find packet blocks whose two total lengths agree: a `LaneFinder`."""
        byte_order = f"{self._chain.byte_order}u4"
        words = octets[: octets.shape[0] & ~3].view(byte_order)
        columns = WINDOW // 4
        windows = np.ndarray((lanes, columns), byte_order, octets, begin, (stride, 4))
        lane, column = np.divmod(np.flatnonzero(windows == self._usual_kind), columns)
        position = begin + lane * stride + column * 4
        size = words[(position >> 2) + 1].astype(np.int64)
        inside = (size >= 16) & (position + size <= octets.shape[0]) & (size & 3 == 0)
        lane, position, size = lane[inside], position[inside], size[inside]
        agree = np.flatnonzero(words[((position + size) >> 2) - 1] == size)
        return first_of_each(lane[agree], position[agree])


def _no_packets(start: I64) -> FrameColumns:
    """Rows for blocks that have a frame number and hold no packet."""
    zero = np.zeros(start.shape[0], np.int64)
    none = np.zeros(start.shape[0], np.int32)
    return FrameColumns(start, zero, zero, zero, none, np.full(start.shape[0], NO_LINK, np.int32))


def _no_frames() -> FrameColumns:
    numbers, rows = np.empty(0, np.int64), np.empty(0, np.int32)
    return FrameColumns(numbers, numbers, numbers, numbers, rows, rows)
