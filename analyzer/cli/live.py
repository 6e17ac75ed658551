"""``planewire live``: packets as they come, verdicts as they change."""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import click

from analyzer import __version__
from analyzer.cli.outputs import (
    Outputs,
    check_writable,
    fail_on_option,
    output_options,
    places,
    tell,
    write_outputs,
)
from analyzer.cli.quantities import address, seconds, size

if TYPE_CHECKING:
    from analyzer.analysis import ClusterContext
    from analyzer.capture.feed import Feed
    from analyzer.capture.rotating import RotatingWriter
    from analyzer.cli.live_display import Display
    from analyzer.cli.live_run import LiveRun
    from analyzer.cli.metrics import MetricsServer
    from analyzer.errors import PlanewireError
    from analyzer.protocols.tls.keylog import KeyLog
    from analyzer.report.audit_result import AuditResult

AGES: Final[dict[str, float]] = {
    "closed": 10.0,
    "half-closed": 120.0,
    "unanswered": 120.0,
    "tcp-idle": 7440.0,
    "tcp-forget": 432_000.0,
    "udp": 30.0,
    "udp-stream": 120.0,
    "other": 600.0,
}
"""Repeated from `session.Ageing` (``*_s``), so that ``--help`` needs no numpy; a test compares."""
RETAIN: Final = 20_000
MAX_CONNECTIONS: Final = 100_000

_EPILOG: Final = """\b
Needs CAP_NET_RAW on Linux: sudo planewire live -i eth0
(docs/live.md: how to allow one interpreter to capture, and how to run it on a cluster)
Without any privilege here, and on macOS or from another machine:
  sudo tcpdump -i eth0 -U -w - | planewire live -
  ssh node sudo tcpdump -i any -U -w - not port 22 or not host ME | planewire live -
  kubectl planewire NODE
Keys on the screen: q quit, ? help, j k select, Enter open, Tab other list, s sort, / filter, p pause.
SIGINT and SIGTERM end with the report, a second one of either without; SIGHUP starts the next file of --write."""


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """What the user said, beside the files to write."""

    source: str | None
    interface: tuple[str, ...]
    bpf: str | None
    snaplen: int
    promiscuous: bool
    buffer: int
    user: str | None
    cluster: tuple[str, ...]
    expect: str | None
    keys: tuple[str, ...]
    suppress: str | None
    head_octets: int | None
    duration: float | None
    packets: int | None
    interval: float | None
    write: str | None
    rotate: int | None
    keep: int | None
    shown_as: str | None
    metrics: tuple[str, int] | None
    age: tuple[str, ...]
    retain: int
    max_connections: int
    fail_on: str
    quiet: bool
    no_color: bool


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
    shown_as = _check_usage(settings, outputs)
    ageing = _ageing_fields(settings)
    context, keys = _handed_over(settings)
    # Imported before the interfaces are open: meanwhile their buffers would fill.
    from analyzer.cli.live_run import LiveRun, Plan
    from analyzer.cli.live_signals import Signals
    from analyzer.report.document import build_document
    from analyzer.session import LIMITS, Ageing, LiveSession

    def publish(result: AuditResult) -> None:
        write_outputs(build_document(result, settings.fail_on), outputs)

    # Ports and interfaces are opened by root where we are root; threads, files and packets come after that.
    metrics = _open_metrics(settings)
    feed = _open_live(settings)
    try:
        note = _drop_privileges(settings, outputs)
        check_writable(outputs)
        if feed is None:
            feed = _read_feed(settings)
        writer = _open_writer(settings)
        limits = LIMITS if settings.head_octets is None else replace(LIMITS, head_octets=settings.head_octets)
        session = LiveSession(context, limits, keys, Ageing(**ageing))
        signals, display = Signals(), _display(shown_as, no_color=settings.no_color)
        plan = Plan(settings.duration, settings.packets, settings.interval, settings.write == "-")
        publishes = publish if settings.interval is not None else None
        gc.freeze()
        with signals.installed(rotates=writer is not None and not plan.into_pipe, screen=shown_as == "screen"):
            if metrics is not None:
                metrics.start()
            if not settings.quiet:
                _say(f"metrics at {metrics.url}" if metrics is not None else "", note)
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
    from analyzer.cli.live_display import DisplayGone
    from analyzer.report.document import build_document
    from analyzer.report.live_final import at_the_end

    moment, ended_by, result = run.run()
    if ended_by == "interrupt" and not settings.quiet and sys.stderr.isatty():
        _say("reporting; interrupt again to stop without a report")
    document = build_document(result, settings.fail_on)
    written, failure = _write(document, outputs, run.problem)
    status = failure.exit_code if failure is not None else int(document["outcome"]["exit_status"])
    try:
        display.end(at_the_end(moment, document), ended_by, status)
    except DisplayGone:
        shown_as = None
    # A screen, and no display at all, have told on standard error what went wrong.
    summary, problems = shown_as in ("screen", "lines"), shown_as in ("lines", "jsonl")
    with suppress(BrokenPipeError):
        quiet, no_color = settings.quiet, settings.no_color
        tell(document, outputs, written, quiet=quiet, no_color=no_color, summary=summary, problems=problems)
    if failure is not None:
        raise failure
    return status


