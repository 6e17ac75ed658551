from __future__ import annotations

import json

import numpy as np
import pytest

from analyzer.protocols.ssh import MAX_IDENTIFICATION, read_ssh
from tests.heads_builder import build_heads
from tests.unit.protocols.streams_by_dpkt import LAB, connections, heads_of

GO = b"SSH-2.0-Go\r\n"
OPENSSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\n"


def banners(client: bytes, server: bytes) -> tuple[str, str]:
    (facts,) = read_ssh(build_heads({0: client, 1: server}), np.array([0]))
    return facts.client_banner, facts.server_banner


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (GO + b"\x00\x00\x05\x14", "SSH-2.0-Go"),
        (b"SSH-1.99-Cisco-1.25\n", "SSH-1.99-Cisco-1.25"),
        (b"Welcome\r\nline two\r\n" + OPENSSH, "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10"),
        (b"\n" * 1023 + GO, "SSH-2.0-Go"),
        (b"\n" * 1024 + GO, ""),
        (b"xSSH-2.0-Go\r\n", ""),
        (b"SSH-2.0-" + b"v" * (MAX_IDENTIFICATION - 10) + b"\r\n", "SSH-2.0-" + "v" * (MAX_IDENTIFICATION - 10)),
        (b"SSH-2.0-" + b"v" * (MAX_IDENTIFICATION - 9) + b"\r\n", ""),
        (b"SSH-2.0-\xff\x1b[31m\r\n", "SSH-2.0-\xff\x1b[31m"),
        (b"", ""),
    ],
)
def test_identification_strings(octets: bytes, expected: str) -> None:
    assert banners(octets, GO) == (expected, "SSH-2.0-Go")
    assert banners(GO, octets) == ("SSH-2.0-Go", expected)


def test_every_truncation_is_not_enough_octets() -> None:
    for stop in range(len(OPENSSH)):
        assert banners(OPENSSH[:stop], GO) == ("", "SSH-2.0-Go")


def test_frames_and_holes() -> None:
    heads = build_heads(
        {0: b"hello\n" + GO, 1: OPENSSH, 2: GO, 3: OPENSSH},
        segments={0: [(0, 4), (6, 7)], 1: [(0, 5)]},
        holes={2: [(3, 5)]},
    )
    first, second = read_ssh(heads, np.array([0, 1]))
    assert (first.client_frame, first.server_frame) == (7, 5)
    assert (second.flow, second.client_banner, second.client_frame) == (1, "", 0)
    assert second.server_banner.startswith("SSH-2.0-OpenSSH")


@pytest.mark.skipif(not LAB.is_dir(), reason="the lab captures are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "client"), [("06-ssh-tunnel", "SSH-2.0-Go"), ("06c-ssh-interactive", "SSH-2.0-OpenSSH_9.2p1")]
)
def test_the_tunnel_is_told_from_an_administrator(name: str, client: str) -> None:
    truth = json.loads((LAB / f"{name}.truth.json").read_text())
    ports = {p for c in truth["channels"] if c["protocol"].startswith("SSH") for p in c["client_ports"]}
    found = connections(LAB / f"{name}.pcap")
    heads = heads_of(found)
    facts = [f for f in read_ssh(heads, np.arange(len(found))) if f.client_banner]
    assert {found[f.flow].client[1] for f in facts} == ports
    assert all(f.client_banner.startswith(client) for f in facts)
    assert all(f.server_banner.startswith("SSH-2.0-OpenSSH") for f in facts)
