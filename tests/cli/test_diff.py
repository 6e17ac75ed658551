"""``planewire diff`` on recordings and reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analyzer.api import analyze
from analyzer.cli import cli
from analyzer.errors import InputError
from analyzer.report.diff import compare, is_empty
from tests.conftest import LAB, all_lab_captures

FACTS = LAB / "clusters" / "01-default-insecure-kubelet"
INSECURE = LAB / "01-default-insecure-kubelet.pcap"
REFUSING = LAB / "03-verification-failure-selfsigned.pcap"


def diff(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(cli, ["diff", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("capture", all_lab_captures(), ids=lambda p: p.name)
def test_a_recording_differs_in_nothing_from_itself(capture: Path) -> None:
    """Analysed twice, and once with what the cluster says about itself."""
    facts = LAB / "clusters" / capture.name.split(".", 1)[0]
    one, other = (analyze(capture).document for _ in range(2))
    assert is_empty(compare(one, other))
    if facts.is_dir():
        told = analyze(capture, cluster=facts).document
        assert is_empty(compare(told, told))


def test_captures_and_reports_can_be_mixed(tmp_path: Path) -> None:
    report = tmp_path / "no-suffix-at-all"
    report.write_text(analyze(INSECURE).to_json())

    for old, new in ((INSECURE, report), (report, INSECURE), (report, report)):
        done = diff(old, new, "--fail-on=any")
        assert done.exit_code == 0
        assert done.stdout.endswith("No difference.\n")


def test_a_kubelet_verified_at_last() -> None:
    done = diff(INSECURE, REFUSING)

    assert done.exit_code == 0
    assert "API server to kubelet: at-risk -> sound" in done.stdout
    assert "went: HIGH PW201/apiserver-to-kubelet" in done.stdout
    assert "server verification: unverified -> refused" in done.stdout


def test_and_the_other_way_round_it_fails(tmp_path: Path) -> None:
    done = diff(REFUSING, INSECURE, "--json", tmp_path / "d.json", "--markdown", tmp_path / "d.md")

    assert done.exit_code == 1
    assert diff(REFUSING, INSECURE, "--fail-on=critical", "-q").exit_code == 0
    written = json.loads((tmp_path / "d.json").read_text())
    assert [f["id"] for f in written["findings"] if f["state"] == "appeared" and f["severity"] == "high"] == [
        "PW201/apiserver-to-kubelet"
    ]
    assert "PW201/apiserver-to-kubelet" in (tmp_path / "d.md").read_text()


def test_cluster_facts_can_be_given_for_one_side() -> None:
    both = json.loads(diff(INSECURE, INSECURE, "--cluster", FACTS, "--json=-").stdout)
    one = json.loads(diff(INSECURE, INSECURE, "--new-cluster", FACTS, "--json=-").stdout)

    assert both["channels"] == both["findings"] == both["servers"] == []
    assert one["old"] == one["new"]


def test_keys_are_for_both_captures() -> None:
    """With keys the old one shows what the new one shows without: nothing is different for want of them."""
    capture, log = LAB / "03d-expired-accepted.pcap", LAB / "keylogs" / "03d-expired-accepted.keys.log"

    assert diff(capture, capture, "--keys", log, "--fail-on=any").exit_code == 0
    assert json.loads(diff(capture, capture, "--keys", log, "--json=-").stdout)["findings"] == []


def test_suppressions_of_both_captures(tmp_path: Path) -> None:
    accepted = tmp_path / "accepted.yaml"
    accepted.write_text("suppressions: [{code: PW201, reason: r, author: a, expires: 9999-12-31}]")

    assert diff(REFUSING, INSECURE, "--suppress", accepted).exit_code == 0


def test_a_folder_of_captures_is_one_side(tmp_path: Path) -> None:
    for capture in (INSECURE, REFUSING):
        (tmp_path / capture.name).symlink_to(capture)

    done = diff(INSECURE, tmp_path, "--json=-")

    assert sorted(Path(name).name for name in json.loads(done.stdout)["new"]) == [INSECURE.name, REFUSING.name]
    with pytest.raises(InputError, match=r"nowhere\.pcap"):
        diff(INSECURE, "nowhere.pcap")


def test_one_standard_output() -> None:
    assert diff(INSECURE, INSECURE, "--json=-", "--markdown=-").exit_code == 2
