"""``planewire analyze``: one capture in, verdicts out."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from analyzer.cli.outputs import Outputs, fail_on_option, output_options, show

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


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
    "--keys",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="TLS key log (SSLKEYLOGFILE) to decrypt with; may be given several times. Secrets inside a pcapng file are "
    "used without it. Keys are never written to any output.",
)
@output_options
@fail_on_option("high")
@click.option(
    "--suppress",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="YAML file of findings that are accepted, each with reason, author and expiry: shown, not counted.",
)
@click.option(
    "--as-of",
    metavar="DATE",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Day on which suppressions are judged expired or not; by default today (UTC).",
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
    /,
    capture: str,
    cluster: tuple[str, ...],
    expect: str | None,
    keys: tuple[str, ...],
    fail_on: str,
    suppress: str | None,
    as_of: datetime | None,
    head_octets: int | None,
    quiet: bool,
    no_color: bool,
    **files: str | None,
) -> None:
    """Analyse a packet capture (pcap or pcapng, compressed or not; - is standard input).

    Prints what was captured, every channel with its verdicts, the findings with what to do about each, and what could
    not be judged. Data goes to standard output, progress and notes to standard error.
    """
    # One run, then the process ends: the collector would find no cycles worth its time.
    gc.disable()
    from analyzer.capture.source import open_capture
    from analyzer.pipeline import Limits, run
    from analyzer.report.document import build_document
    from analyzer.user_files import load_cluster, load_keys, load_suppressions

    if capture == "-":
        _interrupt_ends_the_input()
    context = replace(load_cluster(cluster, expect), suppressions=load_suppressions(suppress, as_of and as_of.date()))
    key_log, notes = load_keys(keys)
    for note in notes:
        click.echo(f"planewire: {note}", err=True)
    limits = Limits() if head_octets is None else Limits(head_octets=head_octets)
    with open_capture(capture) as reader, _progress(reader.size, quiet) as progress:
        result = run(reader, context, limits, progress, key_log)
    document = build_document(result, fail_on)
    show(document, Outputs(**files), quiet=quiet, no_color=no_color)
    ctx.exit(document["outcome"]["exit_status"])
