"""``planewire live``: packets as they come, verdicts as they change."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from analyzer.cli.live_opening import (
    give_up_rights,
    handed_over,
    open_display,
    open_interfaces,
    open_metrics,
    open_writer,
    read_feed,
    say,
)
from analyzer.cli.live_settings import AGES, MAX_CONNECTIONS, RETAIN, LiveSettings, ageing_fields, check_usage
from analyzer.cli.outputs import Outputs, check_writable, fail_on_option, output_options, tell, write_outputs
from analyzer.cli.quantities import address, seconds, size

if TYPE_CHECKING:
    from analyzer.cli.live_display import Display
    from analyzer.cli.live_run import LiveRun
    from analyzer.errors import PlanewireError
    from analyzer.report.audit_result import AuditResult

_EPILOG: Final = """\b
Needs CAP_NET_RAW on Linux: sudo planewire live -i eth0
(docs/live.md: how to allow one interpreter to capture, and how to run it on a cluster)
Without any privilege here, and on macOS or from another machine:
  sudo tcpdump -i eth0 -U -w - | planewire live -
  ssh node sudo tcpdump -i any -U -w - not port 22 or not host ME | planewire live -
  kubectl planewire NODE
Keys on the screen: q quit, ? help, j k select, Enter open, Tab other list, s sort, / filter, p pause.
SIGINT and SIGTERM end with the report, a second one of either without; SIGHUP starts the next file of --write."""


@click.command(name="live", epilog=_EPILOG)
@click.argument("source", required=False, metavar="[-|tcp://HOST:PORT]")
@click.option(
    "-i",
    "--interface",
    multiple=True,
    metavar="IFACE",
    help="Interface to capture on; may be repeated. any: all of them.",
)
@click.option("--filter", "bpf", metavar="BPF", help="Capture only what this pcap-filter(7) expression selects.")
@click.option(
    "--snaplen",
    type=click.IntRange(64, 262144),
    default=262144,
    show_default=True,
    metavar="N",
    help="Octets kept of each packet. Below about 2000 handshakes cannot be read.",
)
@click.option(
    "-p",
    "--no-promiscuous",
    is_flag=True,
    help="Do not take in what is addressed to others.",
)
@click.option(
    "--buffer",
    type=size,
    default="64MiB",
    show_default=True,
    metavar="SIZE",
    help="Memory that the kernel fills, of each interface.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="Started as root, go on as this user once the interfaces are open. By default the user who called sudo, else "
    "nobody where that user can write the files asked for, else root without its capabilities.",
)
@click.option(
    "--cluster",
    multiple=True,
    metavar="PATH",
    help="File or folder of cluster facts, as analyze takes them.",
)
@click.option(
    "--expect",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Communication matrix, as analyze takes it.",
)
@click.option(
    "--keys", multiple=True, type=click.Path(), metavar="FILE", help="TLS key log, as analyze takes it; read once."
)
@click.option(
    "--suppress",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Suppressions, as analyze takes them.",
)
@click.option(
    "--head-octets",
    type=click.IntRange(1024, 1 << 20),
    metavar="N",
    help="Octets kept of each direction of a connection (default 16384).",
)
@click.option("--duration", type=seconds, metavar="TIME", help="End after so long: 90s, 15m, 2h.")
@click.option("--packets", type=click.IntRange(min=1), metavar="N", help="End after so many packets.")
@output_options
@click.option(
    "--interval",
    type=seconds,
    metavar="TIME",
    help="Write the reports every so often too, not only at the end; a reader never meets half of one.",
)
@click.option(
    "--write",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the packets to FILE as pcapng; - is standard output, and nothing else is shown.",
)
@click.option(
    "--rotate",
    type=size,
    metavar="SIZE",
    help="Start the next file when one has this size: 100MB. SIGHUP does so at any time.",
)
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Files kept; older ones are deleted.")
@click.option(
    "--format",
    "shown_as",
    type=click.Choice(["screen", "lines", "jsonl"]),
    help="What to show: a screen (the default on a terminal), a line for each change and finding, or the same as JSON.",
)
@click.option(
    "--metrics",
    type=address,
    metavar="[HOST]:PORT",
    help="Serve Prometheus metrics at /metrics, and /healthz; on the loopback address unless HOST says otherwise.",
)
@click.option(
    "--age",
    multiple=True,
    metavar="NAME=TIME",
    help="When a silent connection has ended; may be repeated. "
    f"Defaults: {', '.join(f'{name}={int(value)}s' for name, value in AGES.items())}.",
)
@click.option(
    "--retain",
    type=click.IntRange(min=100),
    default=RETAIN,
    show_default=True,
    metavar="N",
    help="Connections kept in full after their end; older ones stay counted.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(min=1000),
    default=MAX_CONNECTIONS,
    show_default=True,
    metavar="N",
    help="Connections held in all, open ones too.",
)
@fail_on_option("high")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing; files, metrics and exit status only.")
@click.option("--no-color", is_flag=True, help="No colour, also on a terminal (as NO_COLOR does).")
@click.pass_context
def command(ctx: click.Context, /, no_promiscuous: bool, **values: Any) -> None:  # noqa: ANN401 - click's own
    """Watch the channels of a running node: what analyze says of a capture, said while the packets come.

    Packets come from interfaces (-i), from a capture on standard input (-), or from a PCAP-over-IP server (tcp://).
    On a terminal there is a screen; elsewhere a line for each change of a channel and each finding. At the end, and
    every --interval, come the report and the files of analyze, of the same form; the exit status is analyze's: 4 where
    packets were dropped.
    """
    outputs = Outputs(**{name: values.pop(name) for name in Outputs.__dataclass_fields__})
    settings = LiveSettings(promiscuous=not no_promiscuous, **values)
    ctx.exit(_run(settings, outputs))


def _run(settings: LiveSettings, outputs: Outputs) -> int:
    """Open everything, run, report; the exit status."""
    # Whatever the user says: threads that numpy's linear algebra starts would keep the rights that this one gives up.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    shown_as = check_usage(settings, outputs)
    ageing = ageing_fields(settings)
    context, keys = handed_over(settings)
    # Imported before the interfaces are open: meanwhile their buffers would fill.
    from analyzer.cli.live_run import LiveRun, Plan
    from analyzer.cli.live_signals import Signals
    from analyzer.report.document import build_document
    from analyzer.session import LIMITS, Ageing, LiveSession

    def publish(result: AuditResult) -> None:
        write_outputs(build_document(result, settings.fail_on), outputs)

    # Ports and interfaces are opened by root where we are root; threads, files and packets come after that.
    metrics = open_metrics(settings)
    feed = open_interfaces(settings)
    try:
        note = give_up_rights(settings, outputs)
        check_writable(outputs)
        if feed is None:
            feed = read_feed(settings)
        writer = open_writer(settings)
        limits = LIMITS if settings.head_octets is None else replace(LIMITS, head_octets=settings.head_octets)
        session = LiveSession(context, limits, keys, Ageing(**ageing))
        signals, display = Signals(), open_display(shown_as, no_color=settings.no_color)
        plan = Plan(settings.duration, settings.packets, settings.interval, settings.write == "-")
        publishes = publish if settings.interval is not None else None
        gc.freeze()
        with signals.installed(rotates=writer is not None and not plan.into_pipe, screen=shown_as == "screen"):
            if metrics is not None:
                metrics.start()
            if not settings.quiet:
                say(f"metrics at {metrics.url}" if metrics is not None else "", note)
            run = LiveRun(feed, session, display, signals, plan, writer=writer, metrics=metrics, publish=publishes)
            return _report(settings, outputs, shown_as, run, display)
    finally:
        # A thread that waits for standard input cannot be woken; it ends with the process.
        if feed is not None and (settings.source is None or feed.ended):
            feed.close()
        if metrics is not None:
            metrics.close()


def _report(settings: LiveSettings, outputs: Outputs, shown_as: str | None, run: LiveRun, display: Display) -> int:
    """Run to the end, and write and tell what came of it; the exit status.

    Raises
    ------
    PlanewireError
        Something went wrong on the way; everything was written and told nevertheless.
    """
    from analyzer.cli.live_display import DisplayGone, unread_is_no_error
    from analyzer.report.document import build_document
    from analyzer.report.live_final import at_the_end

    moment, ended_by, result = run.run()
    if ended_by == "interrupt" and not settings.quiet and sys.stderr.isatty():
        say("reporting; interrupt again to stop without a report")
    document = build_document(result, settings.fail_on)
    written, failure = _write(document, outputs, run.problem)
    status = failure.exit_code if failure is not None else int(document["outcome"]["exit_status"])
    try:
        display.end(at_the_end(moment, document), ended_by, status)
    except DisplayGone:
        shown_as = None
    # A screen, and no display at all, have told on standard error what went wrong.
    summary, problems = shown_as in ("screen", "lines"), shown_as in ("lines", "jsonl")
    with unread_is_no_error():
        quiet, no_color = settings.quiet, settings.no_color
        tell(document, outputs, written, quiet=quiet, no_color=no_color, summary=summary, problems=problems)
    if failure is not None:
        raise failure
    return status


def _write(
    document: dict[str, Any], outputs: Outputs, failure: PlanewireError | None
) -> tuple[list[str], PlanewireError | None]:
    """Write the files; where that fails the rest of the report is still told."""
    from analyzer.errors import OutputError

    try:
        return write_outputs(document, outputs), failure
    except OutputError as error:
        return [], failure or error
