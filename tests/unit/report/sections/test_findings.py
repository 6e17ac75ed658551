"""Findings: hosts and connections agree, the fingerprint depends on what is affected and on no order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.report.audit_result import AuditResult
from analyzer.report.sections.connections import MAX_LISTED, ConnectionTable
from analyzer.report.sections.findings import finding_entry, rule_entry
from tests.builders import Conversation
from tests.capture_builders import Frame, pcap_file
from tests.conftest import LAB

NAMES = ("05-proxy-cleartext.pcap", "08b-etcd-cleartext.pcap", "15b-ipv6-proxy-cleartext.pcap")


def result_of(name: str) -> AuditResult:
    with open_capture(str(LAB / name)) as reader:
        return run(reader)


@pytest.mark.parametrize("name", NAMES)
def test_a_finding_names_the_servers_of_its_connections(name: str) -> None:
    result = result_of(name)
    table = ConnectionTable(result.audit, result.inputs)
    assert result.findings
    for finding in result.findings:
        entry = finding_entry(finding, table)
        servers = {table.server_address[row] for row in finding.connections}
        assert {host.split(" (")[0] for host in entry["hosts"]} == servers
        assert f": {len(finding.connections)} connection" in entry["message"]
        assert all(table.channel[row] == entry["channel"] for row in entry["connections"])
        for address in servers:
            assert address in entry["filter"] or len(servers) > 4


@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_is_of_what_is_affected(name: str) -> None:
    result = result_of(name)
    table = ConnectionTable(result.audit, result.inputs)
    for finding in result.findings:
        entry = finding_entry(finding, table)
        backwards = finding_entry(replace(finding, connections=finding.connections[::-1]), table)
        assert backwards["fingerprint"] == entry["fingerprint"]
        elsewhere = finding_entry(replace(finding, channel="elsewhere"), table)
        assert elsewhere["fingerprint"] != entry["fingerprint"]


def test_rules_say_how_they_answered() -> None:
    result = result_of(NAMES[0])
    entries = {entry["code"]: entry["counts"] for entry in map(rule_entry, result.counts)}
    found = {finding.rule.code for finding in result.findings}
    assert {code for code, counts in entries.items() if counts["violation"]} == found


def test_all_servers_are_counted_where_not_all_are_listed(tmp_path: Path) -> None:
    # Given more kubelets that serve metrics in cleartext than a finding lists
    count = MAX_LISTED + 7
    asked = b"GET /metrics HTTP/1.1\r\nHost: n\r\n\r\n"
    frames: list[bytes] = []
    for i in range(count):
        one = Conversation(server=f"10.0.0.{i + 1}", sport=40000 + i, dport=10255, isn=(i << 20, i << 21))
        frames += one.open().send(0, asked).frames
    path = tmp_path / "many.pcap"
    path.write_bytes(pcap_file([Frame(octets, 1_700_000_000_000_000_000 + i) for i, octets in enumerate(frames)]))
    with open_capture(str(path)) as reader:
        result = run(reader)

    entries = [finding_entry(finding, ConnectionTable(result.audit, result.inputs)) for finding in result.findings]

    assert any(f" to {count} hosts " in entry["message"] for entry in entries)
    assert max(len(entry["hosts"]) for entry in entries) == MAX_LISTED
