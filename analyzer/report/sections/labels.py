"""The words that stand in a document for numbers of the wire and of the registries."""

from __future__ import annotations

from typing import Final

from analyzer.decode.transport import TCP, UDP
from analyzer.registries import InitiatorSource, Protocol

PROTOCOLS: Final = {
    Protocol.UNKNOWN: "unknown",
    Protocol.NO_DATA: "no data",
    Protocol.TLS: "tls",
    Protocol.HTTP1: "http/1",
    Protocol.HTTP2: "http/2",
    Protocol.SSH: "ssh",
    Protocol.WIREGUARD: "wireguard",
    Protocol.ESP: "esp",
    Protocol.VXLAN: "vxlan",
    Protocol.GENEVE: "geneve",
    Protocol.IPIP: "ipip",
    Protocol.GRE: "gre",
    Protocol.DNS: "dns",
    Protocol.IKE: "ike",
    Protocol.QUIC: "quic",
    Protocol.AH: "ah",
    Protocol.ICMP: "icmp",
    Protocol.TUNNEL: "tunnel",
}
TRANSPORTS: Final = {
    TCP: "tcp",
    UDP: "udp",
    4: "ipip",
    41: "ipv6ip",
    47: "gre",
    50: "esp",
    51: "ah",
    97: "etherip",
    137: "mpls",
}
INITIATORS: Final = {
    InitiatorSource.SYN: "SYN",
    InitiatorSource.SYN_ACK: "SYN+ACK",
    InitiatorSource.CONTENT: "content",
    InitiatorSource.PORT: "port",
    InitiatorSource.FIRST_PACKET: "first packet",
}
TERNARIES: Final = ("", "no", "yes")
STACKS: Final = ("", "Go crypto/tls", "OpenSSL", "other")
# RFC 8446 4.2.7 and the IANA TLS Supported Groups registry: the ones clusters negotiate.
GROUPS: Final = {
    23: "secp256r1",
    24: "secp384r1",
    25: "secp521r1",
    29: "x25519",
    30: "x448",
    256: "ffdhe2048",
    257: "ffdhe3072",
    4587: "SecP256r1MLKEM768",
    4588: "X25519MLKEM768",
    4589: "SecP384r1MLKEM1024",
    25497: "X25519Kyber768Draft00",
}
