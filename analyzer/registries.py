"""Open enumerations: every member cites its registry, every unknown code point survives as a number.

Columns hold the plain integers; these classes name them. An ``IntEnum`` that meets a value it does not
list makes an unnamed member of that value, so that a reader never fails on a code point it does not know.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class OpenEnum(IntEnum):
    """An ``IntEnum`` in which unlisted values are members named ``UNKNOWN_<value>``."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or value < 0:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


class LinkType(OpenEnum):
    """Link-layer header types, https://www.tcpdump.org/linktypes.html."""

    NULL = 0
    ETHERNET = 1
    IEEE802_5 = 6
    SLIP = 8
    PPP = 9
    FDDI = 10
    PPP_HDLC = 50
    PPP_ETHER = 51
    ATM_RFC1483 = 100
    RAW = 101
    C_HDLC = 104
    IEEE802_11 = 105
    FRELAY = 107
    LOOP = 108
    ENC = 109
    LINUX_SLL = 113
    PFLOG = 117
    IEEE802_11_PRISM = 119
    SUNATM = 123
    IEEE802_11_RADIOTAP = 127
    ARCNET_LINUX = 129
    IEEE802_11_AVS = 163
    PPI = 192
    PPP_WITH_DIR = 204
    MPLS = 219
    IPV4 = 228
    IPV6 = 229
    NFLOG = 239
    NETANALYZER = 240
    NETANALYZER_TRANSPARENT = 241
    IPOIB = 242
    PKTAP = 258
    LINUX_SLL2 = 276
    DSA_TAG_BRCM = 281
    DSA_TAG_BRCM_PREPEND = 282
    DSA_TAG_DSA = 283
    DSA_TAG_EDSA = 284


class Decode(OpenEnum):
    """What became of one frame or inner packet; the ledger counts by it.

    ``OK`` and the three ``NO_PORTS`` kinds are decoded packets that belong to a flow. All others are packets
    outside flows, each with its reason.
    """

    OK = 0  #: TCP or UDP, header complete
    OTHER_TRANSPORT = 1  #: a complete IP header whose protocol has no ports we read (ICMP, ESP, OSPF ...)
    LATER_FRAGMENT = 2  #: not the first fragment: the ports are in another packet
    NOT_IP = 3  #: another network layer (ARP, LLDP, STP ...)
    TRUNCATED_LINK = 4  #: fewer octets than the link-layer header
    TRUNCATED_NETWORK = 5  #: fewer octets than the IP header claims
    TRUNCATED_TRANSPORT = 6  #: fewer octets than the TCP or UDP header
    BAD_NETWORK = 7  #: version, header length or total length contradict RFC 791 3.1 or RFC 8200 3
    BAD_TRANSPORT = 8  #: TCP data offset below 5 or past the packet (RFC 9293 3.1)
    UNSUPPORTED_LINK = 9  #: a link type we have no decoder for
    TOO_DEEP = 10  #: more nested headers than the limit
    NOT_A_PACKET = 11  #: a record of another kind, which Wireshark numbers as a frame (pcapng custom block, journal)
    REPEATED = 12  #: the same packet, recorded before on another interface; counted there


class Protocol(OpenEnum):
    """What a flow carries, decided by its content."""

    UNKNOWN = 0
    NO_DATA = 1  #: not one octet of payload was seen
    TLS = 2
    HTTP1 = 3
    HTTP2 = 4  #: cleartext, by connection preface (RFC 9113 3.4); gRPC is a fact about it
    SSH = 5
    WIREGUARD = 6
    ESP = 7
    VXLAN = 8
    GENEVE = 9
    IPIP = 10
    GRE = 11
    DNS = 12
    IKE = 13
    QUIC = 14
    AH = 15
    ICMP = 16
    TUNNEL = 17  #: another tunnel whose content is clear: GTP-U, Teredo, L2TP, EtherIP, MPLS, LISP, TZSP


class TlsVersion(OpenEnum):
    """ProtocolVersion values (RFC 8446 4.1.2, RFC 8446 appendix D, RFC 6101)."""

    UNKNOWN = 0
    SSL_3_0 = 0x0300
    TLS_1_0 = 0x0301
    TLS_1_1 = 0x0302
    TLS_1_2 = 0x0303
    TLS_1_3 = 0x0304

    @property
    def label(self) -> str:
        """``"1.3"`` and the like; ``"SSL3.0"`` for SSL 3.0; empty when unknown."""
        known = {0: "", 0x0300: "SSL3.0", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
        return known.get(int(self), f"0x{int(self):04x}")


class InitiatorSource(OpenEnum):
    """How the flow table knows which side opened the connection."""

    SYN = 0  #: a SYN without ACK was captured
    SYN_ACK = 1  #: only the answer to the SYN was captured
    CONTENT = 2  #: a client's opening octets (ClientHello, request line, preface, banner order)
    PORT = 3  #: one port is below 32768 and the other is not, or is the lower of two registered ones
    FIRST_PACKET = 4  #: nothing better: whoever sent the first captured packet


class HeadStop(OpenEnum):
    """Why a stream head ends where it ends."""

    COMPLETE = 0  #: everything captured of this direction is in the head
    LIMIT = 1  #: the head limit was reached; the stream goes on
    SETTLED = 2  #: collection ended because the facts were complete


class Ternary(OpenEnum):
    """Yes, no, or cannot be told; the zero value is "cannot be told"."""

    UNKNOWN = 0
    NO = 1
    YES = 2


class Grade(OpenEnum):
    """How a value is known; weaker grades are larger numbers."""

    OBSERVED = 0  #: octets on the wire show it
    INFERRED = 1  #: record lengths or behaviour imply it
    DECLARED = 2  #: the configuration handed over says so
    DEFAULT = 3  #: nothing seen or declared; what Kubernetes does by default is stated beside it
    NONE = 4  #: not even a default applies

    @property
    def label(self) -> str:
        """Lower-case name, as it stands in the outputs."""
        return self.name.lower()


class Encryption(OpenEnum):
    """First question: can a reader of the wire read the payload?"""

    UNDECIDABLE = 0
    ENCRYPTED = 1
    CLEARTEXT = 2

    @property
    def label(self) -> str:
        """Lower-case name, as it stands in the outputs."""
        return self.name.lower()


class ClientCertificate(OpenEnum):
    """Second question: did the client present a certificate?"""

    UNDECIDABLE = 0
    PRESENTED = 1
    ABSENT = 2

    @property
    def label(self) -> str:
        """Lower-case name, as it stands in the outputs."""
        return self.name.lower()


class ServerVerification(OpenEnum):
    """Third question: did the client check who the server is?"""

    UNDECIDABLE = 0
    VERIFIED = 1
    UNVERIFIED = 2
    REFUSED = 3

    @property
    def label(self) -> str:
        """Lower-case name, as it stands in the outputs."""
        return self.name.lower()


class Severity(OpenEnum):
    """Severity of a finding; larger is worse."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def label(self) -> str:
        """Lower-case name, as it stands in the outputs."""
        return self.name.lower()
