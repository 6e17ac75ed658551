"""Link-layer headers: from the first captured octet to the network layer.

Each reader gives, for many frames at once, where the next header begins and its EtherType. Link types without an
EtherType field are mapped onto one, so that what follows (tags, IP) is one path. Layouts are those of
https://www.tcpdump.org/linktypes.html where no other source is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from analyzer.decode.gather import be16, gather_block
from analyzer.registries import LinkType
from analyzer.schema import I32, I64, U8, Mask

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
ETHERTYPE_MPLS: Final = (0x8847, 0x8848)
ETHERTYPE_PPPOE_SESSION: Final = 0x8864
ETHERTYPE_TRANSPARENT_BRIDGING: Final = 0x6558
ETHERTYPE_VN_TAG: Final = 0x8926
ETHERTYPE_E_TAG: Final = 0x893F
ETHERTYPE_PBB: Final = 0x88E7
"""IEEE 802.1ah: a service tag of four octets in front of a whole Ethernet frame."""
ETHERTYPE_MACSEC: Final = 0x88E5
ETHERTYPE_NSH: Final = 0x894F
VLAN_TAGS: Final = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
"""802.1Q, 802.1ad, and the values deployed before 802.1ad had its own."""
MAX_TAGS: Final = 64
"""Stacked tags and labels followed per frame; a legal frame has at most a handful."""

# PPP protocol numbers (IANA ppp-numbers) that carry IP or MPLS, and the EtherType they stand for.
_PPP_ETHERTYPES: Final = {0x0021: ETHERTYPE_IPV4, 0x0057: ETHERTYPE_IPV6, 0x0281: 0x8847, 0x0283: 0x8848}

ETHERTYPE_NONE: Final = 0
"""Not an IP packet, or too short to tell: 0 is below every EtherType (IEEE 802.3 length field)."""


_Reader = Callable[[U8, I64, I64], tuple[I32, I64]]
"""From octets, start and stop of each frame to the EtherType and start of what follows."""


class LinkColumns(NamedTuple):
    """Where the network layer begins, per frame.

    ``ethertype`` (N,) int32; ``start`` (N,) int64; ``cut`` (N,) bool: the capture ends inside the link header;
    ``unsupported`` (N,) bool: no reader for this link type; ``vlan`` (N,) int32: innermost VLAN id, -1 = untagged;
    ``deep`` (N,) bool: more tags and labels than `MAX_TAGS`.
    """

    ethertype: I32
    start: I64
    cut: Mask
    unsupported: Mask
    vlan: I32
    deep: Mask


def _by_version(octets: U8, start: I64) -> I32:
    """EtherType by the version nibble of the IP header (LINKTYPE_RAW says either may come)."""
    version = gather_block(octets, start, 1)[:, 0] >> 4
    return np.select([version == 4, version == 6], [ETHERTYPE_IPV4, ETHERTYPE_IPV6], ETHERTYPE_NONE).astype(np.int32)


def fits_ethertype(octets: U8, network: I64, ethertype: I32) -> Mask:
    """Whether the version nibble agrees with an IP EtherType; other EtherTypes are taken at their word: (N,) bool."""
    nibble = gather_block(octets, network, 1)[:, 0] >> 4
    agrees: Mask = ((ethertype != ETHERTYPE_IPV4) | (nibble == 4)) & ((ethertype != ETHERTYPE_IPV6) | (nibble == 6))
    return agrees


def _llc(octets: U8, start: I64) -> tuple[I32, I64]:
    """IEEE 802.2: DSAP 1, SSAP 1, control 1; SNAP (RFC 1042) adds OUI 3 and EtherType 2; SAP 6 is IPv4 itself."""
    block = gather_block(octets, start, 8)
    unnumbered = block[:, 2] == 3
    # OUI 00-00-00 is RFC 1042; 00-00-f8 is IEEE 802.1H bridging of the same EtherTypes.
    encapsulated = (block[:, 3:5] == 0).all(axis=1) & ((block[:, 5] == 0) | (block[:, 5] == 0xF8))
    snap = unnumbered & (be16(block, 0) == 0xAAAA) & encapsulated
    plain = unnumbered & (be16(block, 0) == 0x0606)
    ethertype = np.select([snap, plain], [be16(block, 6), ETHERTYPE_IPV4], ETHERTYPE_NONE).astype(np.int32)
    return ethertype, start + np.select([snap, plain], [8, 3], 0)


def _ethernet(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """IEEE 802.3: destination 6, source 6, EtherType 2; a value below 1536 is a length with LLC behind it."""
    ethertype = be16(gather_block(octets, start + 12, 2), 0)
    network = start + 14
    rows = np.flatnonzero(ethertype < 1536)
    if rows.shape[0]:
        ethertype[rows], network[rows] = _llc(octets, network[rows])
    return ethertype, network


def _ethernet_behind(extra: int) -> _Reader:
    """A reader of Ethernet with `extra` octets before its addresses, or before its type: the addresses are not read."""

    def read(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
        return _ethernet(octets, start + extra, stop)

    return read


def _llc_behind(extra: int) -> _Reader:
    """A reader of an IEEE 802.2 header behind `extra` octets."""

    def read(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
        return _llc(octets, start + extra)

    return read


def _ip_behind(extra: int) -> _Reader:
    """A reader of IP, of the version its first nibble tells, behind `extra` octets."""

    def read(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
        return _by_version(octets, start + extra), start + extra

    return read


def _only(ethertype: int) -> _Reader:
    """A reader for link types without a header, which carry one protocol."""

    def read(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
        return np.full(start.shape[0], ethertype, np.int32), start.copy()

    return read


def _sll(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_LINUX_SLL: packet type 2, ARPHRD 2, address length 2, address 8, protocol 2 (4 = 802.2 follows)."""
    ethertype, network = be16(gather_block(octets, start + 14, 2), 0), start + 16
    rows = np.flatnonzero(ethertype == 4)
    if rows.shape[0]:
        ethertype[rows], network[rows] = _llc(octets, network[rows])
    return ethertype, network


