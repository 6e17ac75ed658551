"""``planewire report`` on what is no report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from analyzer.cli import cli
from analyzer.errors import InputError, ReportError
from analyzer.report.tables import json_text
from tests.conftest import LAB
from tests.document_example import example_document


def test_a_capture_is_no_report() -> None:
    done = CliRunner().invoke(cli, ["report", str(LAB / "29-fmt-empty.pcap")])

    assert isinstance(done.exception, ReportError)
    assert "is not JSON; for a capture use planewire analyze" in str(done.exception)


def test_a_report_of_another_schema_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"schema_version": "0", "tool": {"name": "planewire"}}))

    done = CliRunner().invoke(cli, ["report", str(path)])

    assert isinstance(done.exception, ReportError)
    assert str(done.exception) == f"{path}: has schema_version '0', this program reads 1: analyse the capture again"


def test_a_file_that_is_not_there_is_named() -> None:
    done = CliRunner().invoke(cli, ["report", "no-such.json"])

    assert isinstance(done.exception, InputError)
    assert "no-such.json" in str(done.exception)


@pytest.mark.parametrize("target", ["-", "r.json"])
def test_standard_input_is_read_too(tmp_path: Path, target: str) -> None:
    text = json_text(example_document(12))
    path = tmp_path / "r.json"
    path.write_text(text)

    done = CliRunner().invoke(cli, ["report", "-q", "--json=-", "-" if target == "-" else str(path)], input=text)

    assert done.exit_code == 1
    assert done.stdout == text
