"""One AF_PACKET socket with a memory-mapped TPACKET_V3 ring (packet_mmap.rst in the kernel's documentation).

The kernel fills blocks of a ring and hands each over when it is full or `RETIRE_MS` old; here they are looked at in
order and handed back. Needs CAP_NET_RAW and nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np

from analyzer.capture import bpf
from analyzer.capture.tpacket import BLOCK_STATUS_AT, STATUS_KERNEL, STATUS_USER, block_counts
from analyzer.errors import InterfaceError
from analyzer.schema import I64, U8, U32

RETIRE_MS: Final = 100
"""Milliseconds after which the kernel hands over a block that is not full: what a quiet interface adds to the delay."""

_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_RX_RING: Final = 5
_PACKET_STATISTICS: Final = 6
_PACKET_VERSION: Final = 10
_TPACKET_V3: Final = 2
_PACKET_MR_PROMISC: Final = 1
_ETH_P_ALL: Final = 3
_FRAME: Final = 2048
"""tp_frame_size: V3 packs packets as they are, and only checks that this is plausible."""

_SIOCGIFNAME: Final = 0x8910
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFHWADDR: Final = 0x8927
_IFF_UP: Final = 1

_LARGE_BLOCK: Final = 1 << 20
_SMALL_BLOCK: Final = 1 << 18
"""Octets of a block. A frame is cut where it does not fit into one; the largest that offloading makes has 64 KiB, with
BIG TCP 512 KiB."""
_LEAST_BLOCKS: Final = 4
_MAX_BUFFER: Final = 1 << 36

ANY: Final = "any"
"""libpcap's name for all interfaces together."""

ETHERNET: Final = 1
_RAW_IP: Final = 101
_SLL: Final = 113
_LINK_TYPES: Final = {
    1: ETHERNET,  # ARPHRD_ETHER
    772: ETHERNET,  # ARPHRD_LOOPBACK: the header is there, with zero addresses
    519: _RAW_IP,  # ARPHRD_RAWIP
    768: _RAW_IP,  # ARPHRD_TUNNEL
    769: _RAW_IP,  # ARPHRD_TUNNEL6
    776: _RAW_IP,  # ARPHRD_SIT
    778: _RAW_IP,  # ARPHRD_IPGRE
    823: _RAW_IP,  # ARPHRD_IP6GRE
    65534: _RAW_IP,  # ARPHRD_NONE: tun, WireGuard
    801: 105,  # ARPHRD_IEEE80211
    802: 119,  # ARPHRD_IEEE80211_PRISM
    803: 127,  # ARPHRD_IEEE80211_RADIOTAP
}
"""LINKTYPE_ by ARPHRD_ type, for those whose header the socket gives as it is; others are cooked, as libpcap does."""


@dataclass(frozen=True, slots=True)
class Device:
    """A network interface as the system knows it.

    Attributes
    ----------
    name : str
    index : int
        0 = all interfaces.
    link_type : int
        LINKTYPE_ value of the frames that are handed out.
    cooked : bool
        The link layer's header is taken off by the kernel, and one of libpcap's is put there.
    """

    name: str
    index: int
    link_type: int
    cooked: bool


@dataclass(frozen=True, slots=True)
class Oldest:
    """Blocks of a ring, oldest first: offsets and octets to copy, (K,) int64 each, and the packets in them."""

    begin: I64
    length: I64
    packets: int


class RingUnavailable(Exception):
    """There is no such ring on a system or for a device."""


