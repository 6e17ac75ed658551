"""First question: can a reader of the wire read the payload?"""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.flows import OTHER, PRINTABLE, TLS_DATA
from analyzer.protocols.evidence import Evidence
from analyzer.protocols.tls import null_cipher
from analyzer.registries import Encryption, Grade, Protocol, Ternary
from analyzer.schema import Mask
from analyzer.verdicts.columns import Answer

_CLEAR_TUNNELS: Final = (Protocol.VXLAN, Protocol.GENEVE, Protocol.IPIP, Protocol.GRE, Protocol.TUNNEL)
_PRINTABLE_SEGMENTS: Final = 2
"""Segments of text below which a conversation is not called cleartext for being printable."""


def judge_encryption(evidence: Evidence) -> Answer:
    """Answer for every flow; what was not recognised stays undecidable."""
    protocol = evidence.identification.protocol
    answer = Answer.undecided(len(evidence))
    encrypted, cleartext = Encryption.ENCRYPTED, Encryption.CLEARTEXT
    answer.doubt(protocol == Protocol.NO_DATA, "no payload was exchanged")

    tls = protocol == Protocol.TLS
    server_hello = tls & (evidence.tls_column("server_hello_seen") == 1)
    null = server_hello & null_cipher(evidence.tls_column("cipher_suite").astype(np.uint16))
    answer.settle(null, cleartext, Grade.OBSERVED, "the ServerHello chooses a cipher suite without encryption")
    answer.settle(server_hello, encrypted, Grade.OBSERVED, "the ServerHello chooses an encrypting cipher suite")
    data = evidence.flows.signature[:, :, TLS_DATA] > 0
    records = tls & (data[:, 0] | data[:, 1])
    is_text = _mostly_text(evidence)
    text = tls & ~evidence.tls_is("established", Ternary.YES) & is_text
    answer.doubt(
        records & text, "TLS records whose content reads as text: a cipher suite without encryption is possible"
    )
    answer.settle(
        records,
        encrypted,
        Grade.INFERRED,
        "TLS application data records; the handshake that chose their cipher suite was not captured",
    )
    answer.doubt(tls, "the TLS handshake did not get as far as choosing a cipher suite, or that part was not captured")

    # What a connection carries inside is as readable as the connection: TLS that was opened with keys was closed there.
    sheltered = (evidence.carrier >= 0) & np.append(server_hello & ~null, False)[evidence.carrier]
    answer.settle(
        sheltered & (protocol != Protocol.NO_DATA),
        encrypted,
        Grade.OBSERVED,
        "not encrypted itself, and carried here inside a TLS connection that only its keys open",
    )
    http = np.isin(protocol, (Protocol.HTTP1, Protocol.HTTP2))
    answer.settle(http, cleartext, Grade.OBSERVED, "HTTP is readable in the capture")
    ssh = protocol == Protocol.SSH
    answer.settle(ssh, encrypted, Grade.OBSERVED, "SSH: encrypted once the keys are exchanged (RFC 4253)")
    answer.settle(protocol == Protocol.WIREGUARD, encrypted, Grade.OBSERVED, "WireGuard always encrypts")
    answer.settle(protocol == Protocol.QUIC, encrypted, Grade.OBSERVED, "QUIC always encrypts (RFC 9001)")
    answer.settle(protocol == Protocol.IKE, encrypted, Grade.INFERRED, "IKE encrypts all but its first exchange")
    answer.settle(
        protocol == Protocol.ESP,
        encrypted,
        Grade.INFERRED,
        "ESP; its keys and with them a NULL cipher (RFC 2410) are negotiated out of sight",
    )
    answer.settle(
        protocol == Protocol.AH, cleartext, Grade.OBSERVED, "AH authenticates and does not encrypt (RFC 4302)"
    )
    answer.settle(
        np.isin(protocol, _CLEAR_TUNNELS), cleartext, Grade.OBSERVED, "the packets inside this tunnel are readable"
    )
    answer.settle(protocol == Protocol.DNS, cleartext, Grade.OBSERVED, "DNS messages are readable")
    unknown = protocol == Protocol.UNKNOWN
    answer.settle(unknown & is_text, cleartext, Grade.INFERRED, "every segment begins with readable text")
    answer.doubt(unknown, "the protocol was not recognised")
    return answer


def _mostly_text(evidence: Evidence) -> Mask:
    """Flows in which every segment that is not a recognised record begins with printable octets."""
    signature = evidence.flows.signature
    rows = np.flatnonzero(signature[:, 0, PRINTABLE] + signature[:, 1, PRINTABLE] >= _PRINTABLE_SEGMENTS)
    seen = signature[rows].sum(axis=1)
    total = seen[:, :PRINTABLE].sum(axis=1)  # the text among them is counted a second time
    text = np.zeros(len(evidence), bool)
    text[rows] = (seen[:, OTHER] == total) & (seen[:, PRINTABLE] == total)
    return text
