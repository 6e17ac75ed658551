"""Capture filters: libpcap's language, compiled by libpcap, run by the kernel.

The classic BPF machine is that of McCanne and Jacobson (USENIX 1993); instructions and ancillary loads are those of
linux/filter.h. libpcap is called by way of scapy's bindings.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from analyzer.errors import FilterError, MissingProgramError

SO_ATTACH_FILTER: Final = 26

_LD: Final = 0x00
_LDX: Final = 0x01
_RET: Final = 0x06
_CLASS: Final = 0x07
_MODE: Final = 0xE0
_ABS: Final = 0x20
_IND: Final = 0x40
_MSH: Final = 0xA0
_LD_WORD_ABS: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_RET_CONSTANT: Final = 0x06

_ANCILLARY: Final = (1 << 32) - 0x1000
"""SKF_AD_OFF: loads from here on are not of the packet but of what the kernel knows about it."""
_AD_PROTOCOL: Final = _ANCILLARY
_AD_PACKET_TYPE: Final = _ANCILLARY + 4
_AD_INTERFACE: Final = _ANCILLARY + 8
_PACKET_OUTGOING: Final = 4

SLL_LEN: Final = 16
SLL2_LEN: Final = 20
DLT_RAW: Final = 12
_LINKTYPE_RAW: Final = 101
_LINKTYPE_SLL: Final = 113
LINKTYPE_SLL2: Final = 276
_HEADER_LEN: Final = {_LINKTYPE_SLL: SLL_LEN, LINKTYPE_SLL2: SLL2_LEN}
_IN_HEADER: Final = {
    _LINKTYPE_SLL: {0: _AD_PACKET_TYPE, 14: _AD_PROTOCOL},
    LINKTYPE_SLL2: {0: _AD_PROTOCOL, 4: _AD_INTERFACE, 10: _AD_PACKET_TYPE},
}
"""Fields of the headers that libpcap makes for cooked sockets, and where the kernel knows them from."""


class Instruction(NamedTuple):
    """``struct sock_filter``: jumps are relative, and forward only."""

    code: int
    if_true: int
    if_false: int
    operand: int


Program = tuple[Instruction, ...]

NOTHING: Final[Program] = (Instruction(_RET_CONSTANT, 0, 0, 0),)
"""Accepts no packet."""


def everything(snaplen: int) -> Program:
    """Accept the first `snaplen` octets of every packet."""
    return (Instruction(_RET_CONSTANT, 0, 0, snaplen),)


def compile_filter(expression: str, interface: str, link_type: int, snaplen: int) -> Program:
    """Compile `expression` as tcpdump would for this interface.

    Parameters
    ----------
    expression : str
        pcap-filter(7); an empty one accepts everything.
    interface : str
        It is opened for a moment: only for an open interface libpcap makes programs that find the VLAN tags which the
        kernel keeps beside the packet.
    link_type : int
        LINKTYPE_ value of the frames that will be handed out.
    snaplen : int
        Octets that are wanted of an accepted packet.

    Raises
    ------
    FilterError
        libpcap does not accept it.
    MissingProgramError
        There is no libpcap.
    """
    if not expression.strip():
        return everything(snaplen)
    pcap = _libpcap()
    handle = _open(pcap, interface, link_type, snaplen)
    program = pcap.bpf_program()
    try:
        if pcap.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, _NETMASK_UNKNOWN) != 0:
            raise FilterError(expression, _text(pcap.pcap_geterr(handle)))
        found = [program.bf_insns[row] for row in range(program.bf_len)]
        instructions = tuple(Instruction(one.code, one.jt, one.jf, one.k & 0xFFFFFFFF) for one in found)
        pcap.pcap_freecode(ctypes.byref(program))
    finally:
        pcap.pcap_close(handle)
    return _in_kernel(instructions, link_type, expression)


_NETMASK_UNKNOWN: Final = 0xFFFFFFFF


def without_loopback_copies(program: Program, loopback: int) -> Program:
    """Have the kernel refuse what the loopback interface sends: each packet of it comes back and is seen then.

    libpcap drops these packets after they were captured (pcap-linux.c, linux_check_direction). Here they cost no room
    and are not counted.
    """
    skip = 3
    return (
        Instruction(_LD_WORD_ABS, 0, 0, _AD_PACKET_TYPE),
        Instruction(_JUMP_EQUAL, 0, skip, _PACKET_OUTGOING),
        Instruction(_LD_WORD_ABS, 0, 0, _AD_INTERFACE),
        Instruction(_JUMP_EQUAL, 0, 1, loopback),
        *NOTHING,
        *program,
    )


def attach(endpoint: socket.socket, program: Program) -> None:
    """Set the filter of a socket; it holds for what comes from now on."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code, len(code))
    endpoint.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(held)))


def _in_kernel(program: Iterable[Instruction], link_type: int, expression: str) -> Program:
    """Move loads of a cooked packet to where the kernel has it: it knows nothing of the header that is made later."""
    header = _HEADER_LEN.get(link_type)
    if header is None:
        return tuple(program)
    fields, fixed = _IN_HEADER[link_type], []
    for one in program:
        kind, mode = one.code & _CLASS, one.code & _MODE
        loads = (kind == _LD and mode in (_ABS, _IND)) or (kind == _LDX and mode == _MSH)
        if not loads or one.operand >= _ANCILLARY:
            fixed.append(one)
        elif one.operand >= header:
            fixed.append(one._replace(operand=one.operand - header))
        elif one.operand in fields:
            fixed.append(one._replace(operand=fields[one.operand]))
        else:
            raise FilterError(expression, "it asks for a field of the link layer that the kernel cannot look at here")
    return tuple(fixed)


def _libpcap() -> Any:  # noqa: ANN401
    """Scapy's bindings to libpcap, which have no types."""
    try:
        from scapy.libs import winpcapy
    except (OSError, ImportError):
        raise MissingProgramError(
            "filters are compiled by libpcap, which is not installed: install libpcap (Debian: libpcap0.8), or leave "
            "the filter out"
        ) from None
    return winpcapy


def _open(pcap: Any, interface: str, link_type: int, snaplen: int) -> Any:  # noqa: ANN401
    """Open the interface for libpcap; where that fails, something that only has its link type."""
    message = ctypes.create_string_buffer(pcap.PCAP_ERRBUF_SIZE)
    dlt = DLT_RAW if link_type == _LINKTYPE_RAW else link_type
    handle = pcap.pcap_open_live(interface.encode(), snaplen, 0, 0, message)
    if handle:
        if pcap.pcap_datalink(handle) == dlt or pcap.pcap_set_datalink(handle, dlt) == 0:
            return handle
        pcap.pcap_close(handle)
    return pcap.pcap_open_dead(dlt, snaplen)


def _text(message: Any) -> str:  # noqa: ANN401
    raw = message if isinstance(message, bytes) else ctypes.string_at(ctypes.cast(message, ctypes.c_void_p).value or 0)
    return raw.decode("utf-8", "replace")