def open_device(name: str, endpoint: socket.socket) -> Device:
    """Look up an interface by name.

    Raises
    ------
    InterfaceError
        There is none of that name, or it is down.
    """
    if name == ANY:
        return Device(name, 0, bpf.LINKTYPE_SLL2, cooked=True)
    known = {one: index for index, one in socket.if_nameindex()}
    if name not in known:
        raise InterfaceError(name, f"no such interface; there are: {', '.join([*known, ANY])}")
    request = struct.pack("16s24x", os.fsencode(name))
    try:
        (flags,) = struct.unpack_from("=H", fcntl.ioctl(endpoint, _SIOCGIFFLAGS, request), 16)
        (hardware,) = struct.unpack_from("=H", fcntl.ioctl(endpoint, _SIOCGIFHWADDR, request), 16)
    except OSError as error:
        raise InterfaceError(name, f"cannot be looked at: {error.strerror}") from None
    if not flags & _IFF_UP:
        raise InterfaceError(name, f"is down; bring it up first: ip link set {name} up")
    link_type = _LINK_TYPES.get(hardware)
    return Device(name, known[name], _SLL if link_type is None else link_type, cooked=link_type is None)


def open_socket(device_name: str, kind: int) -> socket.socket:
    """Open a packet socket that captures nothing yet.

    Raises
    ------
    InterfaceError
        Not permitted.
    """
    try:
        return socket.socket(socket.AF_PACKET, kind, 0)
    except PermissionError:
        raise InterfaceError(device_name, NOT_PERMITTED) from None


NOT_PERMITTED: Final = (
    "capturing needs the capability CAP_NET_RAW: run it with sudo (root is given up once the interface is open), or "
    "have another program capture: sudo tcpdump -i INTERFACE -U -w - | planewire live -; docs/live.md says how to "
    "allow one interpreter to capture"
)


