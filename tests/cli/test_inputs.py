"""What the command line reads: several captures, growing ones, archives, limits; and the ledger by itself."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from analyzer.capture.source import Opening, open_capture
from analyzer.cli.analyze import command
from analyzer.pipeline import Limits
from tests.capture_builders import Frame, enhanced, interface, options, pcap_file, section, statistics
from tests.cli.test_analyze import CONTRACT, INSECURE, planewire
from tests.conftest import LAB


def report(*arguments: str | Path, status: int = 0) -> tuple[dict[str, Any], str]:
    done = planewire("analyze", *arguments, "--json", "-", "--fail-on", "never")
    assert done.returncode == status, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document, done.stderr.decode()


def frames_of_lab(name: str) -> list[Frame]:
    with open_capture(str(LAB / name)) as reader:
        return [
            Frame(chunk.octets[start : start + length].tobytes(), when)
            for chunk in reader
            for start, length, when in zip(
                chunk.start.tolist(), chunk.captured_len.tolist(), chunk.time_ns.tolist(), strict=True
            )
        ]


def rotated(folder: Path, name: str = "05-proxy-cleartext.pcap") -> list[Path]:
    """The recording cut into three files."""
    frames = frames_of_lab(name)
    third = len(frames) // 3
    paths = []
    for number, part in enumerate((frames[:third], frames[third : 2 * third], frames[2 * third :])):
        paths.append(folder / f"x.pcap{number or ''}")
        paths[-1].write_bytes(pcap_file(part, tick_ns=1))
    return paths


def test_the_defaults_that_help_shows_are_those_in_force() -> None:
    defaults = {option.name: option.default for option in command.params}
    assert defaults["max_flows"] == Limits().max_flows
    assert defaults["max_expansion"] == Opening().max_expansion


def test_rotated_files_give_what_the_whole_gives(tmp_path: Path) -> None:
    paths = rotated(tmp_path)
    whole, _ = report(INSECURE)
    for arguments in (paths, [tmp_path], [f"{tmp_path}/*"], [f"--node=cp={tmp_path}"]):
        cut, notes = report(*arguments)
        assert [Path(c["name"]).name for c in cut["captures"]] == ["x.pcap", "x.pcap1", "x.pcap2"]
        assert cut["summary"] == whole["summary"]
        assert cut["channels"] == whole["channels"]
        assert "planewire:" not in notes


def test_evidence_names_the_file_and_its_own_frame_numbers(tmp_path: Path) -> None:
    paths = rotated(tmp_path)
    done = planewire("analyze", *paths, "--csv", tmp_path / "csv")
    printed = done.stdout.decode()

    with (tmp_path / "csv" / "connections.csv").open() as stream:
        header = stream.readline()
        assert header.startswith(CONTRACT + ",")
        stream.seek(0)
        rows = list(csv.DictReader(stream))
    lengths = {str(path): len(list(frames_in_file(path))) for path in paths}
    assert {row["capture"] for row in rows} <= set(lengths)
    for row in rows:
        assert 1 <= int(row["first_frame"]) <= lengths[row["capture"]]
        assert 1 <= int(row["last_frame"]) <= lengths[row["last_capture"]]
    assert f"of {paths[0]}" in printed or f"of {paths[1]}" in printed
    assert any(f"planewire evidence {path} " in printed for path in paths)


def frames_in_file(path: Path) -> list[int]:
    with open_capture(str(path)) as reader:
        return [n for chunk in reader for n in range(len(chunk))]


def test_what_was_assumed_stands_before_the_verdicts(tmp_path: Path) -> None:
    frames = frames_of_lab("05-proxy-cleartext.pcap")
    (tmp_path / "cp.pcap").write_bytes(pcap_file(frames))
    (tmp_path / "worker.pcap").write_bytes(pcap_file([Frame(f.octets, f.time_ns + 250_000_000) for f in frames]))

    printed = planewire("analyze", tmp_path, COLUMNS="300").stdout.decode()

    before, after = printed.split("At risk:")
    assert "2 vantage points" in before
    assert "taken as a vantage point of its own" in before
    assert "250.000 ms ahead" in before
    assert "--node NAME=PATH" in before
    assert "258 frames" not in after
    document, _ = report(f"--node=cp={tmp_path}/cp.pcap", f"--node=w1={tmp_path}/worker.pcap")
    assert sorted(set(document["connections"]["data"]["vantage"])) == ["cp", "w1"]
    assert document["summary"]["connections"] == report(INSECURE)[0]["summary"]["connections"]


def test_an_archive_and_what_else_is_in_it(tmp_path: Path) -> None:
    hostile = "notes \x1b[31m=cmd|' /C calc'!A0.txt"
    with tarfile.open(tmp_path / "retina.tar.gz", "w:gz") as archive:
        for name, content in ((hostile, b"text"), ("node1/x.pcap", INSECURE.read_bytes())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

    done = planewire("analyze", tmp_path / "retina.tar.gz", "--csv", tmp_path / "csv", "--html", tmp_path / "r.html")

    assert done.returncode == 1
    assert b"skipped" in done.stderr
    assert b"\x1b" not in done.stderr + done.stdout + (tmp_path / "r.html").read_bytes()
    assert b"258 frames" in done.stdout
    piped = planewire("analyze", "-", "-q", stdin=(tmp_path / "retina.tar.gz").read_bytes())
    assert piped.returncode == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["csv", "r.html", "retina.tar.gz"]


def test_a_named_file_that_cannot_be_read_makes_the_result_incomplete(tmp_path: Path) -> None:
    (tmp_path / "bad.pcap").write_bytes(b"no capture")
    document, notes = report(INSECURE, tmp_path / "bad.pcap", status=4)
    assert document["captures"][0]["frames"] == 258
    assert f"planewire: {tmp_path}/bad.pcap: it starts with 'no captu'" in notes
    done = planewire("analyze", tmp_path / "bad.pcap", tmp_path / "none.pcap")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument"),
        (["--node", "x"], "NAME=PATH"),
        (["--node", "=x"], "NAME=PATH"),
        ([INSECURE, INSECURE, "--follow"], "--follow takes one file"),
        (["-", "--follow"], "--follow takes one file"),
        ([INSECURE, "--idle", "3"], "--idle goes with"),
        ([INSECURE, "--max-flows", "3"], "--max-flows"),
    ],
)
def test_usage(arguments: list[str | Path], says: str) -> None:
    done = planewire("analyze", *arguments)
    assert done.returncode == 2
    assert says in done.stderr.decode()


def wait_until_read(pid: int, path: Path, octets: int) -> None:
    """Wait until a process has read so many octets of a file, as /proc tells."""
    for _ in range(600):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if descriptor.resolve() == path:
                    position = re.search(r"pos:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text())
                    if position is not None and int(position[1]) >= octets:
                        return
        time.sleep(0.05)
    pytest.fail(f"{octets} octets were not read within 30 seconds")


def test_an_interrupt_ends_following_and_not_the_report(tmp_path: Path) -> None:
    path = tmp_path / "growing.pcap"
    content = INSECURE.read_bytes()
    path.write_bytes(content[:5000])
    process = subprocess.Popen(
        [sys.executable, "-m", "analyzer", "analyze", path, "--follow", "--json", "-", "--fail-on", "never"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until_read(process.pid, path, 5000)
    with path.open("ab") as stream:
        stream.write(content[5000:])
    wait_until_read(process.pid, path, len(content))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert b"interrupt again" in err
    assert process.returncode == 0
    assert json.loads(out)["captures"][0]["frames"] == 258


def test_following_ends_by_itself(tmp_path: Path) -> None:
    document, _ = report(INSECURE, "--follow", "--idle", "0.2")
    assert document["captures"][0]["frames"] == 258


def test_a_decompression_bomb_ends_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four megabytes that stand for four gigabytes: reading stops, and what came before is reported."""
    path = tmp_path / "bomb.pcap.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(pcap_file([Frame(b"x" * 60)]))
        # One record whose captured length covers the zeros behind it, again and again.
        record = bytes(8) + (16 << 20).to_bytes(4, "little") * 2 + bytes(16 << 20)
        for _ in range(8):
            stream.write(record)
    small = subprocess.run(
        [
            sys.executable,
            "-c",
            "import analyzer.capture.compressed as c; c.FREE_EXPANSION = 1 << 20\n"
            "from analyzer.cli import main; import sys; sys.argv = sys.argv[1:]; main()",
            "planewire", "analyze", path, "--json", "-", "--max-expansion", "100",
        ],
        capture_output=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert small.returncode == 4, small.stderr
    document = json.loads(small.stdout)
    assert "expands more than 100 times" in document["captures"][0]["damage"][0]["reason"]
    assert document["ledger"]["balanced"]
    # Below the limit the same file is read whole.
    whole, _ = report(path)
    assert whole["captures"][0]["frames"] == 9


def test_flows_past_the_limit_are_counted_and_told(tmp_path: Path) -> None:
    from tests.builders import SYN, Conversation, ethernet, ipv4, tcp

    real = Conversation(dport=10250).open().send(0, b"GET /pods HTTP/1.1\r\nHost: n\r\n\r\n").frames
    flood = [
        ethernet(ipv4(tcp(b"", n % 60000 + 1, 80, n, 0, SYN), f"10.1.{n >> 8 & 255}.{n & 255}")) for n in range(5000)
    ]
    path = tmp_path / "flood.pcap"
    path.write_bytes(pcap_file([Frame(octets) for octets in [*flood, *real]]))

    document, _ = report(path, "--max-flows", "1000", status=4)

    ledger = document["ledger"]
    assert ledger["balanced"]
    assert ledger["flows"] == 751
    assert ledger["left_out"]["packets"] == 5000 - 750 + 3
    assert abs(ledger["left_out"]["flows"] - 4250) < 250
    assert ledger["packets_outside_flows"] == {"of flows past the limit": 4253}
    assert any("--max-flows raises the limit" in note for note in document["quality"]["notes"])
    printed = planewire("analyze", path, "--max-flows", "1000", COLUMNS="200").stdout.decode()
    assert "4,253 of flows past the limit" in printed


# ----------------------------------------------------------------------------------------- the ledger


def test_the_ledger_by_itself(tmp_path: Path) -> None:
    capture = LAB / "25-fmt-cut-mid-packet.pcap"
    done = planewire("ledger", capture, LAB / "20-fmt-snaplen96.pcap", COLUMNS="160")
    printed = done.stdout.decode()
    assert done.returncode == 4
    assert "Balanced." in printed
    assert "cut by snap length" in printed
    assert "offset 75,947" in printed
    assert "At risk" not in printed
    assert "PW" not in printed


def test_the_ledger_as_json_balances_by_capture() -> None:
    names = ["05-proxy-cleartext.pcap", "12-overlay-vxlan.pcap", "28-fmt-duplicates-reordered.pcap"]
    done = planewire("ledger", *(LAB / name for name in names), "--json")
    ledger = json.loads(done.stdout)
    assert done.returncode == 0
    assert ledger["ledger"]["balanced"]
    assert all(capture["ledger"]["balanced"] for capture in ledger["captures"])
    assert sum(capture["frames"] for capture in ledger["captures"]) == ledger["ledger"]["frames"]
    for key in ("decoded", "inner_packets", "packets_in_flows"):
        assert sum(capture["ledger"][key] for capture in ledger["captures"]) == ledger["ledger"][key]


def test_drops_comments_names_and_filters_of_a_pcapng_are_told(tmp_path: Path) -> None:
    frames = [frame.octets for frame in frames_of_lab("05-proxy-cleartext.pcap")]
    names = b"\1\0\x0c\0" + bytes([10, 244, 1, 38]) + b"<b>web\0\0" + bytes(4)
    name_block = (4).to_bytes(4, "little") + (12 + len(names)).to_bytes(4, "little") + names
    name_block += (12 + len(names)).to_bytes(4, "little")
    opts = options([(2, b"eth0"), (11, b"\0tcp port 6443"), (12, b"Linux\x1b[2J")])
    packets = b"".join(
        enhanced(octets, 1_700_000_000_000_000 + n, opts=options([(1, b"pod kube-system/proxy")]))
        for n, octets in enumerate(frames)
    )
    drops = statistics(0, options([(4, (300).to_bytes(8, "little")), (5, (42).to_bytes(8, "little"))]))
    path = tmp_path / "x.pcapng"
    path.write_bytes(section() + interface(opts=opts) + name_block + packets + drops)

    document, _ = report(path, status=4)
    printed = planewire("ledger", path, COLUMNS="200").stdout.decode()
    html = tmp_path / "r.html"
    planewire("analyze", path, "--html", html)

    assert document["quality"]["dropped"] == 42
    assert set(document["connections"]["data"]["comment"]) == {"pod kube-system/proxy"}
    [entry] = document["captures"][0]["interfaces"]
    assert (entry["filter"], entry["received"], entry["dropped"]) == ("tcp port 6443", 300, 42)
    for words in ("42 frames of 300 received were dropped", "filter 'tcp port 6443'", "pod kube-system/proxy"):
        assert words in printed
    assert "\x1b" not in printed
    named = [e for e in document["endpoints"] if e["capture_names"]]
    ends = document["connections"]["data"]["client_name"] + document["connections"]["data"]["server_name"]
    assert [entry["address"] for entry in named] == ["10.244.1.38"]
    assert named[0]["capture_names"] == ["<b>web"]
    assert "<b>web (named by the capture)" in ends
    assert "<b>web" not in html.read_text()


# ----------------------------------------------------------------------------------------- atomic files


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_the_old_files(tmp_path: Path, sent: signal.Signals) -> None:
    """The process is stopped while it reads a pipe: nothing of the earlier report changes, nothing new appears."""
    outputs: list[str | Path] = [
        "--csv",
        tmp_path / "csv",
        "--json",
        tmp_path / "r.json",
        "--html",
        tmp_path / "r.html",
    ]
    planewire("analyze", INSECURE, *outputs)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) == 5
    process = subprocess.Popen(
        [sys.executable, "-m", "analyzer", "analyze", "-", *map(str, outputs)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write((LAB / "10-tls12.pcap").read_bytes())
    process.stdin.flush()
    time.sleep(1.5)
    process.send_signal(sent)
    if sent == signal.SIGINT:
        time.sleep(0.3)
        process.send_signal(sent)
    _, err = process.communicate(timeout=30)

    assert process.returncode != 0
    assert b"Traceback" not in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_one_output_that_cannot_be_written_leaves_the_others_old(tmp_path: Path) -> None:
    planewire("analyze", INSECURE, "--csv", tmp_path / "csv")
    before = {path.name: path.read_bytes() for path in (tmp_path / "csv").iterdir()}
    os.mkdir(tmp_path / "in the way")

    done = planewire(
        "analyze", LAB / "10-tls12.pcap", "--csv", tmp_path / "csv", "--json", tmp_path / "in the way" / "no" / "r.json"
    )

    assert done.returncode == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "csv").iterdir()} == before
