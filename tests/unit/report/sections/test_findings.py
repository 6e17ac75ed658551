"""Findings: hosts and connections agree, the fingerprint depends on what is affected and on no order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.report.audit_result import AuditResult
from analyzer.report.sections.connections import ConnectionTable
from analyzer.report.sections.findings import finding_entry, rule_entry
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
