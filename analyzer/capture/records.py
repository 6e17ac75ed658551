"""The record walk: where does each record of a chain start?

A capture file is a chain: a record tells its length, and only from that follows where the next one starts. Walked
one by one this costs a step of the interpreter a packet. Here a stretch is split into lanes at offsets that look
like record starts, and one numpy step advances all lanes together. The guess needs no trust. The first lane starts
at a true record; a lane that ends exactly where the next one starts proves that the next one starts at a true record
as well. Where a lane does not meet the next, the guess was wrong and that stretch is walked serially until it meets
a lane again. So the result is that of the serial walk, always.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from typing import Protocol as TypingProtocol

import numpy as np

from analyzer.schema import I32, I64, U8, U32, Damage, Mask, Table

MAX_RECORD: Final = 16 << 20
"""Captured octets a record may claim. libpcap's largest limit is 128 MiB (D-Bus), Wireshark's 256 KiB otherwise."""

WINDOW: Final = 768
"""Octets searched for a lane's start. With frames of 1500 octets two of three lanes are found, which costs less than
to search farther; where frames are larger there are fewer records to walk."""

_LANE_OCTETS: Final = 8192
_MAX_LANES: Final = 512
_MIN_LANES: Final = 16
"""Below this many lanes one numpy step costs more than the serial steps it stands for."""

_STEPS: Final = 16
"""Steps between two looks at which lanes have ended."""

LaneFinder = Callable[[U8, int, int, int], I64]
"""``find(octets, begin, stride, lanes)`` looks for the start of a record in the `WINDOW` octets from each of the
offsets ``begin + stride * (0 .. lanes - 1)`` on; at least a record header's octets lie behind the last window. It
returns the first offset in each window that looks like a record, ascending, and nothing for a window without one."""


@dataclass(frozen=True, slots=True)
class Chain:
    """How a record tells where the next one starts.

    The next record starts ``max(overhead + length rounded up to align, minimum)`` octets after this one.

    Attributes
    ----------
    byte_order : str
        ``<`` or ``>``.
    header : int
        Octets that must be there before the length can be read.
    length_at : tuple of int
        Offsets in the record of the 32-bit length. Where there are two, the smaller length counts.
    overhead : int
        Octets of the record that the length does not count.
    align, minimum : int
        `minimum` is at least `header`, so that a walk always advances.
    """

    byte_order: str
    header: int
    length_at: tuple[int, ...]
    overhead: int
    align: int
    minimum: int


@dataclass(frozen=True, slots=True)
class FrameColumns(Table):
    """The per-frame columns of a `schema.CaptureChunk`, under the same names."""

    start: I64
    captured_len: I64
    wire_len: I64
    time_ns: I64
    interface: I32
    link_type: I32


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a parser made of a run of octets.

    Attributes
    ----------
    frames : FrameColumns
    consumed : int
        Octets that need not be offered again.
    needed : int
        Octets from `consumed` on without which no further record can be read.
    damage : Damage or None
        Set: reading ends here.
    """

    frames: FrameColumns
    consumed: int
    needed: int
    damage: Damage | None


class RecordParser(TypingProtocol):
    """Makes frames of the octets that follow the file header."""

    def parse(self, octets: U8, offset: int, first_frame: int) -> Stretch:
        """Read the whole records in `octets`, which starts with a record at `offset` of the input."""

    def describe_cut(self, octets: U8, first_frame: int) -> str:
        """Say what the input ends in the middle of; `octets` is what is left, at least one octet."""


def words_at(octets: U8, byte_order: str) -> U32:
    """View `octets` as the 32-bit word that starts at each offset: (B - 3,) uint32, unaligned, no copy."""
    return np.ndarray((max(octets.shape[0] - 3, 0),), f"{byte_order}u4", octets, strides=(1,))


def first_of_each(lane: I64, position: I64) -> I64:
    """Return the first position of every lane; both are ascending: what a `LaneFinder` does with its candidates."""
    first = np.ones(lane.shape[0], np.bool_)
    first[1:] = lane[1:] != lane[:-1]
    return position[first]


def walk(chain: Chain, octets: U8, begin: int, find: LaneFinder) -> tuple[I64, int]:
    """Find the start of every whole record from `begin` on.

    Parameters
    ----------
    chain : Chain
    octets : (B,) uint8
        Contiguous.
    begin : int
        Offset of a record's start.
    find : LaneFinder
        Proposes lane starts. What it proposes decides the speed, never the result.

    Returns
    -------
    positions : (N,) int64
        Starts of the records that end within `octets`, ascending.
    end : int
        Where the first record starts that does not.
    """
    starts = _lane_starts(chain, octets, begin, find)
    stop = octets.shape[0] - chain.header + 1
    if starts.shape[0] < _MIN_LANES:
        serial, end = _serial(chain, octets, begin, stop)
        positions = np.array(serial, np.int64)
    else:
        positions, end = _lockstep(chain, octets, starts, stop)
    if end > octets.shape[0]:
        return positions[:-1], int(positions[-1])
    return positions, end


