"""Tunnels: which packets carry another packet, and where the inner one begins.

VXLAN and Geneve are recognised by their header and by what follows it, on any UDP port: overlays are configurable,
and their ports in the field differ from the registered ones (flannel and Cilium use 8472 for VXLAN). On the ports
registered for them their reserved bits may be anything, as a receiver ignores them (RFC 7348 5, RFC 8926 3.4).
Protocols whose header proves less are read on their own port alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from analyzer.decode.gather import be16, gather_block
from analyzer.decode.link import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_MPLS,
    ETHERTYPE_TRANSPARENT_BRIDGING,
    VLAN_TAGS,
    fits_ethertype,
)
from analyzer.registries import LinkType
from analyzer.schema import I32, I64, U8, U16, Mask

# IANA protocol numbers.
IPV4_IN_IP: Final = 4
UDP: Final = 17
IPV6_IN_IP: Final = 41
GRE: Final = 47
AUTHENTICATION: Final = 51
ETHERIP: Final = 97
MPLS_IN_IP: Final = 137

_ARP: Final = 0x0806
_INNER_ETHERTYPES: Final = np.array([ETHERTYPE_IPV4, ETHERTYPE_IPV6, _ARP, *VLAN_TAGS], np.int32)

# GRE protocol types that are no EtherTypes of a payload.
_ERSPAN: Final = 0x88BE  # types I (no header) and II
_ERSPAN_III: Final = 0x22EB
_PPP: Final = 0x880B  # PPTP's, in GRE version 1 (RFC 2637 4.1); also seen in version 0

# Registered UDP ports.
_VXLAN_PORTS: Final = (4789, 4790, 8472)
_GENEVE_PORT: Final = 6081
_GTP_U_PORT: Final = 2152
_TEREDO_PORT: Final = 3544
_L2TP_PORT: Final = 1701
_MPLS_PORT: Final = 6635
_LISP_PORT: Final = 4341
_TZSP_PORT: Final = 37008
_DNS_PORT: Final = 53

# How an encapsulation is named in a path. A number behind a colon identifies the network or the endpoint.
IPIP, IPV6IP, GRE_KIND, VXLAN, GENEVE, ERSPAN, AH, GTP_U, TEREDO, L2TP, ETHERIP_KIND, MPLS, LISP, TZSP = range(14)
NAMES: Final = (
    "ipip",
    "ipv6ip",
    "gre",
    "vxlan",
    "geneve",
    "erspan",
    "ah",
    "gtp-u",
    "teredo",
    "l2tp",
    "etherip",
    "mpls",
    "lisp",
    "tzsp",
)

TRANSPORT: Final = -2
"""In place of an inner link type: no header of its own, the carrier's addresses go on to hold (AH)."""

_GTP_EXTENSIONS: Final = 8
"""GTP-U extension headers followed per packet; TS 29.281 5.2 defines about as many."""
_TZSP_TAGS: Final = 16


class InnerPackets(NamedTuple):
    """The packets found inside others.

    ``row`` (K,) int64 the carrying packet; ``kind`` (K,) int32 index into `NAMES`; ``identifier`` (K,) int64 network
    identifier, -1 = the kind has none; ``start`` (K,) int64 first octet of the inner packet; ``link_type`` (K,)
    int32 how to read it, or `TRANSPORT`; ``protocol`` (K,) uint8 what follows where it is that.
    """

    row: I64
    kind: I32
    identifier: I64
    start: I64
    link_type: I32
    protocol: U8


class _Inner(NamedTuple):
    """What one recogniser says of N candidates; the other columns hold only where ``found``."""

    found: Mask
    start: I64
    link_type: I32
    identifier: I64


def _none(n: int) -> I64:
    return np.full(n, -1, np.int64)


def _be32(block: U8, column: int) -> I64:
    return be16(block, column).astype(np.int64) << 16 | be16(block, column + 2)


def _vni(block: U8) -> I64:
    return block[:, 4].astype(np.int64) << 16 | be16(block, 5)


def _is_ethernet(octets: U8, start: I64, stop: I64) -> Mask:
    """Whether an Ethernet frame with an EtherType overlays carry, and an IP version that agrees, begins at `start`."""
    ethertype = be16(gather_block(octets, start + 12, 2), 0)
    network = start + 14
    return np.isin(ethertype, _INNER_ETHERTYPES) & (network < stop) & fits_ethertype(octets, network, ethertype)


