"""Tunnels: which packets carry another packet, and where the inner one begins.

VXLAN and Geneve are recognised by their header and by what follows it, on any UDP port: overlays are configurable,
and their ports in the field differ from the registered ones (flannel and Cilium use 8472 for VXLAN).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from analyzer.decode.gather import be16, gather_block
from analyzer.decode.link import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TRANSPARENT_BRIDGING
from analyzer.registries import LinkType
from analyzer.schema import I32, I64, U8, U16, Mask

# IANA protocol numbers.
IPV4_IN_IP: Final = 4
IPV6_IN_IP: Final = 41
GRE: Final = 47
UDP: Final = 17

_INNER_ETHERTYPES: Final = np.array([0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8], np.int32)

# How an encapsulation is named in a path. The number behind the colon is the VXLAN/Geneve network identifier.
IPIP, IPV6IP, GRE_KIND, VXLAN, GENEVE = range(5)
NAMES: Final = ("ipip", "ipv6ip", "gre", "vxlan", "geneve")


class InnerPackets(NamedTuple):
    """The packets found inside others.

    ``row`` (K,) int64 the carrying packet; ``kind`` (K,) int32 index into `NAMES`; ``identifier`` (K,) int64 network
    identifier, -1 = the kind has none; ``start`` (K,) int64 first octet of the inner packet; ``link_type`` (K,)
    int32 how to read it.
    """

    row: I64
    kind: I32
    identifier: I64
    start: I64
    link_type: I32


def _vni(block: U8) -> I64:
    return block[:, 4].astype(np.int64) << 16 | block[:, 5].astype(np.int64) << 8 | block[:, 6]


def _fits_ethertype(octets: U8, network: I64, ethertype: I32) -> Mask:
    """The first nibble of an IP header agrees with the EtherType; other EtherTypes are taken at their word."""
    nibble = gather_block(octets, network, 1)[:, 0] >> 4
    agrees: Mask = ((ethertype != ETHERTYPE_IPV4) | (nibble == 4)) & ((ethertype != ETHERTYPE_IPV6) | (nibble == 6))
    return agrees


def _vxlan(octets: U8, start: I64, stop: I64) -> Mask:
    """RFC 7348 5: flags 0x08, 24 reserved bits, VNI 24, reserved 8; then Ethernet."""
    block = gather_block(octets, start, 8)
    like: Mask = (block[:, 0] == 8) & (block[:, 1:4] == 0).all(axis=1) & (block[:, 7] == 0) & (start + 22 <= stop)
    rows = np.flatnonzero(like)
    ethertype = be16(gather_block(octets, start[rows] + 8, 14), 12)
    network = start[rows] + 22
    inner = np.isin(ethertype, _INNER_ETHERTYPES) & (network < stop[rows])
    like[rows] = inner & _fits_ethertype(octets, network, ethertype)
    return like


def _geneve(octets: U8, start: I64, stop: I64) -> tuple[Mask, I64, I32]:
    """RFC 8926 3.4: version 2 bits, option length 6 (units of 4), O C reserved 6, protocol 16, VNI 24, reserved 8."""
    block = gather_block(octets, start, 8)
    protocol = be16(block, 2)
    inner = start + 8 + (block[:, 0] & 0x3F).astype(np.int64) * 4
    known = (protocol == ETHERTYPE_TRANSPARENT_BRIDGING) | (protocol == ETHERTYPE_IPV4) | (protocol == ETHERTYPE_IPV6)
    like = (block[:, 0] >> 6 == 0) & (block[:, 1] & 0x3F == 0) & (block[:, 7] == 0) & known & (inner + 20 <= stop)
    rows = np.flatnonzero(like)
    bridged = protocol[rows] == ETHERTYPE_TRANSPARENT_BRIDGING
    frame_type = be16(gather_block(octets, inner[rows], 14), 12)
    ethertype = np.where(bridged, frame_type, protocol[rows]).astype(np.int32)
    network = inner[rows] + np.where(bridged, 14, 0)
    agrees = np.isin(ethertype, _INNER_ETHERTYPES) & (network < stop[rows])
    like[rows] = agrees & _fits_ethertype(octets, network, ethertype)
    link = np.where(protocol == ETHERTYPE_TRANSPARENT_BRIDGING, LinkType.ETHERNET, LinkType.RAW)
    return like, inner, link.astype(np.int32)


def _gre(octets: U8, start: I64, stop: I64) -> tuple[Mask, I64, I32]:
    """RFC 2784 2.1 and RFC 2890: C, K and S bits each add 4 octets; version 0 only (1 is PPTP, RFC 2637)."""
    block = gather_block(octets, start, 4)
    flags = block[:, 0]
    extra = ((flags >> 7) & 1).astype(np.int64) + ((flags >> 5) & 1) + ((flags >> 4) & 1)
    protocol = be16(block, 2)
    inner = start + 4 + extra * 4
    # The routing bit (RFC 1701) is obsolete and its length variable: such packets stay outer packets.
    plain = (flags & 0x40 == 0) & (block[:, 1] & 7 == 0)
    bridged = protocol == ETHERTYPE_TRANSPARENT_BRIDGING
    known = bridged | (protocol == ETHERTYPE_IPV4) | (protocol == ETHERTYPE_IPV6)
    link = np.where(bridged, LinkType.ETHERNET, LinkType.RAW)
    return plain & known & (inner + 20 <= stop), inner, link.astype(np.int32)


def find_inner(octets: U8, protocol: U8, dst_port: U16, start: I64, stop: I64) -> InnerPackets:
    """Find the packets that carry a packet.

    Parameters
    ----------
    octets : (B,) uint8
    protocol : (N,) uint8
        IANA protocol number of each packet whose payload is complete enough to look at.
    dst_port : (N,) uint16
    start, stop : (N,) int64
        Captured payload: of the UDP datagram, or of the IP packet for the protocols that are tunnels themselves.
    """
    found: list[InnerPackets] = []

    def add(rows: I64, kind: int, identifier: I64 | int, inner: I64, link: I32 | int) -> None:
        if rows.shape[0]:
            filled = np.full(rows.shape[0], kind, np.int32)
            ids = np.broadcast_to(np.asarray(identifier, np.int64), rows.shape)
            found.append(
                InnerPackets(rows, filled, ids, inner, np.broadcast_to(np.asarray(link, np.int32), rows.shape))
            )

    for number, kind in ((IPV4_IN_IP, IPIP), (IPV6_IN_IP, IPV6IP)):
        rows = np.flatnonzero((protocol == number) & (start < stop))
        add(rows, kind, -1, start[rows], LinkType.RAW)
    rows = np.flatnonzero(protocol == GRE)
    if rows.shape[0]:
        like, inner, link = _gre(octets, start[rows], stop[rows])
        add(rows[like], GRE_KIND, -1, inner[like], link[like])
    # DNS (53) is the one busy UDP service whose header could pass for another: it is never an overlay.
    rows = np.flatnonzero((protocol == UDP) & (start + 22 <= stop) & (dst_port != 53))
    if rows.shape[0]:
        block_start, block_stop = start[rows], stop[rows]
        vni = _vni(gather_block(octets, block_start, 8))
        like = _vxlan(octets, block_start, block_stop)
        add(rows[like], VXLAN, vni[like], block_start[like] + 8, LinkType.ETHERNET)
        geneve, inner, link = _geneve(octets, block_start, block_stop)
        geneve &= ~like
        add(rows[geneve], GENEVE, vni[geneve], inner[geneve], link[geneve])
    if not found:
        none64, none32 = np.empty(0, np.int64), np.empty(0, np.int32)
        return InnerPackets(none64, none32, none64, none64, none32)
    merged = [np.concatenate(columns) for columns in zip(*found, strict=True)]
    order = np.argsort(merged[0], kind="stable")
    return InnerPackets(*(column[order] for column in merged))
