"""``planewire analyze``: one capture in, verdicts out."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

SEVERITIES: Final = ("info", "low", "medium", "high", "critical", "never")
INCOMPLETE: Final = 4
FINDINGS: Final = 1


@contextmanager
def _progress(size: int | None, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("reading"),
        BarColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[frames]:,} packets"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=size, frames=0)
        yield lambda octets, frames: bar.update(task, completed=octets, frames=frames)


def _interrupt_ends_the_input() -> None:
    """Let the first interrupt end the capturing program in front of the pipe, not the report.

    A terminal sends Ctrl-C to every program of a pipe: tcpdump writes what it has and closes, and the report follows.
    """

    def first(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        click.echo("planewire: reporting when the input ends; interrupt again to stop without a report", err=True)

    signal.signal(signal.SIGINT, first)


def _console(quiet_color: bool) -> Console:
    from rich.console import Console

    # Off a terminal rich writes no colour by itself; NO_COLOR is honoured by it too.
    return Console(no_color=quiet_color or None, soft_wrap=False, highlight=False)


@click.command(name="analyze")
@click.argument("capture", type=click.Path(allow_dash=True))
@click.option(
    "--cluster",
    "cluster",
    multiple=True,
    metavar="PATH",
    help="File or folder of cluster facts: kubectl get "
    "nodes,pods,services,endpointslices -A -o json, API-server manifest, kubelet configuration, CA certificates.",
)
@click.option(
    "--expect",
    "expect",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Communication matrix (CSV of oc commatrix generate): ports of nodes it does not list are findings.",
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
@click.option(
    "--head-octets",
    type=click.IntRange(1024, 1 << 20),
    default=None,
    metavar="N",
    help="Octets kept of each direction of a connection (default 16384).",
)
@click.option("-q", "--quiet", is_flag=True, help="No summary and no progress; files and exit status only.")
@click.option("--no-color", is_flag=True, help="No colour, also on a terminal (as NO_COLOR does).")
@click.pass_context
def command(
    ctx: click.Context,
    capture: str,
    cluster: tuple[str, ...],
    expect: str | None,
    csv_folder: str | None,
    json_file: str | None,
    html_file: str | None,
    fail_on: str,
    head_octets: int | None,
    quiet: bool,
    no_color: bool,
) -> None:
    """Analyse a packet capture (pcap or pcapng, compressed or not; - is standard input).

    Prints what was captured, every channel with its verdicts, the findings with what to do about each, and what could
    not be judged. Data goes to standard output, progress and notes to standard error.
    """
    # One run, then the process ends: the collector would find no cycles worth its time.
    gc.disable()
    from analyzer.capture.source import open_capture
    from analyzer.cli.cluster_files import load_cluster
    from analyzer.pipeline import Limits, run
    from analyzer.report.document import build_document

    if capture == "-":
        _interrupt_ends_the_input()
    context = load_cluster(cluster, expect)
    limits = Limits() if head_octets is None else Limits(head_octets=head_octets)
    with open_capture(capture) as reader, _progress(reader.size, quiet) as progress:
        result = run(reader, context, limits, progress)
    document = build_document(result)
    written = _write(document, csv_folder, json_file, html_file)
    for item in document["captures"]:
        for damage in item["damage"]:
            click.echo(f"planewire: {item['name']}: offset {damage['offset']}: {damage['reason']}", err=True)
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
    damaged = any(item["damage"] for item in document["captures"])
    return INCOMPLETE if damaged or document["quality"]["dropped"] else 0