def _is_ip(octets: U8, start: I64, stop: I64) -> Mask:
    """Whether an IPv4 or IPv6 header may begin at `start`: version, header length, and the length it claims."""
    block = gather_block(octets, start, 6)
    version = block[:, 0] >> 4
    v4 = (version == 4) & (block[:, 0] & 15 >= 5) & (start + 20 <= stop) & (be16(block, 2) >= 20)
    either: Mask = v4 | ((version == 6) & (start + 40 <= stop))
    return either


def _vxlan(octets: U8, block: U8, port: U16, start: I64, stop: I64) -> _Inner:
    """RFC 7348 5: flags 0x08, 24 reserved bits, VNI 24, reserved 8; then Ethernet.

    The Group Policy extension sets 0x80 and fills the reserved bits. Generic Protocol Extension (VXLAN-GPE) sets
    0x04, and the fourth octet says what follows: 1 IPv4, 2 IPv6, 3 Ethernet.
    """
    flags, following = block[:, 0], block[:, 3]
    at_home = np.isin(port, _VXLAN_PORTS)
    tidy = (block[:, 1:3] == 0).all(axis=1) & (block[:, 7] == 0)
    policy = (flags == 0x88) & (block[:, 1] & 0xB7 == 0) & (block[:, 7] == 0)
    generic = (flags & 0xCC == 0x0C) & (following >= 1) & (following <= 3) & (tidy | at_home)
    plain = ((flags == 8) & tidy & (following == 0)) | policy | (at_home & (flags & 0x0C == 8))
    inner = start + 8
    is_ip = generic & (following < 3)
    found = (generic | plain) & (inner + 14 <= stop)
    rows = np.flatnonzero(found)
    fits = np.where(is_ip[rows], _is_ip(octets, inner[rows], stop[rows]), _is_ethernet(octets, inner[rows], stop[rows]))
    # At home any frame is believed to be one (802.3 with LLC, for instance).
    found[rows] = fits | (at_home[rows] & ~is_ip[rows])
    return _Inner(found, inner, np.where(is_ip, LinkType.RAW, LinkType.ETHERNET).astype(np.int32), _vni(block))


def _geneve(octets: U8, block: U8, port: U16, start: I64, stop: I64) -> _Inner:
    """RFC 8926 3.4: version 2 bits, option length 6 (units of 4), O C reserved 6, protocol 16, VNI 24, reserved 8."""
    protocol = be16(block, 2)
    inner = start + 8 + (block[:, 0] & 0x3F).astype(np.int64) * 4
    bridged = protocol == ETHERTYPE_TRANSPARENT_BRIDGING
    at_home = port == _GENEVE_PORT
    tidy = (block[:, 1] & 0x3F == 0) & (block[:, 7] == 0)
    known = bridged | (protocol == ETHERTYPE_IPV4) | (protocol == ETHERTYPE_IPV6)
    found = (block[:, 0] >> 6 == 0) & (tidy | at_home) & known & (inner + 14 <= stop)
    rows = np.flatnonzero(found)
    wire = bridged[rows]
    fits = np.where(
        wire,
        _is_ethernet(octets, inner[rows], stop[rows]) | at_home[rows],
        fits_ethertype(octets, inner[rows], protocol[rows]) & (inner[rows] + 20 <= stop[rows]),
    )
    found[rows] = fits
    return _Inner(found, inner, np.where(bridged, LinkType.ETHERNET, LinkType.RAW).astype(np.int32), _vni(block))


