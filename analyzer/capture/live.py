"""Live capture: packets of network interfaces as the same chunks that files give.

On Linux the kernel writes into rings of memory that this process reads, see `ring` and `tpacket`. A thread takes blocks
out of the rings as they are handed over and gives them back at once, so that what is done with the packets may take its
time now and then; it copies blocks and looks at no packet. Where there is no ring, scapy's sniffing sockets stand in,
see `sniffed`. What is handed out is what ``tcpdump -w`` writes: the same frames, with the same lengths and link types.
"""

from __future__ import annotations

import errno
import os
import platform
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from analyzer.capture import bpf, tpacket
from analyzer.capture.capabilities import NET_RAW, raised
from analyzer.capture.feed import Feed, InterfaceFeed, InterfaceStatistics, LiveStatistics, age_ns, total
from analyzer.capture.handover import HandOver
from analyzer.capture.ring import ANY, ETHERNET, RETIRE_MS, Device, Ring, RingUnavailable, open_device, open_socket
from analyzer.errors import InterfaceError
from analyzer.schema import I64, U8, CaptureChunk, Damage, Interface

MAX_SNAPLEN: Final = 262144
"""tcpdump's default: longer than any packet."""

_PACE_S: Final = 0.05
"""Least seconds between chunks while the rings are far from full: a small chunk costs as much as a large one."""
_CHUNK_OCTETS: Final = 8 << 20
"""Octets of a chunk at most."""
_ROOM: Final = 256 << 20
"""Octets that wait to be polled at most; then the rings fill, and what they cannot hold is dropped and counted."""
_DRAIN_S: Final = 4 * RETIRE_MS / 1000
_STEP_S: Final = 0.01
_PERIOD_S: Final = 0.2
_GRACE_S: Final = 0.5
"""Seconds that a device which goes down has to disappear in: then that is what is said."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What to capture.

    Attributes
    ----------
    interfaces : tuple of str
        Names; ``any`` alone = all there are and will be.
    bpf : str or None
        Filter, pcap-filter(7).
    snaplen : int
        Octets kept of each frame.
    promiscuous : bool
        Take in what is for others, too, as tcpdump and Wireshark do; not possible for ``any``.
    buffer_octets : int
        Of each interface.
    """

    interfaces: tuple[str, ...]
    bpf: str | None = None
    snaplen: int = MAX_SNAPLEN
    promiscuous: bool = True
    buffer_octets: int = 64 << 20


def open_live(options: LiveOptions) -> Feed:
    """Begin to capture.

    Raises
    ------
    InterfaceError
        An interface does not exist, is down, or may not be captured on.
    FilterError
        libpcap does not accept the filter.
    """
    names = tuple(dict.fromkeys(options.interfaces))
    if ANY in names and len(names) > 1:
        raise InterfaceError(ANY, "stands for all interfaces; name it alone")
    options = replace(options, interfaces=names)
    with raised(NET_RAW):
        return _opened(options)


