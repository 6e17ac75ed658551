"""The generated parts of ``docs/commands.md``: every command's usage and options, as ``--help`` has them."""

from __future__ import annotations

import click

from analyzer.cli import COMMANDS, cli


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def options_of(command: click.Command) -> list[tuple[str, str]]:
    """Each option of a command as (its spellings and value, its help); ``--help`` itself is left out."""
    context = click.Context(command, info_name=command.name)
    rows = []
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.hidden:
            continue
        record = parameter.get_help_record(context)
        assert record is not None, f"{command.name} {parameter.opts}: no help"
        rows.append((record[0], record[1]))
    return rows


def usage_of(command: click.Command) -> str:
    """``planewire NAME ARGUMENTS``, with options in brackets."""
    context = click.Context(command, info_name=f"planewire {command.name}")
    return " ".join(context.command.collect_usage_pieces(context))


def block(name: str) -> str:
    """The generated block of one command."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    lines = [f"`planewire {name} {usage_of(command)}`", ""]
    rows = options_of(command)
    if rows:
        lines += ["| option | what |", "|---|---|"]
        lines += [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in rows]
    return "\n".join(lines).rstrip()


def generated_commands(text: str) -> str:
    """``docs/commands.md`` with its blocks made anew; a command without a section gets one at the end."""
    for name, line in COMMANDS.items():
        begin, end = f"<!-- BEGIN generated: {name} -->\n", f"<!-- END generated: {name} -->"
        if begin not in text:
            text += f"\n## planewire {name}\n\n{line}\n\n{begin}{end}\n"
        before, rest = text.split(begin, 1)
        text = f"{before}{begin}{block(name)}\n{end}{rest.split(end, 1)[1]}"
    return text