def _gtp_u(octets: U8, block: U8, start: I64, stop: I64) -> _Inner:
    """3GPP TS 29.281 5.1: flags 1 (version 1, protocol type 1, E S PN), type 1 (255 G-PDU), length 2, TEID 4.

    Any of E, S and PN adds sequence 2, N-PDU 1 and next extension 1; an extension header is its length in units of
    4, its content and the type of the next (5.2).
    """
    optional = block[:, 0] & 7 != 0
    inner = start + 8 + 4 * optional
    found: Mask = (block[:, 0] & 0xF0 == 0x30) & (block[:, 1] == 255)
    alive = np.flatnonzero(found & (block[:, 0] & 4 != 0) & (block[:, 11] != 0))
    for _ in range(_GTP_EXTENSIONS):
        if alive.shape[0] == 0:
            break
        length = gather_block(octets, inner[alive], 1)[:, 0].astype(np.int64) * 4
        inner[alive] += length
        last = gather_block(octets, inner[alive] - 1, 1)[:, 0]
        bad = (length == 0) | (inner[alive] > stop[alive])
        found[alive[bad]] = False
        alive = alive[~bad & (last != 0)]
    found[alive] = False
    found &= _is_ip(octets, inner, stop)
    return _Inner(found, inner, np.full(start.shape[0], LinkType.RAW, np.int32), _none(start.shape[0]))


def _teredo(octets: U8, block: U8, at_home: Mask, start: I64, stop: I64) -> _Inner:
    """RFC 4380 5.1.1: IPv6 alone, or behind an authentication (00 01) and an origin indication (00 00, 8 octets).

    Off its port it is taken for one when the IPv6 header claims exactly the datagram and an address is 2001::/32.
    """
    authentication = be16(block, 0) == 1
    skip = np.where(authentication, 13 + block[:, 2].astype(np.int64) + block[:, 3], 0)
    origin = be16(gather_block(octets, start + skip, 2), 0) == 0
    inner = start + skip + np.where(origin, 8, 0)
    header = gather_block(octets, inner, 40)
    fits = (header[:, 0] >> 4 == 6) & (inner + 40 + be16(header, 4) == stop)
    teredo = np.uint32(0x20010000)
    prefixed = (_be32(header, 8) == teredo) | (_be32(header, 24) == teredo)
    found = fits & (at_home | (prefixed & ~authentication & ~origin))
    return _Inner(found, inner, np.full(start.shape[0], LinkType.RAW, np.int32), _none(start.shape[0]))


def _l2tp(octets: U8, block: U8, start: I64, stop: I64) -> _Inner:
    """RFC 2661 3.1: flags and version 2, length 2 (L), tunnel 2, session 2, Ns Nr 4 (S), offset 2 + n (O); then PPP."""
    flags = block[:, 0]
    session = start + 2 + np.where(flags & 0x40, 2, 0)
    inner = session + 4 + np.where(flags & 0x08, 4, 0)
    offset = be16(gather_block(octets, inner, 2), 0).astype(np.int64)
    inner = inner + np.where(flags & 0x02, 2 + offset, 0)
    found = (flags & 0x80 == 0) & (block[:, 1] & 0x0F == 2) & (inner < stop)
    identifier = be16(gather_block(octets, session + 2, 2), 0).astype(np.int64)
    return _Inner(found, inner, np.full(start.shape[0], LinkType.PPP, np.int32), identifier)


def _tzsp(octets: U8, block: U8, start: I64, stop: I64) -> _Inner:
    """TaZmen Sniffer Protocol: version 1, type 1, encapsulated protocol 2 (1 Ethernet), tags up to the end tag 1."""
    found: Mask = (block[:, 0] == 1) & (block[:, 1] <= 1) & (be16(block, 2) == 1)
    inner = start + 4
    alive = np.flatnonzero(found)
    for _ in range(_TZSP_TAGS):
        if alive.shape[0] == 0:
            break
        tag = gather_block(octets, inner[alive], 2)
        inner[alive] += np.where(tag[:, 0] <= 1, 1, 2 + tag[:, 1].astype(np.int64))
        alive = alive[(tag[:, 0] != 1) & (inner[alive] < stop[alive])]
    found[alive] = False
    found &= inner + 14 <= stop
    return _Inner(found, inner, np.full(start.shape[0], LinkType.ETHERNET, np.int32), _none(start.shape[0]))