def _opened(options: LiveOptions) -> Feed:
    try:
        return _RingFeed(options)
    except RingUnavailable as reason:
        from analyzer.capture.sniffed import SniffedFeed

        told = (options.bpf, options.snaplen, options.promiscuous, options.buffer_octets)
        return SniffedFeed(options.interfaces, *told, str(reason))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Blocks of some rings, side by side: which ring, and where in `octets` its blocks are."""

    octets: U8
    blocks: list[tuple[int, I64]]


class _RingFeed(InterfaceFeed):
    """A `Feed` over the rings of some interfaces. The chunks it hands out are copies and stay valid."""

    how = "AF_PACKET ring"

    def __init__(self, options: LiveOptions) -> None:
        if not hasattr(socket, "AF_PACKET"):
            raise RingUnavailable(f"{platform.system()} has no packet sockets")
        super().__init__(options.interfaces)
        self._snaplen: Final = options.snaplen
        self._rings: list[Ring] = []
        # What the thread has taken, and since when it need not take more.
        self._waiting: Final[HandOver[_Piece]] = HandOver(lambda piece: piece.octets.nbytes, _ROOM)
        self._stopped_s: float | None = None
        self._thread: threading.Thread | None = None
        # The thread's own.
        self._taken = 0  # packets
        self._taken_s = 0.0
        self._down_since: dict[int, float] = {}
        self._leaving: dict[int, tuple[float, str]] = {}  # interfaces that are gone: since when, and why
        self._lost: set[int] = set()
        try:
            self._open(options)
        except BaseException:
            self._close_rings()
            raise

    @property
    def ended(self) -> bool:
        """See `Feed`."""
        return self._waiting.ended

    def poll(self, timeout_s: float) -> CaptureChunk | None:
        """See `Feed`."""
        if self._thread is None and not self._waiting.closed:
            # Not before: whoever opens this gives up rights that each thread has for itself.
            self._thread = threading.Thread(
                target=self._waiting.fill, args=(self._pieces(),), name="emptying rings", daemon=True
            )
            self._thread.start()
        piece = self._waiting.take(timeout_s)
        return self._chunk(piece) if piece is not None else None

    def statistics(self) -> LiveStatistics:
        """See `Feed`."""
        told = []
        for row, ring in enumerate(self._rings):
            ring.count()
            told.append(InterfaceStatistics(ring.device.name, ring.received, ring.dropped, ring.freezes))
            self.interfaces[row] = replace(self.interfaces[row], received=ring.received, dropped=ring.dropped)
        return total(tuple(told), self._lag_ns)

    def stop(self) -> None:
        """See `Feed`."""
        if self._stopped_s is None:
            for ring in self._rings:
                ring.refuse()
            self._stopped_s = time.monotonic()

    def close(self) -> None:
        """See `Feed`."""
        self.statistics()
        self._waiting.close()
        if self._thread is not None:
            self._thread.join()
        self._close_rings()

    def _open(self, options: LiveOptions) -> None:
        """Open every ring before the first packet is let in, so that one that fails leaves nothing half done."""
        with open_socket(self.name, socket.SOCK_RAW) as probe:
            devices = [open_device(name, probe) for name in options.interfaces]
        for device in devices:
            self._rings.append(Ring(device, self._program(device, options), options.buffer_octets))
            self.interfaces.append(
                Interface(
                    link_type=device.link_type,
                    snaplen=options.snaplen,
                    name=device.name,
                    filter=options.bpf or "",
                    system=f"{platform.system()} {platform.release()}",
                )
            )
        self._poller = select.poll()
        for ring in self._rings:
            ring.start(promiscuous=options.promiscuous)
            self._poller.register(ring.fileno(), select.POLLIN)

    def _chunk(self, piece: _Piece) -> CaptureChunk:
        """Read the packets of some blocks."""
        parts, rows = [], []
        for number, blocks in piece.blocks:
            part = tpacket.read_packets(piece.octets, tpacket.find_packets(piece.octets, blocks))
            parts.append(_as_handed_out(piece.octets, self._rings[number].device, part))
            rows.append(np.full(len(part), number, np.int32))
        packets, row = tpacket.Packets.concatenate(parts), np.concatenate(rows)
        if len(parts) > 1:
            order = np.argsort(packets.time_ns, kind="stable")
            packets, row = packets.take(order), row[order]
        link_types = np.array([interface.link_type for interface in self.interfaces], np.int32)
        chunk = CaptureChunk(
            octets=piece.octets,
            start=packets.start,
            captured_len=np.minimum(packets.captured_len, self._snaplen),
            wire_len=packets.wire_len,
            time_ns=packets.time_ns,
            interface=row,
            link_type=link_types[row],
            first_frame=self._frames + 1,
        )
        self._frames += len(chunk)
        self.octets_read += int(chunk.captured_len.sum())
        self._lag_ns = age_ns(chunk)
        return chunk

    # ------------------------------------------------------------------------------------------- the thread

    def _pieces(self) -> Iterator[_Piece]:
        """Take what the rings have until nothing more can come."""
        while not self._waiting.closed and not self._is_drained():
            ready = [ring.ready() for ring in self._rings]
            if not any(ready):
                self._wait()
            elif (pause := self._pause(ready)) > 0:
                time.sleep(pause)
            else:
                yield self._piece(ready)
            self._look_again()

    def _piece(self, ready: list[int]) -> _Piece:
        """Take the oldest blocks out of the rings."""
        share = _CHUNK_OCTETS // len(self._rings)
        oldest = [(row, self._rings[row].oldest(count, share)) for row, count in enumerate(ready) if count]
        octets: U8 = np.empty(sum(int(one.length.sum()) for _, one in oldest), np.uint8)
        blocks, at = [], 0
        for row, one in oldest:
            blocks.append((row, self._rings[row].move(one, octets, at)))
            at += int(one.length.sum())
            self._taken += one.packets
        self._taken_s = time.monotonic()
        return _Piece(octets, blocks)

    def _pause(self, ready: list[int]) -> float:
        """Seconds in which more should come together before it is handed on."""
        if self._stopped_s is not None or any(
            ring.is_filling(count) for ring, count in zip(self._rings, ready, strict=True)
        ):
            return 0.0
        return self._taken_s + _PACE_S - time.monotonic()

    def _is_drained(self) -> bool:
        """Whether nothing more can come."""
        if self._stopped_s is None and len(self._lost) < len(self._rings):
            return False
        return all(row in self._lost or self._is_empty(row, self._stopped_s) for row in range(len(self._rings)))

    def _is_empty(self, row: int, since_s: float | None) -> bool:
        """Whether a ring that gets nothing more since then has handed over all that it had."""
        ring = self._rings[row]
        late = since_s is not None and time.monotonic() > since_s + _DRAIN_S
        waiting = ring.waiting()  # asked first: a block that is handed over in between is ready then
        return not ring.ready() and (late or not waiting)

    def _wait(self) -> None:
        """Wait for a block, or for news of an interface."""
        quick = self._stopped_s is not None or self._leaving
        for descriptor, event in self._poller.poll(1000 * (_STEP_S if quick else _PERIOD_S)):
            if event & ~select.POLLIN:
                self._look_at(next(row for row, ring in enumerate(self._rings) if ring.fileno() == descriptor))

    def _look_at(self, row: int) -> None:
        """An interface reports an error: most often it goes away, and first it goes down."""
        error = self._rings[row].problem()
        if error == errno.ENETDOWN:
            if self._down_since.get(row, -1.0) < 0:
                self._down_since[row] = time.monotonic()
        elif error:
            self._leave(row, os.strerror(error))

    def _look_again(self) -> None:
        """See whether an interface that went down is gone, and whether one that is gone has handed over all."""
        now = time.monotonic()
        for row, since_s in list(self._down_since.items()):
            if not self._rings[row].is_there():
                self._leave(row, "disappeared")
            elif now > since_s + _GRACE_S and since_s >= 0:
                self._down_since[row] = -1.0  # said, and still looked at: it may disappear yet
                self._note(row, "went down; it is captured on again as soon as it is up")
        for row, (since_s, _) in list(self._leaving.items()):
            if self._is_empty(row, since_s):
                self._part(row)

    def _leave(self, row: int, reason: str) -> None:
        self._poller.unregister(self._rings[row].fileno())
        self._down_since.pop(row, None)
        self._leaving[row] = (time.monotonic(), reason)

    def _part(self, row: int) -> None:
        """An interface is gone, and has handed over all."""
        _, reason = self._leaving.pop(row)
        self._lost.add(row)
        self._note(row, f"{reason}; what was captured until then is kept")

    def _note(self, row: int, what: str) -> None:
        device = self._rings[row].device
        self.damage.append(Damage(self.octets_read, f"interface {device.name} {what}, after frame {self._taken}"))

    def _close_rings(self) -> None:
        for ring in self._rings:
            ring.close()

    def _program(self, device: Device, options: LiveOptions) -> bpf.Program:
        program = bpf.compile_filter(options.bpf or "", device.name, device.link_type, options.snaplen)
        loopback = next((index for index, name in socket.if_nameindex() if name == "lo"), None)
        if loopback is None or device.index not in (0, loopback):
            return program
        return bpf.without_loopback_copies(program, loopback)


def _as_handed_out(octets: U8, device: Device, packets: tpacket.Packets) -> tpacket.Packets:
    """Put back what the kernel keeps beside the packet."""
    if device.cooked:
        second = device.link_type == bpf.LINKTYPE_SLL2
        return tpacket.with_cooked_header(octets, packets, second_version=second)
    return tpacket.with_tags(octets, packets) if device.link_type == ETHERNET else packets
