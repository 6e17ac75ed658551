"""The live screen in a real terminal: what stands on it and when, keys, sizes, and the terminal left as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import statistics
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from rich.cells import cell_len

from analyzer.capture.source import open_capture
from tests.capture_builders import frames_in
from tests.cli.test_analyze import INSECURE
from tests.conftest import LAB
from tests.terminal import Terminal, terminal

pytestmark = pytest.mark.tmux

CONTENT = INSECURE.read_bytes()
LIVE = f"{sys.executable} -m analyzer live"


@contextmanager
def watching(tmp_path: Path, shown: Terminal, options: str = "", command: str = LIVE) -> Iterator[BinaryIO]:
    """Start a run over a pipe and wait for its screen; what is written to the stream comes to it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    shown.type(f"{command} - {options} < {pipe}; echo STATUS $?")
    with pipe.open("wb", buffering=0) as stream:
        stream.write(CONTENT[:24])
        shown.until("Findings 0")
        yield stream


def restored(shown: Terminal, seconds: float = 15.0) -> str:
    """Wait for the end; the terminal is as it was, and the status is returned."""
    shown.until(lambda text: re.search(r"STATUS \d+\n", text) is not None, seconds)
    assert shown.facts("alternate_on", "cursor_flag") == ["0", "1"]
    shown.type("stty -a | tr ';' '\\n' | grep -c -E '[^-](icanon|echo|isig) '; echo READ")
    shown.until("READ\n")
    text = shown.history()
    assert re.search(r"^1$", text, re.M), text
    return text


def rewritten(name: str, start: int, stop: int) -> bytes:
    """Frames of a recording, as octets of a capture file without its header."""
    content, at, number, found = (LAB / name).read_bytes(), 24, 0, b""
    while at < len(content):
        length = 16 + int.from_bytes(content[at + 8 : at + 12], "little")
        if start <= number < stop:
            found += content[at : at + length]
        at, number = at + length, number + 1
    return found


def test_what_comes_is_seen_within_a_second(tmp_path: Path) -> None:
    """From the octets of a connection to its finding on the screen, tmux included."""
    took = []
    with terminal() as shown, watching(tmp_path, shown, "--no-color") as stream:
        for name, seen in (
            ("09-anonymous-kubelet.pcap", "Someone else to kubelet"),
            ("05-proxy-cleartext.pcap", "API server proxy to nodes"),
            ("08b-etcd-cleartext.pcap", "etcd"),
        ):
            stream.write(rewritten(name, 0, 1 << 30))
            took.append(shown.until(lambda text, seen=seen: seen in text.split("Findings")[0]))  # type: ignore[misc]
        shown.press("q")
        restored(shown)
    assert statistics.median(took) < 1.0, took


def test_keys_sizes_and_the_way_out(tmp_path: Path) -> None:
    with terminal(80, 24) as shown, watching(tmp_path, shown) as stream:
        stream.write(CONTENT[24:])
        shown.until("PW101")
        text = shown.screen()
        assert "3 at-risk" in text
        assert "258 packets" in text
        assert re.search(r"cleartext ✗ +absent · +unverified ✗", text)
        assert "dropped ?" in text
        assert "\x1b[1m\x1b[31mHIGH" in shown.colours()  # bold, red

        shown.press("Tab", "s")
        shown.until("by rate")
        shown.press("Enter")
        shown.until("encrypted (grades:")
        shown.press("Escape")
        shown.until("by rate")
        shown.press("Tab", "s")
        shown.until("by newest")
        shown.press("S", "/")
        shown.tmux("send-keys", "-l", "PW202")
        shown.until("/PW202")
        shown.press("Enter")
        shown.until("filter: PW202")
        shown.until("Findings 1 of 6 match")
        shown.press("Escape", "j", "Down", "k", "Enter")
        shown.until("Why it matters")
        shown.press("G", "?")
        shown.until("next, previous order")
        shown.press("x", "Escape", "p")
        shown.until("PAUSED")

        for width, height in ((60, 20), (132, 40), (30, 10), (80, 24)):
            shown.resize(width, height)
            shown.until(lambda text, width=width: text.startswith("planewire live") and  # type: ignore[misc]
                        ("Packets/s" in text or "Conn." in text) == (width > 90))  # fmt: skip
            lines = shown.screen().rstrip("\n").split("\n")
            assert len(lines) <= height
            assert max(map(cell_len, lines)) <= width
            assert lines[-1].startswith("q quit")

        shown.press("p", "q")
        text = restored(shown)
        assert "3 of 4 channels between control plane and nodes are at risk." in text
        assert "STATUS 1" in text


