from __future__ import annotations

import hashlib
import re
import tomllib

import numpy as np
import pytest

from analyzer.cluster.catalogue import channels, ports, read_channels, read_ports
from analyzer.errors import CatalogueError
from analyzer.rules import RULES
from tests.conftest import LAB, ROOT
from tests.golden.rebuild import generated_readme, generated_rules

ROW = """
[[channel]]
id = "a"
title = "A"
direction = "cluster"
client = "any"
server = "any"
expects = "any"
default = ""
core = false
source = "x"
"""


def test_recordings_are_those_of_the_manifest() -> None:
    listed = {row["name"]: row for row in tomllib.loads((LAB / "MANIFEST.toml").read_text())["capture"]}
    present = {p.name for p in LAB.iterdir() if p.suffix in {".pcap", ".pcapng", ".gz"}}
    assert set(listed) == present
    for name, row in listed.items():
        octets = (LAB / name).read_bytes()
        assert (len(octets), hashlib.sha256(octets).hexdigest()) == (row["octets"], row["sha256"]), name


def test_recordings_stay_small() -> None:
    assert sum(p.stat().st_size for p in LAB.rglob("*") if p.is_file()) <= 8_000_000


def test_rules_are_ordered_and_documented() -> None:
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"PW[1-9][0-9]{2}", rule.code)
        assert re.fullmatch(r"[a-z0-9.]+(-[a-z0-9.]+)*", rule.name)
        assert rule.source.startswith("https://")
        assert all((rule.title, rule.seen, rule.why, rule.remediation, rule.flags, rule.filter))
        assert rule.status in {"stable", "preview", "deprecated", "removed"}


def test_the_catalogue_is_whole() -> None:
    ids = [channel.id for channel in channels()]
    assert len(ids) == len(set(ids))
    for port in ports():
        assert port.service in ids
        assert port.source
    assert len({(p.number, p.transport) for p in ports()}) == len(ports())


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (ROW.replace("core = false", ""), "core"),
        (ROW + 'colour = "red"', "colour"),
        (ROW.replace('expects = "any"', 'expects = "luck"'), "expects"),
        (ROW.replace("core = false", 'core = "no"'), "core"),
        (ROW + ROW, "id"),
    ],
)
def test_a_catalogue_row_that_breaks_the_schema_is_named(text: str, key: str) -> None:
    with pytest.raises(CatalogueError, match=f"row 'a', key '{key}'"):
        read_channels(text)


def test_a_port_of_no_channel_is_named() -> None:
    with pytest.raises(CatalogueError, match="is no channel"):
        read_ports('[[port]]\nnumber = 1\ntransport = "tcp"\nservice = "nothing"\nsource = "x"\n', read_channels(ROW))


def test_the_readme_tables_are_generated() -> None:
    readme = (ROOT / "README.md").read_text()
    assert generated_readme(readme) == readme, "run `make golden`"


def test_the_rules_are_documented_from_their_records() -> None:
    assert (ROOT / "docs" / "rules.md").read_text() == generated_rules(), "run `make golden`"


def test_make_targets_the_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for name in re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text()):
        assert name in targets


def test_open_enumerations_keep_unknown_code_points() -> None:
    from analyzer.registries import LinkType, Protocol, TlsVersion

    assert LinkType(4711).name == "UNKNOWN_4711"
    assert int(TlsVersion(0x7F17)) == 0x7F17
    assert TlsVersion(0x7F17).label == "0x7f17"
    with pytest.raises(ValueError, match="-1"):
        Protocol(-1)


def test_tables_refuse_columns_of_different_length() -> None:
    from analyzer.protocols.identify import Identification

    with pytest.raises(ValueError, match="columns differ in length"):
        Identification(np.zeros(2, np.uint8), np.zeros(2, bool), np.zeros(3, np.int64))
