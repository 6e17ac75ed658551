"""``planewire analyze``: captures in, verdicts out."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from analyzer.cli.inputs import InputOptions, cluster_of, input_options, limits_of, open_inputs, progress_bar
from analyzer.cli.outputs import Outputs, fail_on_option, output_options, show

if TYPE_CHECKING:
    from datetime import datetime


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
@click.option("-q", "--quiet", is_flag=True, help="No summary and no progress; files and exit status only.")
@click.option("--no-color", is_flag=True, help="No colour, also on a terminal (as NO_COLOR does).")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    inputs: InputOptions,
    cluster: tuple[str, ...],
    expect: str | None,
    keys: tuple[str, ...],
    fail_on: str,
    suppress: str | None,
    as_of: datetime | None,
    quiet: bool,
    no_color: bool,
    **files: str | None,
) -> None:
    """Analyse packet captures: files (pcap or pcapng, compressed or not), folders, quoted patterns, tar archives.

    Several captures are one input: rotated files are read in order of time, vantage points are kept apart, and a
    connection seen at two of them counts once. - is standard input, tcp://HOST:PORT a PCAP-over-IP server.

    Prints what was captured, every channel with its verdicts, the findings with what to do about each, and what could
    not be judged. Data goes to standard output, progress and notes to standard error.
    """
    # One run, then the process ends: the collector would find no cycles worth its time.
    gc.disable()
    from analyzer.analysis import run
    from analyzer.report.document import build_document
    from analyzer.user_files import load_cluster, load_keys, load_suppressions

    context = replace(load_cluster(cluster, expect), suppressions=load_suppressions(suppress, as_of and as_of.date()))
    key_log, notes = load_keys(keys)
    for note in notes:
        click.echo(f"planewire: {note}", err=True)
    with (
        cluster_of(inputs) as helpers,
        open_inputs(inputs, helpers) as reader,
        progress_bar(reader.size, quiet) as progress,
    ):
        spread = None if helpers is None else helpers.read
        result = run(reader, context, limits_of(inputs), progress, key_log, inputs.workers, spread)
    document = build_document(result, fail_on)
    show(document, Outputs(**files), quiet=quiet, no_color=no_color)
    # The interpreter looks for cycles once more as it ends, in all that there is.
    gc.freeze()
    ctx.exit(document["outcome"]["exit_status"])
