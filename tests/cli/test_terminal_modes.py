"""The summary where people read it: colour on a terminal only, and never against NO_COLOR; progress; quiet."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import LAB, ROOT

CAPTURE = LAB / "09-anonymous-kubelet.pcap"
COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-7]m")


def run(*arguments: str | Path, terminal: str = "both", **environment: str) -> tuple[bytes, bytes]:
    """Standard output and error of ``planewire analyze``, each a pseudo-terminal of 100 columns or a pipe."""
    command = [sys.executable, "-m", "analyzer", "analyze", *map(str, arguments)]
    given = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    given |= {"TERM": "xterm-256color", "COLUMNS": "100", "PYTHONPATH": str(ROOT), **environment}
    ends: list[int] = []
    ours: list[int | None] = []
    for stream in ("out", "err"):
        if terminal in ("both", stream):
            master, slave = pty.openpty()
            ends.append(slave)
            ours.append(master)
        else:
            ends.append(subprocess.PIPE)
            ours.append(None)
    with subprocess.Popen(command, stdout=ends[0], stderr=ends[1], env=given, cwd=ROOT) as process:
        for end in ends:
            if end != subprocess.PIPE:
                os.close(end)
        texts = []
        for ours_end, pipe in zip(ours, (process.stdout, process.stderr), strict=True):
            texts.append(_read(ours_end) if pipe is None else pipe.read())
    return texts[0], texts[1]


def _read(master: int | None) -> bytes:
    assert master is not None
    text = b""
    try:
        while part := os.read(master, 1 << 16):
            text += part
    except OSError:
        pass  # Linux says EIO when the last program on the other side has gone
    os.close(master)
    return text


def test_colour_and_progress_on_a_terminal() -> None:
    out, err = run(CAPTURE)
    assert COLOUR.search(out)
    # How far, how fast (unknown while nothing has passed), how many packets, how long still.
    assert re.search(rb"reading .*(\?|B/s).* 424 packets .*\d:\d\d:\d\d", err)
    assert b"kube-apiserver" in out


def test_no_color_in_the_environment_or_as_an_option() -> None:
    for out, _ in (run(CAPTURE, NO_COLOR="1"), run(CAPTURE, "--no-color")):
        assert not COLOUR.search(out)
        assert "✗ Kubelet read-only port" in re.sub(r"\x1b\[[0-9;]*m", "", out.decode())


def test_plain_text_into_a_pipe_whatever_the_terminal_of_the_errors() -> None:
    out, _ = run(CAPTURE, terminal="err")
    assert b"\x1b" not in out
    assert b"PW104" in out


def test_quiet_says_nothing() -> None:
    assert run(CAPTURE, "-q", "--fail-on", "never") == (b"", b"")


def test_it_ends_with_three_commands_that_fit_what_was_given() -> None:
    def commands(text: bytes) -> list[str]:
        after = text.decode().split("\nNext\n")[1]
        return [line.strip() for line in after.splitlines() if line.startswith("    ")]

    out, _ = run(CAPTURE, terminal="none")
    assert commands(out) == [
        "planewire explain PW104",
        f"planewire evidence {CAPTURE} PW104/workload -o PW104.pcapng",
        f"planewire analyze {CAPTURE} --html report.html",
    ]


def test_with_the_page_written_the_cluster_is_what_is_missing(tmp_path: Path) -> None:
    out, _ = run(CAPTURE, "--html", tmp_path / "r.html", terminal="none")
    assert f"    planewire analyze {CAPTURE} --cluster facts/" in out.decode()
    assert "--html report.html" not in out.decode()
