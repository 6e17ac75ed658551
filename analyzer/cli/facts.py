"""``planewire facts``: the commands that gather what ``--cluster`` reads."""

from __future__ import annotations

from typing import Final

import click

PLATFORMS: Final = {
    "kubeadm": "clusters whose control plane you run (kubeadm and the like): kubectl, and ssh to the hosts",
    "managed": "EKS, GKE, AKS and the like: kubectl alone",
    "openshift": "OpenShift: oc alone",
}


def script(platform: str) -> str:
    """The script for a platform: POSIX sh, complete, and nothing in it writes to the cluster."""
    from importlib.resources import files

    folder = files("analyzer.data").joinpath("facts")
    parts = (folder.joinpath(f"{name}.sh").read_text("utf-8") for name in ("common", platform, "end"))
    return "".join(parts).replace("@KUBECTL@", "oc" if platform == "openshift" else "kubectl")


@click.command(name="facts")
@click.option(
    "--platform",
    type=click.Choice(list(PLATFORMS)),
    default="kubeadm",
    show_default=True,
    help="; ".join(f"{name}: {what}" for name, what in PLATFORMS.items()) + ".",
)
def command(platform: str) -> None:
    """Print a script that gathers the cluster facts --cluster reads.

    It only reads, and gathers no secrets; nothing is run here. Look through it, then: planewire facts > gather.sh; sh
    gather.sh FOLDER
    """
    click.echo(script(platform), nl=False)
