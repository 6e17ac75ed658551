"""``planewire ledger``: what was captured and what became of every frame, without a verdict."""

from __future__ import annotations

import gc
import json

import click

from analyzer.cli.inputs import InputOptions, cluster_of, input_options, limits_of, open_inputs, progress_bar
from analyzer.cli.outputs import tell_problems
from analyzer.report.outcome import CLEAN, INCOMPLETE, incomplete


@click.command(name="ledger")
@input_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON: the sections of the report that concern it.")
@click.option("--no-color", is_flag=True, help="No colour, also on a terminal (as NO_COLOR does).")
@click.pass_context
def command(ctx: click.Context, /, inputs: InputOptions, as_json: bool, no_color: bool) -> None:
    """Account for every frame of one or more captures.

    Prints what each capture is and says of itself, what became of its frames and why, what the capture dropped, and
    which share of the traffic is mid-connection, one-sided or cut, with what that means for verdicts.
    """
    gc.disable()
    from analyzer.analysis import run
    from analyzer.report.document import build_document

    with (
        cluster_of(inputs) as helpers,
        open_inputs(inputs, helpers) as reader,
        progress_bar(reader.size, as_json) as progress,
    ):
        spread = None if helpers is None else helpers.read
        result = run(reader, None, limits_of(inputs), progress, workers=inputs.workers, spread=spread)
    document = build_document(result)
    tell_problems(document, quiet=False)
    if as_json:
        sections = ("captures", "vantage_points", "clock_skews", "skipped", "quality", "ledger")
        click.echo(json.dumps({name: document[name] for name in sections}, separators=(",", ":"), sort_keys=True))
    else:
        from rich.console import Console

        from analyzer.report.terminal import render_ledger

        render_ledger(document, Console(no_color=no_color or None, soft_wrap=False, highlight=False))
    ctx.exit(INCOMPLETE if incomplete(document) else CLEAN)
