"""docs/decoding.md names every link type there is a reader for, every tunnel, and the limits that hold."""

from __future__ import annotations

import re

from analyzer.decode import fragments, ip, link, packets, sightings, tunnel
from analyzer.registries import LinkType
from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "decoding.md").read_text()
_DLT_RAW = {12, 14}  #: other numbers of LINKTYPE_RAW in files of some systems


def test_every_link_type_with_a_reader_is_named_and_no_other() -> None:
    table = TEXT.split("## Link types")[1].split("Between link")[0]
    named = {LinkType[name] for name in re.findall(r"`([A-Z0-9_]+)`", table)}

    assert named == {LinkType(number) for number in link.SUPPORTED - _DLT_RAW}


def test_every_tunnel_is_named() -> None:
    text = TEXT.lower().replace(" ", "").replace("-", "")
    for name in tunnel.NAMES:
        spelled = {"ipip": "ipinip", "ipv6ip": "6in4"}.get(name, name.replace("-", ""))
        assert spelled in text, name


def test_limits_are_those_of_the_code() -> None:
    assert f"{link.MAX_TAGS} deep" in TEXT
    assert f"Up to {packets.MAX_TUNNEL_DEPTH} levels" in TEXT
    assert f"up to {ip.MAX_EXTENSION_HEADERS}" in TEXT
    assert f"{fragments.TIMEOUT_NS // 10**9} s, {fragments.MAX_DATAGRAMS:,} incomplete" in TEXT
    assert f"{fragments.MAX_OCTETS >> 20} MiB" in TEXT
    assert f"within {sightings.WINDOW_NS // 10**6} ms and {sightings.WINDOW_PACKETS} frames" in TEXT
    assert f"the same {sightings.COMPARED} octets" in TEXT
