"""Tables for other programs: CSV files, and the JSON document itself.

CSV cells are made inert here: what a peer wrote into a header never becomes a formula of whoever opens the file. In
cells characters that do not print are shown as escapes; JSON holds them as JSON escapes.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from types import NoneType
from typing import Any, Final

from analyzer.errors import OutputError
from analyzer.report.schema_document import CONNECTION_COLUMN_SCHEMAS, GRADES, QUESTIONS, ChannelEntry, as_document
from analyzer.report.text import spreadsheet_safe, visible

CSV_FILES: Final = ("connections.csv", "channels.csv", "findings.csv")

_CHANNEL_FIELDS: Final = (
    "id",
    "title",
    "direction",
    "client_role",
    "server_role",
    "verdict",
    "sentence",
    "core",
    "expects",
    "default",
    "source",
    "connections",
    "silent",
    "legs",
    "packets",
    "octets",
    "findings",
    "clients",
    "servers",
)
_SUPPRESSION_FIELDS: Final = ("reason", "author", "expires")
_FINDING_FIELDS: Final = (
    "code",
    "name",
    "title",
    "severity",
    "grade",
    "channel",
    "message",
    "why",
    "remediation",
    "flags",
    "source",
    "cis",
    "hosts",
    "connections",
    "frames",
    "filter",
    "limits",
    "fingerprint",
    "id",
    "suppressed",
    *(f"suppression_{name}" for name in _SUPPRESSION_FIELDS),
)
_OWN_TEXT: Final = frozenset({"flags"})
"""Columns in which no captured text stands and a leading ``--`` must stay as it is."""


def write_csv(document: Mapping[str, Any], folder: str | os.PathLike[str]) -> list[Path]:
    r"""Write ``connections.csv``, ``channels.csv`` and ``findings.csv`` into `folder`.

    All three appear whole and together, or none does: an interrupted write leaves the previous ones. UTF-8, ``\n`` line
    ends, the same document gives the same octets.

    Parameters
    ----------
    document : mapping
        A report document.
    folder : path
        Created where missing.

    Returns
    -------
    list of Path
        The three files, in the order of `CSV_FILES`.

    Raises
    ------
    OutputError
        If the folder or a file cannot be written.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(place), error.strerror or "cannot be created") from error
    columns = (connection_columns(document), channel_columns(document), finding_columns(document))
    texts = [_csv_text(columns[0]), *(_csv_text(_joined(these)) for these in columns[1:])]
    paths = [place / name for name in CSV_FILES]
    with all_or_none():
        for path, text in zip(paths, texts, strict=True):
            write_atomically(path, text)
    return paths


def json_text(document: Mapping[str, Any]) -> str:
    """Return the document as compact JSON with sorted keys, in ASCII, with one line end at the end."""
    return b"".join(json_pieces(document)).decode("ascii")


Octets = bytes | memoryview


def json_pieces(document: Mapping[str, Any]) -> Iterator[Octets]:
    """Yield the octets of `json_text` in pieces, of which the largest is part of one column of the connections.

    The whole text is larger than the document it is made from; in pieces it needs no memory of its own.
    """
    yield from _json_object(document, {"connections"})
    yield b"\n"


_ITEMS_A_PIECE: Final = 1 << 13
_WITHOUT_FRACTIONS: Final = frozenset(
    {"certificates", "endpoints", "findings", "fingerprints"}
    | {name for name, kind in CONNECTION_COLUMN_SCHEMAS.items() if kind.get("type") != "number"}
)
"""Lists that may be long and, by the schema, hold no number with a fraction, however deep."""


def _json_object(mapping: Mapping[str, Any], in_pieces: Iterable[str]) -> Iterator[Octets]:
    """An object by its keys; the values of `in_pieces`, objects themselves, by theirs."""
    separator = "{"
    for key in sorted(mapping):
        yield f"{separator}{json.dumps(key)}:".encode("ascii")
        separator = ","
        value = mapping[key]
        if key in in_pieces:
            yield from _json_object(value, {"data"} if key == "connections" else ())
        elif isinstance(value, list) and (len(value) > _ITEMS_A_PIECE or key in _WITHOUT_FRACTIONS):
            dumps = _without_fractions if key in _WITHOUT_FRACTIONS else _list
            yield b"["
            for start in range(0, len(value), _ITEMS_A_PIECE):
                if start:
                    yield b","
                yield memoryview(dumps(value[start : start + _ITEMS_A_PIECE]))[1:-1]
            yield b"]"
        else:
            yield _compact(value)
    yield b"}" if mapping else b"{}"


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode("ascii")


@cache
def _faster() -> Callable[[Any], bytes] | None:
    try:
        import orjson
    except ImportError:
        return None
    return partial(orjson.dumps, option=orjson.OPT_SORT_KEYS)


_PLAIN: Final = frozenset({str, int, bool, NoneType})


