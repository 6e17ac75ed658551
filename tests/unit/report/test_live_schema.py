"""The schema of the lines that ships is the one that the types give."""

from __future__ import annotations

from importlib import resources

import jsonschema

from analyzer.report.live_schema import json_schema, json_schema_text


def test_the_published_schema_is_current_and_valid() -> None:
    text = resources.files("analyzer").joinpath("data/live.schema.json").read_text(encoding="utf-8")
    assert text == json_schema_text(), "run `make golden`"
    jsonschema.Draft202012Validator.check_schema(json_schema())