def _gre(octets: U8, start: I64, stop: I64) -> tuple[_Inner, Mask]:
    """RFC 2784 2.1 and RFC 2890: C, K and S bits each add 4 octets; version 1 is PPTP's (RFC 2637 4.1).

    ERSPAN (draft-foschiano-erspan) is Ethernet behind 8 octets where the S bit is set (type II), none where it is not
    (type I), or 12 and 8 more with the O bit (type III).

    Returns
    -------
    _Inner
    (N,) bool
        ERSPAN.
    """
    block = gather_block(octets, start, 4)
    flags, version = block[:, 0], block[:, 1] & 7
    protocol = be16(block, 2)
    extra = ((flags >> 7) & 1).astype(np.int64) + ((flags >> 5) & 1) + ((flags >> 4) & 1)
    acknowledged = (version == 1) & (block[:, 1] & 0x80 != 0)
    inner = start + 4 + extra * 4 + np.where(acknowledged, 4, 0)
    erspan = (protocol == _ERSPAN) | (protocol == _ERSPAN_III)
    sub_header = (gather_block(octets, inner + 11, 1)[:, 0] & 1).astype(np.int64)
    inner += np.where(protocol == _ERSPAN_III, 12 + 8 * sub_header, 8 * ((protocol == _ERSPAN) & (flags & 0x10 != 0)))
    bridged = erspan | (protocol == ETHERTYPE_TRANSPARENT_BRIDGING)
    label = np.isin(protocol, ETHERTYPE_MPLS)
    point = protocol == _PPP
    is_ip = (protocol == ETHERTYPE_IPV4) | (protocol == ETHERTYPE_IPV6)
    # The routing bit (RFC 1701) is obsolete and its length variable: such packets stay outer packets.
    found = (flags & 0x40 == 0) & (((version == 0) & (bridged | label | is_ip | point)) | ((version == 1) & point))
    found &= inner + np.select([bridged, label], [14, 8], 1) <= stop
    link = np.select([bridged, label, point], [LinkType.ETHERNET, LinkType.MPLS, LinkType.PPP], LinkType.RAW).astype(
        np.int32
    )
    return _Inner(found, inner, link, _none(start.shape[0])), erspan


