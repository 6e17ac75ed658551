"""A JSON report read again, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from analyzer.errors import ReportError
from analyzer.report.reading import read_document
from analyzer.report.schema_document import published_schema
from analyzer.report.tables import json_text
from tests.document_example import example_document


@pytest.mark.parametrize("connections", [0, 1, 60])
def test_what_was_written_is_read(connections: int) -> None:
    document = example_document(connections)
    text = json_text(document)
    read = read_document(text.encode(), "r.json")
    assert read == json.loads(text)
    assert json_text(read) == text


def changed(change: Callable[[Any], object]) -> bytes:
    document = json.loads(json_text(example_document(20)))
    change(document)
    return json.dumps(document).encode()


def setting(path: str, value: object) -> Callable[[Any], object]:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]

    def change(document: Any) -> None:
        for part in parents:
            document = document[part]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (setting("schema_version", "2"), "has schema_version '2', this program reads 1: analyse the capture again"),
        (setting("schema_version", None), "has schema_version 'None'"),
        (setting("tool/name", "nmap"), "was written by 'nmap', not by planewire"),
        (lambda d: d.pop("tool"), "is not a planewire report"),
        (lambda d: d.pop("ledger"), "the document: ledger is missing (written by planewire '0.1.0')"),
        (lambda d: d["findings"][0].pop("id"), "findings[0]: id is missing"),
        (setting("findings/0/severity", "dire"), "findings[0].severity: 'dire' is none of critical, high"),
        (setting("findings/0/code", "XX1"), "findings[0].code: 'XX1' does not match"),
        (setting("findings/0/connections", [20]), "findings[0].connections: names a row that does not exist"),
        (setting("findings/0/connections", [True]), "findings[0].connections: expected integer, found bool"),
        (setting("findings/0/suppression", 3), "findings[0].suppression: expected null, found int"),
        (setting("findings/0/extra", 3), "findings[0]: 'extra' is unknown"),
        (setting("connections/data/octets", [1]), "connections.data: columns differ in length"),
        (setting("connections/data/octets/3", -1), "connections.data.octets: -1 is below 0"),
        (setting("connections/data/octets/3", "\x1b[31m"), "connections.data.octets: expected integer, found str"),
        (setting("connections/data/leg_of/0", 99), "connections.data.leg_of: names a row that does not exist"),
        (setting("summary", []), "summary: expected object, found list"),
        (setting("ledger/not_decoded", {"not IP": "three"}), "ledger.not_decoded: expected integer"),
        (setting("captures/0/duration_s", float("nan")), "is not JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(change: Callable[[Any], object], words: str) -> None:
    with pytest.raises(ReportError, match=re.escape(words)) as caught:
        read_document(changed(change), "r.json")
    assert str(caught.value).startswith("r.json: ")
    assert str(caught.value).isprintable()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"null", b"not json", b"\xd4\xc3\xb2\xa1\x02\x00", b"[" * 100_000, b'{"a": 1e999}']
)
def test_what_is_no_report_is_one_clear_line(text: bytes) -> None:
    with pytest.raises(ReportError, match=r"is not (JSON|a planewire report)"):
        read_document(text, "r.json")


def refusal(document: object) -> str:
    try:
        read_document(json.dumps(document).encode(), "r.json")
    except ReportError as error:
        return str(error)
    return ""


def test_the_checks_are_those_of_the_published_schema() -> None:
    """Whatever single value is replaced, both refuse it or neither does."""
    document = json.loads(json_text(example_document(1)))
    standard = Draft202012Validator(published_schema())
    values: tuple[object, ...] = ("other", -7, None, [], {}, 1.5, True)
    checked = 0
    for number, place in enumerate(places(document)):
        original = at(document, place)
        for value in (values[number % 7], values[(number + 3) % 7]):
            replace(document, place, value)
            refused, valid = refusal(document), standard.is_valid(document)
            beyond_types = "does not exist" in refused or "differ in length" in refused
            assert (not refused) == valid or (valid and beyond_types), (place, value, refused)
            checked += 1
        replace(document, place, original)
    assert checked > 200


@pytest.mark.parametrize("value", [True, 1.0, "1", 2])
def test_a_status_is_one_of_three_numbers(value: object) -> None:
    assert "outcome.exit_status" in refusal(json.loads(changed(setting("outcome/exit_status", value))))


def places(value: Any, prefix: tuple[str | int, ...] = (), depth: int = 0) -> list[tuple[str | int, ...]]:
    """One place of each kind: every key of objects, the first member of lists, columns by their first cell."""
    if depth > 3:
        return []
    members: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        members = list(value.items())[:12]
    elif isinstance(value, list) and value:
        members = [(0, value[0])]
    found = []
    for key, member in members:
        found += [(*prefix, key), *places(member, (*prefix, key), depth + 1)]
    return found


def at(document: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


def replace(document: Any, place: tuple[str | int, ...], value: object) -> None:
    at(document, place[:-1])[place[-1]] = value
