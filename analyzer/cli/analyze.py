"""``planewire analyze``: captures in, verdicts out."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from analyzer.cli.inputs import (
    InputOptions,
    incomplete,
    input_options,
    limits_of,
    open_inputs,
    progress_bar,
    tell_problems,
)

if TYPE_CHECKING:
    from rich.console import Console

SEVERITIES: Final = ("info", "low", "medium", "high", "critical", "never")
INCOMPLETE: Final = 4
FINDINGS: Final = 1


def _console(quiet_color: bool) -> Console:
    from rich.console import Console

    # Off a terminal rich writes no colour by itself; NO_COLOR is honoured by it too.
    return Console(no_color=quiet_color or None, soft_wrap=False, highlight=False)


@click.command(name="analyze")
@input_options
@click.option(
    "--cluster",
    "cluster",
    multiple=True,
    metavar="PATH",
    help="File or folder of cluster facts: kubectl get "
    "nodes,pods,services,endpointslices -A -o json, API-server manifest, kubelet configuration, CA certificates.",
)
@click.option(
    "--csv",
    "csv_folder",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write connections.csv, channels.csv and findings.csv into DIR.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the whole report as JSON; - is standard output.",
)
@click.option(
    "--html", "html_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write a self-contained HTML report."
)
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    default="high",
    show_default=True,
    help="Exit with status 1 on findings of this severity or above.",
)
@click.option("-q", "--quiet", is_flag=True, help="No summary and no progress; files and exit status only.")
@click.option("--no-color", is_flag=True, help="No colour, also on a terminal (as NO_COLOR does).")
@click.pass_context
def command(
    ctx: click.Context,
    inputs: InputOptions,
    cluster: tuple[str, ...],
    csv_folder: str | None,
    json_file: str | None,
    html_file: str | None,
    fail_on: str,
    quiet: bool,
    no_color: bool,
) -> None:
    """Analyse packet captures: files (pcap or pcapng, compressed or not), folders, quoted patterns, tar archives.

    Several captures are one input: rotated files are read in order of time, vantage points are kept apart, and a
    connection seen at two of them counts once. - is standard input, tcp://HOST:PORT a PCAP-over-IP server.

    Prints what was captured, every channel with its verdicts, the findings with what to do about each, and what could
    not be judged. Data goes to standard output, progress and notes to standard error.
    """
    # One run, then the process ends: the collector would find no cycles worth its time.
    gc.disable()
    from analyzer.cli.cluster_files import load_cluster
    from analyzer.pipeline import run
    from analyzer.report.document import build_document

    context = load_cluster(cluster)
    with open_inputs(inputs) as reader, progress_bar(reader.size, quiet) as progress:
        result = run(reader, context, limits_of(inputs), progress)
    document = build_document(result)
    written = _write(document, csv_folder, json_file, html_file)
    tell_problems(document, quiet=quiet)
    if not quiet and json_file != "-":
        from analyzer.report.terminal import render

        render(document, _console(no_color))
    if not quiet:
        for name in written:
            click.echo(f"wrote {name}", err=True)
    ctx.exit(exit_status(document, fail_on))


def _write(document: dict[str, Any], csv_folder: str | None, json_file: str | None, html_file: str | None) -> list[str]:
    """Write the files asked for; their names, for the note at the end."""
    written: list[str] = []
    if csv_folder is not None:
        from analyzer.report.tables import write_csv

        write_csv(document, Path(csv_folder))
        written += [str(Path(csv_folder) / f"{name}.csv") for name in ("connections", "channels", "findings")]
    if json_file is not None:
        from analyzer.report.tables import json_text, write_json

        if json_file == "-":
            click.echo(json_text(document), nl=False)
        else:
            write_json(document, Path(json_file))
            written.append(json_file)
    if html_file is not None:
        from analyzer.report.html import write_html

        write_html(document, Path(html_file))
        written.append(html_file)
    return written


def exit_status(document: dict[str, Any], fail_on: str) -> int:
    """Status of the process: findings first, then incomplete input, else 0."""
    order = {name: rank for rank, name in enumerate(SEVERITIES)}
    if any(order[finding["severity"]] >= order[fail_on] for finding in document["findings"]):
        return FINDINGS
    return INCOMPLETE if incomplete(document) else 0
