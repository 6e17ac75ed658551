"""``planewire live`` on interfaces: in network namespaces that the test makes, with what can go wrong there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analyzer.report.live_schema import json_schema
from tests.cli.test_analyze import INSECURE, planewire
from tests.conftest import LAB
from tests.netns import Namespace, end, namespaces, replay, run, veth, wait_until
from tests.terminal import terminal

pytestmark = pytest.mark.live

KUBELET, KUBELET_FRAMES = LAB / "01-default-insecure-kubelet.pcap", 508
COMMAND = (sys.executable, "-m", "analyzer", "live")
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


@pytest.fixture
def wire() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces joined by ``veth0``."""
    with namespaces("near", "far") as (near, far):
        veth(near, far)
        yield near, far


class Live:
    """A run in a namespace whose lines are read as they come."""

    def __init__(self, space: Namespace, folder: Path, *arguments: str | Path) -> None:
        self.out, self.err = folder / "out.jsonl", folder / "err.txt"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = space.start(*COMMAND, "--format", "jsonl", *arguments, stdout=out, stderr=err)
        wait_until(lambda: self.of("start") != [] or self.process.poll() is not None, 30)

    def lines(self) -> list[dict[str, Any]]:
        found = [json.loads(text) for text in self.out.read_bytes().split(b"\n")[:-1]]
        for line in found:
            VALIDATOR.validate(line)
        return found

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["type"] == kind]

    def until(self, kind: str, seconds: float = 15.0) -> dict[str, Any]:
        wait_until(lambda: self.of(kind) != [], seconds, f"no line {kind}: {self.err.read_text()}")
        return self.of(kind)[-1]

    def end(self, sent: signal.Signals = signal.SIGINT) -> tuple[dict[str, Any], int]:
        """End it; its last line and its status."""
        if self.process.poll() is None:
            self.process.send_signal(sent)
        status = self.process.wait(30)
        assert "Traceback" not in self.err.read_text()
        return self.lines()[-1], status

    def complaints(self) -> list[str]:
        return [line for line in self.err.read_text().splitlines() if "runs on as" not in line]


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def test_the_report_is_that_of_analyze_on_the_file_it_writes(wire: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    near, far = wire
    files = ("--write", tmp_path / "w.pcapng", "--json", tmp_path / "live.json")
    live = Live(far, tmp_path, "-i", "veth0", *files)
    replay(near, "veth0", KUBELET, "--pps", "2000")
    live.until("finding")
    summary, status = live.end()
    assert (summary["packets"], summary["dropped"], summary["ended_by"]) == (KUBELET_FRAMES, 0, "interrupt")
    planewire("analyze", tmp_path / "w.pcapng", "--json", tmp_path / "file.json", "-q")
    one, other = read(tmp_path / "live.json"), read(tmp_path / "file.json")
    for section in ("channels", "findings", "rules", "endpoints", "certificates", "summary", "outcome"):
        assert one[section] == other[section], section
    columns = one["connections"]["data"]
    for name, values in other["connections"]["data"].items():
        if name not in ("capture", "last_capture"):
            assert columns[name] == values, name
    assert one["ledger"]["frames"] == KUBELET_FRAMES
    assert one["captures"][0]["interfaces"][0] | {"system": ""} == {
        "name": "veth0", "description": "", "hardware": "", "system": "", "filter": "", "link_type": "ETHERNET",
        "snaplen": 262144, "received": KUBELET_FRAMES, "dropped": 0,
    }  # fmt: skip
    assert status == one["outcome"]["exit_status"] == 1


def test_a_filter_is_applied(wire: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    near, far = wire
    live = Live(far, tmp_path, "-i", "veth0", "--filter", "tcp port 10250")
    replay(near, "veth0", INSECURE, "--pps", "2000")
    live.until("channel")
    summary, _ = live.end()
    wanted = run("tcpdump", "-r", INSECURE, "-n", "tcp port 10250").count("\n")
    assert 0 < summary["packets"] == wanted < 258
    assert [row["channel"] for row in summary["channels"]] == ["apiserver-to-kubelet"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("-i", "nosuch0"), 3, "nosuch0"),
        (("-i", "lo", "--filter", "tcp prot 1"), 2, "filter 'tcp prot 1'"),
        (("-i", "any", "-i", "lo"), 3, "any"),
        (("-i", "lo", "--user", "nosuchuser"), 2, "no such user"),
        (("-i", "lo", "--json", "/no/such/folder/r.json"), 3, "does not exist"),
        (("-i", "lo", "--write", "/no/such/folder/w.pcapng"), 3, "No such file"),
        (("-i", "lo", "--metrics", "192.0.2.1:9464"), 2, "cannot listen there"),
    ],
)
def test_what_cannot_begin_says_why_in_one_line(arguments: tuple[str, ...], status: int, says: str) -> None:
    done = planewire("live", *arguments)
    told = [line for line in done.stderr.decode().splitlines() if "runs on as" not in line]
    assert (done.returncode, len(told)) == (status, 1), told
    assert told[0].startswith("planewire: ")
    assert says in told[0]
    assert done.stdout == b""


def test_without_the_capability_it_says_what_to_do() -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-net_raw", *COMMAND, "-i", "lo"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "CAP_NET_RAW" in done.stderr
    assert "tcpdump" in done.stderr


