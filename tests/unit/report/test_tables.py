"""CSV and JSON: whole, inert, deterministic, and in agreement."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import OutputError
from analyzer.report import tables
from analyzer.report.schema_document import QUESTIONS, json_schema
from analyzer.report.tables import CSV_FILES, json_text, write_csv, write_json
from analyzer.report.text import visible
from tests.conftest import ROOT
from tests.document_example import HOSTILE, example_document


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_agrees_with_the_document(tmp_path: Path) -> None:
    document = example_document(200)
    assert [path.name for path in write_csv(document, tmp_path / "new" / "folder")] == list(CSV_FILES)
    connections, channels, findings = (_read(tmp_path / "new" / "folder" / name) for name in CSV_FILES)
    data = document["connections"]["data"]
    assert len(connections) == 200
    for name in ("client_port", "packets", "octets", "leg_of", "duration_s", "client_ip", "encryption"):
        assert [row[name] for row in connections] == [str(value) for value in data[name]]
    assert [row["mid_connection"] for row in connections] == [str(value).lower() for value in data["mid_connection"]]
    for row, channel in zip(channels, document["channels"], strict=True):
        assert row["id"] == channel["id"]
        here = [c for c in connections if c["channel"] == channel["id"] and c["leg_of"] == "-1"]
        assert int(row["connections"]) == len(here)
        for question, values in QUESTIONS.items():
            for value in values:
                assert int(row[f"{question}_{value}"]) == sum(c[question] == value for c in here)
    for row, finding in zip(findings, document["findings"], strict=True):
        assert row["frames"].split() == [str(frame) for frame in finding["frames"]]
        assert row["connections"].split() == [str(index) for index in finding["connections"]]


def test_captured_text_is_inert_in_every_cell(tmp_path: Path) -> None:
    write_csv(example_document(400), tmp_path)
    seen = set()
    for name in CSV_FILES:
        text = (tmp_path / name).read_bytes().decode("utf-8")
        assert all(character == "\n" or character.isprintable() for character in text)
        for row in _read(tmp_path / name):
            for column, cell in row.items():
                if column in ("leg_of", "carried_by"):
                    assert int(cell) >= -1
                elif column != "flags":
                    assert not cell.startswith(("=", "+", "-", "@"))
            seen |= {row.get("sni", ""), row.get("user_agent", "")}
    for text in HOSTILE:
        assert ("'" if text[0] in "=@" else "") + visible(text) in seen


def test_flags_stay_exact(tmp_path: Path) -> None:
    write_csv(example_document(), tmp_path)
    assert "--egress-selector-config-file" in {row["flags"] for row in _read(tmp_path / "findings.csv")}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(example_document(12), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"connections\.csv: No space left on device"):
        write_csv(example_document(50), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing"):
        write_json(example_document(), tmp_path / "missing" / "report.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_csv(example_document(), tmp_path / "file")


def test_files_get_the_permissions_any_new_file_gets(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        path = write_json(example_document(), tmp_path / "report.json")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_json_is_the_document(tmp_path: Path) -> None:
    document = example_document(100)
    path = write_json(document, tmp_path / "report.json")
    text = path.read_text(encoding="ascii")
    assert text.endswith("}\n")
    assert json.loads(text) == json.loads(json.dumps(document))
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n" == text


def test_not_a_number_is_never_written() -> None:
    document: Any = example_document()
    document["captures"][0]["duration_s"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        tables.json_text(document)


def test_json_of_a_large_audit_is_one_pass() -> None:
    """Against dumping the columns alone, in the same process: sorting and the rest may cost little on top."""
    document = example_document(10_000, 100)
    columns = document["connections"]["data"]

    def seconds(work: Any) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(lambda: tables.json_text(document)) < 3 * seconds(lambda: json.dumps(columns)) + 0.05


SCRIPT = """
import hashlib, sys
from analyzer.report.html import render_html
from analyzer.report.tables import json_text, write_csv
from tests.document_example import example_document
document = example_document(300, 20)
write_csv(document, sys.argv[1])
parts = [json_text(document), render_html(document)]
parts += [open(f"{sys.argv[1]}/{name}.csv").read() for name in ("connections", "channels", "findings")]
print(*(hashlib.sha256(part.encode()).hexdigest() for part in parts))
"""


def test_the_same_document_gives_the_same_octets_in_any_process(tmp_path: Path) -> None:
    digests = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("failing", ["write", "second write", "second rename"])
def test_the_files_of_a_run_appear_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write_csv(example_document(3), tmp_path)
    before = _contents(tmp_path)
    calls = {"mkstemp": 0, "replace": 0}
    mkstemp, replace = tempfile.mkstemp, Path.replace

    def failing_mkstemp(*args: Any, **named: Any) -> Any:
        calls["mkstemp"] += 1
        if failing == ("write" if calls["mkstemp"] == 1 else "second write" if calls["mkstemp"] == 2 else ""):
            raise OSError(28, "No space left on device")
        return mkstemp(*args, **named)

    def failing_replace(self: Path, target: Path) -> Path:
        calls["replace"] += 1
        if failing == "second rename" and calls["replace"] == 2:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(tempfile, "mkstemp", failing_mkstemp)
    monkeypatch.setattr(Path, "replace", failing_replace)
    with pytest.raises(OutputError):
        write_csv(example_document(9), tmp_path)
    after = _contents(tmp_path)
    assert list(after) == list(before), "a temporary file was left"
    changed = [name for name in before if after[name] != before[name]]
    # Only a rename that fails among renames can leave some new and some old; every file is whole.
    assert len(changed) == (1 if failing == "second rename" else 0)


def test_an_interrupted_block_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    write_json(example_document(2), target)
    before = _contents(tmp_path)
    with pytest.raises(KeyboardInterrupt), tables.all_or_none():  # noqa: PT012
        write_json(example_document(5), target)
        write_csv(example_document(5), tmp_path / "tables")
        raise KeyboardInterrupt
    assert _contents(tmp_path / "tables") == {}
    (tmp_path / "tables").rmdir()
    assert _contents(tmp_path) == before


def test_what_is_no_regular_file_is_written_to(tmp_path: Path) -> None:
    write_json(example_document(1), "/dev/null")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OutputError, match="directory"):
        write_json(example_document(1), tmp_path)


@pytest.mark.parametrize("connections", [0, 1, 50])
def test_json_in_pieces_is_json_at_once(connections: int, monkeypatch: pytest.MonkeyPatch) -> None:
    document = example_document(connections)
    whole = json.dumps(document, separators=(",", ":"), sort_keys=True, allow_nan=False) + "\n"
    monkeypatch.setattr(tables, "_ITEMS_A_PIECE", 7)
    pieces = list(tables.json_pieces(document))
    assert b"".join(pieces).decode() == whole == tables.json_text(document)
    assert max(map(len, pieces)) < len(whole) / 2 or connections < 50
    assert b"".join(tables.json_pieces({"connections": {}})) == b'{"connections":{}}\n'


def _nested(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(parts), st.dictionaries(st.text(), parts))


plain_values = st.one_of(
    st.text(),
    st.text(st.characters(max_codepoint=127)),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
)


def _as_by_the_standard_library(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n"


@contextmanager
def _writing(*, orjson_installed: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not orjson_installed:
            patch.setattr(tables, "_faster", lambda: None)
        patch.setattr(tables, "_ITEMS_A_PIECE", 40)
        yield


with_and_without = pytest.mark.parametrize("installed", [True, False], ids=["orjson", "standard"])


@with_and_without
@given(
    st.one_of(
        st.lists(plain_values, max_size=30),
        st.lists(st.floats(0, 1e-3), max_size=30),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=30),
        st.lists(st.one_of(st.just(""), st.text()), max_size=3),
    )
)
def test_long_columns_are_octet_for_octet_as_by_the_standard_library(installed: bool, values: list[Any]) -> None:
    document: dict[str, Any] = {"connections": {"data": {"column": values * 20, "duration_s": values}}}
    if not any(isinstance(value, float) for value in values):
        document["connections"]["data"]["channel"] = values * 20
    with _writing(orjson_installed=installed):
        assert json_text(document) == _as_by_the_standard_library(document)


@with_and_without
@given(st.recursive(st.one_of(st.text(), st.integers(), st.booleans(), st.none()), _nested, max_leaves=20))
def test_long_sections_are_written_so_too(installed: bool, item: object) -> None:
    document = {"endpoints": [item] * 90, "findings": [item], "certificates": []}
    with _writing(orjson_installed=installed):
        assert json_text(document) == _as_by_the_standard_library(document)


def test_sections_said_to_be_without_fractions_are_so_by_the_schema() -> None:
    schema = json_schema()

    def hold_fractions(part: object) -> bool:
        if isinstance(part, list):
            return any(map(hold_fractions, part))
        if not isinstance(part, dict):
            return False
        if "$ref" in part:
            return hold_fractions(schema["$defs"][part["$ref"].rpartition("/")[2]])
        kinds = part.get("type", ())
        return "number" in ([kinds] if isinstance(kinds, str) else kinds) or any(map(hold_fractions, part.values()))

    sections = schema["$defs"]["Document"]["properties"]
    data = schema["$defs"]["Connections"]["properties"]["data"]["properties"]
    lists = {**sections, **data}
    assert hold_fractions(sections["captures"])
    assert hold_fractions(data["duration_s"])
    assert "duration_s" not in tables._WITHOUT_FRACTIONS
    assert [name for name in tables._WITHOUT_FRACTIONS if hold_fractions(lists[name])] == []


@with_and_without
def test_not_a_number_is_never_written_in_a_column_either(installed: bool) -> None:
    with _writing(orjson_installed=installed), pytest.raises(ValueError, match="JSON"):
        json_text({"connections": {"data": {"duration_s": [0.5, float("nan")]}}})


def test_orjson_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[object] = []

    def dumps(values: object) -> bytes:
        used.append(values)
        return orjson.dumps(values)

    monkeypatch.setattr(tables, "_faster", lambda: dumps)

    json_text({"connections": {"data": {"column": ["a"] * 10_000}}})

    assert len(used) == 2
