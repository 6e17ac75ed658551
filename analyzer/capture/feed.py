"""Frames that come while one waits: what live capture, standard input and PCAP-over-IP have in common.

A `schema.CaptureReader` blocks until it has a chunk. A program that also draws a screen, answers signals and serves
metrics must not: it polls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final
from typing import Protocol as TypingProtocol

from analyzer.capture.handover import HandOver
from analyzer.schema import CaptureChunk, CaptureReader, Damage, Interface

_ROOM: Final = 64 << 20
"""Octets of chunks that wait to be polled: beyond that the reader waits, and with it whoever writes to us."""
_PATIENCE_S: Final = 1.0
"""Seconds to wait at the end for a thread that hangs in a read."""


@dataclass(frozen=True, slots=True)
class InterfaceStatistics:
    """What the system says about one interface of a feed, since it was opened.

    Attributes
    ----------
    name : str
    received : int or None
        Frames that passed the filter, those dropped included; None where the system does not tell.
    dropped : int or None
        Frames of these that were lost because the buffer was full; None where the system does not tell.
    freezes : int
        Times the buffer was found full (``tp_freeze_q_cnt``).
    """

    name: str
    received: int | None
    dropped: int | None
    freezes: int = 0


@dataclass(frozen=True, slots=True)
class LiveStatistics:
    """What a feed knows about itself. ``received`` = frames handed out + ``dropped`` + those still waiting.

    Attributes
    ----------
    received, dropped
        Of all interfaces: see `InterfaceStatistics`.
    interfaces : tuple of InterfaceStatistics
    lag_ns : int
        Age that the newest frame of the last chunk had when it was handed out; 0 before there was one.
    """

    received: int | None
    dropped: int | None
    interfaces: tuple[InterfaceStatistics, ...]
    lag_ns: int


class Feed(TypingProtocol):
    """A source of chunks that is polled. Its attributes hold what is known so far; see `schema.CaptureReader`."""

    name: str
    format: str
    interfaces: list[Interface]
    damage: list[Damage]
    secrets: list[bytes]
    names: list[tuple[str, str]]
    comments: list[tuple[int, str]]
    how: str  #: what feeds it, for people: ``AF_PACKET ring``, ``scapy socket``, ``standard input``

    @property
    def octets_read(self) -> int:
        """Octets read so far: of the input before decompression, or captured."""

    @property
    def ended(self) -> bool:
        """Nothing more will come; the last entry of `damage` says why, if it should not have ended."""

    def poll(self, timeout_s: float) -> CaptureChunk | None:
        """Return frames that are ready, or None when none came in time. The chunk is valid until the next call."""

    def statistics(self) -> LiveStatistics:
        """Ask the system for its counters."""

    def stop(self) -> None:
        """Take in nothing new; what was captured is still handed out by `poll`, and then the feed has `ended`."""

    def close(self) -> None:
        """Release what was opened; the last chunk stays valid."""


class InterfaceFeed:
    """What a `Feed` of network interfaces knows of itself at first; what only captures hold stays empty."""

    format = "live"

    def __init__(self, names: tuple[str, ...]) -> None:
        self.name = "+".join(names)
        self.interfaces: list[Interface] = []
        self.damage: list[Damage] = []
        self.secrets: list[bytes] = []
        self.names: list[tuple[str, str]] = []
        self.comments: list[tuple[int, str]] = []
        self.octets_read = 0
        self._frames = 0  # handed out
        self._lag_ns = 0


def total(interfaces: tuple[InterfaceStatistics, ...], lag_ns: int) -> LiveStatistics:
    """Add up interfaces; what one of them cannot tell is not known of all."""
    return LiveStatistics(
        received=_sum([one.received for one in interfaces]),
        dropped=_sum([one.dropped for one in interfaces]),
        interfaces=interfaces,
        lag_ns=lag_ns,
    )


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def feed_of(reader: CaptureReader) -> Feed:
    """Read `reader` in a thread, so that it can be polled; nothing else may read it from then on."""
    return _ReaderFeed(reader)


class _ReaderFeed:
    """A `Feed` over a reader. The chunks it hands out are copies and stay valid."""

    def __init__(self, reader: CaptureReader) -> None:
        self.name = reader.name
        self.format = reader.format
        self.interfaces = reader.interfaces
        self.damage = reader.damage
        self.secrets = reader.secrets
        self.names = reader.names
        self.comments = reader.comments
        self.how = "standard input" if reader.name == "-" else reader.name
        self._reader: Final = reader
        self._waiting: Final[HandOver[CaptureChunk]] = HandOver(lambda chunk: chunk.octets.nbytes, _ROOM)
        self._frames = 0
        self._lag_ns = 0
        self._thread: Final = threading.Thread(
            target=self._waiting.fill, args=(self._copies(),), name="reading a feed", daemon=True
        )
        self._thread.start()

    @property
    def octets_read(self) -> int:
        """See `Feed`."""
        return self._reader.octets_read

    @property
    def ended(self) -> bool:
        """See `Feed`."""
        return self._waiting.ended

    def poll(self, timeout_s: float) -> CaptureChunk | None:
        """See `Feed`."""
        chunk = self._waiting.take(timeout_s)
        if chunk is None:
            return None
        self._frames += len(chunk)
        self._lag_ns = age_ns(chunk)
        return chunk

    def statistics(self) -> LiveStatistics:
        """See `Feed`. What was lost is what the capture itself says of it (pcapng statistics), often nothing."""
        told = tuple(
            InterfaceStatistics(one.name, one.received, one.dropped)
            for one in self.interfaces
            if one.received is not None or one.dropped is not None
        )
        drops = [one.dropped for one in told if one.dropped is not None]
        dropped = sum(drops) if drops else None
        received = self._frames + dropped if dropped is not None else None
        return LiveStatistics(received, dropped, told, self._lag_ns)

    def stop(self) -> None:
        """See `Feed`. The program that writes to us, which is interrupted with us, has a second to end in."""
        self._waiting.end_within(_PATIENCE_S)

    def close(self) -> None:
        """See `Feed`. A thread that still waits in a read ends with the process."""
        self._waiting.close()
        self._thread.join(_PATIENCE_S)
        close: Callable[[], None] | None = getattr(self._reader, "close", None)
        # A generator cannot be closed while the thread is inside it.
        if close is not None and not self._thread.is_alive():
            close()

    def _copies(self) -> Iterator[CaptureChunk]:
        """The reader's chunks (in the thread); each is valid until it reads the next one."""
        for chunk in self._reader:
            yield copy_of(chunk)


def age_ns(chunk: CaptureChunk) -> int:
    """Age of the newest frame; 0 where its time is not known or to come."""
    newest = int(chunk.time_ns.max()) if len(chunk) else 0
    return max(time.time_ns() - newest, 0) if newest else 0


def copy_of(chunk: CaptureChunk) -> CaptureChunk:
    """Copy a chunk, so that it outlives the next one."""
    return replace(
        chunk,
        octets=chunk.octets.copy(),
        start=chunk.start.copy(),
        captured_len=chunk.captured_len.copy(),
        wire_len=chunk.wire_len.copy(),
        time_ns=chunk.time_ns.copy(),
        interface=chunk.interface.copy(),
        link_type=chunk.link_type.copy(),
    )
