"""The connection table: whole columns, and what they say agrees with what was read connection by connection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.report.sections.connections import ConnectionTable, first_distinct
from tests.conftest import LAB

NAMES = ("05-proxy-cleartext.pcap", "06c-ssh-interactive.pcap", "15b-ipv6-proxy-cleartext.pcap", "29-fmt-empty.pcap")


@given(st.lists(st.integers(0, 9)))
def test_first_distinct_keeps_the_order(rows: list[int]) -> None:
    assert first_distinct(np.array(rows, np.int64), 10).tolist() == list(dict.fromkeys(rows))


def table_of(name: str) -> ConnectionTable:
    with open_capture(str(LAB / name)) as reader:
        result = run(reader)
    return ConnectionTable(result.audit, result.inputs)


@pytest.mark.parametrize("name", NAMES)
def test_columns_have_a_value_for_each_connection(name: str) -> None:
    table = table_of(name)
    columns = table.columns()
    # The names of the captures are filled in when frames are numbered by them.
    assert {column: len(values) for column, values in columns.items() if column not in ("capture", "last_capture")} == {
        column: len(table.flows) for column in columns if column not in ("capture", "last_capture")
    }


@pytest.mark.parametrize("name", NAMES)
def test_requests_are_told_of_each_connection(name: str) -> None:
    table = table_of(name)
    columns, evidence = table.columns(), table.audit.evidence
    for row in range(len(table.flows)):
        requests, responses = evidence.requests.get(row, []), evidence.responses.get(row, [])
        ssh = evidence.ssh.get(row)
        agent = ssh.client_banner if ssh else next((r.user_agent for r in requests if r.user_agent), "")
        assert columns["user_agent"][row] == agent
        assert all(r.method in columns["activity"][row] for r in requests[:1])
        assert columns["http_statuses"][row].split() == sorted({str(r.status) for r in responses if r.status})
        assert bool(columns["credentials"][row]) == any(r.credential for r in requests)


@pytest.mark.parametrize("name", NAMES)
def test_evidence_lies_within_the_connection_or_before(name: str) -> None:
    columns = table_of(name).columns()
    for text, last in zip(columns["evidence_frames"], columns["last_frame"], strict=True):
        frames = [int(frame) for frame in text.split()]
        assert frames == sorted(set(frames))
        assert all(0 < frame <= last for frame in frames)


def test_services_are_in_order_of_their_text() -> None:
    table = table_of(NAMES[0])
    texts, place = table.services
    assert texts == sorted(texts)
    port = table.flows.port[:, 1].tolist()
    for row, at in enumerate(place[table.audit.roles.service].tolist()):
        assert texts[at] == f"{table.server_address[row]}:{port[row]}"
