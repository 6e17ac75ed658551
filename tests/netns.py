"""Network namespaces for tests of live capture: made, filled with servers, and taken away again.

Everything that is started is ended by its process number; everything that is made is deleted, also where a test fails.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "pw-ring"


def run(*command: str | Path, check: bool = True) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@dataclass
class Namespace:
    """A network namespace, and the processes that run in it."""

    name: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *command: str | Path) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def run(self, *command: str | Path, check: bool = True) -> str:
        return run(*self.command(*command), check=check)

    def ip(self, *command: str) -> str:
        return run("ip", "-n", self.name, *command)

    def start(self, *command: str | Path, **options: object) -> subprocess.Popen[bytes]:
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
        process: subprocess.Popen[bytes] = subprocess.Popen(self.command(*command), **options)  # type: ignore[call-overload]
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            end(process)


def end(process: subprocess.Popen[bytes], patience_s: float = 5.0) -> int:
    """End a process this test started, and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(patience_s)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    return process.returncode


@contextmanager
def namespaces(*names: str) -> Iterator[list[Namespace]]:
    """Make namespaces of these names, with a number of this process in front; ``lo`` is up."""
    made: list[Namespace] = []
    try:
        for name in names:
            space = Namespace(f"{PREFIX}-{os.getpid()}-{name}")
            run("ip", "netns", "add", space.name)
            made.append(space)
            space.ip("link", "set", "lo", "up")
        yield made
    finally:
        for space in made:
            space.end()
            run("ip", "netns", "delete", space.name, check=False)


def veth(
    left: Namespace, right: Namespace, name: str = "veth0", network: str = "10.77.0", *, quiet: bool = True
) -> None:
    """Join two namespaces: ``NETWORK.1`` on the left, ``NETWORK.2`` on the right.

    Quiet: no IPv6, whose neighbour discovery would put frames of its own between those that a test sends.
    """
    run("ip", "link", "add", name, "netns", left.name, "type", "veth", "peer", "name", name, "netns", right.name)
    for number, space in enumerate((left, right), start=1):
        if quiet:
            space.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6", check=False)
        space.ip("address", "add", f"{network}.{number}/24", "dev", name)
        space.ip("link", "set", name, "up")


@contextmanager
def inside(space: Namespace) -> Iterator[None]:
    """Run the test itself in a namespace: sockets that it opens belong to it."""
    libc = __import__("ctypes").CDLL(None, use_errno=True)
    clone_newnet = 0x40000000
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{space.name}", os.O_RDONLY)
    try:
        assert libc.setns(other, clone_newnet) == 0
        yield
    finally:
        assert libc.setns(own, clone_newnet) == 0
        os.close(own)
        os.close(other)


def wait_until(what: Callable[[], bool], seconds: float = 10.0, message: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, message or "nothing came of it"
        time.sleep(0.01)


FLUSHED_S = 2.2
"""tcpdump is handed what it captured after one second, or two; what it is not handed by then it never writes."""


@contextmanager
def tcpdump(space: Namespace, interface: str, path: Path, *options: str, settle_s: float = FLUSHED_S) -> Iterator[None]:
    """Have tcpdump write what comes by to `path`, at high priority: others' work must not cost it packets."""
    capture = ("tcpdump", "-i", interface, "-w", path, "-U", "-Z", "root", "-B", "65536")
    process = space.start("nice", "-n", "-15", *capture, *options, stderr=subprocess.PIPE)
    assert process.stderr is not None
    line = b""
    while b"listening on" not in line:
        line = process.stderr.readline()
        assert line, "tcpdump did not start"
    try:
        yield
        time.sleep(settle_s)
    finally:
        end(process)
        space.processes.remove(process)


def replay(space: Namespace, interface: str, path: Path, *options: str | Path) -> None:
    space.run("tcpreplay", "-q", "-i", interface, *options, path)


__all__: Sequence[str] = (
    "Namespace", "end", "inside", "namespaces", "replay", "run", "tcpdump", "veth", "wait_until",
)  # fmt: skip
