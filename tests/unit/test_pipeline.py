"""What the pipeline adds between its stages: which conversations carried packets, and of which tunnel."""

from __future__ import annotations

import struct

import pytest

from analyzer.pipeline import Pipeline
from analyzer.protocols.evidence import Evidence
from analyzer.registries import Protocol
from tests.builders import chunk, ethernet, geneve, ipv4, tcp, udp, vxlan

ICMP = ipv4(b"\x08\0" + bytes(30), protocol=1)
ARP = ethernet(bytes(28), 0x0806)


def read(*packets: bytes) -> Evidence:
    pipeline = Pipeline()
    pipeline.add(chunk([ethernet(packet) for packet in packets]))
    return pipeline.evidence()


def outer(payload: bytes, protocol: int = 17) -> bytes:
    return ipv4(payload, "1.1.1.1", "2.2.2.2", protocol)


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        pytest.param(outer(udp(vxlan(ethernet(ipv4(tcp(b"x")))), dport=8472)), Protocol.VXLAN, id="vxlan"),
        pytest.param(outer(udp(vxlan(ethernet(ICMP)), dport=8472)), Protocol.VXLAN, id="vxlan with ICMP"),
        pytest.param(outer(udp(geneve(ARP), dport=6081)), Protocol.GENEVE, id="geneve with ARP"),
        pytest.param(outer(ICMP, 4), Protocol.IPIP, id="ipip"),
        pytest.param(outer(b"\0\0\x88\xbe" + ARP, 47), Protocol.GRE, id="erspan"),
        pytest.param(outer(b"\x06\x04\0\0" + bytes(20) + tcp(b"x"), 51), Protocol.AH, id="authentication header"),
        pytest.param(outer(udp(b"\x30\xff\0\0" + bytes(4) + ICMP, 2152, 2152)), Protocol.TUNNEL, id="gtp-u"),
    ],
)
def test_a_carrier_is_known_by_whatever_it_carried(packet: bytes, kind: Protocol) -> None:
    evidence = read(packet)

    assert evidence.identification.protocol[0] == kind


def test_what_is_said_of_frames_yet_to_come_waits_for_them() -> None:
    pipeline = Pipeline()
    frames = [ethernet(ipv4(tcp(b"x", sport=port))) for port in (1001, 1002, 1003)]
    pipeline.add(chunk(frames[:1]), [(0, "of the section"), (1, "one"), (3, "three")])
    pipeline.add(chunk(frames[1:2], first_frame=2), [(2, "two")])
    pipeline.add(chunk(frames[2:], first_frame=3))
    assert pipeline.evidence().comments == {0: ("one",), 1: ("two",), 2: ("three",)}


def test_a_flow_of_nat_traversal_holds_ike_and_esp() -> None:
    """RFC 3948 2: IKE behind four zero octets, ESP by its SPI, and a single ff to keep the mapping alive."""
    ike = bytes(4) + bytes(range(1, 17)) + bytes([33, 0x20, 35, 8]) + bytes(4) + struct.pack(">I", 28)
    esp = b"\xc0\xff\xee\x01" + bytes(60)

    def on_4500(*payloads: bytes) -> int:
        evidence = read(*(outer(udp(payload, 4500, 4500)) for payload in payloads))
        return int(evidence.identification.protocol[0])

    assert on_4500(ike, ike) == Protocol.IKE
    assert on_4500(ike, esp, b"\xff", esp) == Protocol.ESP
    assert on_4500(b"\xff", b"\xff") == Protocol.UNKNOWN
