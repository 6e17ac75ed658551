"""``planewire diff``: two captures or reports, and what is different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analyzer.cli.outputs import write_text
from analyzer.errors import InputError
from analyzer.report.outcome import THRESHOLDS

if TYPE_CHECKING:
    from analyzer.report.schema_document import Document


def _document(path: str, cluster: tuple[str, ...], keys: tuple[str, ...], suppress: str | None) -> Document:
    """Read a JSON report, or analyse a capture or a folder of them: told apart by content, never by the name."""
    begin = b""
    if Path(path).is_file():
        try:
            with Path(path).open("rb") as stream:
                begin = stream.read(64).lstrip()
        except OSError as error:
            raise InputError(path, error.strerror or "cannot be read") from None
    if begin.startswith(b"{"):
        from analyzer.cli.report import load_document

        return load_document(path)
    from analyzer.api import analyze

    return analyze(path, cluster=cluster, keys=keys, suppress=suppress).document


@click.command(name="diff")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option(
    "--cluster", multiple=True, metavar="PATH", help="Cluster facts for both captures, as analyze takes them."
)
@click.option("--old-cluster", multiple=True, metavar="PATH", help="Cluster facts for OLD alone.")
@click.option("--new-cluster", multiple=True, metavar="PATH", help="Cluster facts for NEW alone.")
@click.option("--keys", multiple=True, type=click.Path(), metavar="FILE", help="TLS key log, as analyze takes it.")
@click.option(
    "--suppress",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Suppressions for the captures, as analyze takes them; a report keeps its own.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the differences as JSON; - is standard output.",
)
@click.option(
    "--markdown",
    "markdown_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the differences for a pull request; - is standard output.",
)
@click.option(
    "--fail-on",
    type=click.Choice(("any", *THRESHOLDS)),
    default="high",
    show_default=True,
    help="Exit with status 1 when a finding of this severity or above appeared or spread; any: on any difference.",
)
@click.option("-q", "--quiet", is_flag=True, help="No text; files and exit status only.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    old: str,
    new: str,
    cluster: tuple[str, ...],
    old_cluster: tuple[str, ...],
    new_cluster: tuple[str, ...],
    keys: tuple[str, ...],
    suppress: str | None,
    json_file: str | None,
    markdown_file: str | None,
    fail_on: str,
    quiet: bool,
) -> None:
    """Say what is different between two captures, two JSON reports, or one of each.

    Channels, findings and servers that appeared, went or changed. Servers are matched by name before address, so that
    captures of different days compare. Counts and frame numbers are no difference.

    Exit status: 0 nothing at or above --fail-on, 1 something, 2 usage, 3 unreadable input, 4 a capture is incomplete.
    """
    if json_file == markdown_file == "-":
        raise click.UsageError("only one output can be standard output")
    from analyzer.report.diff import compare, diff_markdown, diff_status, diff_text

    documents = [
        _document(old, (*cluster, *old_cluster), keys, suppress),
        _document(new, (*cluster, *new_cluster), keys, suppress),
    ]
    difference = compare(*documents)
    if json_file is not None:
        write_text(json_file, json.dumps(difference, indent=1, sort_keys=True) + "\n")
    if markdown_file is not None:
        write_text(markdown_file, diff_markdown(difference))
    if not quiet and "-" not in (json_file, markdown_file):
        click.echo(diff_text(difference), nl=False)
    ctx.exit(diff_status(difference, documents, fail_on))