def _say(*notes: str) -> None:
    for note in filter(None, notes):
        click.echo(f"planewire: {note}", err=True)


def _write(
    document: dict[str, Any], outputs: Outputs, failure: PlanewireError | None
) -> tuple[list[str], PlanewireError | None]:
    """Write the files; where that fails the rest of the report is still told."""
    from analyzer.errors import OutputError

    try:
        return write_outputs(document, outputs), failure
    except OutputError as error:
        return [], failure or error


# ------------------------------------------------------------------------------------------- preparing


def _check_usage(settings: LiveSettings, outputs: Outputs) -> str | None:
    """Refuse what makes no sense; what to show, None for nothing."""
    if settings.source is None and not settings.interface:
        raise click.UsageError(f"Say what to listen to: -i with one of {_interfaces()}; or - for standard input.")
    if settings.source is not None and settings.interface:
        raise click.UsageError("-i and a capture to read exclude each other.")
    if settings.source is not None and settings.source != "-" and not _is_address(settings.source):
        known = {name for _, name in socket.if_nameindex()} | {"any"}
        hint = f"-i {settings.source}" if settings.source in known else f"planewire analyze --follow {settings.source}"
        raise click.UsageError(f"{settings.source!r} is neither - nor tcp://HOST:PORT; try {hint}")
    if settings.source == "-" and sys.stdin is not None and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal: pipe a capture into it (tcpdump -U -w - | ...).")
    if settings.source is not None and settings.bpf is not None:
        raise click.UsageError("--filter goes with -i; give the filter to whoever captures.")
    if settings.write is None and (settings.rotate is not None or settings.keep is not None):
        raise click.UsageError("--rotate and --keep go with --write.")
    if settings.write == "-" and (settings.shown_as is not None or outputs.on_standard_output):
        raise click.UsageError("--write - leaves no place for anything else on standard output.")
    if settings.write == "-" and sys.stdout.isatty():
        raise click.UsageError("--write - needs somebody who reads: standard output is a terminal.")
    if settings.write == "-" and (settings.rotate is not None or settings.keep is not None):
        raise click.UsageError("standard output cannot be rotated.")
    if settings.interval is not None:
        if outputs == Outputs():
            raise click.UsageError("--interval writes reports again and again: name one (--json, --html, --csv ...).")
        if outputs.on_standard_output:
            raise click.UsageError("--interval replaces files; standard output cannot be replaced.")
    if outputs.on_standard_output and settings.shown_as is not None:
        raise click.UsageError("--format has no place where a report goes to standard output.")
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if settings.shown_as == "screen" and not terminal:
        raise click.UsageError("--format screen needs a terminal.")
    if settings.quiet or outputs.on_standard_output or settings.write == "-":
        return None
    return settings.shown_as or ("screen" if terminal else "lines")