class Ring:
    """The socket of one device and its memory. `start` opens the tap.

    One thread takes blocks out; `count` may be called from another.

    Attributes
    ----------
    device : Device
    received, dropped, freezes : int
        What the kernel counted so far; see `count`.
    """

    def __init__(self, device: Device, program: bpf.Program, buffer_octets: int) -> None:
        self.device: Final = device
        self.received = self.dropped = self.freezes = 0
        self._next = 0
        self._socket: Final = open_socket(device.name, socket.SOCK_DGRAM if device.cooked else socket.SOCK_RAW)
        try:
            bpf.attach(self._socket, program)
            self._block, self._blocks = self._make_ring(buffer_octets)
            try:
                memory = mmap.mmap(self._socket.fileno(), self._block * self._blocks)
            except OSError as error:
                raise RingUnavailable(error.strerror or str(error)) from None
        except BaseException:
            self._socket.close()
            raise
        # The mapping goes when the last array over it does.
        self._octets: U8 = np.frombuffer(memory, np.uint8)
        self._begin: I64 = self._block * np.arange(self._blocks)
        self._status: U32 = self._octets[BLOCK_STATUS_AT:].view(np.uint32)[:: self._block // 4]

    def fileno(self) -> int:
        """Descriptor to wait on."""
        return self._socket.fileno()

    def start(self, *, promiscuous: bool) -> None:
        """Begin to capture.

        Raises
        ------
        InterfaceError
        """
        index = self.device.index
        try:
            if promiscuous and index:
                request = struct.pack("@iHH8s", index, _PACKET_MR_PROMISC, 0, b"")
                self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
            _bind(self._socket, index)
        except OSError as error:
            reason = "is down" if error.errno == errno.ENETDOWN else error.strerror or "cannot be bound to"
            raise InterfaceError(self.device.name, reason) from None

    def ready(self) -> int:
        """Blocks that the kernel has handed over."""
        held = np.flatnonzero(np.roll(self._status, -self._next) & STATUS_USER == 0)
        return int(held[0]) if held.shape[0] else self._blocks

    def is_filling(self, ready: int) -> bool:
        """Whether an eighth of the ring waits to be read, `ready` blocks of it."""
        return 8 * ready > self._blocks

    def oldest(self, count: int, room: int) -> Oldest:
        """The oldest of `count` blocks that are ready, one at least and others as far as there is room for a copy."""
        begin = self._begin[(self._next + np.arange(count)) % self._blocks]
        packets, used = block_counts(self._octets, begin)
        # A block that is nearly full is copied whole: so are its neighbours, and then they are copied at once.
        length = np.where(4 * used > 3 * self._block, self._block, used + 7 & ~7)
        taken = max(int(np.searchsorted(np.cumsum(length), room, side="right")), 1)
        return Oldest(begin[:taken], length[:taken], int(packets[:taken].sum()))

    def move(self, oldest: Oldest, target: U8, at: int) -> I64:
        """Copy blocks to `target` from `at` on and give them back to the kernel; where they are: (K,) int64."""
        moved = at + np.cumsum(oldest.length) - oldest.length
        # Runs of blocks that lie side by side, here and there.
        breaks = np.flatnonzero(np.diff(oldest.begin) != oldest.length[:-1]) + 1
        for first, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(moved)], strict=True):
            source, sink = int(oldest.begin[first]), int(moved[first])
            size = int(oldest.length[first:stop].sum())
            target[sink : sink + size] = self._octets[source : source + size]
        # Between the copies and this lie calls, locks and system calls, each a stronger barrier than the one needed.
        self._status[(self._next + np.arange(len(moved))) % self._blocks] = STATUS_KERNEL
        self._next = (self._next + len(moved)) % self._blocks
        return moved

    def waiting(self) -> int:
        """Packets that are in the ring and in no block that is ready."""
        counts, _used = block_counts(self._octets, self._begin[self._next : self._next + 1])
        return int(counts[0]) if int(self._status[self._next]) == STATUS_KERNEL else 0

    def count(self) -> None:
        """Add the kernel's counters, which start again when they are read, to those here."""
        if self._socket.fileno() < 0:
            return
        answer = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12)
        received, dropped, freezes = struct.unpack("=III", answer)
        self.received += received
        self.dropped += dropped
        self.freezes += freezes

    def problem(self) -> int:
        """Take the error that the socket holds: an errno, 0 = none."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def is_there(self) -> bool:
        """Whether the device still exists."""
        if not self.device.index:
            return True
        with suppress(OSError):
            # Asked of the socket: this process may be in another network namespace by now.
            fcntl.ioctl(self._socket, _SIOCGIFNAME, struct.pack("=16xi20x", self.device.index))
            return True
        return False

    def refuse(self) -> None:
        """Let nothing in any more."""
        bpf.attach(self._socket, bpf.NOTHING)

    def close(self) -> None:
        """Close the socket, and give back the ring."""
        self._octets, self._status = np.empty(0, np.uint8), np.empty(0, np.uint32)
        if self._socket.fileno() >= 0:
            with suppress(OSError):
                self.refuse()
            self._socket.close()

    def _make_ring(self, buffer_octets: int) -> tuple[int, int]:
        """Ask for a ring, for smaller blocks where memory is in pieces; returns octets of a block and blocks."""
        block = _LARGE_BLOCK if buffer_octets >= 16 * _LARGE_BLOCK else _SMALL_BLOCK
        block = max(block, mmap.PAGESIZE)
        if buffer_octets > _MAX_BUFFER:
            raise InterfaceError(self.device.name, f"a buffer of {buffer_octets} octets is more than {_MAX_BUFFER}")
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
            while True:
                blocks = max(buffer_octets // block, _LEAST_BLOCKS)
                frames = blocks * (block // _FRAME)
                request = struct.pack("=7I", block, blocks, _FRAME, frames, RETIRE_MS, 0, 0)
                try:
                    self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
                except OSError as error:
                    if error.errno != errno.ENOMEM or block <= _SMALL_BLOCK:
                        raise
                    block //= 2
                else:
                    return block, blocks
        except OSError as error:
            if error.errno == errno.ENOMEM:
                reason = f"no memory for a buffer of {buffer_octets} octets; ask for a smaller one"
                raise InterfaceError(self.device.name, reason) from None
            raise RingUnavailable(error.strerror or str(error)) from None


def _bind(endpoint: socket.socket, index: int) -> None:
    """bind(2) by number of the interface, which Python's own cannot do; a number means the same through a rename."""
    libc = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), index, 0, 0, 0, b"")
    if libc.bind(endpoint.fileno(), address, len(address)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if error := endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))
