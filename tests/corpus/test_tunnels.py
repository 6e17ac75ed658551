"""Tunnels and protected traffic that tshark finds in a capture are found here too."""

from __future__ import annotations

import csv
from collections import defaultdict

import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.registries import Protocol
from tests.conftest import SHARED

PUBLIC = SHARED / "public"

LAYERS = {
    # tshark's name: (what the encapsulation path or the protocol is called here, captures in which it is not found)
    "vxlan": ("vxlan", 0),
    # ARP right behind the Geneve header, which is neither Ethernet nor IP; of 10.
    "geneve": ("geneve", 1),
    "gre": ("gre", 0),
    "ah": ("ah", 0),
    "esp": ("esp", 0),
    # Two that only look like it: other messages between, or a forged length; of 14.
    "gtp": ("gtp-u", 2),
    # WireGuard between another protocol's messages on one port (Tailscale's), of which only the first are kept; of 5.
    "wg": ("wireguard", 2),
}


def found(name: str) -> set[str]:
    with open_capture(str(PUBLIC / name)) as reader:
        evidence = run(reader).audit.evidence
    names = {Protocol(number).name.lower() for number in set(evidence.identification.protocol.tolist())}
    for path in {evidence.paths[i] for i in evidence.flows.encapsulation.tolist()}:
        names |= {step.split(":")[0] for step in path.split("/")}
    return names | ({"gre"} if "erspan" in names else set()) | ({"gtp-u"} if "tunnel" in names else set())


@pytest.mark.corpus
def test_tunnels_tshark_finds_are_found() -> None:
    wanted: dict[str, set[str]] = defaultdict(set)
    with (PUBLIC / "oracle-tshark" / "tunnels.tsv").open() as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            wanted[row["file"]] |= set(row["layers"].split(",")) & LAYERS.keys()
    missing: dict[str, list[str]] = defaultdict(list)
    for name, layers in wanted.items():
        if layers:
            here = found(name)
            for layer in layers:
                if LAYERS[layer][0] not in here:
                    missing[layer].append(name)

    assert {layer: len(names) for layer, names in missing.items()} == {
        layer: count for layer, (_, count) in LAYERS.items() if count
    }, missing
