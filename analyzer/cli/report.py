"""``planewire report``: a JSON report in, every output out, without the capture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analyzer.cli.outputs import Outputs, fail_on_option, output_options, show
from analyzer.errors import InputError
from analyzer.report.outcome import exit_status

if TYPE_CHECKING:
    from analyzer.report.schema_document import Document


def load_document(path: str) -> Document:
    """Read a JSON report; ``-`` is standard input.

    Raises
    ------
    InputError
        The file cannot be opened.
    ReportError
        It is not a report that this program reads.
    """
    from analyzer.report.reading import read_document

    try:
        text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InputError(path, error.strerror or "cannot be read") from None
    return read_document(text, path)


@click.command(name="report")
@click.argument("results", type=click.Path(allow_dash=True))
@output_options
@fail_on_option(None)
@click.option("-q", "--quiet", is_flag=True, help="No summary; files and exit status only.")
@click.option("--no-color", is_flag=True, help="No colour, also on a terminal (as NO_COLOR does).")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    results: str,
    fail_on: str | None,
    quiet: bool,
    no_color: bool,
    **files: str | None,
) -> None:
    """Render a JSON report again (what analyze --json wrote; - is standard input).

    Every file it writes is, octet for octet, what analyze wrote beside the JSON; the exit status is the same too.
    """
    outputs = Outputs(**files)
    document = load_document(results)
    if fail_on is not None:
        status = exit_status(document, fail_on)
        document["outcome"].update({"fail_on": fail_on, "exit_status": status})  # type: ignore[typeddict-item]
    show(document, outputs, quiet=quiet, no_color=no_color)
    ctx.exit(document["outcome"]["exit_status"])
