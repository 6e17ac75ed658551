"""What the commands about one finding take: captures, the finding, and what they were analysed with."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from analyzer.errors import InputError

if TYPE_CHECKING:
    from analyzer.report.schema_document import Document

NO_FILE: Final = "is no file"
_Function = TypeVar("_Function", bound=Callable[..., Any])
_DECORATORS: Final = (
    click.argument("captures", nargs=-1, required=True, type=click.Path(), metavar="CAPTURE..."),
    click.argument("finding"),
    click.option("--cluster", multiple=True, metavar="PATH", help="Cluster facts, as analyze takes them."),
    click.option("--keys", multiple=True, type=click.Path(), metavar="FILE", help="TLS key log, as analyze takes it."),
)


def finding_options(function: _Function) -> _Function:
    """Give a command the arguments CAPTURE... and FINDING, and the options that the finding may have needed."""
    for decorator in reversed(_DECORATORS):
        function = decorator(function)
    return function


def regular_file(path: str, command: str) -> None:
    """Refuse what can be read only once.

    Raises
    ------
    InputError
        It is a pipe or standard input, or not there.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise InputError(path, error.strerror or "cannot be read") from None
    if not stat.S_ISREG(mode):
        raise InputError(path, f"{NO_FILE}; {command} reads a capture more than once: save it first")


def rereadable(paths: Sequence[str], command: str) -> None:
    """Refuse what can be read only once: files, folders, patterns and archives stay.

    Raises
    ------
    InputError
        One is a pipe, standard input or a server.
    """
    from analyzer.capture.growing import parse_address

    for path in paths:
        if path == "-" or parse_address(path) is not None or _is_special(path):
            raise InputError(path, f"{NO_FILE}; {command} reads a capture more than once: save it first")


def _is_special(path: str) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False  # a pattern, or not there: whoever opens it says so
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def files_showing(document: Document, finding: Mapping[str, Any], command: str) -> list[tuple[str, list[int]]]:
    """Captures that hold the frames of a finding, each with its frames; those with most of them first.

    Raises
    ------
    InputError
        None of them is a file of its own: it lies in an archive.
    """
    found = []
    for shown in sorted(finding["evidence"], key=lambda entry: -len(entry["frames"])):
        found.append((str(document["captures"][shown["capture"]]["name"]), list(shown["frames"])))
    files = [(name, frames) for name, frames in found if Path(name).is_file()]
    if found and not files:
        raise InputError(found[0][0], f"lies in an archive; unpack that for {command}")
    return files
