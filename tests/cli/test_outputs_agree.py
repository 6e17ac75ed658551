"""Every output of every recording says the same numbers, and the exit status with them."""

from __future__ import annotations

import csv
import gc
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analyzer.cli import cli
from analyzer.report.schema_document import CHANNEL_VERDICTS, SEVERITIES
from tests.conftest import LAB, lab_captures
from tests.unit.report.test_sarif import errors as sarif_errors

ACCEPTED = """\
suppressions:
  - {code: PW201, reason: known until the CA is rolled out, author: jane, expires: 2026-12-31}
  - {code: PW203, server: node2, reason: a collector with a token, author: jane, expires: 2026-12-31}
  - {code: PW104, reason: gone, author: jane, expires: 2026-01-01}
"""
NAMES = (
    "connections.csv", "channels.csv", "findings.csv", "connections.parquet", "channels.parquet", "findings.parquet",
    "r.json", "r.html", "r.md", "r.sarif",
)  # fmt: skip


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """``analyze`` switches the collector off for the rest of its process, which here is ours."""
    yield
    gc.enable()


def invoke(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(cli, list(map(str, arguments)), env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def everything(folder: Path) -> list[str]:
    one = [f"--{kind}={folder / name}" for kind, name in
           (("json", "r.json"), ("html", "r.html"), ("markdown", "r.md"), ("sarif", "r.sarif"))]  # fmt: skip
    return [f"--csv={folder}", f"--parquet={folder}", *one]


class Facts(dict[str, Any]):
    """Numbers as one output says them: ``connections``, ``status``, ``channels`` by verdict, ``findings`` by severity
    and suppressed or not, ``encryption`` by answer."""


def counted(findings: Any) -> Counter[tuple[str, bool]]:
    """Of pairs (severity, is suppressed)."""
    return Counter((severity, bool(state)) for severity, state in findings)


def active(findings: Counter[tuple[str, bool]]) -> Counter[str]:
    return Counter({severity: n for (severity, suppressed), n in findings.items() if not suppressed})


def of_json(path: Path) -> Facts:
    document = json.loads(path.read_text())
    return Facts(
        connections=document["summary"]["connections"],
        status=document["outcome"]["exit_status"],
        channels=Counter({k: v for k, v in document["summary"]["channels"].items() if v}),
        findings=counted((f["severity"], f["suppression"]) for f in document["findings"]),
        encryption=Counter({k: document["summary"][k] for k in ("encrypted", "cleartext", "undecidable")}),
        ids=sorted(f["id"] for f in document["findings"]),
    )


def of_csv(folder: Path) -> Facts:
    rows = {}
    for name in ("connections", "channels", "findings"):
        with (folder / f"{name}.csv").open(newline="") as stream:
            rows[name] = list(csv.DictReader(stream))
    whole = [row for row in rows["connections"] if row["leg_of"] == "-1"]
    return Facts(
        connections=len(whole),
        channels=Counter(row["verdict"] for row in rows["channels"]),
        findings=counted((row["severity"], row["suppressed"] == "true") for row in rows["findings"]),
        encryption=Counter(row["encryption"] for row in whole),
        ids=sorted(row["id"] for row in rows["findings"]),
    )


def of_parquet(folder: Path) -> Facts:
    connections, channels, findings = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("connections", "channels", "findings")
    )
    whole = connections[connections["leg_of"] < 0]
    return Facts(
        connections=len(whole),
        channels=Counter(channels["verdict"].tolist()),
        findings=counted(zip(findings["severity"], findings["suppressed"], strict=True)),
        encryption=Counter(whole["encryption"].tolist()),
        ids=sorted(findings["id"]),
    )


def of_sarif(path: Path) -> Facts:
    [run] = json.loads(path.read_text())["runs"]
    return Facts(
        connections=run["properties"]["connections"],
        status=run["invocations"][0]["exitCode"],
        findings=counted((r["properties"]["severity"], r.get("suppressions")) for r in run["results"]),
        ids=sorted(f"{r['ruleId']}/{r['properties']['channel']}" for r in run["results"]),
    )


def tally(text: str) -> Counter[str]:
    return Counter({word: int(n.replace(",", "")) for n, word in re.findall(r"([\d,]+) ([a-z-]+)", text)})


def of_markdown(path: Path) -> Facts:
    text = path.read_text()
    heads = re.findall(r"^#### ([A-Z]+)( \(suppressed\))? `([^`]+)`", text, re.M)
    table = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and " | " in line]
    summed = re.search(r"\. ([\d,]+) connections\. Exit status (\d)", text)
    assert summed
    return Facts(
        connections=int(summed[1].replace(",", "")),
        status=int(summed[2]),
        channels=Counter(c[0].split()[-1] for c in table if len(c) == 6 and c[0].split()[-1] in CHANNEL_VERDICTS),
        findings=counted((severity.lower(), state) for severity, state, _ in heads),
        ids=sorted(name for *_, name in heads),
    )


