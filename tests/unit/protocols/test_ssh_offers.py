"""Key exchange offers: fingerprints, what both sides will use, and what of it is weak."""

from __future__ import annotations

import hashlib
import subprocess
from typing import Any

import numpy as np
import pytest

from analyzer.protocols.ssh import read_ssh, weakness
from analyzer.schema import SshFacts
from tests.heads_builder import build_heads
from tests.unit.protocols.streams_by_dpkt import LAB, connections, heads_of

GO = b"SSH-2.0-Go\r\n"
CLIENT = {
    "kex": "curve25519-sha256,diffie-hellman-group14-sha1,ext-info-c",
    "host": "ssh-ed25519,ssh-rsa",
    "cipher": "aes128-gcm@openssh.com,aes128-cbc",
    "mac": "hmac-sha2-256,hmac-md5",
}
OLD_SERVER = {"kex": "diffie-hellman-group14-sha1", "host": "ssh-rsa", "cipher": "aes128-cbc", "mac": "hmac-md5"}


def kexinit(offer: dict[str, str], first: bytes = b"") -> bytes:
    """A packet with SSH_MSG_KEXINIT (RFC 4253 6, 7.1), after `first`."""
    cipher, mac = [offer["cipher"]] * 2, [offer["mac"]] * 2
    lists = [offer["kex"], offer["host"], *cipher, *mac, "none", "none", "", ""]
    payload = bytes([20]) + bytes(16) + b"".join(len(n).to_bytes(4) + n.encode() for n in lists) + bytes(5)
    return first + packet(payload)


def packet(payload: bytes) -> bytes:
    padding = 8 - (5 + len(payload)) % 8 + 4
    return (1 + len(payload) + padding).to_bytes(4) + bytes([padding]) + payload + bytes(padding)


def read(client: bytes, server: bytes, **layout: Any) -> SshFacts:
    (facts,) = read_ssh(build_heads({0: client, 1: server}, **layout), np.array([0]))
    return facts


def test_the_first_name_of_the_client_that_the_server_has() -> None:
    facts = read(GO + kexinit(CLIENT), GO + kexinit(OLD_SERVER))

    assert dict(facts.negotiated) == {
        "kex": "diffie-hellman-group14-sha1",
        "host key": "ssh-rsa",
        "cipher to server": "aes128-cbc",
        "cipher to client": "aes128-cbc",
        "mac to server": "hmac-md5",
        "mac to client": "hmac-md5",
    }
    assert [name for name, _ in facts.weak] == ["diffie-hellman-group14-sha1", "ssh-rsa", "aes128-cbc", "hmac-md5"]
    assert all("(" in why for _, why in facts.weak)


def test_a_modern_pair_has_nothing_weak_and_no_mac() -> None:
    facts = read(GO + kexinit(CLIENT), GO + kexinit(CLIENT))

    assert dict(facts.negotiated)["cipher to server"] == "aes128-gcm@openssh.com"
    assert not [what for what, _ in facts.negotiated if what.startswith("mac")]
    assert facts.weak == ()


def test_hassh_is_md5_over_the_lists() -> None:
    facts = read(GO + kexinit(CLIENT), GO + kexinit(OLD_SERVER))

    text = f"{CLIENT['kex']};{CLIENT['cipher']};{CLIENT['mac']};none"
    assert facts.hassh == hashlib.md5(text.encode()).hexdigest()
    text = f"{OLD_SERVER['kex']};{OLD_SERVER['cipher']};{OLD_SERVER['mac']};none"
    assert facts.hassh_server == hashlib.md5(text.encode()).hexdigest()


def test_messages_to_be_ignored_may_come_first() -> None:
    ignore = packet(bytes([2]) + (4).to_bytes(4) + b"noop")
    assert read(GO + kexinit(CLIENT, first=ignore), GO).hassh
    other = packet(bytes([21]))
    assert not read(GO + kexinit(CLIENT, first=other), GO).hassh


def test_every_truncation_is_not_enough_octets() -> None:
    whole = GO + kexinit(CLIENT)
    server = GO + kexinit(OLD_SERVER)
    for stop in range(len(whole)):
        facts = read(whole[:stop], server)
        assert (facts.hassh, facts.negotiated, facts.weak, facts.client_offer) == ("", (), (), ())
        assert facts.hassh_server
    assert read(whole, server, holes={0: [(40, 41)]}).hassh == ""


@pytest.mark.parametrize(
    ("kind", "name", "weak"),
    [
        ("kex", "diffie-hellman-group1-sha1", True),
        ("kex", "sntrup761x25519-sha512@openssh.com", False),
        ("kex", "mlkem768x25519-sha256", False),
        ("encryption", "arcfour256", True),
        ("encryption", "aes256-ctr", False),
        ("encryption", "aes256-cbc", True),
        ("encryption", "none", True),
        ("mac", "hmac-sha2-512-etm@openssh.com", False),
        ("mac", "hmac-md5-96", True),
        ("host_key", "ssh-dss", True),
        ("host_key", "rsa-sha2-256", False),
    ],
)
def test_weak_algorithms_are_named_with_their_source(kind: str, name: str, weak: bool) -> None:
    assert bool(weakness(kind, name)) == weak


@pytest.mark.tshark
@pytest.mark.parametrize("name", ["06-ssh-tunnel.pcap", "06c-ssh-interactive.pcap"])
def test_hassh_of_the_lab_is_what_tshark_computes(name: str) -> None:
    fields = ["ssh.kex.hassh", "ssh.kex.hasshserver"]
    command = ["tshark", "-r", str(LAB / name), "-T", "fields", "-Y", "ssh.kex.hassh || ssh.kex.hasshserver"]
    command += [word for field in fields for word in ("-e", field)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    theirs = sorted(value for line in lines for value in line.split("\t") if value)
    found = [c for c in connections(LAB / name) if any(octets[:4] == b"SSH-" for _, octets, _ in c.segments[0][:1])]
    facts = read_ssh(heads_of(found), np.arange(len(found)))
    assert sorted(value for f in facts for value in (f.hassh, f.hassh_server) if value) == theirs
    assert theirs
