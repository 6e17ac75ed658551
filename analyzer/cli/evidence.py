"""``planewire evidence``: the smallest capture that shows a finding."""

from __future__ import annotations

from pathlib import Path

import click

from analyzer.cli.finding_options import finding_options, regular_file


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
    capture: str, finding: str, cluster: tuple[str, ...], keys: tuple[str, ...], output: str, redact: bool
) -> None:
    """Write the smallest capture that shows a finding: analysed again with the same options, it gives the same one.

    FINDING is the id that every report shows (PW201/apiserver-to-kubelet), or its code where that is enough. Frames
    carry the number they had in CAPTURE as a comment.
    """
    regular_file(capture, "evidence")
    from analyzer.excerpt import cut_out
    from analyzer.report.tables import write_atomically
    from analyzer.user_files import load_cluster, load_keys

    excerpt = cut_out(capture, finding, load_cluster(cluster), keys=load_keys(keys)[0], redact=redact)
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
        f"connection{'' if excerpt.connections == 1 else 's'}, {len(excerpt.octets)} octets",
        err=True,
    )
