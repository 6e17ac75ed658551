"""``planewire inspect``, ``evidence`` and ``verify`` as a user calls them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analyzer.api import analyze
from analyzer.cli import cli
from analyzer.errors import FindingError, InputError, MissingProgramError
from analyzer.report.commands import evidence_command
from tests.conftest import LAB

LEAKING = LAB / "09-anonymous-kubelet.pcap"
FACTS = LAB / "clusters" / "09-anonymous-kubelet"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.mark.tshark
def test_inspect_shows_the_frames_of_the_finding() -> None:
    done = invoke("inspect", LEAKING, "PW104/workload", "--cluster", FACTS)

    assert done.exit_code == 0
    assert done.stdout.startswith("PW104/workload (critical, observed): An Authorization header is readable")
    assert "\nFrame 361\n" in done.stdout
    assert "Authorization: Bearer REDACTED" in done.stdout


@pytest.mark.tshark
def test_inspect_bounds_its_frames() -> None:
    done = invoke("inspect", LEAKING, "PW203", "--frames=2")

    assert done.stdout.count("\nFrame ") == 2
    assert "more frames; --frames shows them" in done.stdout


def test_inspect_without_tshark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)

    assert isinstance(invoke("inspect", LEAKING, "PW104").exception, MissingProgramError)


def test_evidence_writes_a_capture_and_says_what_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "x.pcapng"

    done = invoke("evidence", LEAKING, "PW104", "-o", target, "--cluster", FACTS)

    assert done.exit_code == 0
    assert "credentials can be read in frames 4: guard it like them, or use --redact" in done.stderr
    assert f"wrote {target}: 4 frames of 1 connection, " in done.stderr
    again = json.loads(invoke("analyze", target, "--cluster", FACTS, "--json=-").stdout)
    assert "PW104/workload" in [finding["id"] for finding in again["findings"]]
    masked = invoke("evidence", LEAKING, "PW104", "-o", target, "--redact")
    assert "guard it" not in masked.stderr


def test_the_command_that_reports_show_is_one_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = analyze(LEAKING, cluster=FACTS).document
    monkeypatch.chdir(tmp_path)
    for finding in document["findings"]:
        program, *arguments = shlex.split(evidence_command(document, finding))
        done = invoke(*(str(FACTS) if argument == "FACTS" else argument for argument in arguments))
        assert (program, done.exit_code) == ("planewire", 0), finding["id"]
        assert (tmp_path / f"{finding['code']}.pcapng").is_file()


def test_secrets_of_a_capture_go_along_only_where_the_finding_needs_them(tmp_path: Path) -> None:
    capture = LAB / "11-keylog-dsb.pcapng"
    assert b"CLIENT_RANDOM" in capture.read_bytes() or b"TRAFFIC_SECRET" in capture.read_bytes()
    findings = json.loads(invoke("analyze", capture, "--json=-").stdout)["findings"]
    assert findings
    for finding in findings:
        done = invoke("evidence", capture, finding["id"], "-o", tmp_path / "x.pcapng")
        octets = (tmp_path / "x.pcapng").read_bytes()
        assert (b"TRAFFIC_SECRET" in octets) == ("TLS secrets" in done.stderr)


@pytest.mark.parametrize("command", [pytest.param("inspect", marks=pytest.mark.tshark), "evidence"])
def test_a_finding_that_is_not_there(command: str, tmp_path: Path) -> None:
    output = ["-o", str(tmp_path / "x")] if command == "evidence" else []
    done = invoke(command, LEAKING, "PW999", *output)

    assert isinstance(done.exception, FindingError)
    assert "there are PW104/workload" in str(done.exception)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("arguments", [("inspect", "-", "PW1"), ("evidence", "-", "PW1", "-o", "x"), ("verify", "-")])
def test_a_pipe_is_refused(arguments: tuple[str, ...]) -> None:
    assert isinstance(invoke(*arguments).exception, InputError)
    device = [os.devnull if argument == "-" else argument for argument in arguments]
    with pytest.raises(InputError, match="save it first"):
        raise invoke(*device).exception or AssertionError


@pytest.mark.parametrize(
    "arguments", [("inspect", "URL", "PW1"), ("evidence", "URL", "PW1", "-o", "x"), ("verify", "URL")]
)
def test_what_lies_in_a_storage_is_refused_before_it_is_read(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analyzer.capture.discovery.find", None)
    url = "http://user:hunter2@127.0.0.1:9/x.pcap?sig=hunter2"
    with pytest.raises(InputError) as raised:
        raise invoke(*(url if argument == "URL" else argument for argument in arguments)).exception or AssertionError
    assert str(raised.value) == (
        f"http://127.0.0.1:9/x.pcap: lies in a storage, which {arguments[0]} does not read: copy it to this machine"
    )


def test_a_node_that_lacks_its_name_is_told_without_credentials() -> None:
    for url in ("http://user:hunter2@127.0.0.1:9/x.pcap", "http://127.0.0.1:9/x?key=hunter2"):
        done = invoke("analyze", "--node", url)
        assert done.exit_code == 2
        assert "expected NAME=PATH" in done.stderr
        assert "hunter2" not in done.output


def half_in_an_archive(folder: Path) -> Path:
    """Two captures that show PW201, one as a file, one in an archive."""
    folder.mkdir()
    shutil.copy(LEAKING, folder / "node-a.pcap")
    with tarfile.open(folder / "rest.tar", "w") as archive:
        archive.add(LAB / "10-tls12.pcap", "node-b.pcap")
    return folder


@pytest.mark.tshark
def test_inspect_says_what_lies_in_an_archive(tmp_path: Path) -> None:
    folder = half_in_an_archive(tmp_path / "nodes")
    done = invoke("inspect", folder, "PW201", "--frames=1000")
    assert done.exit_code == 0, done.exception
    assert f" of {folder / 'node-a.pcap'}\n" in done.stdout
    assert "--frames shows them" not in done.stdout
    said = re.findall(r"\nand (\d+) frames of (.*), which lies in an archive; unpack that to see them\n", done.stdout)
    assert [name for _, name in said] == [f"{folder / 'rest.tar'}:node-b.pcap"]
    assert int(said[0][0]) > 0


@pytest.mark.tshark
def test_verify_prints_a_table_and_ends_with_0() -> None:
    done = invoke("verify", LEAKING)

    assert done.exit_code == 0
    assert done.stdout.endswith("All agree.\n")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:7]] == ["frames", "conversations", "handshakes"] * 2
    assert invoke("verify", LEAKING, "-q").stdout == ""


def test_verify_by_dpkt_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)

    done = invoke("verify", LEAKING)

    assert done.exit_code == 0
    assert "tshark is not installed: asked dpkt alone" in done.stderr
    assert isinstance(invoke("verify", LEAKING, "--with=tshark").exception, MissingProgramError)


def test_a_disagreement_without_a_reason_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.opinions import by_dpkt
    from analyzer.opinions.common import Opinion

    right = by_dpkt.dpkt_opinion

    def wrong(capture: str) -> Opinion:
        opinion = right(capture)
        opinion.packets[min(opinion.packets)] += 1
        return opinion

    monkeypatch.setattr(by_dpkt, "dpkt_opinion", wrong)
    done = invoke("verify", LEAKING, "--with=dpkt", "--json")

    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert said["unexplained"] == 1
    assert said["disagreements"][0]["question"] == "conversations"
    assert "reason: none known" in invoke("verify", LEAKING, "--with=dpkt").stdout


def test_heavy_readers_are_imported_only_where_used() -> None:
    script = (
        "import sys\n"
        "from analyzer.cli import cli\n"
        f"try: cli.main(['analyze', '-q', {str(LEAKING)!r}])\n"
        "except SystemExit: pass\n"
        "loaded = {'pyshark', 'dpkt', 'scapy', 'pandas', 'pyarrow', 'analyzer.opinions'} & set(sys.modules)\n"
        "sys.exit(','.join(sorted(loaded)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PROXIED = LAB / "05-proxy-cleartext.pcap"


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Captures of two nodes, in a folder of their own."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    one, other = folder / "one.pcap", folder / "two.pcap"
    shutil.copy(LEAKING, one)
    shutil.copy(PROXIED, other)
    return one, other


@pytest.mark.tshark
def test_inspect_names_the_file_of_each_frame(two: tuple[Path, Path]) -> None:
    done = invoke("inspect", *two, "PW101/apiserver-to-pod-proxy")

    assert done.exit_code == 0, done.output
    assert f"\nFrame 135 of {two[1]}\n" in done.stdout
    assert str(two[0]) not in done.stdout
    whole = invoke("inspect", two[0].parent, "PW203", "--frames=3")
    assert whole.stdout.count("\nFrame ") == 3


def test_evidence_cuts_the_capture_that_shows_the_finding(two: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "x.pcapng"
    for given in (two, (two[0].parent,)):
        done = invoke("evidence", *given, "PW101/apiserver-to-pod-proxy", "-o", target)
        assert done.exit_code == 0, done.output
        assert done.stderr.endswith(f"cut out of {two[1]}\n")
        again = analyze(target).document
        assert "PW101/apiserver-to-pod-proxy" in [finding["id"] for finding in again["findings"]]
    assert "cut out" not in invoke("evidence", two[1], "PW101/apiserver-to-pod-proxy", "-o", target).stderr


def test_what_lies_in_an_archive_or_can_be_read_only_once_is_told(two: tuple[Path, Path], tmp_path: Path) -> None:
    packed = tmp_path / "nodes.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(two[1], "n/two.pcap")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for command in (("evidence", "-o", tmp_path / "x.pcapng"), ("inspect",)):
        inside = invoke(command[0], packed, "PW101/apiserver-to-pod-proxy", *command[1:]).exception
        assert isinstance(inside, InputError)
        assert "nodes.tar:n/two.pcap: lies in an archive" in str(inside)
        for once in ("-", pipe, "tcp://127.0.0.1:9"):
            refused = invoke(command[0], two[0], once, "PW101", *command[1:]).exception
            assert isinstance(refused, InputError)
            assert "save it first" in str(refused)


def test_a_finding_of_all_captures_together_is_not_cut_out_of_one(tmp_path: Path) -> None:
    """Calls around the tunnel: one capture shows the tunnel, the other the calls."""
    both = [LAB / "01-default-insecure-kubelet.pcap", LAB / "07c-konnectivity-node-any.pcap"]
    failed = invoke("evidence", *both, "PW502", "-o", tmp_path / "x.pcapng").exception

    assert isinstance(failed, FindingError)
    assert str(failed) == (
        "PW502/apiserver-to-kubelet shows in none of the captures by itself, only in all of them together"
    )


def test_verify_compares_each_capture_by_itself(two: tuple[Path, Path]) -> None:
    both = invoke("verify", *two, "--with", "dpkt", "--json")
    alone = [json.loads(invoke("verify", one, "--with", "dpkt", "--json").stdout) for one in two]

    assert both.exit_code == 0
    assert json.loads(both.stdout)["agreement"] == [row for one in alone for row in one["agreement"]]
