"""The options that say what is read, shared by the commands that read captures."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from analyzer.bounds import MAX_EXPANSION, MAX_FLOWS

if TYPE_CHECKING:
    from analyzer.capture.several import CaptureSet
    from analyzer.distributed import Cluster
    from analyzer.pipeline import Limits

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What the user said about the input."""

    captures: tuple[str, ...]
    node: tuple[str, ...]
    follow: bool
    idle: float | None
    max_flows: int
    max_expansion: int
    head_octets: int | None
    workers: int
    scheduler: str | None


_OPTIONS: Final = (
    click.argument("captures", nargs=-1, metavar="CAPTURE..."),
    click.option(
        "--node",
        multiple=True,
        metavar="NAME=PATH",
        help="A capture, folder, pattern or archive recorded at the vantage point NAME; may be repeated. Without it, "
        "captures whose names differ only by numbers and which follow each other in time are one vantage point.",
    ),
    click.option("--follow", is_flag=True, help="Keep reading a file that is being written, until an interrupt."),
    click.option(
        "--idle",
        type=click.FloatRange(min=0.0),
        metavar="SECONDS",
        help="End a followed file, or a tcp:// connection, after so long without a packet (default: never).",
    ),
    click.option(
        "--head-octets",
        type=click.IntRange(1024, 1 << 20),
        default=None,
        metavar="N",
        help="Octets kept of each direction of a connection (default 16384).",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        metavar="N",
        help="Processes that share the work, of one capture or of many. The report is the same for any number.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Scheduler of a Dask cluster (tcp://HOST:8786, tls://...) whose workers read the captures where they are. "
        "The report is the same. Needs planewire[distributed], here and on the workers.",
    ),
    click.option(
        "--max-flows",
        type=click.IntRange(min=1000),
        default=MAX_FLOWS,
        show_default=True,
        metavar="N",
        help="Flows kept of each recording, and four times as many of all together: of more than four recordings each "
        "has its part, larger files more. Past three quarters of it those that carry no payload (a SYN flood, a "
        "scan) are counted and not kept, past all of it any; the ledger says how many.",
    ),
    click.option(
        "--max-expansion",
        type=click.IntRange(min=2),
        default=MAX_EXPANSION,
        show_default=True,
        metavar="N",
        help="Octets that a compressed one may stand for, past the first GiB; beyond it reading stops.",
    ),
)


def input_options(command: _Command) -> _Command:
    """Add the options; the command gets them as an `InputOptions` named ``inputs``."""
    names = tuple(InputOptions.__dataclass_fields__)

    @wraps(command)
    def collected(*args: Any, **values: Any) -> Any:  # noqa: ANN401 - click's own signature
        return command(*args, inputs=InputOptions(**{name: values.pop(name) for name in names}), **values)

    decorated: Any = collected
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    result: _Command = decorated
    return result


class _Interrupts:
    """Lets the first interrupt end the input and not the report; the second ends the program."""

    def __init__(self) -> None:
        self.seen = False

    def install(self, note: str) -> None:
        signal.signal(signal.SIGINT, lambda _signal, _frame: self._first(note))

    def stopped(self) -> bool:
        return self.seen

    def _first(self, note: str) -> None:
        self.seen = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        click.echo(f"planewire: {note}; interrupt again to stop without a report", err=True)


def open_inputs(options: InputOptions, cluster: Cluster | None = None) -> CaptureSet:
    """Open what the user named; with a cluster, its workers look at the files.

    Raises
    ------
    click.UsageError
        Nothing is named, or options contradict each other.
    PlanewireError
        Nothing that was named can be read.
    """
    from analyzer.capture.discovery import Source, open_captures
    from analyzer.capture.growing import never, parse_address
    from analyzer.capture.source import Opening

    sources = [Source(path) for path in options.captures] + [_node(text) for text in options.node]
    if not sources:
        raise click.UsageError("Missing argument 'CAPTURE...'.")
    growing = options.follow or any(parse_address(source.path) is not None for source in sources)
    if options.follow and (len(sources) > 1 or sources[0].path == "-"):
        raise click.UsageError("--follow takes one file that is being written.")
    if options.idle is not None and not growing:
        raise click.UsageError("--idle goes with --follow or a tcp:// address.")
    interrupts = _Interrupts()
    if growing:
        interrupts.install("reporting what was read")
    elif any(source.path == "-" for source in sources):
        # A terminal sends Ctrl-C to every program of a pipe: tcpdump writes what it has and closes.
        interrupts.install("reporting when the input ends")
    opening = Opening(
        follow=options.follow,
        idle_s=options.idle,
        stopped=interrupts.stopped if growing else never,
        max_expansion=options.max_expansion,
    )
    return open_captures(sources, opening) if cluster is None else open_captures(sources, opening, cluster.look)


@contextmanager
def cluster_of(options: InputOptions) -> Iterator[Cluster | None]:
    """The cluster that the user named."""
    if options.scheduler is None:
        yield None
        return
    from analyzer.distributed import connect

    with connect(options.scheduler) as cluster:
        yield cluster


def limits_of(options: InputOptions) -> Limits:
    """The limits of a run as the user set them."""
    from analyzer.pipeline import Limits

    chosen = Limits(max_flows=options.max_flows)
    if options.head_octets is None:
        return chosen
    return Limits(max_flows=options.max_flows, head_octets=options.head_octets)


def _node(text: str) -> Any:  # noqa: ANN401 - a Source, whose module is imported late
    from analyzer.capture.discovery import Source
    from analyzer.capture.remote import is_url, shown

    name, equals, path = text.partition("=")
    if is_url(text):
        # An address, whose query may hold the equals sign, and a password.
        raise click.UsageError(f"--node {shown(text)!r}: expected NAME=PATH.")
    if not equals or not name.strip() or not path:
        raise click.UsageError(f"--node {text!r}: expected NAME=PATH.")
    return Source(path, name.strip())


@contextmanager
def progress_bar(size: int | None, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
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
