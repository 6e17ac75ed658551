"""The usual frame, read from one gathered block: Ethernet or a cooked header, IPv4 without options, TCP.

Most frames of a cluster are such, whole and no fragment. Gathering link, network and transport header at once and
skipping every case that is not there costs a third of the general way. A frame is plain only where all that the general
way would find out is known; any other goes that way. `tests/unit/decode/test_plain.py` holds both to the same answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.copying import gather_items
from analyzer.decode.ip import mapped
from analyzer.decode.transport import TCP
from analyzer.registries import LinkType
from analyzer.schema import I64, CaptureChunk, PacketTable

_HEADERS: Final = 40
"""Octets of an IPv4 and a TCP header without options."""


def _layout(ethertype: int, network: int) -> np.dtype[np.void]:
    """Fields of a frame whose EtherType and network layer are at these offsets (RFC 791 3.1, RFC 9293 3.1)."""
    fields = {
        "ethertype": (">u2", ethertype),
        "version_ihl": ("u1", network),
        "total_length": (">u2", network + 2),
        "flags_offset": (">u2", network + 6),
        "protocol": ("u1", network + 9),
        "src": ("<u4", network + 12),
        "dst": ("<u4", network + 16),
        "src_port": (">u2", network + 20),
        "dst_port": (">u2", network + 22),
        "seq": (">u4", network + 24),
        "ack": (">u4", network + 28),
        "offset": ("u1", network + 32),
        "flags": ("u1", network + 33),
    }
    return np.dtype(
        {
            "names": list(fields),
            "formats": [kind for kind, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": network + _HEADERS,
        }
    )


_LINKS: Final[dict[int, tuple[int, np.dtype[np.void]]]] = {
    # link type: (octets of its header, layout); see `link` for the headers
    LinkType.ETHERNET: (14, _layout(12, 14)),
    LinkType.LINUX_SLL: (16, _layout(14, 16)),
    LinkType.LINUX_SLL2: (20, _layout(0, 20)),
}


def decode_plain(chunk: CaptureChunk) -> tuple[PacketTable, I64] | None:
    """Decode the plain frames of a chunk.

    Returns
    -------
    PacketTable
        One row a frame; those of frames that are not plain hold nothing to be read.
    others : (K,) int64
        Rows of the frames that are not plain.

    None where so few are plain that nothing is gained.
    """
    n = len(chunk)
    link_type = int(chunk.link_type[0]) if n else -1
    if link_type not in _LINKS or not (chunk.link_type == link_type).all():
        return None
    link_len, layout = _LINKS[link_type]
    header = gather_items(chunk.octets, chunk.start, layout.itemsize).view(layout)
    network = chunk.start + link_len
    header_len = (header["offset"] >> 4) * np.uint8(4)
    payload_len = header["total_length"].astype(np.int64)
    payload_len -= 20
    payload_len -= header_len
    payload_start = network + 20
    payload_start += header_len
    stop = chunk.start + chunk.captured_len
    plain = header["version_ihl"] == 0x45
    plain &= header["ethertype"] == 0x0800
    plain &= header["protocol"] == TCP
    # Neither the bit for more fragments nor an offset.
    plain &= (header["flags_offset"] & np.uint16(0x3FFF)) == 0
    plain &= header_len >= 20
    plain &= payload_len >= 0
    plain &= payload_start <= stop
    others = np.flatnonzero(~plain)
    if others.shape[0] * 2 > n:
        return None
    table = PacketTable(
        frame=np.arange(chunk.first_frame, chunk.first_frame + n, dtype=np.int64),
        time_ns=chunk.time_ns,
        interface=chunk.interface,
        depth=np.zeros(n, np.uint8),
        encapsulation=np.zeros(n, np.int32),
        status=np.zeros(n, np.uint8),  # Decode.OK
        wire_len=chunk.wire_len,
        protocol=np.full(n, TCP, np.uint8),
        src=mapped(header["src"]),
        dst=mapped(header["dst"]),
        src_port=header["src_port"].astype(np.uint16),
        dst_port=header["dst_port"].astype(np.uint16),
        payload_start=payload_start,
        payload_stop=np.minimum(stop, payload_start + payload_len),
        payload_len=payload_len,
        seq=header["seq"].astype(np.uint32),
        ack=header["ack"].astype(np.uint32),
        tcp_flags=header["flags"].copy(),
    )
    return table, others
