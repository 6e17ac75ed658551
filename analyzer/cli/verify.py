"""``planewire verify``: what dpkt and tshark make of the same capture."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from analyzer.cli.finding_options import regular_file

if TYPE_CHECKING:
    from analyzer.opinions.common import Agreement

READERS: Final = ("dpkt", "tshark")
_MAX_SHOWN: Final = 20


@click.command(name="verify")
@click.argument("captures", nargs=-1, required=True, type=click.Path(), metavar="CAPTURE...")
@click.option(
    "--with",
    "readers",
    multiple=True,
    type=click.Choice(READERS),
    help="Whom to ask; by default dpkt, and tshark where it is installed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the agreement as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Exit status only.")
@click.pass_context
def command(
    ctx: click.Context, /, captures: tuple[str, ...], readers: tuple[str, ...], as_json: bool, quiet: bool
) -> None:
    """Ask dpkt and tshark for a second opinion on captures, each by itself.

    Compares frames, packets and octets of every conversation, and version, cipher suite and server name of every TLS
    handshake; names each disagreement with its reason, where there is a known one.

    Exit status: 0 agreement (or every disagreement has a known reason), 1 a disagreement without one, 2 usage or
    tshark missing, 3 unreadable input.
    """
    for capture in captures:
        regular_file(capture, "verify")
    from analyzer.opinions.common import merged

    chosen = readers or tuple(name for name in READERS if name != "tshark" or shutil.which("tshark"))
    parts = [part for capture in captures for part in _compared(capture, chosen, named=len(captures) > 1)]
    agreement = merged(parts)
    if as_json:
        click.echo(_json(agreement))
    elif not quiet:
        _print(agreement)
    if "tshark" not in chosen and not readers:
        click.echo("planewire: tshark is not installed: asked dpkt alone", err=True)
    ctx.exit(1 if agreement.unexplained else 0)


def _compared(capture: str, readers: tuple[str, ...], *, named: bool) -> list[Agreement]:
    """What each reader makes of one capture; with `named` it is said which."""
    from analyzer.api import analyze
    from analyzer.opinions.compare import compare, udp_tunnels

    document = analyze(capture).document
    parts = []
    for name in readers:
        if name == "dpkt":
            from analyzer.opinions.by_dpkt import dpkt_opinion

            opinion = dpkt_opinion(capture)
        else:
            from analyzer.opinions.by_tshark import tshark_opinion

            opinion = tshark_opinion(capture, udp_tunnels(document))
        part = compare(document, opinion)
        if named:
            part = replace(
                part, disagreements=tuple(d._replace(where=f"{capture}: {d.where}") for d in part.disagreements)
            )
        parts.append(part)
    return parts


def _json(agreement: Agreement) -> str:
    return json.dumps(
        {
            "unexplained": agreement.unexplained,
            "agreement": [row._asdict() for row in agreement.rows],
            "disagreements": [entry._asdict() for entry in agreement.disagreements],
        },
        indent=1,
        sort_keys=True,
    )


def _print(agreement: Agreement) -> None:
    from analyzer.report.text import visible

    click.echo(f"{'question':14} {'reader':16} {'agree':>8} {'disagree':>9} {'not asked':>10}")
    for row in agreement.rows:
        click.echo(f"{row.question:14} {row.reader:16} {row.agree:8,} {row.disagree:9,} {row.not_asked:10,}")
    for entry in agreement.disagreements[:_MAX_SHOWN]:
        click.echo(f"\n{entry.question}: {visible(entry.where)}")
        click.echo(f"  planewire: {visible(entry.ours)}\n  {entry.reader}: {visible(entry.theirs)}")
        click.echo(f"  reason: {visible(entry.reason) or 'none known'}")
    more = len(agreement.disagreements) - _MAX_SHOWN
    if more > 0:
        click.echo(f"\nand {more} more; --json names them all")
    if not agreement.unexplained:
        click.echo("\nAll agree." if not agreement.disagreements else "\nEvery disagreement has a known reason.")
