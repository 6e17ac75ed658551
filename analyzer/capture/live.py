"""Live capture: packets of network interfaces as the same chunks that files give.

On Linux the kernel writes into a ring of memory that this process reads, see `ring` and `tpacket`; a chunk is columns
over the ring itself, and its blocks go back to the kernel when the next chunk is asked for. Where there is no ring,
scapy's sniffing sockets stand in, see `sniffed`. What is handed out is what ``tcpdump -w`` writes: the same frames,
with the same lengths and link types.
"""

from __future__ import annotations

import errno
import os
import platform
import select
import socket
import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from analyzer.capture import bpf, tpacket
from analyzer.capture.capabilities import NET_RAW, raised
from analyzer.capture.feed import Feed, InterfaceStatistics, LiveStatistics, age_ns, total
from analyzer.capture.mapping import map_together
from analyzer.capture.ring import ANY, ETHERNET, RETIRE_MS, Device, Ring, RingUnavailable, open_device, open_socket
from analyzer.errors import InterfaceError
from analyzer.schema import I64, CaptureChunk, Damage, Interface

MAX_SNAPLEN: Final = 262144
"""tcpdump's default: longer than any packet."""

_PACE_S: Final = 0.05
"""Least seconds between chunks while the rings are far from full: a small chunk costs as much as a large one."""
_CHUNK_OCTETS: Final = 8 << 20
"""Octets of a chunk at most: what is worked on should not fill the ring that is to buffer meanwhile."""
_DRAIN_S: Final = 4 * RETIRE_MS / 1000
_STEP_S: Final = 0.01
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

        return SniffedFeed(options.interfaces, options.bpf, options.snaplen, options.promiscuous, str(reason))


