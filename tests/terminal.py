"""A terminal for tests: tmux on a socket of its own, a shell in it, keys in, and what stands on the screen out."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from tests.conftest import ROOT

_NUMBERS = count()


@dataclass(frozen=True)
class Terminal:
    """One window of a tmux server."""

    socket: str

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", "-L", self.socket, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def type(self, line: str) -> None:
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def colours(self) -> str:
        return self.tmux("capture-pane", "-p", "-e")

    def history(self) -> str:
        return self.tmux("capture-pane", "-p", "-J", "-S", "-")

    def facts(self, *names: str) -> list[str]:
        return self.tmux("display-message", "-p", " ".join(f"#{{{name}}}" for name in names)).split()

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def until(self, seen: str | Callable[[str], bool], seconds: float = 15.0) -> float:
        """Wait until something stands on the screen; how long that took."""
        began = time.monotonic()
        while True:
            text = self.screen()
            if seen in text if isinstance(seen, str) else seen(text):
                return time.monotonic() - began
            assert time.monotonic() < began + seconds, f"{seen!r} did not come:\n{text}"
            time.sleep(0.02)


@contextmanager
def terminal(width: int = 80, height: int = 24, **environment: str) -> Iterator[Terminal]:
    """Open a terminal with a shell that has job control, in the root of the repository."""
    # A name of its own: the server of the terminal before may still be on its way out.
    opened = Terminal(f"pw-test-{os.getpid()}-{next(_NUMBERS)}")
    # Exported, COLUMNS is what it was at the last prompt, whatever becomes of the window.
    settings = {"PS1": "$ ", "COLUMNS": str(width), "LINES": str(height), **environment}
    given = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
    size = ("-x", str(width), "-y", str(height))
    opened.tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(ROOT), *given, "bash --norc --noprofile")
    try:
        yield opened
    finally:
        opened.tmux("kill-server")
