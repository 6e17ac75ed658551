"""Classic pcap files: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html, and their older variants."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.capture.records import MAX_RECORD, WINDOW, Chain, FrameColumns, Stretch, first_of_each, walk, words_at
from analyzer.schema import I64, U8, U32, Damage, Interface


@dataclass(frozen=True, slots=True)
class Variant:
    """What a magic number says about a file.

    Attributes
    ----------
    nanoseconds_per_tick : int
        Unit of the second time stamp field.
    file_header, record_header : int
        Octets.
    """

    nanoseconds_per_tick: int
    file_header: int
    record_header: int


VARIANTS: Final[dict[int, Variant]] = {
    0xA1B2C3D4: Variant(1000, 24, 16),
    0xA1B23C4D: Variant(1, 24, 16),
    # Alexey Kuznetzov's patched libpcap: interface index, protocol and packet type follow the lengths.
    0xA1B2CD34: Variant(1000, 24, 24),
    # Ixia lcap, hardware and software time stamps: a total length follows the file header (Wireshark issue 14073).
    0x1C0001AC: Variant(1, 28, 16),
    0x1C0001AB: Variant(1000, 28, 16),
}
"""By the first four octets, read in the byte order of the host that wrote the file."""

_DG_UX_MAJOR: Final = 543
"""DG/UX tcpdump writes version 543.0 and the order of lengths of version 2.2 (libpcap sf-pcap.c)."""

_PLAUSIBLE_LEN: Final = 262_144
"""Wireshark's and tcpdump's largest snap length."""

_PLAUSIBLE_SECONDS: Final = 10 * 24 * 3600
_CANDIDATES_A_LANE: Final = 64
_SEARCHED: Final = 512
"""Windows searched for the first record of a range: 384 KiB, more than the largest plausible record."""


class UnsupportedHeader(ValueError):
    """A file header whose version or link type field has no agreed meaning; the text says where and why."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset: Final = offset
        self.reason: Final = reason


def recognise(prefix: bytes) -> tuple[str, Variant] | None:
    """Return (byte order, variant) where the octets start a pcap file; `prefix` has at least 4 octets."""
    for byte_order in "<>":
        (magic,) = struct.unpack_from(f"{byte_order}I", prefix)
        if magic in VARIANTS:
            return byte_order, VARIANTS[magic]
    return None


