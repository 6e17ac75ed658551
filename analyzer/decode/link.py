"""Link-layer headers: from the first captured octet to the network layer.

Each reader gives, for many frames at once, where the next header begins and its EtherType. Link types without an
EtherType field are mapped onto one, so that what follows (tags, IP) is one path.
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
VLAN_TAGS: Final = (0x8100, 0x88A8, 0x9100, 0x9200)
"""802.1Q, 802.1ad, and the two values deployed before 802.1ad had its own."""
MAX_TAGS: Final = 8
"""Stacked tags and labels followed per frame; a legal frame has at most a handful."""

# PPP protocol numbers (IANA ppp-numbers) that carry IP, and the EtherType they stand for.
_PPP_IPV4: Final = 0x0021
_PPP_IPV6: Final = 0x0057

ETHERTYPE_NONE: Final = 0
"""Not an IP packet, or too short to tell: 0 is below every EtherType (IEEE 802.3 length field)."""


class LinkColumns(NamedTuple):
    """Where the network layer begins, per frame.

    ``ethertype`` (N,) int32; ``start`` (N,) int64; ``cut`` (N,) bool: the capture ends inside the link header;
    ``unsupported`` (N,) bool: no reader for this link type; ``vlan`` (N,) int32: innermost VLAN id, -1 = untagged.
    """

    ethertype: I32
    start: I64
    cut: Mask
    unsupported: Mask
    vlan: I32


def _by_version(octets: U8, start: I64) -> I32:
    """EtherType by the version nibble of the IP header (LINKTYPE_RAW says either may come)."""
    version = gather_block(octets, start, 1)[:, 0] >> 4
    return np.select([version == 4, version == 6], [ETHERTYPE_IPV4, ETHERTYPE_IPV6], ETHERTYPE_NONE).astype(np.int32)


def _ethernet(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """IEEE 802.3: destination 6, source 6, EtherType 2; a value below 1536 is a length with LLC/SNAP behind it."""
    block = gather_block(octets, start, 22)
    ethertype = be16(block, 12)
    network = start + 14
    short = ethertype < 1536
    if short.any():
        snap = short & (be16(block, 14) == 0xAAAA) & (block[:, 16] == 3) & (block[:, 17:20] == 0).all(axis=1)
        ethertype = np.where(snap, be16(block, 20), np.where(short, ETHERTYPE_NONE, ethertype)).astype(np.int32)
        network = np.where(snap, start + 22, network)
    return ethertype, network


def _sll(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_LINUX_SLL: packet type 2, ARPHRD 2, address length 2, address 8, protocol 2."""
    return be16(gather_block(octets, start, 16), 14), start + 16


def _sll2(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_LINUX_SLL2: protocol 2, reserved 2, interface 4, ARPHRD 2, packet type 1, length 1, address 8."""
    return be16(gather_block(octets, start, 2), 0), start + 20


def _raw(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    return _by_version(octets, start), start


def _null(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """LINKTYPE_NULL/LOOP: a 4-octet address family in the byte order of the capturing host; the IP version decides."""
    return _by_version(octets, start + 4), start + 4


def _ppp_protocol(octets: U8, start: I64) -> tuple[I32, I64]:
    """RFC 1661 2: a protocol field of two octets, or of one when its low bit is set (compressed)."""
    block = gather_block(octets, start, 2)
    compressed = (block[:, 0] & 1).astype(bool)
    number = np.where(compressed, block[:, 0], be16(block, 0))
    ethertype = np.select([number == _PPP_IPV4, number == _PPP_IPV6], [ETHERTYPE_IPV4, ETHERTYPE_IPV6], ETHERTYPE_NONE)
    return ethertype.astype(np.int32), start + np.where(compressed, 1, 2)


def _ppp(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """RFC 1662 3.1: the address and control octets ff 03 may be left out."""
    block = gather_block(octets, start, 2)
    framed = (block[:, 0] == 0xFF) & (block[:, 1] == 3)
    return _ppp_protocol(octets, start + np.where(framed, 2, 0))


def _ppp_ether(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """RFC 2516 4: version/type 1, code 1, session 2, length 2, then PPP; code 0 is session data."""
    ethertype, network = _ppp_protocol(octets, start + 6)
    session = gather_block(octets, start, 2)[:, 1] == 0
    return np.where(session, ethertype, ETHERTYPE_NONE).astype(np.int32), network


def _c_hdlc(octets: U8, start: I64, stop: I64) -> tuple[I32, I64]:
    """Cisco HDLC: address 1, control 1, EtherType 2 (RFC 1547 4.3.1)."""
    return be16(gather_block(octets, start, 4), 2), start + 4


_READERS: Final[dict[int, tuple[int, Callable[[U8, I64, I64], tuple[I32, I64]]]]] = {
    # link type: (octets the header has at least, reader)
    LinkType.ETHERNET: (14, _ethernet),
    LinkType.LINUX_SLL: (16, _sll),
    LinkType.LINUX_SLL2: (20, _sll2),
    LinkType.RAW: (0, _raw),
    LinkType.IPV4: (0, _raw),
    LinkType.IPV6: (0, _raw),
    12: (0, _raw),  # DLT_RAW as some systems write it into files
    14: (0, _raw),
    LinkType.NULL: (4, _null),
    LinkType.LOOP: (4, _null),
    LinkType.PPP: (1, _ppp),
    LinkType.PPP_HDLC: (1, _ppp),
    LinkType.PPP_ETHER: (6, _ppp_ether),
    LinkType.C_HDLC: (4, _c_hdlc),
}

SUPPORTED: Final = frozenset(_READERS)


def _peel_tags(octets: U8, columns: LinkColumns, stop: I64) -> LinkColumns:
    """Step over VLAN tags, MPLS labels and PPPoE, all frames one header at a time."""
    ethertype, start, cut, _, vlan = columns
    for _ in range(MAX_TAGS):
        # Nearly every frame is IP already: one pass tells that nothing is left to peel.
        if ((ethertype == ETHERTYPE_IPV4) | (ethertype == ETHERTYPE_IPV6) | (ethertype == ETHERTYPE_NONE)).all():
            break
        tagged = np.isin(ethertype, VLAN_TAGS)
        labelled = np.isin(ethertype, ETHERTYPE_MPLS)
        session = ethertype == ETHERTYPE_PPPOE_SESSION
        rows = np.flatnonzero((tagged | labelled | session) & ~cut)
        if rows.shape[0] == 0:
            break
        at = start[rows]
        block = gather_block(octets, at, 4)
        following, network = np.full(rows.shape[0], ETHERTYPE_NONE, np.int32), at
        is_tag, is_label = tagged[rows], labelled[rows]
        vlan[rows] = np.where(is_tag, be16(block, 0) & 0x0FFF, vlan[rows])
        # RFC 3032 2.1: bottom of stack is bit 0 of the third octet; no type follows, the IP version tells.
        bottom = is_label & (block[:, 2] & 1).astype(bool)
        following = np.select(
            [is_tag, bottom, is_label], [be16(block, 2), _by_version(octets, at + 4), ethertype[rows]], following
        ).astype(np.int32)
        network = np.where(is_tag | is_label, at + 4, network)
        if session[rows].any():
            ppp_type, ppp_start = _ppp_ether(octets, at, stop[rows])
            following = np.where(session[rows], ppp_type, following)
            network = np.where(session[rows], ppp_start, network)
        cut[rows] = network > stop[rows]
        ethertype[rows] = following
        start[rows] = network
    return columns


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
    )
    kinds = [int(link_type[0])] if n and (link_type == link_type[0]).all() else np.unique(link_type).tolist()
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
