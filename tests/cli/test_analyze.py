from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders import Conversation
from tests.conftest import LAB

CONTRACT = (
    "client_ip,client_port,server_ip,server_port,transport,encapsulation,channel,protocol,tls_version,sni,alpn,encryption,"
    "encryption_grade,client_certificate,client_certificate_grade,server_verification,server_verification_grade,first_frame,"
    "packets,octets"
)
INSECURE = LAB / "05-proxy-cleartext.pcap"


def planewire(*arguments: str | Path, stdin: bytes | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "analyzer", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env={**os.environ, "COLUMNS": "100", **env},
        timeout=120,
        check=False,
    )


def pcap(frames: list[bytes]) -> bytes:
    header = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    records = b"".join(
        (1_700_000_000 + i).to_bytes(4, "little") + bytes(4) + len(f).to_bytes(4, "little") * 2 + f
        for i, f in enumerate(frames)
    )
    return header + records


def test_writes_the_contract_and_says_the_same_everywhere(tmp_path: Path) -> None:
    done = planewire(
        "analyze", INSECURE, "--csv", tmp_path, "--json", tmp_path / "r.json", "--html", tmp_path / "r.html"
    )

    assert done.returncode == 1, done.stderr
    document = json.loads((tmp_path / "r.json").read_text())
    header, *rows = (tmp_path / "connections.csv").read_text().splitlines()
    assert header.startswith(CONTRACT + ",")
    assert len(rows) == len(document["connections"]["data"]["client_ip"]) == 7
    with (tmp_path / "findings.csv").open() as handle:
        codes = sorted(row["code"] for row in csv.DictReader(handle))
    assert codes == sorted(f["code"] for f in document["findings"])
    page, printed = (tmp_path / "r.html").read_text(), done.stdout.decode()
    for finding in document["findings"]:
        assert finding["code"] in page
        assert finding["code"] in printed


