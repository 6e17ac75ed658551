"""Against other people's readers: tshark on the lab and public captures, the JA4 project's own expected outputs."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.protocols.tls import read_tls
from tests.unit.protocols.tls.conversations import PUBLIC, conversations, heads_of, lab, looks_like_tls
from tests.unit.protocols.tls.wire import table

Key = tuple[str, int, str, int]
LAB_CAPTURES = (
    "01-default-insecure-kubelet.pcap",
    "04c-pod-serviceaccount-any.pcap",
    "10-tls12.pcap",
    "10b-legacy-tls.pcap",
    "13-admission-aggregation.pcap",
    "15d-ipv6-pod-serviceaccount-any.pcap",
)
PUBLIC_CAPTURES = (
    "zeek/Traces/tls/tls1_1.pcap",
    "zeek/Traces/tls/hrr.pcap",
    "zeek/Traces/tls/ssl.v3.pcap",
    "zeek/Traces/tls/tls-fragmented-handshake.pcap.gz",
    "zeek/Traces/tls/client-certificate.pcap",
    "zeek/Traces/tls/ml-dsa-44-cert.pcap",
    "zeek/Traces/tls/tls13_psk_succesfull.pcap",
    "zeek/Traces/tls/tls13draft23-chrome67.0.3368.0-canary.pcap",
    "ja4/pcap/tls-handshake.pcapng",
    "ja4/pcap/browsers-x509.pcapng",
    "antrea-packet-capture-controller/capture.pcap",
)
FIELDS = (
    "frame.number",
    "ip.src",
    "ipv6.src",
    "tcp.srcport",
    "ip.dst",
    "ipv6.dst",
    "tcp.dstport",
    "tls.handshake.type",
    "tls.handshake.version",
    "tls.handshake.ciphersuite",
    "tls.handshake.extensions_server_name",
    "tls.handshake.extensions_alpn_str",
    "tls.handshake.extensions.supported_version",
    "tls.handshake.ja3",
    "tls.handshake.ja3s",
    "tls.handshake.extension.type",
    "tls.handshake.extension.len",
    "tls.handshake.random",
)
RETRY = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"


def facts(path: Path) -> dict[Key, list[dict[str, Any]]]:
    found = [c for c in conversations(path) if looks_like_tls(c)]
    heads, flags = heads_of(found)
    rows: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for c, row in zip(found, table(read_tls(heads, np.arange(len(found)), flags)), strict=True):
        rows[str(ipaddress.ip_address(c.key[0])), c.key[1], str(ipaddress.ip_address(c.key[2])), c.key[3]].append(row)
    return rows


def tshark(path: Path) -> list[dict[str, str]]:
    """Hellos as tshark reads them, over TCP only."""
    command = [
        "tshark",
        "-r",
        str(path),
        "-Y",
        "tcp && (tls.handshake.type == 1 || tls.handshake.type == 2)",
        "-T",
        "fields",
    ]
    command += [part for name in FIELDS for part in ("-e", name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


def drops_empty_padding(line: dict[str, str], row: dict[str, Any]) -> bool:
    """Tshark 4.0 leaves a padding extension without content out of its lists; JA3 and JA4 by their authors count it.

    The predicate is on the octets: the fingerprint with that one extension appended to tshark's list is ours.
    """
    kinds = [k for k in line["tls.handshake.extension.type"].split(",") if k]
    seen = int(row["ja4"][6:8])
    greased = sum(int(k) & 0x0F0F == 0x0A0A for k in kinds)
    return "21" not in kinds and seen == len(kinds) - greased + 1


def compare(path: Path) -> tuple[int, int]:
    """Compare every hello of a capture; how many ClientHellos and ServerHellos were."""
    rows = facts(path)
    clients, servers = 0, 0
    first: set[Key] = set()
    for line in tshark(path):
        src, dst = line["ip.src"] or line["ipv6.src"], line["ip.dst"] or line["ipv6.dst"]
        if "," in src or not line["tls.handshake.random"]:
            continue  # a packet inside a packet, or no hello of SSL 3.0 or later
        key = (src, int(line["tcp.srcport"]), dst, int(line["tcp.dstport"]))
        back = (*key[2:], *key[:2])
        where = f"{path.name} frame {line['frame.number']}"
        if line["tls.handshake.ja3"] and key not in first:
            first.add(key)
            (row,) = rows.get(key) or rows[back]
            clients += 1
            assert row["client_hello_seen"], where
            assert row["sni"] == (line["tls.handshake.extensions_server_name"] or None), where
            assert row["alpn_offered"] == (line["tls.handshake.extensions_alpn_str"] or None), where
            assert row["ja3"] == line["tls.handshake.ja3"] or drops_empty_padding(line, row), where
            offered = [int(v, 16) for v in line["tls.handshake.extensions.supported_version"].split(",") if v]
            offered = [v for v in offered if v <= 0x0304] or [int(line["tls.handshake.version"].split(",")[0], 16)]
            assert row["max_offered"] == max(offered), where
        if line["tls.handshake.ja3s"] and line["tls.handshake.random"].split(",")[0].replace(":", "") != RETRY:
            (row,) = rows.get(back) or rows[key]
            servers += 1
            version = line["tls.handshake.extensions.supported_version"] or line["tls.handshake.version"]
            assert row["version"] == int(version.split(",")[0], 16), where
            assert row["cipher_suite"] == int(line["tls.handshake.ciphersuite"].split(",")[0], 16), where
            assert row["ja3s"] == line["tls.handshake.ja3s"], where
            if row["version"] < 0x0304:
                assert row["alpn"] == (line["tls.handshake.extensions_alpn_str"] or None), where
    return clients, servers


@pytest.mark.tshark
@pytest.mark.parametrize("name", LAB_CAPTURES)
def test_hellos_of_the_lab_agree_with_tshark(name: str) -> None:
    clients, servers = compare(lab(name))
    assert clients >= 3
    assert servers >= 3


@pytest.mark.tshark
@pytest.mark.corpus
@pytest.mark.parametrize("name", PUBLIC_CAPTURES)
def test_hellos_of_public_captures_agree_with_tshark(name: str) -> None:
    compare(PUBLIC / name)


@pytest.mark.tshark
@pytest.mark.parametrize("name", ["10-tls12.pcap", "10b-legacy-tls.pcap"])
def test_certificates_in_clear_agree_with_tshark(name: str) -> None:
    """Every certificate tshark finds, and no other, with the CA names of every request."""
    path = lab(name)
    command = [
        "tshark",
        "-r",
        str(path),
        "-Y",
        "tls.handshake.certificate",
        "-T",
        "fields",
        "-e",
        "tls.handshake.certificate",
    ]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    theirs = {bytes.fromhex(c) for line in lines for c in line.split(",")}
    found = [c for c in conversations(path) if looks_like_tls(c)]
    heads, flags = heads_of(found)
    reading = read_tls(heads, np.arange(len(found)), flags)
    assert {c.der for c in reading.certificates} == theirs
    assert theirs
    asked = np.flatnonzero(reading.facts.certificate_requested == 2).tolist()
    assert [flow for flow, _ in reading.requested_names] == asked
    if name.startswith("10-"):
        assert {names for _, names in reading.requested_names} >= {("CN=kubernetes",)}


@pytest.mark.corpus
@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for p in (PUBLIC / "ja4" / "expected-python").glob("*.json")
        # The expected outputs name captures that are not in this set as well.
        if (PUBLIC / "ja4" / "pcap" / (name := p.name.removesuffix(".json"))).exists()
    ),
)
def test_ja4_is_what_its_authors_expect(name: str) -> None:
    path = PUBLIC / "ja4" / "pcap" / name
    expected = json.loads((PUBLIC / "ja4" / "expected-python" / f"{name}.json").read_text())
    rows = facts(path)
    for stated in expected:
        if "JA4.1" not in stated or not stated["JA4.1"].startswith("t"):
            continue
        key = (stated["src"], int(stated["srcport"]), stated["dst"], int(stated["dstport"]))
        ours = [row["ja4"] for row in rows.get(key, [])]
        wanted = stated["JA4.1"]
        if wanted[8:10] == "99":
            # Their program writes 99 for a protocol that is not ASCII; their specification (JA4.md, "ALPN Extension
            # Value") has since said: first and last digit of its hexadecimal form.
            assert rows[key][0]["alpn_offered"].startswith(r"\xba\xad")
            wanted = wanted[:8] + "bd" + wanted[10:]
        assert wanted in ours, key