def of_terminal(text: str) -> Facts:
    findings = re.search(r"^Findings \((.*)\)$", text, re.M)
    channels = re.search(r"^Channels: (.*)$", text, re.M)
    connections = re.search(r"([\d,]+) connections?\.", text)
    assert channels
    assert connections
    said = tally(findings[1]) if findings else Counter()
    suppressed = said.pop("suppressed", 0)
    assert len(re.findall(r"^ [A-Z]+  SUPPRESSED  PW", text, re.M)) == suppressed
    return Facts(
        connections=int(connections[1].replace(",", "")),
        channels=Counter({k: v for k, v in tally(channels[1]).items() if v}),
        active=said,
        suppressed=suppressed,
    )


class Page(HTMLParser):
    """Findings of the page, by the classes of their articles; and all its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.severities: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        if tag == "article" and "finding" in classes:
            self.severities += [name for name in classes if name in SEVERITIES]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def of_html(path: Path) -> Facts:
    page = Page(path.read_text())
    text = " ".join(" ".join(page.texts).split())
    total = re.search(r"([\d,]+) connections?\. Quality of the capture", text)
    assert total
    return Facts(
        connections=int(total[1].replace(",", "")),
        every=Counter(page.severities),
        suppressed=len(re.findall(r"Suppressed until \d{4}-\d\d-\d\d by", text)),
    )


def compare(folder: Path, printed: str, status: int) -> dict[str, Any]:
    """Hold all outputs in `folder` against its JSON; return that."""
    truth = of_json(folder / "r.json")
    assert truth["status"] == status
    assert sarif_errors(json.loads((folder / "r.sarif").read_text())) == []
    for other in (of_csv(folder), of_parquet(folder), of_sarif(folder / "r.sarif"), of_markdown(folder / "r.md")):
        assert other == {name: truth[name] for name in other}
    suppressed = sum(n for (_, state), n in truth["findings"].items() if state)
    terminal = of_terminal(printed)
    assert terminal["connections"] == truth["connections"]
    assert terminal["channels"] == truth["channels"]
    assert terminal["active"] == active(truth["findings"])
    page = of_html(folder / "r.html")
    assert page["connections"] == truth["connections"]
    assert page["every"] == sum((Counter({s: n}) for (s, _), n in truth["findings"].items()), Counter())
    assert page["suppressed"] == terminal["suppressed"] == suppressed
    return truth


@pytest.mark.parametrize("capture", lab_captures(), ids=lambda p: p.name)
def test_outputs_agree_and_can_be_rendered_again(capture: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    done = invoke("analyze", capture, *everything(first))
    compare(first, done.stdout, done.exit_code)

    again = invoke("report", first / "r.json", *everything(second))

    assert (again.exit_code, again.stdout) == (done.exit_code, done.stdout)
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()} == set(NAMES)
    for name in NAMES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize("stem", ["01-default-insecure-kubelet", "05-proxy-cleartext", "09-anonymous-kubelet"])
def test_outputs_agree_on_what_is_suppressed(stem: str, tmp_path: Path) -> None:
    (tmp_path / "accepted.yaml").write_text(ACCEPTED)
    facts = LAB / "clusters" / stem
    arguments: list[str | Path] = ["analyze", LAB / f"{stem}.pcap", "--cluster", facts, "--fail-on=medium"]
    arguments += everything(tmp_path)
    without = invoke(*arguments)
    before = compare(tmp_path, without.stdout, without.exit_code)

    done = invoke(*arguments, f"--suppress={tmp_path / 'accepted.yaml'}", "--as-of=2026-12-01")

    truth = compare(tmp_path, done.stdout, done.exit_code)
    assert any(state for _, state in truth["findings"])
    assert set(truth["ids"]) == set(before["ids"])
    assert truth["channels"] == before["channels"]
    assert f"{tmp_path / 'accepted.yaml'}, line 4: expired on 2026-01-01: PW104 counts again" in done.stderr
    for name in ("r.html", "r.md", "findings.csv"):
        assert "known until the CA is rolled out" in (tmp_path / name).read_text()
    assert "known until the CA is rolled out" in " ".join(done.stdout.split())


def test_a_suppressed_finding_does_not_fail_the_run(tmp_path: Path) -> None:
    (tmp_path / "accepted.yaml").write_text(ACCEPTED)
    capture = LAB / "01-default-insecure-kubelet.pcap"
    accepted = ("--suppress", tmp_path / "accepted.yaml")

    assert invoke("analyze", "-q", capture).exit_code == 1
    assert invoke("analyze", "-q", capture, *accepted, "--as-of=2026-12-31").exit_code == 0
    assert invoke("analyze", "-q", capture, *accepted, "--as-of=2027-01-01").exit_code == 1


def test_report_judges_by_another_threshold_when_told(tmp_path: Path) -> None:
    invoke("analyze", LAB / "05-proxy-cleartext.pcap", "-q", "--json", tmp_path / "r.json")

    assert invoke("report", "-q", tmp_path / "r.json").exit_code == 1
    never = invoke("report", "-q", tmp_path / "r.json", "--fail-on=never", "--sarif=-")
    assert never.exit_code == 0
    invocation = json.loads(never.stdout)["runs"][0]["invocations"][0]
    assert (invocation["exitCode"], invocation["properties"]["failOn"]) == (0, "never")


def test_only_one_output_can_be_standard_output() -> None:
    done = invoke("analyze", LAB / "29-fmt-empty.pcap", "--sarif=-", "--markdown=-")

    assert done.exit_code == 2
    assert "only one output" in done.stderr
