from __future__ import annotations

import pytest
from click.testing import CliRunner

from analyzer.cli import COMMANDS, cli
from analyzer.rules import RULES


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    done = CliRunner().invoke(cli, [command, "--help"])

    assert done.exit_code == 0
    assert "Usage:" in done.output


def test_rules_lists_every_rule() -> None:
    done = CliRunner().invoke(cli, ["rules"])

    assert [line.split()[0] for line in done.output.splitlines()] == [rule.code for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_explain_says_everything(rule: object) -> None:
    from analyzer.rules import Rule

    assert isinstance(rule, Rule)
    for name in (rule.code, rule.code.lower(), rule.name):
        done = CliRunner().invoke(cli, ["explain", name])
        assert done.exit_code == 0
        flat = " ".join(done.output.split())
        for part in (rule.title, rule.why, rule.remediation, rule.source):
            assert " ".join(part.split()) in flat


def test_explain_knows_its_codes() -> None:
    done = CliRunner().invoke(cli, ["explain", "PW999"])

    assert done.exit_code == 2
    assert "PW101" in done.output
