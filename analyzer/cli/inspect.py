"""``planewire inspect``: a finding's frames, dissected in full."""

from __future__ import annotations

import click

from analyzer.cli.finding_options import finding_options, regular_file


@click.command(name="inspect")
@finding_options
@click.option("--frames", "n_frames", type=click.IntRange(1), default=20, show_default=True, help="Frames at most.")
def command(capture: str, finding: str, cluster: tuple[str, ...], keys: tuple[str, ...], n_frames: int) -> None:
    """Dissect the frames that show a finding in full, by tshark.

    FINDING is the id that every report shows (PW201/apiserver-to-kubelet), or its code where that is enough.
    Credentials are redacted and payload is counted, not shown: tshark itself shows all.
    """
    regular_file(capture, "inspect")
    from analyzer.api import analyze
    from analyzer.excerpt import select
    from analyzer.opinions.by_tshark import tshark_path
    from analyzer.opinions.dissection import dissect
    from analyzer.report.text import visible

    if len(keys) > 1:
        raise click.UsageError("tshark takes one key log: join them")
    tshark_path()
    chosen = select(analyze(capture, cluster=cluster, keys=keys).document, finding)
    click.echo(visible(f"{chosen['id']} ({chosen['severity']}, {chosen['grade']}): {chosen['message']}"))
    frames = chosen["frames"][:n_frames]
    if not frames:
        click.echo("No frame shows it; see the limits of this rule: planewire explain " + chosen["code"])
        return
    for frame in dissect(capture, frames, keys):
        click.echo(f"\nFrame {frame.number}")
        for name, lines in frame.layers:
            click.echo(f"  {name}")
            for line in lines:
                click.echo(f"    {line}")
    left = len(chosen["frames"]) - len(frames)
    if left:
        click.echo(f"\nand {left} more frames; --frames shows them")