def test_the_same_input_gives_the_same_octets(tmp_path: Path) -> None:
    for turn in ("a", "b"):
        planewire("analyze", INSECURE, "--csv", tmp_path / turn, "--json", tmp_path / turn / "r.json", "--html",
                  tmp_path / turn / "r.html", PYTHONHASHSEED=turn.replace("a", "1").replace("b", "2"))  # fmt: skip
    for name in ("connections.csv", "channels.csv", "findings.csv", "r.json", "r.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_standard_input_gives_what_the_file_gives() -> None:
    from_file = planewire("analyze", INSECURE, "--json", "-")
    from_pipe = planewire("analyze", "-", "--json", "-", stdin=INSECURE.read_bytes())

    one, other = json.loads(from_file.stdout), json.loads(from_pipe.stdout)
    assert one["captures"][0].pop("name") != other["captures"][0].pop("name")
    assert one == other


def test_an_interrupt_of_the_pipe_still_gives_the_report() -> None:
    """Ctrl-C reaches every program of ``tcpdump -w - | planewire analyze -``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "analyzer", "analyze", "-", "--json", "-", "--fail-on", "never"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(INSECURE.read_bytes())
    process.stdin.flush()
    time.sleep(1.5)  # it has started and waits for more
    process.send_signal(signal.SIGINT)
    assert b"interrupt again" in process.stderr.readline()
    process.stdin.close()
    process.stdin = None
    out, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    assert json.loads(out)["captures"][0]["frames"] == 258


def test_output_off_a_terminal_has_no_escapes() -> None:
    assert b"\x1b" not in planewire("analyze", INSECURE).stdout


@pytest.mark.parametrize(
    ("fail_on", "status"), [("critical", 0), ("high", 1), ("medium", 1), ("info", 1), ("never", 0)]
)
def test_exit_status_follows_fail_on(fail_on: str, status: int) -> None:
    assert planewire("analyze", "-q", INSECURE, "--fail-on", fail_on).returncode == status


def test_cluster_facts_change_grades() -> None:
    facts = LAB / "clusters" / "01-default-insecure-kubelet"
    alone = json.loads(planewire("analyze", LAB / "01-default-insecure-kubelet.pcap", "--json", "-").stdout)
    told = json.loads(
        planewire("analyze", LAB / "01-default-insecure-kubelet.pcap", "--cluster", facts, "--json", "-").stdout
    )

    assert not alone["cluster"]["given"]
    assert told["cluster"]["nodes"] == 2
    names = {s["setting"]: s["value"] for s in told["cluster"]["declared"] if s["component"] == "kube-apiserver"}
    assert names["--kubelet-certificate-authority"] == "not set"
    assert "node1" in told["connections"]["data"]["client_name"]
    assert "node1" not in alone["connections"]["data"]["client_name"]


# ------------------------------------------------------------------------------------------- bad input


def test_a_missing_file() -> None:
    done = planewire("analyze", "no-such.pcap")

    assert done.returncode == 3
    assert done.stderr.decode().splitlines() == ["planewire: no-such.pcap: no such file"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"just some notes\n", "text", id="text"),
        pytest.param(b"\x00\x01\x02\x03" * 10, "offset 0", id="unknown magic"),
        pytest.param(b"<html><script>alert(1)</script>\x1b[31m", "text", id="hostile"),
    ],
)
def test_what_is_not_a_capture(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(content)

    done = planewire("analyze", path)

    assert done.returncode == 3
    [line] = done.stderr.decode().splitlines()
    assert str(path) in line
    assert words in line
    assert "\x1b" not in line
    assert done.stdout == b""


def test_a_directory_is_said_to_be_one(tmp_path: Path) -> None:
    done = planewire("analyze", tmp_path)

    assert done.returncode in (2, 3)
    assert b"irectory" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("cut", [30, 20, 7])
def test_a_file_cut_in_a_packet_is_reported_up_to_there(tmp_path: Path, cut: int) -> None:
    frames = Conversation().open().send(0, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").frames
    octets = pcap(frames)
    path = tmp_path / "cut.pcap"
    path.write_bytes(octets[:-cut])

    done = planewire("analyze", path, "--json", tmp_path / "r.json", "--fail-on", "never")

    assert done.returncode == 4
    assert b"Traceback" not in done.stderr
    said = [line for line in done.stderr.decode().splitlines() if "offset" in line]
    assert len(said) == 1
    assert str(path) in said[0]
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["captures"][0]["frames"] == 3
    assert document["captures"][0]["damage"][0]["offset"] == len(octets) - len(frames[-1]) - 16


def test_an_unknown_link_type_is_counted_and_named(tmp_path: Path) -> None:
    octets = bytearray(pcap([b"\x01\x02\x03"] * 4))
    octets[20:24] = (147).to_bytes(4, "little")  # LINKTYPE_USER0
    path = tmp_path / "user.pcap"
    path.write_bytes(octets)

    done = planewire("analyze", path, "--json", "-")

    document = json.loads(done.stdout)
    assert document["ledger"]["not_decoded"] == {"link type without a decoder": 4}
    assert document["captures"][0]["interfaces"][0]["link_type"] == "UNKNOWN_147"
    assert b"Traceback" not in done.stderr


def test_a_block_length_that_lies(tmp_path: Path) -> None:
    octets = bytearray((LAB / "11-keylog-dsb.pcapng").read_bytes())
    octets[-8:-4] = b"\xff\xff\xff\x7f"
    path = tmp_path / "lies.pcapng"
    path.write_bytes(octets[: len(octets) // 2] + b"\x06\0\0\0\xff\xff\xff\x7f" + bytes(64))

    done = planewire("analyze", path, "--fail-on", "never")

    assert done.returncode == 4
    assert b"offset" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_empty_capture_is_no_error() -> None:
    done = planewire("analyze", LAB / "29-fmt-empty.pcap")

    assert done.returncode == 0
    assert b"no packets" in done.stdout


@pytest.mark.parametrize("content", ["{not json", "a: [unclosed", ""])
def test_cluster_facts_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text(content)

    done = planewire("analyze", INSECURE, "--cluster", path, "--fail-on", "never")

    assert done.returncode == (2 if content else 0)
    assert b"Traceback" not in done.stderr
    if content:
        assert b"facts.yaml" in done.stderr


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("in the way")

    done = planewire("analyze", INSECURE, "--json", target / "r.json")

    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    assert str(target).encode() in done.stderr


def test_secrets_never_leave(tmp_path: Path) -> None:
    """The service account token that a recording leaks is in the capture and in no output."""
    capture = LAB / "09-anonymous-kubelet.pcap"
    octets = capture.read_bytes()
    at = octets.index(b"Authorization: Bearer ") + len(b"Authorization: Bearer ")
    token = octets[at : octets.index(b"\r\n", at)]
    assert len(token) > 100

    done = planewire(
        "analyze", capture, "--csv", tmp_path, "--json", tmp_path / "r.json", "--html", tmp_path / "r.html"
    )

    written = b"".join(p.read_bytes() for p in tmp_path.iterdir()) + done.stdout + done.stderr
    assert b"PW104" in written
    for part in token.split(b"."):
        assert part not in written
