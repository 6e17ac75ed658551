"""``planewire live`` on an interface gives what ``analyze`` gives of a recording that tcpdump made meanwhile."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from analyzer.capture.source import open_capture
from tests.capture_builders import frames_in
from tests.conftest import LAB, ROOT
from tests.live.servers import APISERVER, KUBELET, READONLY, requests, servers, ssh_server
from tests.netns import FLUSHED_S, Namespace, end, namespaces, run, tcpdump, veth, wait_until

pytestmark = pytest.mark.live

SERVER = "10.77.0.2"
RECORDING = LAB / "09-anonymous-kubelet.pcap"
OF_THE_RECORDING = {
    "first_frame", "last_frame", "evidence_frames", "first_time", "last_time", "duration_s",
    "vantage", "capture", "last_capture",
}  # fmt: skip
"""Columns in which two recordings of the same packets differ: two rings see what two processors do in either order."""
Connections = list[dict[str, str]]


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    with namespaces("g", "h") as (left, right):
        veth(left, right)
        yield left, right


def planewire(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "analyzer", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def connections(folder: Path, *, without: Collection[str] = ()) -> Connections:
    with (folder / "connections.csv").open(newline="") as stream:
        return [{name: value for name, value in row.items() if name not in without} for row in csv.DictReader(stream)]


def analyze(capture: Path, folder: Path) -> None:
    command = planewire("analyze", capture, "--csv", folder, "--fail-on", "never", "-q")
    subprocess.run(command, check=True, env=environment())


def live(space: Namespace, folder: Path, *options: str | Path) -> subprocess.Popen[bytes]:
    """Start to capture, and wait until it does."""
    folder.mkdir()
    told = folder / "lines"
    with told.open("wb") as stream, (folder / "errors").open("wb") as errors:
        command = planewire("live", *options, "--format", "jsonl", "--csv", folder, "--fail-on", "never")
        process = space.start(*command, stdout=stream, stderr=errors, env=environment(), cwd=folder)

    def begun() -> bool:
        assert process.poll() is None, (folder / "errors").read_text()
        return b'"start"' in told.read_bytes()

    wait_until(begun, 30)
    return process


def talk(left: Namespace, right: Namespace, folder: Path, *, ssh: bool) -> None:
    with servers(right, SERVER):
        requests(left, SERVER)
    if ssh:
        with ssh_server(right, SERVER, folder / "ssh") as options:
            assert left.run("ssh", *options, "echo", "hello").strip() == "hello"
    # Servers close their side in their own time, and two captures must not end in the middle of it.
    before = ""
    while (now := right.run("ip", "-s", "link", "show", "veth0")) != before:
        before = now
        time.sleep(1)


@pytest.mark.sshd
def test_connection_for_connection_what_analyze_says_of_tcpdumps_recording(
    pair: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    left, right = pair
    interfaces = ("veth0", "any")
    with ExitStack() as captures:
        for settles, name in enumerate(interfaces):
            settle_s = FLUSHED_S if settles else 0.0
            captures.enter_context(tcpdump(right, name, tmp_path / f"{name}.pcap", settle_s=settle_s))
        own = {name: tmp_path / f"{name}.pcapng" for name in interfaces}
        processes = [live(right, tmp_path / name, "-i", name, "--write", own[name]) for name in interfaces]
        talk(left, right, tmp_path, ssh=True)
        for process, name in zip(processes, interfaces, strict=True):
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0, (tmp_path / name / "errors").read_text()

    for name in interfaces:
        found = connections(tmp_path / name)
        analyze(tmp_path / f"{name}.pcap", tmp_path / "analyzed")
        wanted = connections(tmp_path / "analyzed", without=OF_THE_RECORDING)
        assert connections(tmp_path / name, without=OF_THE_RECORDING) == wanted
        assert len(found) == 10
        by_port = {row["server_port"]: row for row in found}
        assert {row["encryption"] for row in found if row["server_port"] == str(READONLY)} == {"cleartext"}
        assert by_port[str(KUBELET)]["client_certificate"] == "presented"
        assert by_port[str(APISERVER)]["tls_version"] == "1.3"
        assert by_port["22"]["protocol"] == "ssh"
        # What it wrote itself is frame for frame what it saw.
        named = {"capture", "last_capture", "vantage"}
        analyze(own[name], tmp_path / "again")
        assert connections(tmp_path / "again", without=named) == connections(tmp_path / name, without=named)


def test_an_interface_that_disappears_leaves_the_report(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    left, right = pair
    process = live(right, tmp_path / "live", "-i", "veth0")
    talk(left, right, tmp_path, ssh=False)
    run("ip", "-n", right.name, "link", "delete", "veth0")
    assert process.wait(30) == 4
    assert len(connections(tmp_path / "live")) == 9
    told = (tmp_path / "live" / "errors").read_text() + (tmp_path / "live" / "lines").read_text()
    assert "interface veth0 disappeared" in told
    assert "Traceback" not in told


def test_what_was_written_before_a_kill_can_be_read(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    left, right = pair
    folder = tmp_path / "live"
    process = live(right, folder, "-i", "veth0", "--write", folder / "ring.pcapng", "--rotate", "200kB", "--keep", "50")
    sending = left.start("tcpreplay", "-q", "-i", "veth0", "--pps", "8000", "--loop", "1000", RECORDING)
    wait_until(lambda: len(list(folder.glob("*.pcapng"))) >= 4, 30)
    process.kill()
    process.wait()
    end(sending)

    recorded = {octets for octets, *_ in frames_of(RECORDING)}
    *whole, last = sorted(folder.glob("*.pcapng"))
    for path in whole:
        done = subprocess.run(["tshark", "-r", path, "-T", "fields", "-e", "frame.number"], capture_output=True)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.split()) == len(frames_of(path)) > 100
        assert {octets for octets, *_ in frames_of(path)} <= recorded
    done = subprocess.run(["tshark", "-r", last, "-T", "fields", "-e", "frame.number"], capture_output=True)
    assert done.returncode == 0 or b"cut short" in done.stderr
    # Nothing is missing between one file and the next.
    frames = [octets for path in [*whole, last] for octets, *_ in frames_of(path)]
    period = [octets for octets, *_ in frames_of(RECORDING)]
    begin = period.index(frames[0]) if period.count(frames[0]) == 1 else 0
    assert frames == [period[(begin + row) % len(period)] for row in range(len(frames))]


def frames_of(path: Path) -> list[tuple[bytes, int, int, int, int]]:
    with open_capture(str(path)) as reader:
        return frames_in(reader)
