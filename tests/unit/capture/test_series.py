"""Which file names belong to one recording, and what vantage points are called."""

from __future__ import annotations

import pytest

from analyzer.capture.series import labels, natural_key, series_key, stem


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["x.pcap", "x.pcap1", "x.pcap2", "x.pcap10"], id="tcpdump -C"),
        pytest.param(["x.pcap00", "x.pcap01", "x.pcap02.gz"], id="tcpdump -C -W -z gzip"),
        pytest.param(["x-2026-11-25_14:36:19.pcap", "x-2026-11-25_15:36:19.pcap"], id="tcpdump -G"),
        pytest.param(["x.1764081379.pcap", "x.1764084979.pcap1"], id="tcpdump -G -C"),
        pytest.param(["x_00001_20261125143619.pcapng", "x_00002_20261125153619.pcapng"], id="dumpcap -b"),
        pytest.param(["a/x.pcap", "a/x.pcap1"], id="in a folder"),
    ],
)
def test_rotated_files_are_one_series(names: list[str]) -> None:
    assert len({series_key(name) for name in names}) == 1
    assert sorted(set(names), key=natural_key) == names


@pytest.mark.parametrize(
    "names",
    [
        ["a/x.pcap", "b/x.pcap"],
        ["eth.pcap", "lo.pcap"],
        ["x.pcap", "x.pcapng"],
        ["control-plane.pcap", "node.pcap"],
        ["x.pcap", "x-1.pcap"],
    ],
)
def test_other_files_are_not(names: list[str]) -> None:
    assert len({series_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([["a/cp.pcap"], ["a/node.pcap.gz"]], ["cp", "node"]),
        ([["cp/x.pcap"], ["node/x.pcap"]], ["cp/x", "node/x"]),
        ([["r/cp/one/x.pcap"], ["r/node/one/x.pcap"], ["y.pcap"]], ["cp/one/x", "node/one/x", "y"]),
        ([["x_00001_2026.pcapng", "x_00002_2027.pcapng"], ["z.pcap"]], ["x_*_*", "z"]),
        ([["x.pcap", "x.pcap1"], ["y.pcap"]], ["x", "y"]),
        ([["x.pcap"], ["x.pcap1"]], ["x", "x (2)"]),
        ([["t.tar.gz:a/x.pcap"], ["t.tar.gz:b/x.pcap"]], ["t.tar.gz:a/x", "t.tar.gz:b/x"]),
        ([["a.pcap", "b12.pcap"], ["c.pcap"]], ["a", "c"]),
    ],
)
def test_vantage_points_get_names_that_tell_them_apart(groups: list[list[str]], expected: list[str]) -> None:
    assert labels(groups) == expected


def test_the_stem_of_a_name() -> None:
    assert [stem(name) for name in ("x.pcap.gz", "a/b.c.pcapng", "noext", ".pcap", "x.PCAP3.ZST")] == [
        "x",
        "b.c",
        "noext",
        ".pcap",
        "x",
    ]
