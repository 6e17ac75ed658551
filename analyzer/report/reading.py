"""A JSON report read again: checked against the document's own types, so that every output can be made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from analyzer.errors import ReportError
from analyzer.report.schema_document import SCHEMA_VERSION, Document, as_document, json_schema
from analyzer.report.text import visible

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_SHOWN: Final = 60


class _WrongError(Exception):
    """Something is not as the schema says."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(where, what)
        self.where, self.what = where or "the document", what


def read_document(text: bytes, source: str) -> Document:
    """Read what ``--json`` wrote.

    Parameters
    ----------
    text : bytes
        The file.
    source : str
        Its name, for errors.

    Returns
    -------
    Document
        With its keys in the order of the types, as when it was made.

    Raises
    ------
    ReportError
        It is not JSON, not ours, of another schema version, or without a fact that is needed.
    """
    try:
        loaded = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        hint = "; for a capture use planewire analyze" if text.lstrip()[:1] != b"{" else ""
        raise ReportError(source, f"is not JSON{where}{hint}") from None
    if not isinstance(loaded, dict) or not isinstance(loaded.get("tool"), dict) or "schema_version" not in loaded:
        raise ReportError(source, "is not a planewire report; expected what planewire analyze --json wrote")
    if loaded["tool"].get("name") != "planewire":
        raise ReportError(source, f"was written by {_shown(loaded['tool'].get('name'))}, not by planewire")
    if loaded["schema_version"] != SCHEMA_VERSION:
        raise ReportError(
            source,
            f"has schema_version {_shown(loaded['schema_version'])}, this program reads {SCHEMA_VERSION}: "
            "analyse the capture again",
        )
    schema = json_schema()
    try:
        checked = _checked(loaded, schema, schema["$defs"], "")
        _check_rows(checked)
    except _WrongError as wrong:
        version = _shown(loaded["tool"].get("version"))
        raise ReportError(
            source, f"{wrong.where}: {wrong.what} (written by planewire {version}): analyse the capture again"
        ) from None
    return as_document(checked)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _shown(value: object) -> str:
    return repr(visible(str(value))[:_SHOWN])


def _checked(value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401
    """Return the value, its objects' keys in the order of the schema: the keywords that `json_schema` uses, no more."""
    if "$ref" in schema:
        return _checked(value, definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions, where)
    if "anyOf" in schema:
        for option in schema["anyOf"][:-1]:
            try:
                return _checked(value, option, definitions, where)
            except _WrongError:
                continue
        return _checked(value, schema["anyOf"][-1], definitions, where)
    _check_scalar(value, schema, where)
    if isinstance(value, dict) and ("properties" in schema or "additionalProperties" in schema):
        return _checked_object(value, schema, definitions, where)
    if isinstance(value, list) and "items" in schema:
        return _checked_list(value, schema["items"], definitions, where)
    return value


def _check_scalar(value: Any, schema: Mapping[str, Any], where: str) -> None:  # noqa: ANN401
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        raise _WrongError(where, f"expected {' or '.join(kinds)}, found {type(value).__name__}")
    if "const" in schema and value != schema["const"]:
        raise _WrongError(where, f"is {_shown(value)}")
    if "enum" in schema and (type(value), value) not in [(type(one), one) for one in schema["enum"]]:
        raise _WrongError(where, f"{_shown(value)} is none of {', '.join(map(str, schema['enum']))}")
    if "minimum" in schema and isinstance(value, (int, float)) and value < schema["minimum"]:
        raise _WrongError(where, f"{value} is below {schema['minimum']}")
    if "maximum" in schema and isinstance(value, (int, float)) and value > schema["maximum"]:
        raise _WrongError(where, f"{value} is above {schema['maximum']}")
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        raise _WrongError(where, f"{_shown(value)} does not match {schema['pattern']}")


def _is(value: object, kind: str) -> bool:
    # JSON's true is no number, Python's is.
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _checked_object(
    value: dict[str, Any], schema: Mapping[str, Any], definitions: Mapping[str, Any], where: str
) -> dict[str, Any]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            raise _WrongError(where, f"{name} is missing")
    result = {
        name: _checked(value[name], one, definitions, f"{where}.{name}".lstrip("."))
        for name, one in properties.items()
        if name in value
    }
    for name, member in value.items():
        if name in properties:
            continue
        if others is False:
            raise _WrongError(where, f"{_shown(name)} is unknown")
        result[name] = _checked(member, others, definitions, where) if isinstance(others, dict) else member
    return result


def _checked_list(value: list[Any], schema: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> list[Any]:
    kinds = set(map(type, value))
    if kinds <= {str, int, float, bool, type(None)}:
        # A column: each distinct value is looked at once. 1 and True are one key, so kinds go with them.
        for member in {(type(v), v) for v in value} if len(kinds) > 1 else set(value):
            _checked(member[1] if isinstance(member, tuple) else member, schema, definitions, where)
        return value
    return [_checked(member, schema, definitions, f"{where}[{row}]") for row, member in enumerate(value)]


def _check_rows(document: Mapping[str, Any]) -> None:
    """Check what types cannot say: columns of one length, and row numbers that exist."""
    data = document["connections"]["data"]
    lengths = {len(column) for column in data.values()}
    if len(lengths) > 1:
        raise _WrongError("connections.data", "columns differ in length")
    n = lengths.pop() if lengths else 0
    if any(leg >= n for leg in data["leg_of"]):
        raise _WrongError("connections.data.leg_of", "names a row that does not exist")
    if any(carrier >= n for carrier in data["carried_by"]):
        raise _WrongError("connections.data.carried_by", "names a row that does not exist")
    for row, finding in enumerate(document["findings"]):
        if any(connection >= n for connection in finding["connections"]):
            raise _WrongError(f"findings[{row}].connections", "names a row that does not exist")
