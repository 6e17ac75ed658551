"""``planewire rules``: the rules in one table."""

from __future__ import annotations

import click


@click.command(name="rules")
def command() -> None:
    """List the rules: code, severity, title."""
    from analyzer.rules import RULES

    for rule in RULES:
        click.echo(f"{rule.code}  {rule.severity.label:9} {rule.name:40} {rule.title}")