class _RingFeed:
    """A `Feed` over the rings of some interfaces."""

    format = "live"
    how = "AF_PACKET ring"

    def __init__(self, options: LiveOptions) -> None:
        if not hasattr(socket, "AF_PACKET"):
            raise RingUnavailable(f"{platform.system()} has no packet sockets")
        self.name = "+".join(options.interfaces)
        self.interfaces: list[Interface] = []
        self.damage: list[Damage] = []
        self.secrets: list[bytes] = []
        self.names: list[tuple[str, str]] = []
        self.comments: list[tuple[int, str]] = []
        self.octets_read = 0
        self._snaplen: Final = options.snaplen
        self._rings: list[Ring] = []
        self._lent: list[int] = []  # blocks of each ring that the last chunk lies in
        self._down_since: dict[int, float] = {}
        self._went_down: set[int] = set()
        self._lost: set[int] = set()
        self._frames = 0
        self._lag_ns = 0
        self._handed_out_s = 0.0
        self._stopped_s: float | None = None
        self._drained = False
        try:
            self._open(options)
        except BaseException:
            self._close_rings()
            raise

    @property
    def ended(self) -> bool:
        """See `Feed`."""
        return self._drained

    def poll(self, timeout_s: float) -> CaptureChunk | None:
        """See `Feed`."""
        self._hand_back()
        deadline = time.monotonic() + max(timeout_s, 0.0)
        while not self._drained:
            blocks = [ring.ready() for ring in self._rings]
            now = time.monotonic()
            if any(found.shape[0] for found in blocks):
                pause = min(self._handed_out_s + _PACE_S, deadline) - now
                if pause <= 0 or self._stopped_s is not None or self._is_filling(blocks):
                    if (chunk := self._take(blocks)) is not None:
                        return chunk
                    self._hand_back()
                else:
                    time.sleep(pause)
                continue
            if self._is_drained(now):
                self._drained = True
            elif now >= deadline:
                break
            else:
                self._wait(deadline - now)
        return None

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
            self._stopped_s = time.monotonic()
            for ring in self._rings:
                ring.refuse()

    def close(self) -> None:
        """See `Feed`."""
        self.statistics()
        self._drained = True
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
        self._lent = [0] * len(devices)
        try:
            self._octets = map_together([(ring.fileno(), ring.size) for ring in self._rings])
        except OSError as error:
            raise RingUnavailable(error.strerror) from None
        base = 0
        for ring in self._rings:
            ring.start(self._octets, base, promiscuous=options.promiscuous)
            base += ring.size
        self._poller = select.poll()
        for ring in self._rings:
            self._poller.register(ring.fileno(), select.POLLIN)

    def _take(self, blocks: list[I64]) -> CaptureChunk | None:
        """Make a chunk of the oldest of the blocks that are ready."""
        share = _CHUNK_OCTETS // len(self._rings)
        parts, rows = [], []
        for number, found in enumerate(blocks):
            if not found.shape[0]:
                continue
            used = np.cumsum(tpacket.block_counts(self._octets, found)[1])
            count = max(int(np.searchsorted(used, share, side="right")), 1)
            self._lent[number] = count
            part = tpacket.read_packets(self._octets, tpacket.find_packets(self._octets, found[:count]))
            parts.append(self._as_handed_out(self._rings[number].device, part))
            rows.append(np.full(len(part), number, np.int32))
        packets, row = tpacket.Packets.concatenate(parts), np.concatenate(rows)
        if not len(packets):
            return None
        if len(parts) > 1:
            order = np.argsort(packets.time_ns, kind="stable")
            packets, row = packets.take(order), row[order]
        link_types = np.array([interface.link_type for interface in self.interfaces], np.int32)
        chunk = CaptureChunk(
            octets=self._octets,
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
        self._handed_out_s = time.monotonic()
        self._lag_ns = age_ns(chunk)
        return chunk

    def _as_handed_out(self, device: Device, packets: tpacket.Packets) -> tpacket.Packets:
        """Put back what the kernel keeps beside the packet."""
        if device.cooked:
            second = device.link_type == bpf.LINKTYPE_SLL2
            return tpacket.with_cooked_header(self._octets, packets, second_version=second)
        return tpacket.with_tags(self._octets, packets) if device.link_type == ETHERNET else packets

    def _hand_back(self) -> None:
        for row, count in enumerate(self._lent):
            if count:
                self._rings[row].hand_back(count)
                self._lent[row] = 0

    def _is_filling(self, blocks: list[I64]) -> bool:
        return any(ring.fills(found.shape[0]) for ring, found in zip(self._rings, blocks, strict=True))

    def _is_drained(self, now_s: float) -> bool:
        """Whether nothing more can come; no block is ready."""
        if self._stopped_s is None:
            return False
        return now_s > self._stopped_s + _DRAIN_S or not any(ring.waiting(self._octets) for ring in self._rings)

    def _wait(self, seconds: float) -> None:
        """Wait for a block, and see what became of the interfaces."""
        if self._stopped_s is not None:
            seconds = min(seconds, _STEP_S)
        for descriptor, event in self._poller.poll(1000 * seconds):
            if event & ~select.POLLIN:
                self._look_at(next(row for row, ring in enumerate(self._rings) if ring.fileno() == descriptor))
        for row, since_s in list(self._down_since.items()):
            self._look_again(row, since_s)

    def _look_at(self, row: int) -> None:
        """An interface reports an error: most often it goes away, and first it goes down."""
        error = self._rings[row].problem()
        if error == errno.ENETDOWN:
            self._down_since.setdefault(row, time.monotonic())
        elif error:
            self._lose(row, os.strerror(error))

    def _look_again(self, row: int, since_s: float) -> None:
        """See whether an interface that went down is gone."""
        if not self._rings[row].is_there():
            del self._down_since[row]
            self._lose(row, "disappeared")
        elif time.monotonic() > since_s + _GRACE_S:
            del self._down_since[row]
            self._went_down.add(row)
            self._note(row, "went down; it is captured on again as soon as it is up")

    def _lose(self, row: int, reason: str) -> None:
        self._poller.unregister(self._rings[row].fileno())
        self._lost.add(row)
        self._note(row, f"{reason}; what was captured until then is kept")
        if len(self._lost) == len(self._rings):
            self._stopped_s = time.monotonic()

    def _note(self, row: int, what: str) -> None:
        device = self._rings[row].device
        self.damage.append(Damage(self.octets_read, f"interface {device.name} {what}, after frame {self._frames}"))

    def _close_rings(self) -> None:
        for ring in self._rings:
            ring.close()

    def _program(self, device: Device, options: LiveOptions) -> bpf.Program:
        program = bpf.compile_filter(options.bpf or "", device.name, device.link_type, options.snaplen)
        loopback = next((index for index, name in socket.if_nameindex() if name == "lo"), None)
        if loopback is None or device.index not in (0, loopback):
            return program
        return bpf.without_loopback_copies(program, loopback)
