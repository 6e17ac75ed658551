"""pcapng options and the blocks that are not packets: interfaces, names, statistics, secrets.

Section numbers are those of https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html. What these blocks say
is untrusted text of bounded size; where one is malformed inside, what could be read of it stands.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from analyzer.schema import Interface

OPT_COMMENT: Final = 1
EPB_DROPCOUNT: Final = 4
"""Packets lost between this one and the one before it on the same interface (4.3)."""
_IF_NAME: Final = 2
_IF_DESCRIPTION: Final = 3
_IF_TSRESOL: Final = 9
_IF_TSOFFSET: Final = 14
_IF_FILTER: Final = 11
_IF_OS: Final = 12
_IF_HARDWARE: Final = 15
_ISB_IFRECV: Final = 4
_ISB_IFDROP: Final = 5
_ISB_OSDROP: Final = 7
_NRB_IPV4: Final = 1
_NRB_IPV6: Final = 2
_TLS_KEY_LOG: Final = 0x544C534B
"""DSB secrets type "TLSK": NSS key log text (4.7)."""

_MICROSECONDS: Final = 6
"""if_tsresol where an interface has none (4.2)."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How the time stamps of one interface count (4.2, if_tsresol and if_tsoffset).

    Attributes
    ----------
    resolution : int
        As in the file: ticks are ``10 ** -resolution`` seconds or, with bit 7 set, ``2 ** -(resolution & 127)``.
    offset_s : int
        Seconds to add.
    """

    resolution: int
    offset_s: int


def read_options(body: bytes, byte_order: str) -> Iterator[tuple[int, bytes]]:
    """Yield (code, value) up to opt_endofopt, the end, or the first option that reaches past the end (3.5)."""
    at = 0
    while at + 4 <= len(body):
        code, length = struct.unpack_from(f"{byte_order}HH", body, at)
        at += 4
        if code == 0 or at + length > len(body):
            return
        yield code, body[at : at + length]
        at += (length + 3) & ~3


def text(value: bytes) -> str:
    """Decode an option's text; what is not UTF-8 becomes U+FFFD.

    Strings are not zero-terminated (3.5.1), but some writers do so, and put anything after the zero.
    """
    return value.partition(b"\0")[0].decode("utf-8", "replace")


def read_interface(body: bytes, byte_order: str) -> tuple[Interface, Clock, list[str]]:
    """Read an Interface Description Block's body of at least 8 octets (4.2); the last value is its comments."""
    link_type, _reserved, snaplen = struct.unpack_from(f"{byte_order}HHI", body)
    strings = {_IF_NAME: "", _IF_DESCRIPTION: "", _IF_HARDWARE: "", _IF_OS: ""}
    resolution, offset_s = _MICROSECONDS, 0
    comments = []
    capture_filter = ""
    for code, value in read_options(body[8:], byte_order):
        if code in strings:
            strings[code] = text(value)
        elif code == OPT_COMMENT:
            comments.append(text(value))
        elif code == _IF_FILTER and value:
            # 4.2: one octet tells the kind; 0 is a libpcap expression, others are programs.
            capture_filter = text(value[1:]) if value[0] == 0 else f"filter program of {len(value) - 1} octets"
        elif code == _IF_TSRESOL and len(value) >= 1:
            resolution = value[0]
        elif code == _IF_TSOFFSET and len(value) >= 8:
            (offset_s,) = struct.unpack_from(f"{byte_order}q", value)
    interface = Interface(
        link_type=link_type,
        snaplen=snaplen,
        name=strings[_IF_NAME],
        description=strings[_IF_DESCRIPTION],
        hardware=strings[_IF_HARDWARE],
        filter=capture_filter,
        system=strings[_IF_OS],
    )
    return interface, Clock(resolution, offset_s), comments


def add_statistics(interface: Interface, body: bytes, byte_order: str) -> Interface:
    """Return `interface` with the counters of an Interface Statistics Block's options (4.6).

    Counters run from the start of the capture, so a later block's replace an earlier one's. What the capturing
    system dropped and what the interface dropped are different frames and add up.
    """
    counters = {
        code: struct.unpack_from(f"{byte_order}Q", value)[0]
        for code, value in read_options(body, byte_order)
        if code in (_ISB_IFRECV, _ISB_IFDROP, _ISB_OSDROP) and len(value) >= 8
    }
    dropped = [counters[code] for code in (_ISB_IFDROP, _ISB_OSDROP) if code in counters]
    return replace(
        interface,
        received=counters.get(_ISB_IFRECV, interface.received),
        dropped=sum(dropped) if dropped else interface.dropped,
    )


def read_names(body: bytes, byte_order: str) -> list[tuple[str, str]]:
    """Read the records of a Name Resolution Block (4.5): an address with each of its names."""
    names = []
    for kind, value in read_options(body, byte_order):
        size = {_NRB_IPV4: 4, _NRB_IPV6: 16}.get(kind)
        if size is not None and len(value) > size:
            address = str(ipaddress.ip_address(value[:size]))
            names += [(address, text(name)) for name in value[size:].split(b"\0") if name]
    return names


def read_secrets(body: bytes, byte_order: str) -> bytes:
    """Return the TLS key log of a Decryption Secrets Block (4.7), empty where it holds another kind of secret."""
    if len(body) < 8:
        return b""
    kind, length = struct.unpack_from(f"{byte_order}II", body)
    return body[8 : 8 + length] if kind == _TLS_KEY_LOG else b""