def _lane_starts(chain: Chain, octets: U8, begin: int, find: LaneFinder) -> I64:
    """Return `begin` and the plausible starts after it, ascending."""
    length = octets.shape[0] - begin
    stride = max(_LANE_OCTETS, length // _MAX_LANES) & ~3
    lanes = (length - WINDOW - chain.header) // stride
    first = np.array([begin], np.int64)
    return np.append(first, find(octets, begin + stride, stride, lanes)) if lanes >= _MIN_LANES else first


def _serial(chain: Chain, octets: U8, begin: int, stop: int) -> tuple[list[int], int]:
    """Walk from `begin` while the record starts before `stop`; the last one may reach past the octets."""
    view = octets.data
    unpack = struct.Struct(f"{chain.byte_order}I").unpack_from
    first, last = chain.length_at[0], chain.length_at[-1]
    overhead, mask, minimum = chain.overhead + chain.align - 1, -chain.align, chain.minimum
    positions: list[int] = []
    position = begin
    while position < stop:
        positions.append(position)
        (length,) = unpack(view, position + first)
        if last != first:
            length = min(length, unpack(view, position + last)[0])
        position += max((length + overhead) & mask, minimum)
    return positions, position


def _lockstep(chain: Chain, octets: U8, starts: I64, stop: int) -> tuple[I64, int]:
    """Walk all lanes together, then join those that meet. Lane i runs from ``starts[i]`` to ``starts[i + 1]``."""
    stops = np.append(starts[1:], stop)
    rounds, ends = _run_lanes(chain, octets, starts, stops)
    meets = ends[:-1] == starts[1:]
    if bool(meets.all()):
        positions = np.concatenate([steps[steps < stops[lanes]] for lanes, steps in rounds])
        positions.sort()
        return positions, int(ends[-1])
    accepted, serial, end = _join(chain, octets, starts, ends, stop)
    pieces = [steps[(steps < stops[lanes]) & accepted[lanes]] for lanes, steps in rounds]
    positions = np.concatenate([*pieces, np.array(serial, np.int64)])
    positions.sort()
    return positions, end


def _run_lanes(chain: Chain, octets: U8, starts: I64, stops: I64) -> tuple[list[tuple[I64, I64]], I64]:
    """Advance every lane until it is at or past its stop.

    Returns
    -------
    rounds : list of (lanes (L,), steps (S, L)) int64
        Where the lanes stood. A lane goes on past its stop until its round ends: those steps are at or past it.
    ends : (K,) int64
        Where each lane stood first at or past its stop.
    """
    rounds: list[tuple[I64, I64]] = []
    views = _step_views(chain, octets)
    ends = np.zeros_like(starts)
    lanes = np.arange(starts.shape[0])
    position = starts.copy()
    while lanes.shape[0] >= _MIN_LANES:
        steps = np.empty((_STEPS + 1, lanes.shape[0]), np.int64)
        steps[0] = position
        try:
            _step(chain, views, steps, None)
        except IndexError:  # the last lanes, or one that follows a false length, left the octets
            _step(chain, views, steps, octets.shape[0] - chain.header)
        stop = stops[lanes]
        ended = np.flatnonzero(steps[-1] >= stop)
        ends[lanes[ended]] = steps[(steps[:, ended] < stop[ended]).sum(axis=0), ended]
        rounds.append((lanes, steps[:-1]))
        going = np.flatnonzero(steps[-1] < stop)
        lanes, position = lanes[going], steps[-1, going]
    for lane, begin in zip(lanes.tolist(), position.tolist(), strict=True):
        serial, ends[lane] = _serial(chain, octets, begin, int(stops[lane]))
        rounds.append((np.array([lane]), np.array(serial, np.int64)[:, np.newaxis]))
    return rounds, ends


def _step_views(chain: Chain, octets: U8) -> list[list[U32]]:
    """Return, for each step of a round, the words at the places of the length, by offset of the record."""
    # Where records are not padded each step reads that much farther on, which saves adding the overhead to each.
    ahead = chain.overhead if chain.align == 1 else 0
    return [[words_at(octets[at + row * ahead :], chain.byte_order) for at in chain.length_at] for row in range(_STEPS)]


def _step(chain: Chain, views: list[list[U32]], steps: I64, limit: int | None) -> None:
    """Fill the rows of `steps` (S + 1, L) from the first, each with where the records of the row before it end.

    With a limit, a lane past it reads there instead, and so stays at or past the last octet. Without one, reading past
    the octets raises IndexError; not to compare each step saves a sixth of the time.
    """
    overhead, mask = np.int64(chain.overhead + chain.align - 1), np.int64(-chain.align)
    minimum = np.int64(chain.minimum)
    plain = chain.align == 1
    for row, (lengths, *others) in enumerate(views):
        at = steps[row]
        if limit is not None:
            at = np.minimum(at, limit - row * chain.overhead if plain else limit)
        length = lengths[at]
        for other in others:
            np.minimum(length, other[at], out=length)
        advance = length.astype(np.int64)
        if not plain:
            advance += overhead
            advance &= mask
            np.maximum(advance, minimum, out=advance)
        np.add(at, advance, out=steps[row + 1])
    if plain:
        steps += np.arange(steps.shape[0])[:, np.newaxis] * chain.overhead


def _join(chain: Chain, octets: U8, starts: I64, ends: I64, stop: int) -> tuple[Mask, list[int], int]:
    """Follow the chain from lane to lane, serially where a lane ends between two starts.

    Returns
    -------
    accepted : (K,) bool
        Lanes whose steps are records.
    serial : list of int
        Records found outside of accepted lanes.
    end : int
        First record start at or past `stop`.
    """
    accepted = np.zeros(starts.shape[0], np.bool_)
    serial: list[int] = []
    position = int(starts[0])
    while position < stop:
        lane = int(np.searchsorted(starts, position))
        if lane < starts.shape[0] and int(starts[lane]) == position:
            accepted[lane] = True
            position = int(ends[lane])
        else:
            until = int(starts[lane]) if lane < starts.shape[0] else stop
            found, position = _serial(chain, octets, position, until)
            serial += found
    return accepted, serial, position
