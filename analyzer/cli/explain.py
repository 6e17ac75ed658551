"""``planewire explain``: one rule in full."""

from __future__ import annotations

import textwrap

import click


def _indent(line: str) -> str:
    # Addresses and flags hold hyphens: breaking there would spoil what people copy.
    return textwrap.fill(
        line, 80, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


@click.command(name="explain")
@click.argument("code")
def command(code: str) -> None:
    """Explain a rule by its code (PW201) or name."""
    from analyzer.rules import RULES

    wanted = code.strip().lower()
    for rule in RULES:
        if wanted in (rule.code.lower(), rule.name):
            break
    else:
        known = ", ".join(rule.code for rule in RULES)
        raise click.BadParameter(f"no rule {code!r}; there are {known}", param_hint="CODE")
    sections = (
        ("Channels", ", ".join(rule.channels) or "all"),
        ("What it needs", rule.needs),
        ("What is seen", rule.seen),
        ("Why it matters", rule.why),
        ("What to do", rule.remediation),
        ("Flags and fields", "\n".join(rule.flags)),
        ("Limits", rule.limits),
        ("Wireshark display filter", rule.filter),
        ("Source", rule.source),
        ("CIS control", rule.cis),
    )
    click.echo(f"{rule.code} {rule.name} ({rule.severity.label}, {rule.status})\n{rule.title}")
    for title, body in sections:
        if body:
            indented = "\n".join(_indent(line) for line in body.splitlines())
            click.echo(f"\n{title}:\n{indented}")
