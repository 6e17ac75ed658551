"""Frames with types that fit, and Parquet files that hold the same."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyarrow import dataset, parquet

from analyzer.cli import outputs
from analyzer.errors import MissingProgramError, OutputError
from analyzer.report.frames import (
    PARQUET_FILES,
    PARTITION_COLUMNS,
    channels_frame,
    connections_frame,
    findings_frame,
    write_parquet,
)
from analyzer.report.schema_document import CONNECTION_COLUMNS, GRADES, SEVERITIES
from analyzer.report.text import visible
from tests.document_example import HOSTILE, example_document


def test_frames_hold_every_row_and_column() -> None:
    document = example_document(40)
    frame = connections_frame(document)
    assert list(frame.columns) == list(CONNECTION_COLUMNS)
    for name in ("client_ip", "server_port", "encryption", "mid_connection", "leg_of", "duration_s"):
        assert frame[name].tolist() == document["connections"]["data"][name]
    assert channels_frame(document)["id"].tolist() == [channel["id"] for channel in document["channels"]]
    findings = findings_frame(document)
    assert findings["id"].tolist() == [finding["id"] for finding in document["findings"]]
    assert findings["connections"].tolist() == [finding["connections"] for finding in document["findings"]]
    assert findings["suppressed"].tolist() == [finding["suppression"] is not None for finding in document["findings"]]


def test_types_fit() -> None:
    frame, findings = connections_frame(example_document(40)), findings_frame(example_document(40))

    assert frame["octets"].dtype == "int64"
    assert frame["mid_connection"].dtype == "bool"
    assert frame["duration_s"].dtype == "float64"
    assert str(frame["first_time"].dtype) == "datetime64[ns, UTC]"
    assert frame["encryption_grade"].cat.categories.tolist() == list(GRADES)
    assert frame["client_ip"].dtype == "str"
    assert all(isinstance(frames, list) for frames in frame["evidence_frames"])
    worst = findings.sort_values("severity", ascending=False)["severity"].iloc[0]
    assert worst == min(findings["severity"], key=SEVERITIES.index)
    assert (findings["severity"] >= "high").sum() == sum(s in ("high", "critical") for s in findings["severity"])
    assert findings["suppression_expires"].dropna().tolist() == [pd.Timestamp("2027-01-31")]


def test_frames_of_an_empty_audit_have_their_columns_and_types() -> None:
    document = example_document(0)
    frame = connections_frame(document)
    assert list(frame.columns) == list(CONNECTION_COLUMNS)
    assert frame["octets"].dtype == "int64"
    assert str(frame["first_time"].dtype) == "datetime64[ns, UTC]"
    assert "encryption_cleartext" in channels_frame(document).columns
    assert len(channels_frame(document)) == len(findings_frame(document)) == 0


def test_text_that_no_arrow_holds_is_shown_as_escapes() -> None:
    agents = set(connections_frame(example_document(400))["user_agent"])
    assert {visible(text) for text in HOSTILE} <= agents


def test_parquet_holds_what_the_frames_hold(tmp_path: Path) -> None:
    document = example_document(60)
    paths = write_parquet(document, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == list(PARQUET_FILES)
    for path, make in zip(paths, (connections_frame, channels_frame, findings_frame), strict=True):
        read, made = pd.read_parquet(path), make(document)
        assert list(read.columns) == list(made.columns)
        for name in made.columns:
            assert [_plain(v) for v in read[name]] == [_plain(v) for v in made[name]], name
    again = [path.read_bytes() for path in write_parquet(document, tmp_path / "again")]
    assert again == [path.read_bytes() for path in paths]


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return "nothing" if not isinstance(value, list) and pd.isna(value) else value


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "pyarrow":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingProgramError, match=r"pip install 'planewire\[parquet\]'"):
        write_parquet(example_document(3), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_parquet(example_document(3), tmp_path / "file")


@pytest.mark.parametrize("column", PARTITION_COLUMNS)
def test_partitions_hold_every_connection_once_and_in_one_schema(tmp_path: Path, column: str) -> None:
    document = example_document(60)
    # Names that say what they like are file names here, and nothing else.
    document["connections"]["data"]["vantage"] = [("../up", "a/b=c", "", "node 1")[row % 4] for row in range(60)]
    made = connections_frame(document)
    paths = write_parquet(document, tmp_path / "out", column)
    assert [path.name for path in paths[-2:]] == list(PARQUET_FILES[1:])
    parts = paths[:-2]
    assert len(parts) == made[column].nunique() > 1
    assert all(path.resolve().is_relative_to(tmp_path / "out" / "connections") for path in parts)
    assert len({parquet.read_schema(path).remove_metadata() for path in parts}) == 1
    read = dataset.dataset(tmp_path / "out" / "connections", partitioning="hive").to_table().to_pandas()
    read = read.sort_values("connection", ignore_index=True)
    assert set(read.columns) == {*made.columns, "connection"}
    assert list(read["connection"]) == list(range(60))
    for name in made.columns:
        shown = [("" if name == column and _plain(v) == "nothing" else _plain(v)) for v in read[name]]
        assert shown == [_plain(v) for v in made[name]], name
    # A second run into the same place replaces them; one that would leave others beside its own is refused.
    assert write_parquet(document, tmp_path / "out", column) == paths
    document["connections"]["data"][column] = document["connections"]["data"][column][:1] * 60
    with pytest.raises(OutputError, match="of another run"):
        write_parquet(document, tmp_path / "out", column)


def test_the_longest_names_are_folders_too(tmp_path: Path) -> None:
    document = example_document(60)
    names = (
        "節" * 35,
        "節" * 80 + "/..",
        "節" * 100 + "a",
        "節" * 100 + "b",
        "n" * 253,
        "n" * 254,
        "/" * 200,
        "a\\\u202e" * 70,
    )
    document["connections"]["data"]["vantage"] = [names[row % len(names)] for row in range(60)]
    paths = write_parquet(document, tmp_path / "out", "vantage")[:-2]
    folders = {path.parent.name for path in paths}
    assert len(folders) == len(names)
    assert all(len(name.encode()) <= 255 for name in folders)
    assert {path.parent.parent for path in paths} == {tmp_path / "out" / "connections"}
    read = dataset.dataset(tmp_path / "out" / "connections", partitioning="hive").to_table().to_pandas()
    assert sorted(read["connection"]) == list(range(60))
    # What fits is read as it is; what is cut stays told apart.
    assert {names[0], names[1]} < set(read["vantage"])
    assert read["vantage"].nunique() == len(names)


def test_the_command_offers_the_columns_there_are() -> None:
    assert outputs.PARTITION_COLUMNS == PARTITION_COLUMNS
