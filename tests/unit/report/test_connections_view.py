"""Groups and packed rows hold what the connections table holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from analyzer.report.connections_view import MAX_GROUPS, endpoint, grouped, packed, row_order, rows
from analyzer.report.text import visible
from tests.document_example import example_document


def _code(data: Any, column: Any, at: int) -> int:
    if "kinds" in column:
        return int(column["kinds"][data["kind"][at]])
    if "of" in column:
        return int(column["map"][_code(data, data["columns"][column["of"]], at)])
    return int(column["rows"][at]) if "rows" in column else 0


def _value(data: Any, name: str, at: int) -> Any:
    """What the page's script does to read one cell, in Python."""
    column = data["columns"][name]
    if "numbers" in column:
        return column["numbers"][at]
    if "number" in column:
        return column["number"]
    return column["values"][_code(data, column, at)]


def test_a_name_is_told_once_for_each_address_and_by_the_row_where_addresses_share_it() -> None:
    document = example_document(400, 5)
    table = document["connections"]
    assert packed(table, range(400), {})["columns"]["client_name"]["of"] == "client_ip"
    table["data"]["client_name"][7] = "another name of the same address"
    again = packed(table, range(400), {})
    assert "rows" in again["columns"]["client_name"]
    assert _value(again, "client_name", 7) == "another name of the same address"


@pytest.mark.parametrize("count", [1, 5, 400])
def test_packed_rows_unpack_to_the_same_rows(count: int) -> None:
    document = example_document(count, 5)
    table = document["connections"]
    order = list(reversed(range(count)))
    data = packed(table, order, {})
    assert data["count"] == count
    for name in data["columns"]:
        unpacked = [_value(data, name, at) for at in range(count)]
        captured = [table["data"][name][row] for row in order]
        assert unpacked == [visible(value) if isinstance(value, str) else value for value in captured]


def test_rows_come_by_channel_worst_first() -> None:
    document = example_document(60)
    ids = ["kubelet-readonly", "dns"]
    order = row_order(document["connections"], ids)
    channels = [row["channel"] for row in rows(document["connections"], order)]
    assert sorted(order) == list(range(60))
    assert channels[:6] == ["kubelet-readonly"] * 6
    assert channels[6:12] == ["dns"] * 6


def test_groups_add_up_to_the_connections() -> None:
    document = example_document(5000, 50)
    data = document["connections"]["data"]
    counted = Counter(channel for channel, leg in zip(data["channel"], data["leg_of"], strict=True) if leg < 0)
    entries = grouped(document["connections"], list(counted))
    assert {entry.channel for entry in entries} == set(counted)
    for entry in entries:
        assert len(entry.groups) <= MAX_GROUPS
        assert sum(group.connections for group in entry.groups) + entry.more_connections == counted[entry.channel]
        for group in entry.groups:
            assert all(sum(answers.values()) == group.connections for answers in group.answers.values())
    assert any(entry.more_groups for entry in entries)


def test_an_ipv6_server_is_in_brackets_before_its_port() -> None:
    assert endpoint("2001:db8::1") == "[2001:db8::1]"
    assert endpoint("10.0.0.1") == "10.0.0.1"