def _interfaces() -> str:
    try:
        return ", ".join(["any", *(name for _, name in socket.if_nameindex())])
    except OSError:
        return "any"


def _is_address(text: str) -> bool:
    from analyzer.capture.growing import parse_address

    return parse_address(text) is not None


def _ageing_fields(settings: LiveSettings) -> dict[str, Any]:
    """The fields of `session.Ageing` that the user set."""
    fields: dict[str, Any] = {"retain": settings.retain, "most": settings.max_connections}
    for text in settings.age:
        name, equals, value = text.partition("=")
        if not equals or name not in AGES:
            raise click.UsageError(f"--age {text!r}: expected NAME=TIME with one of {', '.join(AGES)}.")
        fields[f"{name.replace('-', '_')}_s"] = seconds(value)
    return fields


def _handed_over(settings: LiveSettings) -> tuple[ClusterContext, KeyLog | None]:
    """What the user hands over, read while the program may still read it."""
    from analyzer.user_files import load_cluster, load_keys, load_suppressions

    suppressions = load_suppressions(settings.suppress)
    context = replace(load_cluster(settings.cluster, settings.expect), suppressions=suppressions)
    keys, notes = load_keys(settings.keys)
    for note in notes:
        click.echo(f"planewire: {note}", err=True)
    return context, keys


def _open_metrics(settings: LiveSettings) -> MetricsServer | None:
    if settings.metrics is None:
        return None
    from analyzer.cli.metrics import MetricsServer

    return MetricsServer(*settings.metrics)


def _open_live(settings: LiveSettings) -> Feed | None:
    """Open the interfaces; None where something else is read."""
    if settings.source is not None:
        return None
    from analyzer.capture.live import LiveOptions, open_live

    return open_live(
        LiveOptions(settings.interface, settings.bpf, settings.snaplen, settings.promiscuous, settings.buffer)
    )


def _read_feed(settings: LiveSettings) -> Feed:
    """Open standard input or a server; waits for its first octets."""
    from analyzer.capture.feed import feed_of
    from analyzer.capture.source import Opening, TarStream, open_octets, open_source
    from analyzer.errors import CaptureFormatError

    source = settings.source or "-"
    if source == "-" and not settings.quiet and not _comes_soon():
        _say("waiting for a capture on standard input")
    # Without a buffer: a thread that waits in one when the program ends holds its lock, and that aborts the program.
    opening = Opening(stdin=cast("BinaryIO", open(0, "rb", buffering=0, closefd=False)))  # noqa: SIM115
    reader = open_source(source, open_octets(source, opening), opening)
    if isinstance(reader, TarStream):
        reader.source.close()
        raise CaptureFormatError(source, 0, "is an archive; planewire analyze reads it")
    return feed_of(reader)


def _comes_soon() -> bool:
    """Whether something is on standard input already, or will be in a second."""
    try:
        return bool(select.select([0], [], [], 1.0)[0])
    except (OSError, ValueError):
        return True


def _drop_privileges(settings: LiveSettings, outputs: Outputs) -> str:
    """Become somebody who may do less, where the program is root; what to say about it."""
    from analyzer.capture.privileges import drop_privileges

    writes = [place for _, place in places(outputs)]
    if settings.write is not None and settings.write != "-":
        writes.append(Path(settings.write) if settings.rotate is None else Path(settings.write).absolute().parent)
    return drop_privileges(settings.user, writes)


def _open_writer(settings: LiveSettings) -> RotatingWriter | None:
    if settings.write is None:
        return None
    from analyzer.capture.rotating import RotatingWriter

    application = f"planewire {__version__}"
    return RotatingWriter(settings.write, rotate_octets=settings.rotate, keep=settings.keep, application=application)


def _display(shown_as: str | None, *, no_color: bool) -> Display:
    from analyzer.cli import live_display

    if shown_as is None:
        return live_display.NoDisplay()
    if shown_as == "screen":
        return live_display.ScreenDisplay(no_color=no_color)
    return live_display.LinesDisplay(json=shown_as == "jsonl")
