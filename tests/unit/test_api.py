"""The Python interface: the same as the command line, with frames; and importing it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

import analyzer
from analyzer.errors import CaptureFormatError, PlanewireError, ReportError
from analyzer.report.html import render_html
from tests.conftest import LAB

CAPTURE = LAB / "09-anonymous-kubelet.pcap"
FACTS = LAB / "clusters" / "09-anonymous-kubelet"


@pytest.fixture(scope="module")
def report() -> analyzer.Report:
    return analyzer.analyze(CAPTURE, cluster=FACTS)


def test_frames_are_those_of_the_document(report: analyzer.Report) -> None:
    assert report.connections["client_ip"].tolist() == report.document["connections"]["data"]["client_ip"]
    assert report.channels["id"].tolist() == [channel["id"] for channel in report.document["channels"]]
    assert report.findings["id"].tolist() == [finding["id"] for finding in report.document["findings"]]
    assert report.connections is report.connections
    assert "node1" in report.connections["server_name"].tolist()
    [concerned] = report.findings.query("severity == 'critical'")["connections"].tolist()
    assert report.connections["encryption"].iloc[concerned].eq("cleartext").all()


def test_every_output_can_be_made(report: analyzer.Report, tmp_path: Path) -> None:
    assert report.to_html() == render_html(report.document)
    for make, name in ((report.to_json, "r.json"), (report.to_html, "r.html"), (report.to_markdown, "r.md"),
                       (report.to_sarif, "r.sarif")):  # fmt: skip
        text = make(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    names = {path.name for path in [*report.to_csv(tmp_path / "csv"), *report.to_parquet(tmp_path / "parquet")]}
    assert len(names) == 6
    again = analyzer.Report.read(tmp_path / "r.json")
    assert again.to_html() == report.to_html()
    assert (again.exit_status, report.exit_status) == (1, 1)


def test_what_may_be_handed_over(tmp_path: Path) -> None:
    accepted = tmp_path / "accepted.yaml"
    accepted.write_text("suppressions: [{code: PW104, reason: r, author: a, expires: 2026-12-31}]")
    judged = [
        analyzer.analyze(str(CAPTURE), cluster=[FACTS], suppress=accepted, as_of=day, fail_on="critical").exit_status
        for day in (date(2026, 12, 31), date(2027, 1, 1))
    ]
    assert judged == [0, 1]
    keyed, log = LAB / "04-node-to-apiserver.pcap", LAB / "keylogs" / "04-node-to-apiserver.keys.log"
    with_keys, without = (analyzer.analyze(keyed, keys=keys, head_octets=8192).connections for keys in (log, ()))
    assert (with_keys["decryption"] != without["decryption"]).any()
    several = analyzer.analyze([CAPTURE, keyed])
    assert len(several.document["captures"]) == 2


def test_errors_are_one_line() -> None:
    with pytest.raises(PlanewireError, match="no such file"):
        analyzer.analyze("no-such.pcap")
    with pytest.raises(CaptureFormatError):
        analyzer.analyze(LAB / "README.md")
    with pytest.raises(ReportError):
        analyzer.Report.read(CAPTURE)


def test_it_says_what_it_is(report: analyzer.Report) -> None:
    assert "4 at-risk" in repr(report)
    assert report._repr_markdown_() == report.to_markdown()


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, analyzer\n"
        "assert analyzer.__version__\n"
        "loaded = {'numpy', 'pandas', 'click', 'yaml', 'jinja2', 'cryptography'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "try: analyzer.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "assert callable(analyzer.analyze) and 'pandas' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