class _Collected:
    """The inner packets of one level while they are found; one kind a packet, the first that claims it."""

    def __init__(self, n: int) -> None:
        self._taken: Mask = np.zeros(n, bool)
        self._found: list[InnerPackets] = []

    def add(self, rows: I64, kind: int | I32, inner: _Inner, protocol: U8 | None = None) -> None:
        """Take what `inner` found of the packets `rows`."""
        at = np.flatnonzero(inner.found)
        if at.shape[0] == 0:
            return
        at = at[~self._taken[rows[at]]]
        self._taken[rows[at]] = True
        kinds = np.broadcast_to(np.asarray(kind, np.int32), rows.shape)[at]
        following = np.zeros(at.shape[0], np.uint8) if protocol is None else protocol[at]
        self._found.append(
            InnerPackets(rows[at], kinds, inner.identifier[at], inner.start[at], inner.link_type[at], following)
        )

    def merged(self) -> InnerPackets:
        """All of them in the order of their carriers."""
        if not self._found:
            none64, none32 = np.empty(0, np.int64), np.empty(0, np.int32)
            return InnerPackets(none64, none32, none64, none64, none32, np.empty(0, np.uint8))
        if len(self._found) == 1:
            return self._found[0]
        columns = [np.concatenate(column) for column in zip(*self._found, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        return InnerPackets(*(column[order] for column in columns))


def _in_ip(collected: _Collected, octets: U8, protocol: U8, start: I64, stop: I64) -> None:
    """Add the packets inside IP protocols that are tunnels."""

    def plain(rows: I64, skip: int, least: int, link: int) -> _Inner:
        inner = start[rows] + skip
        n = rows.shape[0]
        return _Inner(inner + least <= stop[rows], inner, np.full(n, link, np.int32), _none(n))

    for number, kind, skip, least, link in (
        (IPV4_IN_IP, IPIP, 0, 1, LinkType.RAW),
        (IPV6_IN_IP, IPV6IP, 0, 1, LinkType.RAW),
        (ETHERIP, ETHERIP_KIND, 2, 14, LinkType.ETHERNET),  # RFC 3378 2: version 3, reserved
        (MPLS_IN_IP, MPLS, 0, 8, LinkType.MPLS),  # RFC 4023 3
    ):
        rows = np.flatnonzero(protocol == number)
        if rows.shape[0]:
            collected.add(rows, kind, plain(rows, skip, least, link))
    rows = np.flatnonzero(protocol == GRE)
    if rows.shape[0]:
        inner, erspan = _gre(octets, start[rows], stop[rows])
        collected.add(rows, np.where(erspan, ERSPAN, GRE_KIND).astype(np.int32), inner)
    rows = np.flatnonzero(protocol == AUTHENTICATION)
    if rows.shape[0]:
        # RFC 4302 2: next header 1, length 1 in units of 4 less 2, reserved 2, SPI 4, sequence 4, check value.
        block = gather_block(octets, start[rows], 8)
        behind = start[rows] + (block[:, 1].astype(np.int64) + 2) * 4
        found = (block[:, 1] >= 1) & (behind <= stop[rows])
        none = np.full(rows.shape[0], TRANSPORT, np.int32)
        collected.add(rows, AH, _Inner(found, behind, none, _none(rows.shape[0])), block[:, 0])


def _in_udp(collected: _Collected, octets: U8, rows: I64, ports: tuple[U16, U16], start: I64, stop: I64) -> None:
    """Add the packets inside the UDP datagrams `rows`."""
    src, dst = ports[0][rows], ports[1][rows]
    start, stop = start[rows], stop[rows]
    block = gather_block(octets, start, 12)
    # One cheap look at the first octets leaves few candidates; most datagrams are none.
    flags = block[:, 0]
    some = np.flatnonzero((flags & 0x08 != 0) & (flags & 0x73 == 0))
    if some.shape[0]:
        collected.add(rows[some], VXLAN, _vxlan(octets, block[some], dst[some], start[some], stop[some]))
    protocol = be16(block, 2)
    some = np.flatnonzero(
        (protocol == ETHERTYPE_TRANSPARENT_BRIDGING) | (protocol == ETHERTYPE_IPV4) | (protocol == ETHERTYPE_IPV6)
    )
    if some.shape[0]:
        collected.add(rows[some], GENEVE, _geneve(octets, block[some], dst[some], start[some], stop[some]))
    teredo = (src == _TEREDO_PORT) | (dst == _TEREDO_PORT)
    some = np.flatnonzero(teredo | (flags >> 4 == 6))
    if some.shape[0]:
        collected.add(rows[some], TEREDO, _teredo(octets, block[some], teredo[some], start[some], stop[some]))
    for kind, port, reader in ((GTP_U, _GTP_U_PORT, _gtp_u), (L2TP, _L2TP_PORT, _l2tp), (TZSP, _TZSP_PORT, _tzsp)):
        some = np.flatnonzero((src == port) | (dst == port))
        if some.shape[0]:
            collected.add(rows[some], kind, reader(octets, block[some], start[some], stop[some]))
    some = np.flatnonzero(dst == _MPLS_PORT)
    if some.shape[0]:  # RFC 7510 3
        labels = np.full(some.shape[0], LinkType.MPLS, np.int32)
        fits = start[some] + 8 <= stop[some]
        collected.add(rows[some], MPLS, _Inner(fits, start[some], labels, _none(some.shape[0])))
    some = np.flatnonzero(dst == _LISP_PORT)
    if some.shape[0]:  # RFC 9300 5.1: 8 octets, then IP
        inner = start[some] + 8
        link = np.full(some.shape[0], LinkType.RAW, np.int32)
        collected.add(rows[some], LISP, _Inner(_is_ip(octets, inner, stop[some]), inner, link, _none(some.shape[0])))


def find_inner(octets: U8, protocol: U8, src_port: U16, dst_port: U16, start: I64, stop: I64) -> InnerPackets:
    """Find the packets that carry a packet.

    Parameters
    ----------
    octets : (B,) uint8
    protocol : (N,) uint8
        IANA protocol number of each packet whose payload is complete enough to look at.
    src_port, dst_port : (N,) uint16
    start, stop : (N,) int64
        Captured payload: of the UDP datagram, or of the IP packet for the protocols that are tunnels themselves.
    """
    collected = _Collected(protocol.shape[0])
    _in_ip(collected, octets, protocol, start, stop)
    # DNS is the one busy UDP service whose header could pass for another: it is never an overlay.
    rows = np.flatnonzero((protocol == UDP) & (start + 22 <= stop) & (dst_port != _DNS_PORT))
    if rows.shape[0]:
        _in_udp(collected, octets, rows, (src_port, dst_port), start, stop)
    return collected.merged()
