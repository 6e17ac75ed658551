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
    """Refuse what can be read only once, and what is not here.

    Raises
    ------
    InputError
        It is a pipe or standard input, lies in a storage, or is not there.
    """
    _not_elsewhere(path, command)
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise InputError(path, error.strerror or "cannot be read") from None
    if not stat.S_ISREG(mode):
        raise _once_only(path, command)


def rereadable(paths: Sequence[str], command: str) -> None:
    """Refuse what can be read only once: files, folders, patterns and archives stay.

    Raises
    ------
    InputError
        One is a pipe, standard input or a server, or lies in a storage.
    """
    from analyzer.capture.growing import parse_address

    for path in paths:
        if path == "-" or parse_address(path) is not None or _is_special(path):
            raise _once_only(path, command)
        _not_elsewhere(path, command)


def _once_only(path: str, command: str) -> InputError:
    return InputError(path, f"is no file; {command} reads a capture more than once: save it first")


def _not_elsewhere(path: str, command: str) -> None:
    from analyzer.capture.growing import parse_address
    from analyzer.capture.remote import is_url, shown

    if is_url(path) and parse_address(path) is None:
        raise InputError(shown(path), f"lies in a storage, which {command} does not read: copy it to this machine")


def _is_special(path: str) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False  # a pattern, or not there: whoever opens it says so
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def files_showing(
    document: Document, finding: Mapping[str, Any], command: str
) -> tuple[list[tuple[str, list[int]]], list[tuple[str, list[int]]]]:
    """Captures that hold the frames of a finding, each with its frames; those with most of them first.

    Returns
    -------
    files, archived : lists of (str, list of int)
        Those that are files of their own, and those that lie in archives.

    Raises
    ------
    InputError
        None of them is a file of its own: it lies in an archive.
    """
    found = []
    for shown in sorted(finding["evidence"], key=lambda entry: -len(entry["frames"])):
        found.append((str(document["captures"][shown["capture"]]["name"]), list(shown["frames"])))
    files = [one for one in found if Path(one[0]).is_file()]
    archived = [one for one in found if not Path(one[0]).is_file()]
    if archived and not files:
        raise InputError(archived[0][0], f"lies in an archive; unpack that for {command}")
    return files, archived
