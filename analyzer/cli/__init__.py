"""The command line. Subcommands are imported when they are called, so that ``--help`` costs next to nothing."""

from __future__ import annotations

import gc
import os
import signal
import sys
from importlib import import_module
from typing import Final

import click

from analyzer import __version__

COMMANDS: Final[dict[str, str]] = {
    "analyze": "Say which channels of a capture are encrypted, authenticated and verified.",
    "live": "Watch the channels of a running node, on its interfaces or from tcpdump.",
    "report": "Render a JSON report again, as HTML, CSV, Markdown, SARIF or Parquet.",
    "diff": "Say what is different between two captures or reports.",
    "inspect": "Dissect the frames of a finding in full, by tshark.",
    "evidence": "Cut out the smallest capture that shows a finding.",
    "verify": "Ask dpkt and tshark for a second opinion on a capture.",
    "ledger": "Account for every frame of a capture, without a verdict.",
    "explain": "Explain a finding's code: what it means, why it matters, how to fix it.",
    "rules": "List the rules.",
    "facts": "Print a script that gathers the cluster facts --cluster reads.",
}
"""Subcommands in the order of ``--help``, each with its first line, so that listing them imports none."""


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own name, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return its command."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"analyzer.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PLANEWIRE"})
@click.version_option(__version__, prog_name="planewire")
def cli() -> None:
    """Say which channels between a Kubernetes control plane and its nodes are encrypted, authenticated and verified.

    Bring a tcpdump from a node: planewire analyze node.pcap

    Exit status: 0 clean, 1 findings at or above --fail-on, 2 usage, 3 unreadable input, 4 read but incomplete.
    """


def main() -> None:
    """Run the command line; errors meant for the user become one line on standard error."""
    from analyzer.errors import PlanewireError

    # numpy's linear algebra, of which nothing is used, would start a thread for each processor and let it spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Ended by the system, the program takes its unfinished files with it, as it does when interrupted.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(128 + signal.SIGTERM))
    try:
        cli.main(prog_name="planewire", standalone_mode=True)
    except PlanewireError as error:
        from analyzer.report.text import visible

        click.echo(f"planewire: {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output (head, less) went away: nothing is left to say.
        sys.stderr.close()
        sys.exit(0)
    finally:
        # Else all that is left is looked through for cycles when the process ends, for 40 ms, and given back anyway.
        gc.freeze()