def test_stopped_continued_and_interrupted(tmp_path: Path) -> None:
    with terminal(80, 24) as shown, watching(tmp_path, shown, f"--html {tmp_path / 'r.html'}") as stream:
        stream.write(CONTENT[24:])
        shown.until("PW101")
        shown.press("C-z")
        shown.until("Stopped")
        assert shown.facts("alternate_on", "cursor_flag") == ["0", "1"]
        shown.type("echo still here")
        shown.until("still here\n")
        shown.type("clear; fg; echo STATUS $?")
        shown.until("Channels 4")
        assert shown.facts("alternate_on", "cursor_flag") == ["1", "0"]
        shown.press("j", "Enter")
        shown.until("Why it matters")
        assert "STATUS" not in shown.screen()
        shown.press("C-c")
        text = restored(shown)
        assert "interrupt again to stop without a report" in text
        assert "Findings (" in text
        assert f"wrote {tmp_path / 'r.html'}" in text


def test_a_defect_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    """An exception that nobody foresaw, in the middle of a run."""
    script = tmp_path / "defect.py"
    script.write_text(
        "import os, sys, time\n"
        "os.environ['OPENBLAS_NUM_THREADS'] = '1'\n"  # as the command does before it imports anything
        "from analyzer.session import LiveSession\n"
        "plain, began = LiveSession.tick, time.monotonic()\n"
        "def tick(self, *given, **named):\n"
        "    if time.monotonic() > began + 3: raise ZeroDivisionError('unforeseen')\n"
        "    return plain(self, *given, **named)\n"
        "LiveSession.tick = tick\n"
        "from analyzer.cli import main\n"
        "sys.argv[:1] = ['planewire', 'live']\n"
        "main()\n"
    )
    with terminal() as shown, watching(tmp_path, shown, command=f"{sys.executable} {script}"):
        text = restored(shown)
        assert "ZeroDivisionError: unforeseen" in text
        assert "STATUS 1" in text


@pytest.mark.parametrize("writing", [False, True], ids=["hang-up ends it", "hang-up rotates"])
def test_a_terminal_that_goes_away_leaves_the_report(tmp_path: Path, writing: bool) -> None:
    """The window is closed: SIGHUP comes, and whatever is written to the terminal fails."""
    master, slave = pty.openpty()
    options = ["--json", str(tmp_path / "r.json"), *(["--write", str(tmp_path / "w.pcapng")] if writing else [])]
    process = subprocess.Popen(
        [*LIVE.split(), "-", *options],
        stdin=subprocess.PIPE,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    assert process.stdin is not None
    process.stdin.write(CONTENT)
    process.stdin.flush()
    seen = b""
    deadline = time.monotonic() + 20
    while b"PW101" not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 65536)
    assert b"\x1b[?1049h" in seen
    os.close(master)
    assert process.wait(20) == 1
    process.stdin.close()
    assert json.loads((tmp_path / "r.json").read_bytes())["ledger"]["frames"] == 258
    frames = 0
    for path in tmp_path.glob("w*.pcapng"):
        with open_capture(str(path)) as reader:
            frames += len(frames_in(reader))
    assert frames == (258 if writing else 0)


def test_without_colour(tmp_path: Path) -> None:
    with terminal(NO_COLOR="1") as shown, watching(tmp_path, shown, "--user root") as stream:
        stream.write(CONTENT[24:])
        shown.until("PW101")
        time.sleep(0.2)
        colours = set(re.findall(r"\x1b\[([0-9;]*)m", shown.colours()))
        codes = {int(part) for code in colours for part in code.split(";") if part}
        assert not any(30 <= code < 50 for code in codes - {39, 49}), codes  # 39, 49: the terminal's own
        shown.press("q")
        restored(shown)
