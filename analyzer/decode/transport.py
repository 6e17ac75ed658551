"""TCP (RFC 9293) and UDP (RFC 768) headers, many packets in one step."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from analyzer.copying import gather_items
from analyzer.registries import Decode
from analyzer.schema import I64, U8, U16, U32

TCP: Final = 6
UDP: Final = 17

TCP_HEADER: Final = np.dtype(
    [
        ("src_port", ">u2"),
        ("dst_port", ">u2"),
        ("seq", ">u4"),
        ("ack", ">u4"),
        ("offset", "u1"),
        ("flags", "u1"),
        ("window", ">u2"),
        ("checksum", ">u2"),
        ("urgent", ">u2"),
    ]
)
"""Fixed header, 20 octets; options follow when Data Offset > 5 (RFC 9293 3.1)."""
UDP_HEADER_LEN: Final = 8


class TransportColumns(NamedTuple):
    """Ports and sequence numbers; where ``status`` is not OK the rest is 0.

    ``status`` (N,) uint8 `Decode`; ``src_port``, ``dst_port`` (N,) uint16; ``payload_start`` (N,) int64, which lies
    past the captured octets where these end inside the TCP options;
    ``seq``, ``ack`` (N,) uint32; ``flags`` (N,) uint8.
    """

    status: U8
    src_port: U16
    dst_port: U16
    payload_start: I64
    seq: U32
    ack: U32
    flags: U8


def decode_transport(octets: U8, protocol: U8, start: I64, stop: I64, end: I64) -> TransportColumns:
    """Decode the TCP or UDP header at each `start`; other protocols give ``OTHER_TRANSPORT``.

    Parameters
    ----------
    octets : (B,) uint8
    protocol : (N,) uint8
        IANA protocol number.
    start, stop : (N,) int64
        Captured range of the transport layer.
    end : (N,) int64
        The end the network layer claims: a header that reaches past it is malformed, one that only reaches past
        `stop` is truncated by the capture. TCP options alone may be: what is read here stands before them.
    """
    header = gather_items(octets, start, TCP_HEADER.itemsize).view(TCP_HEADER)
    is_tcp, is_udp = protocol == TCP, protocol == UDP
    tcp_len = (header["offset"] >> 4).astype(np.int64) * 4
    header_len = np.where(is_tcp, tcp_len, UDP_HEADER_LEN)
    status = np.full(start.shape[0], Decode.OK, np.uint8)
    status[(is_tcp & (tcp_len < 20)) | (start + header_len > end)] = Decode.BAD_TRANSPORT
    # The fixed part comes first: if it is not there, what its fields say cannot be blamed.
    fixed = np.where(is_tcp, TCP_HEADER.itemsize, UDP_HEADER_LEN)
    status[start + fixed > stop] = Decode.TRUNCATED_TRANSPORT
    status[start + fixed > end] = Decode.BAD_TRANSPORT
    status[~(is_tcp | is_udp)] = Decode.OTHER_TRANSPORT
    good = status == Decode.OK
    tcp = good & is_tcp
    zero16, zero32 = np.uint16(0), np.uint32(0)
    return TransportColumns(
        status,
        np.where(good, header["src_port"].astype(np.uint16), zero16),
        np.where(good, header["dst_port"].astype(np.uint16), zero16),
        np.where(good, start + header_len, start),
        np.where(tcp, header["seq"].astype(np.uint32), zero32),
        np.where(tcp, header["ack"].astype(np.uint32), zero32),
        np.where(tcp, header["flags"], np.uint8(0)),
    )
