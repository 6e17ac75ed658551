"""One direction of a cleartext HTTP/2 connection of any length, from frame to frame (RFC 9113 4.1), segment by segment.

Octets of other frames than header blocks are passed by and never kept. What is missing inside them costs nothing: the
frame header said how many there are. Any other gap ends the walk, and with it what is known of the dynamic table; it
is taken up where a segment begins a chain of frames that goes on over the segments that follow.
"""

from __future__ import annotations

from bisect import insort
from typing import Final, NamedTuple

from analyzer.flows import sequence_difference
from analyzer.protocols.header_blocks import MAX_HEADER_LIST, BlockReader, HeaderBlock
from analyzer.protocols.http2_frames import (
    CONTINUATION,
    END_HEADERS,
    FRAME_HEADER,
    HEADERS,
    PREFACE,
    PUSH_PROMISE,
    Frame,
    fragment_of,
    header_at,
    is_frame,
)

HELD: Final = 32
"""Segments kept that came before the one expected; with one more, that one is taken for lost."""
HELD_OCTETS: Final = 256 * 1024
"""Octets of them; a window that is not scaled is smaller."""
ASIDE: Final = 64
"""Blocks kept of a stretch that is not yet known to be one of frames."""
CONFIRMED: Final = 3
"""Frame headers, over more than one segment, that make a chain of what was joined in its middle."""
_PAYLOAD: Final = MAX_HEADER_LIST + 512
"""Octets kept of a frame: with more, padding and priority aside, its block is longer than any that is decoded."""
_RESERVED: Final = 1 << 31
"""The bit before a stream identifier (RFC 9113 4.1)."""
_TELLING: Final = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION})
# Flags that RFC 9113 6 defines, by frame type: a chain that is looked for has no others.
_FLAGS: Final = (0x09, 0x2D, 0, 0, 0x01, 0x0C, 0x01, 0, 0, 0x04)


class WalkedBlock(NamedTuple):
    """A decoded header block: the frame that carried its first octet, and the sequence number of its last."""

    frame: int
    last: int
    said: HeaderBlock


class Segment(NamedTuple):
    """Captured octets of a segment, and how many it had on the wire."""

    seq: int
    length: int
    frame: int
    octets: bytes


class Standing(NamedTuple):
    """Where a walk stands that keeps nothing back: between frames, or inside one that is passed by.

    ``expects`` is the sequence number of the next octet, -1 where none came yet; ``left`` how many of the frame under
    way are still to come; ``on`` whether frames are walked, and ``sure`` whether they are known to be frames;
    ``headers`` and ``segments`` how many were met of them so far.
    """

    expects: int = -1
    left: int = 0
    on: bool = False
    sure: bool = False
    headers: int = 0
    segments: int = 0


