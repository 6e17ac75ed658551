"""IPv4 (RFC 791) and IPv6 (RFC 8200) headers, many packets in one step."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from analyzer.copying import gather_items
from analyzer.decode.gather import gather_block
from analyzer.registries import Decode
from analyzer.schema import I64, U8, U32, Mask

IPV4_HEADER: Final = np.dtype(
    [
        ("version_ihl", "u1"),
        ("dscp_ecn", "u1"),
        ("total_length", ">u2"),
        ("identification", ">u2"),
        ("flags_offset", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("src", "<u4"),
        ("dst", "<u4"),
    ]
)
"""Fixed header, 20 octets; options follow when IHL > 5 (RFC 791 3.1). Addresses are kept as words of their octets."""

IPV6_HEADER: Final = np.dtype(
    [
        ("version_class_flow", ">u4"),
        ("payload_length", ">u2"),
        ("next_header", "u1"),
        ("hop_limit", "u1"),
        ("src", "u1", 16),
        ("dst", "u1", 16),
    ]
)
"""40 octets (RFC 8200 3)."""

MAX_EXTENSION_HEADERS: Final = 64
"""Extension headers followed per packet. RFC 8200 4.1 knows seven kinds, each at most twice."""

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION, _MOBILITY, _HIP, _SHIM6 = 0, 43, 44, 60, 135, 139, 140
_EXTENSIONS: Final = np.array([_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION, _MOBILITY, _HIP, _SHIM6], np.uint8)
# The Authentication Header is an extension header too (RFC 4302 2), but that it protects is a fact of its own: it is
# treated as a tunnel (`tunnel.AH`), in both versions.


class IpColumns(NamedTuple):
    """Network-layer facts of each packet; where ``status`` is not OK the rest is 0 and must not be read.

    ``status`` (N,) uint8 `Decode`; ``protocol`` (N,) uint8; ``src``/``dst`` (N, 16) uint8; ``start`` (N,) int64 first
    octet of the transport layer; ``stop`` (N,) int64 captured end; ``end`` (N,) int64 the end the header claims;
    ``length`` (N,) int64 octets of the whole packet by its header; ``later_fragment``, ``fragment`` (N,) bool.
    """

    status: U8
    protocol: U8
    src: U8
    dst: U8
    start: I64
    stop: I64
    end: I64
    length: I64
    later_fragment: Mask
    fragment: Mask


def mapped(word: U32) -> U8:
    """IPv4 addresses, as little-endian words of their octets, mapped into IPv6 (RFC 4291 2.5.5.2): (N, 16) uint8."""
    addresses = np.zeros((word.shape[0], 2), "<u8")
    last = word.astype("<u8")
    last <<= np.uint64(32)
    last |= np.uint64(0xFFFF0000)
    addresses[:, 1] = last
    return addresses.view(np.uint8)


def decode_ipv4(octets: U8, start: I64, stop: I64, wire_stop: I64) -> IpColumns:
    """Decode the IPv4 header at each `start`.

    Parameters
    ----------
    octets : (B,) uint8
    start, stop : (N,) int64
        Half-open range of captured octets from the network layer on.
    wire_stop : (N,) int64
        Where the frame ended on the wire: ``>= stop``. Stands in for a Total Length of 0, which the sender leaves
        on segments it offloads (TSO; Linux BIG TCP).

    Returns
    -------
    IpColumns
        Columns of length N.

    Notes
    -----
    Octets behind Total Length are link padding and excluded (RFC 894).
    """
    header = gather_items(octets, start, IPV4_HEADER.itemsize).view(IPV4_HEADER)
    version_ihl = header["version_ihl"]
    header_len = (version_ihl & 15).astype(np.int64) * 4
    total = header["total_length"].astype(np.int64)
    offloaded = total == 0
    end = np.where(offloaded, wire_stop, start + total)
    status = np.full(start.shape[0], Decode.OK, np.uint8)
    # The order is that of reading: what is wrong first is what is reported.
    status[(start + header_len > stop)] = Decode.TRUNCATED_NETWORK
    status[(version_ihl >> 4 != 4) | (header_len < 20) | (~offloaded & (total < header_len))] = Decode.BAD_NETWORK
    status[start + 20 > stop] = Decode.TRUNCATED_NETWORK
    flags_offset = header["flags_offset"].astype(np.int64)
    src, dst = mapped(header["src"]), mapped(header["dst"])
    return IpColumns(
        status,
        header["protocol"].copy(),
        src,
        dst,
        start + header_len,
        np.minimum(stop, end),
        end,
        end - start,
        (flags_offset & 0x1FFF) != 0,
        (flags_offset & 0x3FFF) != 0,
    )


def decode_ipv6(octets: U8, start: I64, stop: I64, wire_stop: I64) -> IpColumns:
    """Decode the IPv6 header and its extension headers at each `start`; see `decode_ipv4` for the parameters.

    Notes
    -----
    Extension headers: RFC 8200 4, in any order. Lengths are in units of 8 octets beyond the first, except Fragment
    (8 octets). A Payload Length of 0 means a jumbogram (RFC 2675) or an offloaded segment; the end of the frame is
    used.
    """
    header = gather_items(octets, start, IPV6_HEADER.itemsize).view(IPV6_HEADER)
    payload = header["payload_length"].astype(np.int64)
    end = np.where(payload == 0, wire_stop, start + 40 + payload)
    captured = np.minimum(stop, end)
    n = start.shape[0]
    status = np.full(n, Decode.OK, np.uint8)
    status[header["version_class_flow"] >> 28 != 6] = Decode.BAD_NETWORK
    status[start + 40 > stop] = Decode.TRUNCATED_NETWORK
    protocol = header["next_header"].copy()
    at = start + 40
    later, fragment = np.zeros(n, bool), np.zeros(n, bool)
    for _ in range(MAX_EXTENSION_HEADERS):
        walking = (status == Decode.OK) & ~later & np.isin(protocol, _EXTENSIONS)
        rows = np.flatnonzero(walking)
        if rows.shape[0] == 0:
            break
        here = at[rows]
        block = gather_block(octets, here, 8)
        kind = protocol[rows]
        units = block[:, 1].astype(np.int64)
        length = np.where(kind == _FRAGMENT, 8, (units + 1) * 8)
        cut = here + length > captured[rows]
        status[rows[cut]] = Decode.TRUNCATED_NETWORK
        is_fragment = kind == _FRAGMENT
        offset_flags = block[:, 2].astype(np.int64) << 8 | block[:, 3]
        fragment[rows] |= is_fragment & ((offset_flags & 0xFFF9) != 0)
        later[rows] |= is_fragment & (offset_flags >> 3 != 0)
        protocol[rows] = np.where(cut, protocol[rows], block[:, 0])
        at[rows] = np.where(cut, here, here + length)
    else:
        unread = (status == Decode.OK) & ~later & np.isin(protocol, _EXTENSIONS)
        status[unread] = Decode.TOO_DEEP
    return IpColumns(
        status, protocol, header["src"].copy(), header["dst"].copy(), at, captured, end, end - start, later, fragment
    )