class PcapParser:
    """Reads the records of one pcap file.

    Parameters
    ----------
    header : bytes
        The whole file header, ``variant.file_header`` octets.
    byte_order : str
        ``<`` or ``>``.
    variant : Variant

    Raises
    ------
    UnsupportedHeader
        Another major version than 2, or reserved bits set in the link type field.
    """

    def __init__(self, header: bytes, byte_order: str, variant: Variant) -> None:
        major, minor, _zone, _figures, snaplen, link_field = struct.unpack_from(f"{byte_order}HHIIII", header, 4)
        if major not in (2, _DG_UX_MAJOR):
            raise UnsupportedHeader(4, f"pcap version {major}.{minor}; the only version in use is 2.4")
        if link_field & 0x03FF0000:
            raise UnsupportedHeader(
                20, f"link type field 0x{link_field:08x} has reserved bits set, so the link type is not known"
            )
        # Up to version 2.2 the original length came first. Version 2.3 was written both ways, and the larger
        # of the two is the original length (libpcap sf-pcap.c, "lengths_swapped").
        lengths_at: tuple[int, ...] = (8,)
        if major == _DG_UX_MAJOR or minor < 3:
            lengths_at = (12,)
        elif minor == 3:
            lengths_at = (8, 12)
        self.interface: Final = Interface(link_type=link_field & 0xFFFF, snaplen=snaplen)
        self._variant: Final = variant
        self._chain: Final = Chain(byte_order, variant.record_header, lengths_at, variant.record_header, 1, 1)
        self._link_type: Final = np.int32(self.interface.link_type)

    def parse(self, octets: U8, offset: int, first_frame: int) -> Stretch:
        """See `records.RecordParser`."""
        starts, end = walk(self._chain, octets, 0, self._find)
        captured_len = np.diff(starts, append=end)
        captured_len -= self._chain.overhead
        too_long = np.flatnonzero(captured_len > MAX_RECORD)
        if too_long.shape[0]:
            end = int(starts[too_long[0]])
            starts, captured_len = starts[: too_long[0]], captured_len[: too_long[0]]
        claim = 0
        if end + self._chain.header <= octets.shape[0]:
            claim = self._length(words_at(octets, self._chain.byte_order), end)
        damage: Damage | None = None
        if claim > MAX_RECORD:
            damage = Damage(
                offset + end,
                f"the record of frame {first_frame + starts.shape[0]} claims {claim} captured octets, more than the "
                f"limit of {MAX_RECORD}: the file is corrupt from here on",
            )
        return Stretch(self._columns(octets, starts, captured_len), end, self._chain.header + claim, damage)

    @property
    def record_header(self) -> int:
        """Octets before the first captured octet of a record."""
        return self._chain.overhead

    def seconds_at(self, octets: bytes) -> int:
        """Seconds of the time stamp that a record begins with; 0 where there is none."""
        return int(words_at(np.frombuffer(octets, np.uint8), self._chain.byte_order)[0]) if len(octets) >= 4 else 0

    def find_start(self, octets: U8, seconds: int) -> int:
        """Offset of the first octets that look like a record stamped near `seconds`, and like two more; -1 = none.

        A guess: whoever uses it needs a proof.
        """
        lanes = min(_SEARCHED, (octets.shape[0] - self._chain.header - 3) // WINDOW)
        found = self._find_near(octets, 0, WINDOW, lanes, seconds) if lanes > 0 else np.empty(0, np.int64)
        return int(found[0]) if found.shape[0] else -1

    def frames(self, start: I64, captured_len: I64, wire_len: I64, time_ns: I64) -> FrameColumns:
        """Columns of frames of which these are known."""
        n = start.shape[0]
        return FrameColumns(start, captured_len, wire_len, time_ns, np.zeros(n, np.int32), np.full(n, self._link_type))

    def describe_cut(self, octets: U8, first_frame: int) -> str:
        """See `records.RecordParser`."""
        left, header = octets.shape[0], self._chain.header
        if left < header:
            return (
                f"the file is cut inside the record header of frame {first_frame}: {left} of {header} octets are left"
            )
        length = self._length(words_at(octets, self._chain.byte_order), 0)
        return f"the file is cut inside frame {first_frame}: {left - header} of {length} captured octets are left"

    def _length(self, words: U32, position: int) -> int:
        return min(int(words[position + at]) for at in self._chain.length_at)

    def _lengths(self, words: U32, starts: I64) -> I64:
        lengths = words[starts + self._chain.length_at[0]].astype(np.int64)
        for at in self._chain.length_at[1:]:
            np.minimum(lengths, words[starts + at], out=lengths)
        return lengths

    def _columns(self, octets: U8, starts: I64, captured_len: I64) -> FrameColumns:
        # One gather of whole headers costs less than one a field.
        headers = np.ndarray((max(octets.shape[0] - 15, 0),), "V16", octets, strides=(1,))[starts]
        seconds, ticks, one, other = headers.view(f"{self._chain.byte_order}u4").reshape(-1, 4).T
        time_ns = seconds.astype(np.int64)
        time_ns *= 1_000_000_000
        ticks_ns = ticks.astype(np.int64)
        ticks_ns *= self._variant.nanoseconds_per_tick
        time_ns += ticks_ns
        return FrameColumns(
            start=starts + self._chain.overhead,
            captured_len=captured_len,
            # Whichever of the two is the captured length, the larger is what the frame had on the wire.
            wire_len=np.maximum(one, other).astype(np.int64),
            time_ns=time_ns,
            interface=np.zeros(starts.shape[0], np.int32),
            link_type=np.full(starts.shape[0], self._link_type),
        )

    def _find(self, octets: U8, begin: int, stride: int, lanes: int) -> I64:
        """Find records stamped within days of the first, whose length leads to another such: a `LaneFinder`."""
        return self._find_near(octets, begin, stride, lanes, int(words_at(octets[:4], self._chain.byte_order)[0]))

    def _find_near(self, octets: U8, begin: int, stride: int, lanes: int, seconds: int) -> I64:
        """`_find`, for records stamped within days of `seconds`."""
        most_significant = 3 if self._chain.byte_order == "<" else 0
        windows = np.ndarray((lanes, WINDOW), np.uint8, octets, begin + most_significant, (stride, 1))
        hits = np.flatnonzero(windows == np.uint8(seconds >> 24))
        lane = hits // WINDOW
        position = hits + (begin + lane * (stride - WINDOW))
        # One octet agrees by chance, and often in text; a second one, that changes once in 18 hours, seldom.
        next_octet = octets.take(position + (1 if most_significant == 0 else 2))
        second = np.uint8(seconds >> 16 & 0xFF)
        agrees = np.flatnonzero(next_octet - second <= 1)
        lane, position = lane[agrees], position[agrees]
        # Where the clock stood near zero, every run of zeros is a candidate: keep the first few of each lane.
        if lane.shape[0] > lanes * _CANDIDATES_A_LANE // 8:
            few = np.arange(lane.shape[0]) - np.searchsorted(lane, lane) < _CANDIDATES_A_LANE
            lane, position = lane[few], position[few]
        lane, position, follower = self._plausible(octets, seconds, lane, position, position)
        lane, position, _ = self._plausible(octets, seconds, lane, position, follower)
        return first_of_each(lane, position)

    def _plausible(self, octets: U8, seconds: int, lane: I64, position: I64, record: I64) -> tuple[I64, I64, I64]:
        """Keep the rows at whose `record` a record may start; return where it ends in place of `record`."""
        inside = np.flatnonzero(record + self._chain.header <= octets.shape[0])
        lane, position, record = lane[inside], position[inside], record[inside]
        words = words_at(octets, self._chain.byte_order)
        late = words[record].astype(np.int64) - seconds
        mask = (late > -_PLAUSIBLE_SECONDS) & (late < _PLAUSIBLE_SECONDS)
        lane, position, record = lane[mask], position[mask], record[mask]
        length = self._lengths(words, record)
        mask = (length <= _PLAUSIBLE_LEN) & (words[record + 4] < 1_000_000_000 // self._variant.nanoseconds_per_tick)
        return lane[mask], position[mask], (record + self._chain.overhead + length)[mask]