def _sll2(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_LINUX_SLL2: protocol 2, reserved 2, interface 4, ARPHRD 2, packet type 1, length 1, address 8."""
    ethertype, network = be16(gather_block(octets, start, 2), 0), start + 20
    rows = np.flatnonzero(ethertype == 4)
    if rows.shape[0]:
        ethertype[rows], network[rows] = _llc(octets, network[rows])
    return ethertype, network


def _ppp_protocol(octets: U8, start: I64) -> tuple[I32, I64]:
    """RFC 1661 2: a protocol field of two octets, or of one when its low bit is set (compressed)."""
    block = gather_block(octets, start, 2)
    compressed = (block[:, 0] & 1).astype(bool)
    number = np.where(compressed, block[:, 0], be16(block, 0))
    ethertype = np.select(
        [number == known for known in _PPP_ETHERTYPES], list(_PPP_ETHERTYPES.values()), ETHERTYPE_NONE
    )
    return ethertype.astype(np.int32), start + np.where(compressed, 1, 2)


def _ppp(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """RFC 1662 3.1: the address and control octets ff 03 may be left out."""
    block = gather_block(octets, start, 2)
    framed = (block[:, 0] == 0xFF) & (block[:, 1] == 3)
    return _ppp_protocol(octets, start + np.where(framed, 2, 0))


def _ppp_with_direction(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_PPP_WITH_DIR: one octet that tells who sent the frame, then PPP."""
    return _ppp(octets, start + 1, stop)


def _ppp_ether(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """RFC 2516 4: version/type 1, code 1, session 2, length 2, then PPP; code 0 is session data."""
    ethertype, network = _ppp_protocol(octets, start + 6)
    session = gather_block(octets, start, 2)[:, 1] == 0
    return np.where(session, ethertype, ETHERTYPE_NONE).astype(np.int32), network


def _c_hdlc(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """Cisco HDLC: address 1, control 1, EtherType 2 (RFC 1547 4.3.1)."""
    return be16(gather_block(octets, start, 4), 2), start + 4


def _frame_relay(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """RFC 2427 3: Q.922 address of 2 to 4 octets (the low bit ends it), control 03, pad 00, NLPID; or an EtherType.

    NLPID cc is IPv4, 8e IPv6, 80 SNAP without its LLC (RFC 2427 4). Cisco's encapsulation has an EtherType right
    behind the address.
    """
    block = gather_block(octets, start, 4)
    address = np.select([(block[:, i] & 1).astype(bool) for i in (1, 2, 3)], [2, 3, 4], 2)
    at = start + address
    block = gather_block(octets, at, 8)
    cisco = be16(block, 0)
    pad = (block[:, 1] == 0).astype(np.int64)
    nlpid = np.where(pad, block[:, 2], block[:, 1])
    snap = gather_block(octets, at + 2 + pad, 5)
    kinds = [block[:, 0] != 3, nlpid == 0xCC, nlpid == 0x8E, (nlpid == 0x80) & (snap[:, :3] == 0).all(axis=1)]
    ethertype = np.select(kinds, [cisco, ETHERTYPE_IPV4, ETHERTYPE_IPV6, be16(snap, 3)], ETHERTYPE_NONE)
    network = at + np.select(kinds, [2, 2 + pad, 2 + pad, 7 + pad], 0)
    return ethertype.astype(np.int32), network


def _nflog(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_NFLOG: family 1, version 1, resource 2, then TLVs in host byte order, padded to 4; type 9 is the packet.

    All frames take one TLV a step. Little-endian unless only the other order keeps the first TLV inside the frame.
    """
    block = gather_block(octets, start + 4, 4)
    first = np.where(block[:, 1] != 0, be16(block, 0), block[:, 0])
    swapped = (block[:, 1] != 0) & (start + 4 + first <= stop)
    network = stop.copy()  # no payload TLV: not IP
    at, alive = start + 4, np.arange(start.shape[0])
    for _ in range(_NFLOG_TLVS):
        if alive.shape[0] == 0:
            break
        block = gather_block(octets, at[alive], 4)
        little = np.stack([block[:, 1], block[:, 0], block[:, 3], block[:, 2]], axis=1)
        block = np.where(swapped[alive][:, None], block, little)
        length, kind = be16(block, 0).astype(np.int64), be16(block, 2)
        packet = kind == _NFLOG_PAYLOAD
        network[alive[packet]] = at[alive[packet]] + 4
        at[alive] += np.maximum((length + 3) & ~3, 4)
        alive = alive[~packet & (length >= 4) & (at[alive] + 4 <= stop[alive])]
    found = network < stop
    return np.where(found, _by_version(octets, network), ETHERTYPE_NONE).astype(np.int32), network


_NFLOG_PAYLOAD: Final = 9
_NFLOG_TLVS: Final = 64
"""TLVs followed per frame; the kernel writes fewer than 20 kinds (nfnetlink_log.h), each once."""


def _fddi(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """FDDI: frame control 1, destination 6, source 6; asynchronous LLC frames (0x5_) carry 802.2 (RFC 1188)."""
    control = gather_block(octets, start, 1)[:, 0]
    ethertype, network = _llc(octets, start + 13)
    return np.where(control & 0xF0 == 0x50, ethertype, ETHERTYPE_NONE).astype(np.int32), network


def _token_ring(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """IEEE 802.5: access 1, frame control 1, addresses 12; the source's top bit announces routing (5-bit length)."""
    block = gather_block(octets, start, 15)
    routing = np.where(block[:, 8] & 0x80, block[:, 14] & 0x1F, 0).astype(np.int64)
    ethertype, network = _llc(octets, start + 14 + routing)
    return np.where(block[:, 1] & 0xC0 == 0x40, ethertype, ETHERTYPE_NONE).astype(np.int32), network


def _arcnet_linux(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_ARCNET_LINUX: addresses 2, offset 2, type 1; RFC 1201 adds flag 1 and sequence 2, RFC 1051 nothing."""
    kind = gather_block(octets, start + 4, 1)[:, 0]
    kinds = [kind == 212, kind == 196, kind == 240]
    ethertype = np.select(kinds, [ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_IPV4], ETHERTYPE_NONE)
    return ethertype.astype(np.int32), start + np.where(kind == 240, 5, 8)


def _ipoib(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_IPOIB: Global Routing Header 40, EtherType 2, reserved 2 (RFC 4391 6)."""
    return be16(gather_block(octets, start + 40, 2), 0), start + 44


def _pflog(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_PFLOG: the first octet is the header's length, which is padded to 4."""
    length = gather_block(octets, start, 1)[:, 0].astype(np.int64)
    network = start + ((length + 3) & ~3)
    return _by_version(octets, network), network


def _ieee802_11(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """IEEE 802.11: see `_wlan`; no padding."""
    return _wlan(octets, start, np.zeros(start.shape[0], bool))


def _wlan(octets: U8, start: I64, padded: Mask) -> tuple[I32, I64]:
    """IEEE 802.11-2020 9.3.2: control 2, duration 2, addresses 18, sequence 2; then 802.2.

    A fourth address (6) when both DS bits are set, QoS control (2) when the subtype says so, HT control (4) when the
    order bit is set on a QoS frame. Only data frames that are not protected, carry a body, and are a whole or the
    first fragment have an LLC header; aggregates (A-MSDU) have further headers and are left.
    """
    block = gather_block(octets, start, 32)
    control, flags = block[:, 0], block[:, 1]
    qos = (control & 0x80) != 0
    four = flags & 3 == 3
    ordered = qos & (flags & 0x80 != 0)
    aggregate = qos & (np.where(four, block[:, 30], block[:, 24]) & 0x80 != 0)
    length = 24 + 6 * four.astype(np.int64) + 2 * qos + 4 * ordered
    length = np.where(padded, (length + 3) & ~3, length)
    data = (control & 0x0C == 0x08) & (control & 0x03 == 0) & (control & 0x40 == 0)
    data &= (flags & 0x40 == 0) & (block[:, 22] & 0x0F == 0) & ~aggregate
    ethertype, network = _llc(octets, start + length)
    return np.where(data, ethertype, ETHERTYPE_NONE).astype(np.int32), np.where(data, network, start)


def _radiotap(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """Radiotap: version 1, pad 1, length 2, presence words 4 each (top bit: another follows); then 802.11.

    The flags field (presence bit 1, behind the 8 octets of the clock, bit 0) tells whether the 802.11 header is
    padded to 4 octets (https://www.radiotap.org/fields/Flags.html).
    """
    block = gather_block(octets, start, 64)
    length = block[:, 2].astype(np.int64) | block[:, 3].astype(np.int64) << 8
    words = np.ones(start.shape[0], np.int64)
    more = (block[:, 7] & 0x80) != 0
    for word in range(1, 8):
        words += more
        more &= (block[:, 7 + 4 * word] & 0x80) != 0
    field = 4 + 4 * words
    clock = (block[:, 4] & 1).astype(bool)
    field = np.where(clock, ((field + 7) & ~7) + 8, field)
    flags = gather_block(octets, start + field, 1)[:, 0]
    padded = (block[:, 4] & 2 != 0) & (flags & 0x20 != 0) & (field < length)
    return _wlan(octets, start + length, padded)


def _avs_or_prism(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_IEEE802_11_AVS and _PRISM: an AVS header says 0x8021____ and its length; a Prism header has 144."""
    block = gather_block(octets, start, 8)
    avs = be16(block, 0) == 0x8021
    length = np.where(avs, be16(block, 6), 144).astype(np.int64)
    return _wlan(octets, start + length, np.zeros(start.shape[0], bool))


_READERS: Final[dict[int, tuple[int, _Reader]]] = {
    # link type: (octets the header has at least, reader)
    LinkType.ETHERNET: (14, _ethernet),
    LinkType.LINUX_SLL: (16, _sll),
    LinkType.LINUX_SLL2: (20, _sll2),
    LinkType.RAW: (0, _ip_behind(0)),
    LinkType.IPV4: (0, _only(ETHERTYPE_IPV4)),
    LinkType.IPV6: (0, _only(ETHERTYPE_IPV6)),
    12: (0, _ip_behind(0)),  # DLT_RAW as some systems write it into files
    14: (0, _ip_behind(0)),
    # An address family of 4 octets in the byte order of the capturing host; the IP version decides.
    LinkType.NULL: (4, _ip_behind(4)),
    LinkType.LOOP: (4, _ip_behind(4)),
    LinkType.PPP: (1, _ppp),
    LinkType.PPP_HDLC: (1, _ppp),
    LinkType.PPP_ETHER: (6, _ppp_ether),
    LinkType.PPP_WITH_DIR: (2, _ppp_with_direction),
    LinkType.C_HDLC: (4, _c_hdlc),
    LinkType.FRELAY: (4, _frame_relay),
    LinkType.NFLOG: (4, _nflog),
    LinkType.FDDI: (13, _fddi),
    LinkType.IEEE802_5: (14, _token_ring),
    LinkType.ARCNET_LINUX: (5, _arcnet_linux),
    LinkType.ATM_RFC1483: (3, _llc_behind(0)),
    LinkType.SUNATM: (7, _llc_behind(4)),
    LinkType.SLIP: (16, _ip_behind(16)),
    LinkType.ENC: (12, _ip_behind(12)),  # BSD IPsec: address family 4, SPI 4, flags 4
    LinkType.PFLOG: (4, _pflog),
    LinkType.IPOIB: (44, _ipoib),
    LinkType.MPLS: (4, _only(ETHERTYPE_MPLS[0])),
    LinkType.IEEE802_11: (10, _ieee802_11),
    LinkType.IEEE802_11_RADIOTAP: (18, _radiotap),
    LinkType.IEEE802_11_PRISM: (64, _avs_or_prism),
    LinkType.IEEE802_11_AVS: (64, _avs_or_prism),
    LinkType.NETANALYZER: (18, _ethernet_behind(4)),
    LinkType.NETANALYZER_TRANSPARENT: (26, _ethernet_behind(12)),  # 4 of its own, 8 of preamble
    LinkType.DSA_TAG_BRCM: (18, _ethernet_behind(4)),
    LinkType.DSA_TAG_BRCM_PREPEND: (18, _ethernet_behind(4)),
    LinkType.DSA_TAG_DSA: (18, _ethernet_behind(4)),
    LinkType.DSA_TAG_EDSA: (22, _ethernet_behind(8)),
}

_WRAPPERS: Final[dict[int, tuple[int, int, int]]] = {
    # link type: (octets the header has at least, column of its length, column of the inner link type)
    LinkType.PPI: (8, 2, 4),
    LinkType.PKTAP: (12, 0, 8),
}
"""Link types that hold another one, all fields little-endian; see `_unwrap`."""

SUPPORTED: Final = frozenset(_READERS) | frozenset(_WRAPPERS)


def _unwrap(octets: U8, start: I64, stop: I64, link_type: I32) -> tuple[I64, I32]:
    """Step over a header that names the link type behind it; start past `stop` where it is cut."""
    start, link_type = start.copy(), link_type.copy()
    for kind, (least, length_at, inner_at) in _WRAPPERS.items():
        rows = np.flatnonzero(link_type == kind)
        if rows.shape[0] == 0:
            continue
        block = gather_block(octets, start[rows], 12).astype(np.int64)
        length = np.maximum(block[:, length_at] | block[:, length_at + 1] << 8, least)
        inner = block[:, inner_at] | block[:, inner_at + 1] << 8
        cut = start[rows] + least > stop[rows]
        # What is cut, and what would wrap itself, keeps its type: there is no reader for it.
        link_type[rows] = np.where(cut | np.isin(inner, list(_WRAPPERS)), kind, inner)
        start[rows] += length
    return start, link_type


def _ethernet_over_mpls(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """A pseudowire's Ethernet frame behind the bottom label, with or without a control word (RFC 4448 4.6).

    Nothing announces it: it is taken for one where an IP EtherType agrees with the version of the header behind it.
    """
    ethertype, network = np.full(start.shape[0], ETHERTYPE_NONE, np.int32), start.copy()
    control_word = gather_block(octets, start, 1)[:, 0] >> 4 == 0
    for extra, wanted in ((0, np.ones(start.shape[0], bool)), (4, control_word)):
        kind, inner = _ethernet(octets, start + extra, stop)
        tagged = np.isin(kind, VLAN_TAGS)
        final = np.where(tagged, be16(gather_block(octets, inner + 2, 2), 0), kind).astype(np.int32)
        is_ip = (final == ETHERTYPE_IPV4) | (final == ETHERTYPE_IPV6)
        fits = wanted & is_ip & fits_ethertype(octets, inner + 4 * tagged, final) & (inner + 20 <= stop)
        fits &= ethertype == ETHERTYPE_NONE
        ethertype[fits], network[fits] = kind[fits], inner[fits]
    return ethertype, network


def _peel_tags(octets: U8, columns: LinkColumns, stop: I64) -> LinkColumns:
    """Step over VLAN tags, MPLS labels, PPPoE and their like, all frames one header at a time."""
    ethertype, start, cut, _, vlan, deep = columns
    # Nearly every frame is IP already: one pass tells that nothing is left to peel.
    rows = np.flatnonzero(~((ethertype == ETHERTYPE_IPV4) | (ethertype == ETHERTYPE_IPV6) | cut))
    for _ in range(MAX_TAGS):
        rows = rows[np.isin(ethertype[rows], _PEELED)]
        if rows.shape[0] == 0:
            return columns
        following, network = _peel(octets, ethertype[rows], start[rows], stop[rows], vlan, rows)
        ethertype[rows], start[rows] = following, network
        cut[rows] = network > stop[rows]
        rows = rows[network <= stop[rows]]
    deep[rows[np.isin(ethertype[rows], _PEELED)]] = True
    return columns


_PEELED: Final = np.array(
    [
        *VLAN_TAGS,
        *ETHERTYPE_MPLS,
        ETHERTYPE_PPPOE_SESSION,
        ETHERTYPE_VN_TAG,
        ETHERTYPE_E_TAG,
        ETHERTYPE_PBB,
        ETHERTYPE_MACSEC,
        ETHERTYPE_NSH,
    ],
    np.int32,
)


def _peel(octets: U8, ethertype: I32, start: I64, stop: I64, vlan: I32, rows: I64) -> tuple[I32, I64]:
    """One tag, label or session header of each frame; VLAN ids go to ``vlan[rows]``."""
    block = gather_block(octets, start, 8)
    following, network = ethertype.copy(), start + 4
    tag, label = np.isin(ethertype, VLAN_TAGS), np.isin(ethertype, ETHERTYPE_MPLS)
    vlan[rows[tag]] = be16(block, 0)[tag] & 0x0FFF
    following[tag] = be16(block, 2)[tag]
    short = np.flatnonzero(tag & (following < 1536))
    following[short], network[short] = _llc(octets, start[short] + 4)
    # RFC 3032 2.1: bottom of stack is bit 0 of the third octet; no type follows, the IP version tells.
    bottom = np.flatnonzero(label & (block[:, 2] & 1 != 0))
    if bottom.shape[0]:
        following[bottom] = _by_version(octets, start[bottom] + 4)
        # A pseudowire's Ethernet address may begin with a 4 or 6 too: a header that fits as Ethernet is that.
        kind, inner = _ethernet_over_mpls(octets, start[bottom] + 4, stop[bottom])
        wire = kind != ETHERTYPE_NONE
        following[bottom[wire]], network[bottom[wire]] = kind[wire], inner[wire]
    session = np.flatnonzero(ethertype == ETHERTYPE_PPPOE_SESSION)
    if session.shape[0]:
        following[session], network[session] = _ppp_ether(octets, start[session], stop[session])
    for extension, length in ((ETHERTYPE_VN_TAG, 6), (ETHERTYPE_E_TAG, 8)):  # IEEE 802.1BR and its forerunner
        extender = ethertype == extension
        following[extender] = be16(block, length - 2)[extender]
        network[extender] = start[extender] + length
    secured = np.flatnonzero(ethertype == ETHERTYPE_MACSEC)
    if secured.shape[0]:
        # IEEE 802.1AE 9.3: TCI and AN 1, short length 1, packet number 4, SCI 8 where the SC bit says so. Neither the
        # E nor the C bit: the data is only authenticated and follows as it was.
        control = block[secured, 0]
        behind = start[secured] + 6 + np.where(control & 0x20, 8, 0)
        clear = be16(gather_block(octets, behind, 2), 0)
        following[secured] = np.where(control & 0x0C == 0, clear, ETHERTYPE_NONE)
        network[secured] = behind + 2
    chained = np.flatnonzero(ethertype == ETHERTYPE_NSH)
    if chained.shape[0]:
        # RFC 8300 2.2: length in units of 4 in the low six bits of the second octet, next protocol in the fourth.
        behind = start[chained] + np.maximum(block[chained, 1] & 0x3F, 1).astype(np.int64) * 4
        carried = block[chained, 3]
        framed, framed_at = _ethernet(octets, behind, stop[chained])
        following[chained] = np.select(
            [carried == 1, carried == 2, carried == 3], [ETHERTYPE_IPV4, ETHERTYPE_IPV6, framed], ETHERTYPE_NONE
        )
        network[chained] = np.where(carried == 3, framed_at, behind)
    backbone = np.flatnonzero(ethertype == ETHERTYPE_PBB)
    if backbone.shape[0]:
        following[backbone], network[backbone] = _ethernet(octets, start[backbone] + 4, stop[backbone])
    return following, network


def read_link(octets: U8, start: I64, stop: I64, link_type: I32) -> LinkColumns:
    """Find the network layer of each frame.

    Parameters
    ----------
    octets : (B,) uint8
    start, stop : (N,) int64
        Captured octets of each frame, half-open.
    link_type : (N,) int32
        LINKTYPE_ value of each frame.

    Returns
    -------
    LinkColumns
        ``start`` may lie past ``stop`` only where ``cut`` is set.
    """
    n = start.shape[0]
    columns = LinkColumns(
        np.full(n, ETHERTYPE_NONE, np.int32),
        start.copy(),
        np.zeros(n, bool),
        np.zeros(n, bool),
        np.full(n, -1, np.int32),
        np.zeros(n, bool),
    )
    kinds = [int(link_type[0])] if n and (link_type == link_type[0]).all() else np.unique(link_type).tolist()
    if any(kind in _WRAPPERS for kind in kinds):
        start, link_type = _unwrap(octets, start, stop, link_type)
        kinds = np.unique(link_type).tolist()
    for kind in kinds:
        rows = np.flatnonzero(link_type == kind) if len(kinds) > 1 else np.arange(n)
        if kind not in _READERS:
            columns.unsupported[rows] = True
            continue
        header_len, reader = _READERS[kind]
        ethertype, network = reader(octets, start[rows], stop[rows])
        columns.cut[rows] = (start[rows] + header_len > stop[rows]) | (network > stop[rows])
        columns.ethertype[rows] = ethertype
        columns.start[rows] = network
    return _peel_tags(octets, columns, stop)
