"""What a live run is made of, opened as the user said: files, interfaces or streams, a writer, a display."""

from __future__ import annotations

import select
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from analyzer import __version__
from analyzer.cli.live_settings import LiveSettings
from analyzer.cli.outputs import Outputs, places

if TYPE_CHECKING:
    from analyzer.analysis import ClusterContext
    from analyzer.capture.feed import Feed
    from analyzer.capture.rotating import RotatingWriter
    from analyzer.cli.live_display import Display
    from analyzer.cli.metrics import MetricsServer
    from analyzer.protocols.tls.keylog import KeyLog


def say(*notes: str) -> None:
    """Tell the user what is said, on standard error."""
    for note in filter(None, notes):
        click.echo(f"planewire: {note}", err=True)


def handed_over(settings: LiveSettings) -> tuple[ClusterContext, KeyLog | None]:
    """What the user hands over, read while the program may still read it."""
    from analyzer.user_files import load_cluster, load_keys, load_suppressions

    suppressions = load_suppressions(settings.suppress)
    context = replace(load_cluster(settings.cluster, settings.expect), suppressions=suppressions)
    keys, notes = load_keys(settings.keys)
    for note in notes:
        click.echo(f"planewire: {note}", err=True)
    return context, keys


def open_metrics(settings: LiveSettings) -> MetricsServer | None:
    """Listen where metrics are to be served; they are served from `MetricsServer.start` on."""
    if settings.metrics is None:
        return None
    from analyzer.cli.metrics import MetricsServer

    return MetricsServer(*settings.metrics)


def open_interfaces(settings: LiveSettings) -> Feed | None:
    """Open the interfaces; None where something else is read."""
    if settings.source is not None:
        return None
    from analyzer.capture.live import LiveOptions, open_live

    return open_live(
        LiveOptions(settings.interface, settings.bpf, settings.snaplen, settings.promiscuous, settings.buffer)
    )


def read_feed(settings: LiveSettings) -> Feed:
    """Open standard input or a server; waits for its first octets."""
    from analyzer.capture.feed import feed_of
    from analyzer.capture.source import Opening, TarStream, open_octets, open_source
    from analyzer.errors import CaptureFormatError

    source = settings.source or "-"
    if source == "-" and not settings.quiet and not _comes_soon():
        say("waiting for a capture on standard input")
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


def give_up_rights(settings: LiveSettings, outputs: Outputs) -> str:
    """Become somebody who may do less, where the program is root; what to say about it."""
    from analyzer.capture.privileges import drop_privileges

    writes = [place for _, place in places(outputs)]
    if settings.write is not None and settings.write != "-":
        writes.append(Path(settings.write) if settings.rotate is None else Path(settings.write).absolute().parent)
    return drop_privileges(settings.user, writes)


def open_writer(settings: LiveSettings) -> RotatingWriter | None:
    """Make the file that the packets go to, if they are to go to one."""
    if settings.write is None:
        return None
    from analyzer.capture.rotating import RotatingWriter

    application = f"planewire {__version__}"
    return RotatingWriter(settings.write, rotate_octets=settings.rotate, keep=settings.keep, application=application)


def open_display(shown_as: str | None, *, no_color: bool) -> Display:
    """Make what `check_usage` said is to be shown."""
    from analyzer.cli import live_display

    if shown_as is None:
        return live_display.NoDisplay()
    if shown_as == "screen":
        return live_display.ScreenDisplay(no_color=no_color)
    return live_display.LinesDisplay(json=shown_as == "jsonl")
