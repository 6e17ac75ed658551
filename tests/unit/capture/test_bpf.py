"""Filters: libpcap's own interpreter of programs is the oracle of what they select."""

from __future__ import annotations

import struct

import pytest

from analyzer.capture import bpf
from analyzer.errors import FilterError

NAME = "no-such-interface"  # libpcap then compiles for the link type alone, and no rights are needed
PACKET_HOST, PACKET_OUTGOING = 0, 4


def accepted(program: bpf.Program, packet: bytes, ancillary: dict[int, int] | None = None) -> int:
    """Run a program of the instructions that libpcap makes for such filters; octets of the packet that it wants."""
    a = x = at = 0
    while True:
        code, if_true, if_false, k = program[at]
        at += 1
        if code in (0x20, 0x28, 0x30, 0x40, 0x48, 0x50):
            size = {0x00: 4, 0x08: 2, 0x10: 1}[code & 0x18]
            if k >= 0xFFFFF000:
                a = (ancillary or {})[k - 0xFFFFF000]
                continue
            offset = k + (x if code & 0xE0 == 0x40 else 0)
            if offset + size > len(packet):
                return 0
            a = int.from_bytes(packet[offset : offset + size], "big")
        elif code == 0xB1:
            x = 4 * (packet[k] & 15)
        elif code in (0x15, 0x25, 0x35, 0x45):
            holds = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[code]
            at += if_true if holds else if_false
        elif code == 0x05:
            at += k
        elif code == 0x54:
            a &= k
        elif code == 0x06:
            return k
        else:
            raise AssertionError(f"instruction {code:#x}")


def ipv4(port: int) -> bytes:
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    return header + struct.pack(">HHIIHHHH", 50000, port, 0, 0, 0x5002, 0, 0, 0)


@pytest.mark.parametrize(("port", "wanted"), [(443, 96), (80, 0)])
def test_a_filter_selects_and_cuts(port: int, wanted: int) -> None:
    program = bpf.compile_filter("tcp port 443", NAME, 1, 96)
    assert accepted(program, bytes(12) + b"\x08\x00" + ipv4(port)) == wanted


@pytest.mark.parametrize("link_type", [113, 276])
@pytest.mark.parametrize(("port", "wanted"), [(443, 96), (80, 0)])
def test_a_cooked_filter_looks_where_the_kernel_has_it(link_type: int, port: int, wanted: int) -> None:
    program = bpf.compile_filter("tcp port 443", NAME, link_type, 96)
    assert accepted(program, ipv4(port), {0: 0x0800}) == wanted
    assert accepted(program, ipv4(port), {0: 0x0806}) == 0


@pytest.mark.parametrize(("expression", "kind"), [("inbound", PACKET_HOST), ("outbound", PACKET_OUTGOING)])
def test_the_direction_is_known_to_the_kernel(expression: str, kind: int) -> None:
    program = bpf.compile_filter(expression, NAME, 276, 50)
    assert [accepted(program, ipv4(1), {4: k}) for k in (PACKET_HOST, PACKET_OUTGOING)].index(50) == (kind > 0)


@pytest.mark.parametrize(
    ("index", "kind", "wanted"),
    [(1, PACKET_OUTGOING, 0), (1, PACKET_HOST, 77), (2, PACKET_OUTGOING, 77), (2, PACKET_HOST, 77)],
)
def test_the_loopback_interface_is_not_seen_twice(index: int, kind: int, wanted: int) -> None:
    program = bpf.without_loopback_copies(bpf.everything(77), 1)
    assert accepted(program, b"", {4: kind, 8: index}) == wanted


def test_no_filter_wants_all() -> None:
    assert accepted(bpf.compile_filter(" ", NAME, 1, 262144), b"") == 262144
    assert accepted(bpf.NOTHING, b"") == 0


@pytest.mark.parametrize("expression", ["tcp prot 443", "port", "host 300.1.1.1", "\x1b[31m and", "ether[3] = 1 and"])
def test_a_bad_filter_is_one_line_with_what_libpcap_says(expression: str) -> None:
    with pytest.raises(FilterError) as caught:
        bpf.compile_filter(expression, NAME, 1, 96)
    text = str(caught.value)
    assert text.startswith("filter ")
    assert text.isprintable()
    assert len(text) > len(f"filter {expression!r}: ")


def test_a_field_that_the_kernel_does_not_have_is_said() -> None:
    with pytest.raises(FilterError, match="cannot look at"):
        bpf.compile_filter("link[6] = 3", NAME, 276, 96)
