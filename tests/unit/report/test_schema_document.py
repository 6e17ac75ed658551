"""The document's shape: declared once, published, and held by what the program writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.report.document import build_document
from analyzer.report.schema_document import CONNECTION_COLUMNS, json_schema_text, published_schema
from tests.conftest import LAB, ROOT
from tests.document_example import example_document

# architecture.md, "Outputs that others build on".
CONTRACT = """
client_ip,client_port,server_ip,server_port,transport,encapsulation,channel,protocol,tls_version,sni,alpn,encryption,
encryption_grade,client_certificate,client_certificate_grade,server_verification,server_verification_grade,first_frame,
packets,octets
""".replace("\n", "")


def _errors(document: object) -> list[str]:
    written = json.loads(json.dumps(document))
    return [
        f"{list(e.absolute_path)}: {e.message}" for e in Draft202012Validator(published_schema()).iter_errors(written)
    ]


def test_the_published_schema_is_derived_from_the_types() -> None:
    published = (ROOT / "analyzer" / "data" / "report.schema.json").read_text(encoding="utf-8")
    assert published == json_schema_text(), (
        "write schema_document.json_schema_text() to analyzer/data/report.schema.json"
    )
    Draft202012Validator.check_schema(published_schema())


def test_the_first_columns_are_the_contract() -> None:
    assert ",".join(CONNECTION_COLUMNS).startswith(CONTRACT + ",")
    assert len(set(CONNECTION_COLUMNS)) == len(CONNECTION_COLUMNS)


@pytest.mark.parametrize("connections", [0, 1, 12, 500])
def test_the_example_holds_the_schema(connections: int) -> None:
    assert _errors(example_document(connections)) == []


@pytest.mark.parametrize("path", sorted(LAB.glob("0*.pcap"))[:4], ids=lambda path: path.stem)
def test_what_the_program_writes_holds_the_schema(path: Any) -> None:
    with open_capture(str(path)) as reader:
        document = build_document(run(reader))
    assert _errors(document) == []
    assert document["connections"]["columns"] == list(CONNECTION_COLUMNS)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("schema_version",), "2"),
        (("channels", 0, "verdict"), "safe"),
        (("findings", 0, "code"), "101"),
        (("connections", "columns", 0), "server_ip"),
        (("connections", "data", "client_port", 0), 65536),
        (("connections", "data", "encryption", 0), "yes"),
        (("connections", "data", "evidence_frames", 0), "1,2"),
        (("captures", 0, "frames"), -1),
        (("quality", "dropped"), "none"),
    ],
)
def test_the_schema_refuses_what_is_wrong(where: tuple[str | int, ...], value: object) -> None:
    document: Any = json.loads(json.dumps(example_document()))
    place = document
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    assert len(_errors(document)) == 1


def test_the_schema_refuses_a_missing_and_an_unknown_field() -> None:
    document: Any = example_document()
    del document["findings"][0]["limits"]
    document["summary"]["score"] = 7
    assert len(_errors(document)) == 2
