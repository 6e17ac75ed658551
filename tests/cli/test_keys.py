"""``--keys``: what it reads, what it says of files it cannot use, and that it never shows a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_analyze import planewire
from tests.conftest import LAB

CAPTURE = LAB / "04-node-to-apiserver.pcap"
LOG = LAB / "keylogs" / "04-node-to-apiserver.keys.log"
DECRYPTED = "decrypted with the keys given"


def decrypted(output: bytes) -> int:
    document = json.loads(output)
    return int(document["connections"]["data"]["decryption"].count(DECRYPTED))


def test_keys_by_option_by_environment_and_in_parts(tmp_path: Path) -> None:
    lines = LOG.read_text().splitlines(keepends=True)
    halves = [tmp_path / "a.log", tmp_path / "b.log"]
    halves[0].write_text("".join(lines[::2]))
    halves[1].write_text("".join(lines[1::2]))
    arguments = ("analyze", CAPTURE, "--json", "-", "--fail-on", "never")

    by_option = planewire(*arguments, "--keys", LOG)
    in_parts = planewire(*arguments, "--keys", halves[0], "--keys", halves[1])
    by_environment = planewire(*arguments, PLANEWIRE_ANALYZE_KEYS=str(LOG))

    assert decrypted(by_option.stdout) == 4
    assert in_parts.stdout == by_environment.stdout == by_option.stdout
    assert b"TLS connections: decrypted with the keys given" in by_option.stdout


def test_secrets_in_the_capture_are_used_without_an_option() -> None:
    done = planewire("analyze", LAB / "11-keylog-dsb.pcapng", "--json", "-", "--fail-on", "never")
    assert decrypted(done.stdout) > 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no secret"),
        (b"# only a comment\n", "holds no secret"),
        (b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n", "line 1 is none of a key log"),
    ],
)
def test_a_file_that_is_no_key_log_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "keys.log"
    file.write_bytes(content)

    done = planewire("analyze", CAPTURE, "--keys", file)

    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert str(file) in done.stderr.decode()
    assert said in done.stderr.decode()
    assert b"c2VjcmV0" not in done.stderr


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = planewire("analyze", CAPTURE, "--keys", tmp_path / "none.log")
    assert done.returncode == 2
    assert done.stderr.decode() == f"planewire: {tmp_path / 'none.log'}: No such file or directory\n"


def test_lines_that_are_none_are_counted_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "keys.log"
    file.write_bytes(LOG.read_bytes() + b"CLIENT_RANDOM hunter2\n")

    done = planewire("analyze", CAPTURE, "--keys", file, "-q", "--fail-on", "never")

    assert done.returncode == 0
    assert b"1 line is none of a key log" in done.stderr
    assert b"hunter2" not in done.stderr
