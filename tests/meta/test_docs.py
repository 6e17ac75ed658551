"""The documents tell what the program does: every command and option, and examples that run."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import time

import click
import pytest
import yaml

from analyzer.cli import COMMANDS, cli
from tests.conftest import ROOT
from tests.golden.commands import generated_commands, options_of, usage_of
from tests.golden.screen import LIVE, generated_live

TEXT = (ROOT / "docs" / "commands.md").read_text()


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def section(name: str) -> str:
    return TEXT.split(f"\n## planewire {name}\n", 1)[1].split("\n## ", 1)[0]


def test_the_generated_parts_are_what_the_program_says_today() -> None:
    assert generated_commands(TEXT) == TEXT, "run `make golden`"
    shown = LIVE.read_text()
    assert generated_live(shown) == shown, "run `make golden`"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_and_option_is_documented_and_has_help(name: str) -> None:
    one = command(name)
    assert one.help
    assert COMMANDS[name].endswith(".")
    words = section(name)
    prose = re.sub(r"<!-- BEGIN.*?END generated: [a-z]+ -->", "", words, flags=re.S)
    assert len(prose.split()) >= 5, f"docs/commands.md says nothing about {name}"
    assert f"`planewire {name} {usage_of(one)}`" in words
    for option, text in options_of(one):
        assert text.strip(), f"{name} {option} has no help"
        for spelling in re.findall(r"--?[a-z][a-z-]*", option.split(" ", 1)[0]):
            assert spelling in words
    for parameter in one.params:
        if isinstance(parameter, click.Option):
            assert all(spelling in words for spelling in parameter.opts), parameter.opts


def test_nothing_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^## planewire ([a-z]+)$", TEXT, re.M)) == set(COMMANDS)
    known = {spelling for name in COMMANDS for p in command(name).params for spelling in p.opts}
    for option in re.findall(r"`(--[a-z-]+)", TEXT):
        assert option in known | {"--help"}, option


def planewire(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analyzer", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_options_can_be_set_by_the_environment_and_completed_by_the_shell() -> None:
    capture = str(ROOT / "captures" / "05-proxy-cleartext.pcap")
    assert planewire("analyze", "-q", capture).returncode == 1
    assert planewire("analyze", "-q", capture, PLANEWIRE_ANALYZE_FAIL_ON="never").returncode == 0
    for shell in ("bash", "zsh", "fish"):
        assert "_PLANEWIRE_COMPLETE" in planewire(_PLANEWIRE_COMPLETE=f"{shell}_source").stdout


_CALL = re.compile(r"(?:^ *\$?|[|=]\S*|sudo) *(?:\S*/bin/)?planewire ([a-z]+ .*|[a-z]+$)", re.M)


@pytest.mark.parametrize("path", ["README.md", "docs/live.md", "docs/keys.md", "docs/cluster-facts.md"])
def test_commands_in_the_documents_are_understood(path: str) -> None:
    """Each `planewire ...` in a block of code, up to what the shell takes of the line."""
    found = 0
    for block in re.findall(r"(?:^    .*\n)+|^```console\n(?:.*\n)*?```", (ROOT / path).read_text(), re.M):
        for line in _CALL.findall(block.replace("\\\n", " ")):
            words = shlex.split(re.split(r" [|>#&]|;", line)[0])
            if words[0] not in COMMANDS:
                continue
            found += 1
            group = click.Context(cli)
            with command(words[0]).make_context(words[0], words[1:], parent=group, resilient_parsing=False):
                pass
    assert found


def test_the_configuration_of_prometheus_is_yaml_and_asks_for_metrics_that_are_served() -> None:
    text = (ROOT / "docs" / "live.md").read_text()
    blocks = re.findall(r"^    # (?:prometheus|rules|kustomization)\.yml.*\n((?:    .*\n)+)", text, re.M)
    parsed = [yaml.safe_load(block) for block in blocks]
    assert [next(iter(one)) for one in parsed] == ["scrape_configs", "groups"]
    rules = parsed[1]["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"planewire_[a-z_]+", rule["expr"])}
    served = (ROOT / "analyzer" / "cli" / "metrics.py").read_text()
    assert len(asked) > 4
    for name in asked:
        # The names of a channel's counters are put together from what they count.
        assert f'"{name}"' in served or "planewire_channel_{what}_total" in served, name


def test_the_python_examples_print_what_stands_under_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S)
    assert len(blocks) == text.count("```python") == text.count("```text") > 3
    names: dict[str, object] = {}
    for number, (source, expected) in enumerate(blocks):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, f"docs/python.md, block {number + 1}", "exec"), names)
        lines = [line.rstrip() for line in printed.getvalue().splitlines()]
        assert lines == [line.rstrip() for line in expected.splitlines()]


def test_help_is_not_twice_as_slow_as_importing_click_and_rich() -> None:
    """Paired runs, best of each, CPU time of the children."""

    def seconds(*arguments: str) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds("-m", "analyzer", "--help") < 2 * seconds("-c", "import click, rich.console, rich.table") + 0.02