def _list(values: list[Any]) -> bytes:
    """`_compact` of a long list; by orjson, where it is installed and writes the same."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return _fractions(values)
    return _without_fractions(values) if kinds <= _PLAIN else _compact(values)


def _without_fractions(values: list[Any]) -> bytes:
    faster = _faster()
    if faster is None:
        return _each_text_once(values)
    try:
        text = faster(values)
    except (TypeError, ValueError):  # integers of more than 64 bits, half of a surrogate pair
        return _compact(values)
    return text if text.isascii() and b"\x7f" not in text else _compact(values)


def _each_text_once(values: list[Any]) -> bytes:
    """`_compact` of a list, quicker where it is of few distinct texts."""
    if not values or type(values[0]) is not str:
        return _compact(values)
    distinct = set(values)
    if len(distinct) * 4 > len(values) or set(map(type, distinct)) != {str}:
        return _compact(values)
    texts = {text: json.dumps(text) for text in distinct}
    return f"[{','.join(map(texts.__getitem__, values))}]".encode("ascii")


def _fractions(values: list[float]) -> bytes:
    """`_compact` of a list of fractions; orjson writes those otherwise that Python writes with an exponent."""
    faster = _faster()
    if faster is None:
        return _compact(values)
    odd = [row for row, value in enumerate(values) if not (1e-4 <= value < 1e16 or value == 0)]
    text = faster(values)
    if not odd:
        return text
    texts = text[1:-1].split(b",")
    for row in odd:
        texts[row] = _compact(values[row])
    return b"[" + b",".join(texts) + b"]"


def write_json(document: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the document as JSON, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    return write_atomically(Path(path), json_pieces(document))


def write_atomically(path: Path, content: str | bytes | Iterator[Octets]) -> Path:
    """Write `content`, whole or in pieces, beside `path`, and rename it: a reader never meets half a file.

    Text is encoded as UTF-8. What is no regular file (a pipe, ``/dev/null``) is written to as it is. Inside
    `all_or_none` the renaming waits for the end of that block.

    Raises
    ------
    OutputError
        If the file cannot be written; a temporary file is not left behind.
    """
    pieces: Iterable[Octets] = content if isinstance(content, Iterator) else [_encoded(content)]
    try:
        if path.is_dir():
            raise OutputError(str(path), os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                stream.writelines(pieces)
            return path
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.writelines(pieces)
            # mkstemp makes files only their owner can read; a report gets what any new file gets.
            temporary.chmod(0o666 & ~_umask())
            waiting = _WAITING.get()
            if waiting is None:
                temporary.replace(path)
            else:
                waiting.append((temporary, path))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(str(path), error.strerror or "cannot be written") from error
    return path


def _encoded(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


_WAITING: Final[ContextVar[list[tuple[Path, Path]] | None]] = ContextVar("_WAITING", default=None)
"""Files written whole under another name, each with the name it is to have."""


@contextmanager
def all_or_none() -> Iterator[None]:
    """Let the files written inside appear together at the end, and none of them where something fails before.

    Each is whole under another name first, so that only renaming is left. Blocks may be nested: the outermost counts.
    """
    if _WAITING.get() is not None:
        yield
        return
    waiting: list[tuple[Path, Path]] = []
    token = _WAITING.set(waiting)
    try:
        yield
        while waiting:
            temporary, path = waiting[0]
            try:
                temporary.replace(path)
            except OSError as error:
                raise OutputError(str(path), error.strerror or "cannot be written") from error
            waiting.pop(0)
    finally:
        _WAITING.reset(token)
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    # The only way POSIX offers to read it is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def connection_columns(document: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Columns of the connections, in the order of the contract."""
    connections = as_document(document)["connections"]
    return {name: connections["data"][name] for name in connections["columns"]}


def channel_columns(document: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Columns of the channels, the counts as ``<question>_<value>`` and ``<question>_grade_<grade>``; lists stay so."""
    records = [_channel_record(channel) for channel in as_document(document)["channels"]]
    counted = [f"{q}_{value}" for q, values in QUESTIONS.items() for value in values]
    graded = [f"{q}_grade_{grade}" for q in QUESTIONS for grade in GRADES]
    return {name: [record[name] for record in records] for name in [*_CHANNEL_FIELDS, *counted, *graded]}


def finding_columns(document: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Columns of the findings; lists stay lists."""
    records: list[dict[str, Any]] = [{**finding} for finding in as_document(document)["findings"]]
    for record in records:
        accepted = record["suppression"]
        record["suppressed"] = accepted is not None
        record |= {f"suppression_{name}": accepted[name] if accepted else None for name in _SUPPRESSION_FIELDS}
    return {name: [record[name] for record in records] for name in _FINDING_FIELDS}


def _channel_record(channel: ChannelEntry) -> dict[str, Any]:
    record: dict[str, Any] = {**channel}
    for question, values in QUESTIONS.items():
        counts, grades = record[question], record["grades"][question]
        record |= {f"{question}_{value}": counts[value] for value in values}
        record |= {f"{question}_grade_{grade}": grades[grade] for grade in GRADES}
    return record


_SEPARATORS: Final = {"findings": " ", "connections": " ", "frames": " "}


def _joined(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns whose cells are texts and numbers: numbers and codes joined by a blank, everything else by ``; ``."""
    return {
        name: [_SEPARATORS.get(name, "; ").join(map(str, v)) if isinstance(v, list) else v for v in values]
        for name, values in columns.items()
    }


def _csv_text(columns: Mapping[Any, Sequence[Any]]) -> str:
    # The csv module over whole columns: four fifths of the time DataFrame.to_csv takes on 50,000 connections.
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    cells = (_mapped(values, _plain_cell if name in _OWN_TEXT else _cell) for name, values in columns.items())
    writer.writerows(zip(*cells, strict=True))
    return out.getvalue()


def _mapped(values: Sequence[Any], convert: Callable[[Any], Any]) -> Iterable[Any]:
    """`convert` over one column; each distinct text is looked at once, numbers not at all."""
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        return values
    # Not for mixed columns: 1, 1.0 and True are one key.
    if kinds <= {str, type(None)}:
        return map({value: convert(value) for value in set(values)}.__getitem__, values)
    return map(convert, values)


def _cell(value: str | bool | float | None) -> str | float:
    return spreadsheet_safe(value) if isinstance(value, str) else _plain_cell(value)


def _plain_cell(value: str | bool | float | None) -> str | float:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value
