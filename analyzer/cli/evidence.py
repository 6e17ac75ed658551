"""``planewire evidence``: the smallest capture that shows a finding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from analyzer.cli.finding_options import files_showing, finding_options, rereadable

if TYPE_CHECKING:
    from analyzer.analysis import ClusterContext
    from analyzer.excerpt import Excerpt
    from analyzer.protocols.tls.keylog import KeyLog

_NAMED: Final = 3
"""Captures in archives that an error names."""


@click.command(name="evidence")
@finding_options
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="The capture to write (pcapng).",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Mask credentials: of a JSON Web Token the signature, of others all of it. TCP checksums of masked frames no "
    "longer match.",
)
def command(
    captures: tuple[str, ...], finding: str, cluster: tuple[str, ...], keys: tuple[str, ...], output: str, redact: bool
) -> None:
    """Write the smallest capture that shows a finding: analysed again with the same options, it gives the same one.

    Of several captures, one that shows the finding by itself is cut: the one that holds most of its frames comes first.

    FINDING is the id that every report shows (PW201/apiserver-to-kubelet), or its code where that is enough. Frames
    carry the number they had in their file as a comment.
    """
    rereadable(captures, "evidence")
    from analyzer.report.tables import write_atomically
    from analyzer.report.text import visible
    from analyzer.user_files import load_cluster, load_keys

    name, excerpt = _cut(captures, finding, load_cluster(cluster), load_keys(keys)[0], redact=redact)
    write_atomically(Path(output), excerpt.octets)
    if excerpt.credentials:
        frames = " ".join(map(str, excerpt.credentials))
        click.echo(
            f"planewire: {output}: credentials can be read in frames {frames}: guard it like them, or use --redact",
            err=True,
        )
    if excerpt.sessions:
        click.echo(
            f"planewire: {output}: holds the TLS secrets of {excerpt.sessions} sessions: whoever has it reads them",
            err=True,
        )
    click.echo(
        f"wrote {output}: {len(excerpt.frames)} frames of {excerpt.connections} "
        f"connection{'' if excerpt.connections == 1 else 's'}, {len(excerpt.octets)} octets"
        + (f", cut out of {visible(name)}" if name != captures[0] or len(captures) > 1 else ""),
        err=True,
    )


def _cut(
    captures: tuple[str, ...], finding: str, context: ClusterContext, keys: KeyLog | None, *, redact: bool
) -> tuple[str, Excerpt]:
    """Cut the finding out of one of the captures; the file's name and the excerpt."""
    from analyzer.analysis import run
    from analyzer.capture.discovery import Source, open_captures
    from analyzer.errors import FindingError
    from analyzer.excerpt import cut_out, select
    from analyzer.report.document import build_document
    from analyzer.report.schema_document import as_document

    if len(captures) == 1 and Path(captures[0]).is_file() and not _is_archive(captures[0]):
        return captures[0], cut_out(captures[0], finding, context, keys=keys, redact=redact)
    with open_captures([Source(path) for path in captures]) as reader:
        document = as_document(build_document(run(reader, context, keys=keys)))
    chosen = select(document, finding)
    problem = FindingError(f"{chosen['id']}: no frame shows it")
    files, archived = files_showing(document, chosen, "evidence")
    for name, _ in files:
        try:
            return name, cut_out(name, chosen["id"], context, keys=keys, redact=redact)
        except FindingError as error:
            problem = error
    if len(document["captures"]) == 1:
        raise problem
    if archived:
        names = ", ".join(name for name, _ in archived[:_NAMED])
        raise FindingError(f"{chosen['id']} shows in no file by itself; unpack the archives to try {names} as well")
    raise FindingError(f"{chosen['id']} shows in none of the captures by itself, only in all of them together")


def _is_archive(path: str) -> bool:
    from analyzer.capture.source import Opening, TarStream, open_octets, open_source

    opened = open_source(path, open_octets(path, Opening()), Opening())
    found = isinstance(opened, TarStream)
    (opened.source if isinstance(opened, TarStream) else opened).close()
    return found
