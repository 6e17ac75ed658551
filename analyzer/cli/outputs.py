"""What ``analyze`` and ``report`` write: the same options, the same files, the same summary, the same exit status."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from analyzer.report.outcome import LIVE, THRESHOLDS
from analyzer.report.text import visible

PARTITION_COLUMNS: Final = ("vantage", "channel", "protocol")
"""Repeated from `report.frames`, so that ``--help`` stays quick; a test compares."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FILE: Final = click.Path(dir_okay=False, allow_dash=True)
_FOLDER: Final = click.Path(file_okay=False)
_DECORATORS: Final = (
    click.option(
        "--csv",
        "csv_folder",
        metavar="DIR",
        type=_FOLDER,
        help="Write connections.csv, channels.csv and findings.csv into DIR.",
    ),
    click.option(
        "--json", "json_file", metavar="FILE", type=_FILE, help="Write the whole report as JSON; - is standard output."
    ),
    click.option(
        "--html",
        "html_file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Write a self-contained HTML report.",
    ),
    click.option(
        "--markdown",
        "markdown_file",
        metavar="FILE",
        type=_FILE,
        help="Write a summary for a ticket or a pull request; - is standard output.",
    ),
    click.option(
        "--sarif",
        "sarif_file",
        metavar="FILE",
        type=_FILE,
        help="Write the findings as SARIF 2.1.0; - is standard output.",
    ),
    click.option(
        "--parquet",
        "parquet_folder",
        metavar="DIR",
        type=_FOLDER,
        help="Write the three tables as Parquet into DIR (needs planewire[parquet]).",
    ),
    click.option(
        "--partition-by",
        "partition_by",
        type=click.Choice(PARTITION_COLUMNS),
        help="With --parquet: one file of connections for each value of a column (Hive: connections/vantage=.../).",
    ),
)


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files asked for."""

    csv_folder: str | None = None
    json_file: str | None = None
    html_file: str | None = None
    markdown_file: str | None = None
    sarif_file: str | None = None
    parquet_folder: str | None = None
    partition_by: str | None = None

    def __post_init__(self) -> None:
        if [self.json_file, self.markdown_file, self.sarif_file].count("-") > 1:
            raise click.UsageError("only one output can be standard output")
        if self.partition_by is not None and self.parquet_folder is None:
            raise click.UsageError("--partition-by goes with --parquet")

    @property
    def on_standard_output(self) -> bool:
        """One of the files is standard output, so that nothing else may be written there."""
        return "-" in (self.json_file, self.markdown_file, self.sarif_file)


def output_options(function: _Function) -> _Function:
    """Give a command the options of `Outputs`; it gets them as keyword arguments of the same names."""
    for decorator in reversed(_DECORATORS):
        function = decorator(function)
    return function


def fail_on_option(default: str | None) -> Callable[[_Function], _Function]:
    """Give a command ``--fail-on``."""
    note = "" if default else " By default what the report was made with."
    return click.option(
        "--fail-on",
        type=click.Choice(THRESHOLDS),
        default=default,
        show_default=default is not None,
        help=f"Exit with status 1 on findings of this severity or above that are not suppressed.{note}",
    )


def write_outputs(document: Mapping[str, Any], outputs: Outputs) -> list[str]:
    """Write the files asked for, all or none; their names, for the note at the end."""
    from analyzer.report.tables import all_or_none

    with all_or_none():
        return _write_each(document, outputs)


def _write_each(document: Mapping[str, Any], outputs: Outputs) -> list[str]:
    written: list[str] = []
    if outputs.csv_folder is not None:
        from analyzer.report.tables import write_csv

        written += map(str, write_csv(document, Path(outputs.csv_folder)))
    if outputs.json_file is not None:
        from analyzer.report.tables import json_pieces

        written += write_text(outputs.json_file, json_pieces(document))
    if outputs.html_file is not None:
        from analyzer.report.html import render_html

        written += write_text(outputs.html_file, render_html(document))
    if outputs.markdown_file is not None:
        from analyzer.report.markdown import markdown_text

        written += write_text(outputs.markdown_file, markdown_text(document))
    if outputs.sarif_file is not None:
        from analyzer.report.sarif import sarif_text

        written += write_text(outputs.sarif_file, sarif_text(document))
    if outputs.parquet_folder is not None:
        from analyzer.report.frames import write_parquet

        written += map(str, write_parquet(document, Path(outputs.parquet_folder), outputs.partition_by))
    return written


def write_text(target: str, text: str | Iterator[bytes | memoryview]) -> list[str]:
    """Write one file, whole or not at all, or standard output where it is ``-``; the names of files written."""
    if target == "-":
        for piece in [text] if isinstance(text, str) else map(bytes, text):
            click.echo(piece, nl=False)
        return []
    from analyzer.report.tables import write_atomically

    write_atomically(Path(target), text)
    return [target]


def tell_problems(document: Mapping[str, Any], *, quiet: bool) -> None:
    """Say on standard error what of the input could not be read, one line each."""
    for item in document["captures"]:
        for damage in item["damage"]:
            # An interface has no place to look at.
            where = "" if item["format"] == LIVE else f"offset {damage['offset']}: "
            _note(f"{item['name']}: {where}{damage['reason']}")
    skipped = document["skipped"]["files"]
    for one in skipped:
        if one["named"]:
            _note(f"{one['name']}: {one['reason']}")
    found = [one["name"] for one in skipped if not one["named"]]
    others = document["skipped"]["count"] - (len(skipped) - len(found))
    if others and not quiet:
        more = f" and {others - 3:,} more" if others > 3 else ""
        _note(f"skipped, no captures: {', '.join(found[:3])}{more}")


def _note(text: str) -> None:
    click.echo(f"planewire: {visible(text)}", err=True)


def places(outputs: Outputs) -> list[tuple[str, Path]]:
    """What must be writable for the files asked for, each with the name the user gave: mostly folders.

    Files are made under another name beside their own, and renamed.
    """
    found = []
    for name in (outputs.json_file, outputs.html_file, outputs.markdown_file, outputs.sarif_file):
        if name is not None and name != "-":
            path = Path(name)
            # What is no regular file (a pipe, a device) is written to as it is.
            found.append((name, path if path.exists() and not path.is_file() else path.absolute().parent))
    for name in (outputs.csv_folder, outputs.parquet_folder):
        if name is not None:
            path = Path(name).absolute()
            found.append((name, next((p for p in (path, *path.parents) if p.exists()), path)))
    return found


def check_writable(outputs: Outputs) -> None:
    """Make sure, before hours are spent, that the files can be written where they are to be.

    Raises
    ------
    OutputError
        A folder is missing, or may not be written to by who runs the program.
    """
    from analyzer.errors import OutputError

    for name, place in places(outputs):
        if not place.exists():
            raise OutputError(name, f"the folder {place} does not exist")
        if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise OutputError(name, f"{place} may not be written to by {_who()}")


def _who() -> str:
    try:
        import pwd

        return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
    except (ImportError, KeyError):
        return "this user"


def show(document: Mapping[str, Any], outputs: Outputs, *, quiet: bool, no_color: bool) -> None:
    """Write the files, then the summary on standard output and the notes on standard error."""
    tell(document, outputs, write_outputs(document, outputs), quiet=quiet, no_color=no_color)


def tell(
    document: Mapping[str, Any],
    outputs: Outputs,
    written: list[str],
    *,
    quiet: bool,
    no_color: bool,
    summary: bool = True,
    problems: bool = True,
) -> None:
    """Print the summary on standard output, unless a file went there, and the notes on standard error."""
    if problems:
        tell_problems(document, quiet=quiet)
    for entry in document["suppressions"]["entries"]:
        if entry["status"] == "expired":
            click.echo(
                f"planewire: {entry['source']}: expired on {entry['expires']}: {entry['code']} counts again", err=True
            )
    if quiet:
        return
    if summary and not outputs.on_standard_output:
        from rich.console import Console

        from analyzer.report.commands import next_commands
        from analyzer.report.schema_document import as_document
        from analyzer.report.terminal import render

        # Off a terminal rich writes no colour by itself; NO_COLOR is honoured by it too.
        console = Console(no_color=no_color or None, soft_wrap=False, highlight=False)
        typed = as_document(document)
        render(document, console, next_commands=next_commands(typed, html=outputs.html_file is not None))
    for name in written:
        click.echo(f"wrote {name}", err=True)
