"""``planewire inspect``: a finding's frames, dissected in full."""

from __future__ import annotations

import click

from analyzer.cli.finding_options import files_showing, finding_options, rereadable


@click.command(name="inspect")
@finding_options
@click.option("--frames", "n_frames", type=click.IntRange(1), default=20, show_default=True, help="Frames at most.")
def command(
    captures: tuple[str, ...], finding: str, cluster: tuple[str, ...], keys: tuple[str, ...], n_frames: int
) -> None:
    """Dissect the frames that show a finding in full, by tshark.

    FINDING is the id that every report shows (PW201/apiserver-to-kubelet), or its code where that is enough. Of several
    captures the frames of each that shows the finding are dissected, named by file. Credentials are redacted and
    payload is counted, not shown: tshark itself shows all.
    """
    rereadable(captures, "inspect")
    from analyzer.api import analyze
    from analyzer.excerpt import select
    from analyzer.opinions.by_tshark import tshark_path
    from analyzer.opinions.dissection import dissect
    from analyzer.report.text import visible

    if len(keys) > 1:
        raise click.UsageError("tshark takes one key log: join them")
    tshark_path()
    document = analyze(captures, cluster=cluster, keys=keys).document
    chosen = select(document, finding)
    click.echo(visible(f"{chosen['id']} ({chosen['severity']}, {chosen['grade']}): {chosen['message']}"))
    left = len(chosen["frames"])
    if not left:
        click.echo("No frame shows it; see the limits of this rule: planewire explain " + chosen["code"])
        return
    several = len(document["captures"]) > 1
    room = n_frames
    files, archived = files_showing(document, chosen, "inspect")
    left -= sum(len(numbers) for _, numbers in archived)
    for name, numbers in files:
        frames = numbers[:room]
        room, left = room - len(frames), left - len(frames)
        for frame in dissect(name, frames, keys) if frames else ():
            click.echo(f"\nFrame {frame.number}" + (f" of {visible(name)}" if several else ""))
            for layer, lines in frame.layers:
                click.echo(f"  {layer}")
                for line in lines:
                    click.echo(f"    {line}")
    if left > 0:
        click.echo(f"\nand {left} more frames; --frames shows them")
    for name, numbers in archived:
        click.echo(f"\nand {len(numbers)} frames of {visible(name)}, which lies in an archive; unpack that to see them")