def test_an_interface_that_disappears_ends_it_with_what_was_captured(
    wire: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    near, far = wire
    live = Live(far, tmp_path, "-i", "veth0", "--json", tmp_path / "r.json", "--fail-on", "never")
    replay(near, "veth0", INSECURE, "--pps", "2000")
    live.until("finding")
    far.ip("link", "delete", "veth0")
    summary, status = live.lines()[-1], live.process.wait(30)
    summary = live.lines()[-1]
    assert (summary["ended_by"], summary["packets"], summary["exit_status"]) == ("end of input", 258, status)
    assert status == 4
    assert "veth0 disappeared" in live.of("note")[-1]["text"]
    assert len(live.complaints()) == 2, live.complaints()
    assert "veth0 disappeared" in live.complaints()[0]
    assert live.complaints()[1].startswith("wrote ")
    assert read(tmp_path / "r.json")["ledger"]["frames"] == 258


def test_drops_are_counted_told_and_make_the_status(wire: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    """The program stands still while more comes than its buffer holds."""
    near, far = wire
    live = Live(far, tmp_path, "-i", "veth0", "--buffer", "1MiB", "--fail-on", "never", "--json", tmp_path / "r.json")
    live.process.send_signal(signal.SIGSTOP)
    sent = 40 * KUBELET_FRAMES
    replay(near, "veth0", KUBELET, "--topspeed", "--loop", "40")
    live.process.send_signal(signal.SIGCONT)
    told = live.until("drops")
    summary, status = live.end()
    assert summary["dropped"] >= told["dropped"] > 0
    assert summary["packets"] + summary["dropped"] == sent
    assert status == summary["exit_status"] == 4
    document = read(tmp_path / "r.json")
    assert document["quality"]["dropped"] == summary["dropped"]


@contextmanager
def small_disk(folder: Path, octets: int) -> Iterator[Path]:
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={octets}", "tmpfs", folder)
    try:
        yield folder
    finally:
        run("umount", folder)


def test_a_full_disk_ends_the_writing_and_not_the_run(tmp_path: Path) -> None:
    content = KUBELET.read_bytes()
    with small_disk(tmp_path / "disk", 65536) as disk:
        written = disk / "w.pcapng"
        done = planewire("live", "-", "--format", "jsonl", "--write", written, stdin=content)
        lines = [json.loads(text) for text in done.stdout.splitlines()]
        notes = [line["text"] for line in lines if line["type"] == "note"]
        assert len(notes) == 1
        assert "the disk is full" in notes[0]
        assert lines[-1]["packets"] == KUBELET_FRAMES
        assert lines[-1]["exit_status"] == done.returncode == 3
        told = [line for line in done.stderr.decode().splitlines() if "runs on as" not in line]
        assert len(told) == 1
        assert "the disk is full" in told[0]
        kept = int(run("tshark", "-r", written, "-T", "fields", "-e", "frame.number").split()[-1])
        assert 0 < kept < KUBELET_FRAMES
        assert f"after frame {kept} " in notes[0]


def test_a_report_on_a_full_disk_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16384) as disk:
        target = disk / "r.json"
        done = planewire("live", "-", "--json", target, stdin=INSECURE.read_bytes())
        assert done.returncode == 3
        assert "No space left on device" in done.stderr.decode()
        assert "Findings (" in done.stdout.decode()
        assert list(disk.iterdir()) == []


@pytest.mark.tshark
def test_kill_during_writing_leaves_files_that_tshark_reads(wire: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    near, far = wire
    live = Live(far, tmp_path, "-i", "veth0", "--write", tmp_path / "w.pcapng", "--rotate", "300kB")
    sending = near.start("tcpreplay", "-q", "-i", "veth0", "--pps", "20000", "--loop", "200", KUBELET)
    wait_until(lambda: len(list(tmp_path.glob("w_*.pcapng"))) > 4, 20)
    live.process.kill()
    live.process.wait(10)
    end(sending)
    files = sorted(tmp_path.glob("w_*.pcapng"))
    for path in files:
        done = subprocess.run(["tshark", "-r", path], capture_output=True, text=True, check=False)
        # The last file may have begun just now, and its last block may be cut.
        assert done.stdout.count("\n") > 100 or path == files[-1]
        assert done.returncode == 0 or path == files[-1], done.stderr


def statuses_of(pid: int, *names: str) -> set[str]:
    """What these fields say of any thread."""
    lines = [line for path in Path(f"/proc/{pid}/task").glob("*/status") for line in path.read_text().splitlines()]
    return {line.split(":", 1)[1].strip() for line in lines if line.split(":", 1)[0] in names}


@pytest.mark.parametrize("user", [(), ("--user", "root")], ids=["by default", "as root"])
def test_roots_rights_are_given_up_by_every_thread(
    wire: tuple[Namespace, Namespace], tmp_path: Path, user: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    near, far = wire
    live = Live(far, tmp_path, "-i", "veth0", "--metrics", ":0", "--packets", "10", *user)
    assert statuses_of(live.process.pid, "CapEff", "CapPrm", "CapBnd") == {"0" * 16}
    assert statuses_of(live.process.pid, "NoNewPrivs") == {"1"}
    assert "runs on as" in live.err.read_text()
    replay(near, "veth0", KUBELET, "--limit", "20")
    summary, _ = live.end()
    assert (summary["packets"], summary["ended_by"]) == (10, "packets")


@pytest.mark.tmux
def test_a_packet_on_the_wire_is_on_the_screen_within_a_second(
    wire: tuple[Namespace, Namespace],
) -> None:
    near, far = wire
    with terminal(100, 30) as shown:
        shown.type(" ".join([*far.command(*COMMAND, "-i", "veth0"), ";", "echo STATUS $?"]))
        shown.until("AF_PACKET ring")
        shown.until("Findings 0")
        began = time.monotonic()
        replay(near, "veth0", LAB / "08b-etcd-cleartext.pcap", "--topspeed")
        sent = time.monotonic()
        shown.until("PW103")
        took = time.monotonic() - sent
        assert took < 1.0, (took, sent - began)
        shown.press("q")
        shown.until("STATUS 1\n")
        assert os.path.exists(f"/run/netns/{far.name}")