class FrameWalk:
    """Walk the frames of one direction; `add` takes its segments in the order of the capture.

    Parameters
    ----------
    standing : Standing, optional
        Where to go on from.
    reader : BlockReader, optional
        What has read the blocks so far.
    """

    __slots__ = (
        *("_aside", "_block", "_expects", "_first", "_flags", "_header", "_headers", "_held", "_held_octets", "_kept"),
        *("_kind", "_left", "_on", "_opening", "_payload", "_reader", "_segments", "_stream_id", "_sure"),
    )

    def __init__(self, standing: Standing | None = None, reader: BlockReader | None = None) -> None:
        self._expects = -1  # sequence number of the next octet; -1: none yet
        self._held: list[Segment] = []
        self._held_octets = 0
        self._reader: BlockReader
        self._lost()
        if standing is not None:
            self._expects, self._left, self._on, self._sure, self._headers, self._segments = standing
            self._reader = reader or self._reader

    def add(self, segment: Segment) -> list[WalkedBlock]:
        """Header blocks that end in `segment`, or in what waited for it."""
        if self._expects < 0:
            self._expects = segment.seq
        if segment.seq == self._expects and not self._held:
            return self._take(segment)
        # Counted on from the first octet, so that places compare although sequence numbers go round.
        ahead = sequence_difference(segment.seq - self._expects)
        if segment.seq != self._expects + ahead:
            segment = segment._replace(seq=self._expects + ahead)
        if ahead > 0 and not self._is_passed_by(ahead):
            insort(self._held, segment, key=_place)  # behind its like: the first copy comes first
            self._held_octets += len(segment.octets)
            return self._past_gap() if len(self._held) > HELD or self._held_octets > HELD_OCTETS else []
        blocks = self._take(segment)
        return blocks + self._take_held() if self._held else blocks

    @property
    def waits(self) -> bool:
        """Whether `finish` might have something to say."""
        return bool(self._held or self._aside)

    @property
    def standing(self) -> Standing | None:
        """Where it stands, for another walk to go on from; None where it keeps something back."""
        if self._held or self._aside or self._header or self._kept or self._opening is not None:
            return None
        return Standing(self._expects, self._left, self._on, self._sure, self._headers, self._segments)

    @property
    def reader(self) -> BlockReader:
        """What has read the blocks so far."""
        return self._reader

    def finish(self) -> list[WalkedBlock]:
        """What can be said once no more segments come."""
        blocks: list[WalkedBlock] = []
        while self._held:
            blocks += self._past_gap()
        return blocks + self._released(at_end=True)

    # ---------------------------------------------------------------------------------- order of the segments

    def _take_held(self) -> list[WalkedBlock]:
        """Take what of the segments held now has its turn, first copies first."""
        blocks: list[WalkedBlock] = []
        while self._held:
            ahead = self._held[0].seq - self._expects
            if ahead > 0 and not self._is_passed_by(ahead):
                break
            segment = self._held.pop(0)
            self._held_octets -= len(segment.octets)
            blocks += self._take(segment)
        return blocks

    def _past_gap(self) -> list[WalkedBlock]:
        """Give up what is missing before the first of the segments held."""
        blocks = self._released(at_end=True)
        self._lost()
        self._expects = self._held[0].seq
        return blocks + self._take_held()

    def _is_passed_by(self, count: int) -> bool:
        """Whether the next `count` octets belong to a frame that is passed by."""
        return self._on and not self._kept and self._left >= count

    def _take(self, segment: Segment) -> list[WalkedBlock]:
        behind = self._expects - segment.seq
        if behind >= segment.length:
            return []
        if behind < 0:  # inside a frame that is passed by
            self._left += behind
            behind = 0
        self._expects = segment.seq + segment.length
        octets = segment.octets[behind:]
        missing = segment.length - max(len(segment.octets), behind)
        blocks: list[WalkedBlock] = []
        was_sure = self._sure
        if self._on and not self._walk(octets, segment, behind, blocks):
            # Where it was no chain of frames, what was kept aside of it is nobody's.
            if was_sure:
                blocks += self._released()
            self._lost()
        if not self._on and not behind and not was_sure:
            self._join(octets, segment, blocks)
        if missing:
            if self._is_passed_by(missing):
                self._left -= missing
            else:
                blocks += self._released(at_end=True)
                self._lost()
        return blocks

    # ---------------------------------------------------------------------------------- joining and leaving

    def _lost(self) -> None:
        self._on = self._sure = False
        self._kept = False
        self._left = 0  # octets of the frame under way that are still to come
        self._header = b""
        self._payload = bytearray()
        self._first = self._kind = self._flags = self._stream_id = 0  # the frame under way, and its first frame
        self._opening: Frame | None = None
        self._block = bytearray()
        # Of a connection seen from its beginning the table is empty: what stands for entries is never asked for.
        self._reader = BlockReader(joined=True)
        self._headers = self._segments = 0
        self._aside: list[WalkedBlock] = []

    def _join(self, octets: bytes, segment: Segment, blocks: list[WalkedBlock]) -> None:
        """Begin to walk at the segment, where frames may begin with it."""
        preface = octets.startswith(PREFACE)
        if not preface and not _may_begin(octets):
            return
        self._on, self._sure = True, preface
        self._left = len(PREFACE) if preface else 0
        if not self._walk(octets, segment, 0, blocks):
            self._lost()

    def _released(self, *, at_end: bool = False) -> list[WalkedBlock]:
        """What was kept aside, where this turned out to be a walk of frames; at the end, where it came out even."""
        even = not self._left and not self._header
        chain = self._headers >= CONFIRMED and self._segments > 1
        if self._on and (chain or (at_end and even and self._headers > 1)):
            self._sure = True
        if not self._sure:
            return []
        aside, self._aside = self._aside, []
        return aside

    # ---------------------------------------------------------------------------------- frames

    def _walk(self, octets: bytes, segment: Segment, behind: int, blocks: list[WalkedBlock]) -> bool:
        """Walk through `octets`; whether they are frames all the way."""
        at, size = 0, len(octets)
        self._segments += 1
        while at < size:
            if not self._left:
                if self._sure and self._opening is None and not self._header:
                    at = self._pass_by(octets, at, size)
                    if at >= size:
                        break
                if self._header or size - at < FRAME_HEADER:
                    self._first = self._first if self._header else segment.frame
                    part = octets[at : at + FRAME_HEADER - len(self._header)]
                    self._header += part
                    at += len(part)
                    if len(self._header) < FRAME_HEADER:
                        break
                    header, self._header = header_at(self._header, 0), b""
                else:
                    self._first = segment.frame
                    header = header_at(octets, at)
                    at += FRAME_HEADER
                if not self._begin_frame(header):
                    return False
            step = min(self._left, size - at)
            if self._kept and len(self._payload) <= _PAYLOAD:
                self._payload += octets[at : at + step]
            at += step
            self._left -= step
            if self._kept and not self._left and not self._end_frame(segment.seq + behind + at - 1):
                return False
        if self._aside or not self._sure:
            blocks += self._released()
        return True

    def _pass_by(self, octets: bytes, at: int, size: int) -> int:
        """Where, from the frame at `at` on, one begins that needs a closer look; past `size`: none, and it is left."""
        headers = 0
        while at + FRAME_HEADER <= size:
            word = int.from_bytes(octets[at : at + FRAME_HEADER], "big")
            kind, stream_id = word >> 40 & 0xFF, word & 0xFFFFFFFF
            if kind:
                if kind in _TELLING or not is_frame((word >> 48, kind, 0, stream_id), strict=False):
                    break
            elif not 0 < stream_id < _RESERVED:  # DATA, the most frequent of all: what `is_frame` says of it
                break
            headers += 1
            at += FRAME_HEADER + (word >> 48)
        self._headers += headers
        if at > size:
            self._left = at - size
        return at

    def _begin_frame(self, header: tuple[int, ...]) -> bool:
        """Take up the frame that has this header; False where it can be none."""
        length, kind, flags, stream_id = header
        if not is_frame(header, strict=not self._sure) or not (self._sure or not flags & ~known_flags(kind)):
            return False
        # RFC 9113 6.10: nothing comes between HEADERS and its CONTINUATION frames.
        if self._opening is not None:
            if kind != CONTINUATION or stream_id != self._opening.stream_id:
                return False
        elif kind == CONTINUATION and (self._sure or self._headers):
            return False
        self._headers += 1
        self._left = length
        # A CONTINUATION without its HEADERS is of a block that began before the walk did: what it adds to the table is
        # as unknown as all before it.
        self._kept = kind in (HEADERS, PUSH_PROMISE) or (kind == CONTINUATION and self._opening is not None)
        if self._kept:
            self._kind, self._flags, self._stream_id = kind, flags, stream_id
            self._payload.clear()
        return True

    def _end_frame(self, last: int) -> bool:
        """Take a complete frame of a header block; False where it breaks the framing."""
        self._kept = False
        frame = Frame(self._first, self._kind, self._flags, self._stream_id, bytes(self._payload))
        if frame.kind == CONTINUATION:
            fragment: bytes | None = frame.payload
        else:
            fragment = fragment_of(frame)
            self._opening = frame._replace(payload=b"")
            self._block.clear()
        if fragment is None:
            return False
        if len(self._block) <= MAX_HEADER_LIST:
            self._block += fragment
        if frame.flags & END_HEADERS:
            opening, self._opening = self._opening, None
            assert opening is not None
            return self._end_block(opening, last & 0xFFFFFFFF)
        return True

    def _end_block(self, opening: Frame, last: int) -> bool:
        said = self._reader.decode(bytes(self._block)) if len(self._block) <= MAX_HEADER_LIST else None
        if said is None:
            # What it added to the table is unknown: from here on as if joined here.
            self._reader = BlockReader(joined=True)
            return self._sure
        if opening.kind == HEADERS and (self._sure or len(self._aside) < ASIDE):
            self._aside.append(WalkedBlock(opening.position, last, said))
        return True


def _place(segment: Segment) -> int:
    return segment.seq


def known_flags(kind: int) -> int:
    """Flags that a frame of this type may have where a chain of frames is looked for."""
    return _FLAGS[kind] if kind < len(_FLAGS) else 0


def _may_begin(octets: bytes) -> bool:
    """Whether a frame may begin with `octets`: none is looked for in less than a frame header."""
    header = header_at(octets, 0)
    return bool(header) and is_frame(header, strict=True) and not header[2] & ~known_flags(header[1])
