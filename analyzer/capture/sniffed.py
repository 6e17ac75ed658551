"""Live capture where the system has no ring: scapy's sniffing sockets, which hand out one frame a call.

The same frames as from the ring, at a rate that is lower by more than ten. Times have a resolution of about 200 ns
(they pass through a float), and drops are known on Linux only.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any, Final

import numpy as np

from analyzer.capture.feed import InterfaceFeed, InterfaceStatistics, LiveStatistics, age_ns, total
from analyzer.errors import FilterError, InterfaceError
from analyzer.schema import CaptureChunk, Damage, Interface

_FRAMES: Final = 4096
"""Frames of a chunk at most."""
_LARGEST: Final = 1 << 18
_MAX_BUFFER: Final = (1 << 30) - 1
"""The system doubles it, in 32 bits with a sign."""
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_LINK_TYPES: Final = {"Ether": 1, "CookedLinux": 113, "CookedLinuxV2": 276, "Loopback": 0, "IP": 101, "IPv6": 101}
"""LINKTYPE_ value by the name of the layer that scapy would begin to dissect with."""


class SniffedFeed(InterfaceFeed):
    """A `feed.Feed` over scapy's sockets.

    Parameters
    ----------
    interfaces : tuple of str
        ``any`` = each that is there now.
    expression : str or None
    snaplen : int
    promiscuous : bool
    buffer_octets : int
        Of each socket, as far as the system lets anybody have (net.core.rmem_max).
    reason : str
        Why it is not the ring.
    """

    def __init__(
        self,
        interfaces: tuple[str, ...],
        expression: str | None,
        snaplen: int,
        promiscuous: bool,
        buffer_octets: int,
        reason: str,
    ) -> None:
        from scapy.all import conf

        super().__init__(interfaces)
        self.how = f"scapy socket ({reason})"
        self.ended = False
        self._snaplen: Final = snaplen
        self._buffer_octets: Final = buffer_octets
        self._sockets: list[Any] = []
        self._open: list[int] = []
        self._received: list[int] = []
        self._dropped: list[int | None] = []
        self._stopping = False
        names = interfaces if interfaces != ("any",) else tuple(name for _, name in socket.if_nameindex())
        try:
            for name in names:
                self._add(conf, name, expression, promiscuous)
        except BaseException:
            self.close()
            raise

    def poll(self, timeout_s: float) -> CaptureChunk | None:
        """See `feed.Feed`."""
        frames: list[tuple[int, bytes, int]] = []
        deadline = time.monotonic() + max(timeout_s, 0.0)
        while len(frames) < _FRAMES and not self.ended:
            wait = 0.0 if frames or self._stopping else max(deadline - time.monotonic(), 0.0)
            ready = self._ready(wait)
            if not ready:
                self.ended |= self._stopping
                break
            frames += [frame for row in ready for frame in self._receive(row)]
        return self._chunk(frames) if frames else None

    def statistics(self) -> LiveStatistics:
        """See `feed.Feed`."""
        told = []
        for row, interface in enumerate(self.interfaces):
            self._count(row)
            told.append(InterfaceStatistics(interface.name, self.interfaces[row].received, self._dropped[row]))
        return total(tuple(told), self._lag_ns)

    def stop(self) -> None:
        """See `feed.Feed`. What waits in the sockets is handed out."""
        self._stopping = True

    def close(self) -> None:
        """See `feed.Feed`."""
        self.ended = True
        for row in self._open:
            self._count(row)
            with suppress(OSError):
                self._sockets[row].close()
        self._open = []

    def _add(self, conf: Any, name: str, expression: str | None, promiscuous: bool) -> None:  # noqa: ANN401
        from scapy.error import Scapy_Exception

        wanted = expression or None
        if name == "lo" and sys.platform == "linux":  # what it sends comes back and is seen then: see `bpf`
            wanted = f"inbound and ({expression})" if expression else "inbound"
        try:
            endpoint = conf.L2listen(iface=name, promisc=promiscuous, filter=wanted)
        except (PermissionError, ValueError) as error:
            raise InterfaceError(name, f"cannot be captured on: {error}") from None
        except Scapy_Exception as error:
            kind = FilterError(expression, str(error)) if expression else InterfaceError(name, str(error))
            raise kind from None
        except OSError as error:
            raise InterfaceError(name, f"cannot be captured on: {error.strerror or error}") from None
        if isinstance(inner := getattr(endpoint, "ins", None), socket.socket):
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(self._buffer_octets, _MAX_BUFFER))
        layer = getattr(endpoint, "LL", None)
        number = conf.l2types.layer2num.get(layer, 1)
        link_type = _LINK_TYPES.get(getattr(layer, "__name__", ""), number)
        self._open.append(len(self._sockets))
        self._sockets.append(endpoint)
        self._received.append(0)
        self._dropped.append(None)
        self.interfaces.append(Interface(link_type, self._snaplen, name, filter=expression or ""))

    def _ready(self, timeout_s: float) -> list[int]:
        """Sockets that have something; waits for one."""
        row_of = {id(self._sockets[row]): row for row in self._open}
        if not row_of:
            self.ended = True
            return []
        sockets = [self._sockets[row] for row in self._open]
        return [row_of[id(one)] for one in type(sockets[0]).select(sockets, timeout_s)]

    def _receive(self, row: int) -> list[tuple[int, bytes, int]]:
        """Take a frame: (interface, octets, time)."""
        try:
            _layer, octets, seconds = self._sockets[row].recv_raw(max(self._snaplen, _LARGEST))
        except OSError as error:
            name = self.interfaces[row].name
            reason = (
                f"interface {name}: {error.strerror or error}, after frame {self._frames}; what came before is kept"
            )
            self.damage.append(Damage(self.octets_read, reason))
            self._open.remove(row)
            return []
        if octets is None:
            return []
        self._received[row] += 1
        return [(row, bytes(octets), int(float(seconds or time.time()) * 1e9))]

    def _count(self, row: int) -> None:
        """Add what the kernel says it dropped, where it does."""
        endpoint = getattr(self._sockets[row], "ins", None)
        if isinstance(endpoint, socket.socket) and endpoint.fileno() >= 0:
            with suppress(OSError):
                _packets, drops = struct.unpack("=II", endpoint.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
                self._dropped[row] = (self._dropped[row] or 0) + drops
        dropped = self._dropped[row]
        received = self._received[row] + dropped if dropped is not None else None
        interface = self.interfaces[row]
        self.interfaces[row] = Interface(
            interface.link_type, interface.snaplen, interface.name, filter=interface.filter, received=received,
            dropped=dropped,
        )  # fmt: skip

    def _chunk(self, frames: list[tuple[int, bytes, int]]) -> CaptureChunk:
        length = np.array([len(octets) for _, octets, _ in frames], np.int64)
        row = np.array([row for row, _, _ in frames], np.int32)
        link_types = np.array([interface.link_type for interface in self.interfaces], np.int32)
        chunk = CaptureChunk(
            octets=np.frombuffer(b"".join(octets for _, octets, _ in frames), np.uint8),
            start=np.cumsum(length) - length,
            captured_len=np.minimum(length, self._snaplen),
            wire_len=length,
            time_ns=np.array([time_ns for _, _, time_ns in frames], np.int64),
            interface=row,
            link_type=link_types[row],
            first_frame=self._frames + 1,
        )
        self._frames += len(frames)
        self.octets_read += int(length.sum())
        self._lag_ns = age_ns(chunk)
        return chunk
