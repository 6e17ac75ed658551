"""``planewire live`` on standard input and over TCP: what it says, when it ends, what it leaves behind."""

from __future__ import annotations

import base64
import gc
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from analyzer import session
from analyzer.capture.feed import feed_of
from analyzer.capture.source import open_capture
from analyzer.cli import cli, live
from analyzer.errors import PlanewireError
from analyzer.pipeline import Limits
from analyzer.report.live_schema import json_schema
from analyzer.session import LIMITS, Ageing, LiveSession
from tests.builders import Conversation
from tests.capture_builders import frames_in
from tests.cli.test_analyze import INSECURE, pcap, planewire
from tests.conftest import LAB, ROOT

CONTENT = INSECURE.read_bytes()
HEADER, FRAMES = 24, 258
SAME_LIMIT = ("--max-flows", str(2 * live.MAX_CONNECTIONS))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


@contextmanager
def running(
    *arguments: str | Path, first: bytes = CONTENT, under: tuple[str, ...] = (), **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A run over standard input that stays open; what it is given is written at once."""
    process = subprocess.Popen(
        [*under, sys.executable, "-m", "analyzer", "live", "-", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        cwd=ROOT,
        **options,
    )
    assert process.stdin is not None
    process.stdin.write(first)
    process.stdin.flush()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        process.wait(10)


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for text in process.stdout:
        line = json.loads(text)
        VALIDATOR.validate(line)
        yield line


def wait_for(process: subprocess.Popen[bytes], kind: str, **fields: str) -> list[dict[str, Any]]:
    """The lines until one that is meant."""
    seen = []
    for line in lines_of(process):
        seen.append(line)
        if line["type"] == kind and all(line[name] == value for name, value in fields.items()):
            return seen
    pytest.fail(f"no line {kind} {fields}")


def json_lines(output: bytes) -> list[dict[str, Any]]:
    found = [json.loads(text) for text in output.splitlines()]
    for line in found:
        VALIDATOR.validate(line)
    return found


def complaints(error: bytes) -> list[str]:
    """Lines of standard error, but the one that tells what became of root's rights."""
    return [line for line in error.decode().splitlines() if "runs on as" not in line]


@pytest.mark.parametrize(
    "name", ["11-keylog-dsb.pcapng", "16-pcapng-two-interfaces.pcapng", "22-fmt-gzip.pcap.gz", "29-fmt-empty.pcap"]
)
def test_the_report_is_that_of_analyze(name: str, tmp_path: Path) -> None:
    content = (LAB / name).read_bytes()
    one = planewire("live", "-", "--json", tmp_path / "live.json", "-q", stdin=content)
    other = planewire("analyze", "-", *SAME_LIMIT, "--json", tmp_path / "analyze.json", "-q", stdin=content)
    assert one.returncode == other.returncode
    assert json.loads((tmp_path / "live.json").read_bytes()) == json.loads((tmp_path / "analyze.json").read_bytes())
    assert one.stdout == b""


def test_jsonl_begins_and_ends_and_says_what_the_report_says(tmp_path: Path) -> None:
    done = planewire("live", "-", "--format", "jsonl", "--json", tmp_path / "r.json", stdin=CONTENT)
    lines, document = json_lines(done.stdout), json.loads((tmp_path / "r.json").read_bytes())
    assert [lines[0]["type"], lines[-1]["type"]] == ["start", "summary"]
    assert {line["type"] for line in lines[1:-1]} == {"channel", "finding"}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    channels = {line["channel"]: line["verdict"] for line in lines if line["type"] == "channel"}
    assert channels == {row["id"]: row["verdict"] for row in document["channels"]}
    findings: dict[str, str] = {}
    for line in lines:
        if line["type"] == "finding":
            assert (line["id"] in findings) == (line["change"] != "new")
            findings[line["id"]] = line["severity"]
            if line["change"] == "gone":
                del findings[line["id"]]
    assert findings == {row["id"]: row["severity"] for row in document["findings"]}
    summary = lines[-1]
    assert summary["exit_status"] == done.returncode == 1
    assert summary["packets"] == document["ledger"]["frames"] == FRAMES
    assert summary["connections"] == document["summary"]["connections"]
    assert summary["ended_by"] == "end of input"
    assert b"wrote" in done.stderr


def test_lines_for_people_end_with_the_report() -> None:
    done = planewire("live", "-", stdin=CONTENT)
    text = done.stdout.decode()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ start: -, by standard input\n", text)
    assert " finding high PW101/apiserver-to-node-proxy observed: " in text
    assert "end (end of input): 258 packets, drops not recorded, 7 connections, 4 channels" in text
    assert "3 of 4 channels between control plane and nodes are at risk." in text
    assert done.returncode == 1


def test_quiet_says_nothing_and_a_report_may_go_to_standard_output() -> None:
    done = planewire("live", "-", "-q", stdin=CONTENT)
    assert (done.stdout, done.returncode) == (b"", 1)
    done = planewire("live", "-", "--json", "-", "--fail-on", "never", stdin=CONTENT)
    assert json.loads(done.stdout)["ledger"]["frames"] == FRAMES
    assert done.returncode == 0


def test_packets_ends_after_exactly_so_many(tmp_path: Path) -> None:
    with running("--packets", "100", "--format", "jsonl", "--json", tmp_path / "r.json") as process:
        summary = list(lines_of(process))[-1]
        assert process.wait(20) in (0, 1)
    assert (summary["packets"], summary["ended_by"]) == (100, "packets")
    assert json.loads((tmp_path / "r.json").read_bytes())["ledger"]["frames"] == 100


def test_duration_ends_a_run_that_would_not(tmp_path: Path) -> None:
    with running("--duration", "1.2s", "--format", "jsonl") as process:
        summary = list(lines_of(process))[-1]
        process.wait(20)
    assert summary["ended_by"] == "duration"
    assert summary["packets"] == FRAMES
    assert 1.2 <= summary["duration_s"] < 6


@pytest.mark.parametrize(("sent", "said"), [(signal.SIGINT, "interrupt"), (signal.SIGTERM, "termination")])
def test_signals_end_with_the_report(tmp_path: Path, sent: signal.Signals, said: str) -> None:
    with running("--format", "jsonl", "--html", tmp_path / "r.html") as process:
        wait_for(process, "channel")
        process.send_signal(sent)
        summary = list(lines_of(process))[-1]
        assert process.wait(20) == 1
    assert (summary["ended_by"], summary["packets"]) == (said, FRAMES)
    assert "</html>" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with running("--format", "jsonl", "--json", tmp_path / "r.json") as process:
        wait_for(process, "channel")
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # the input stays open: the run waits a second for what may still come
        process.send_signal(second)
        assert process.wait(20) == 128 + second
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert not (tmp_path / "r.json").exists()


def frames_of(paths: list[Path]) -> list[tuple[bytes, int, int, int, int]]:
    found = []
    for path in paths:
        with open_capture(str(path)) as reader:
            found += frames_in(reader)
            assert not reader.damage
    return found


def test_hang_up_starts_the_next_file_and_nothing_is_lost(tmp_path: Path) -> None:
    cut = 24 + len(CONTENT[24:]) // 2
    with running("--write", tmp_path / "w.pcapng", "--format", "jsonl", first=CONTENT[:cut]) as process:
        wait_for(process, "channel")
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.stdin is not None
        process.stdin.write(CONTENT[cut:])
        process.stdin.close()
        assert list(lines_of(process))[-1]["packets"] == FRAMES
        assert process.wait(20) == 1
    files = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == 2
    assert frames_of(files) == frames_of([INSECURE])


def test_files_rotate_by_size_and_old_ones_go(tmp_path: Path) -> None:
    done = planewire(
        "live", "-", "-q", "--write", tmp_path / "w.pcapng", "--rotate", "20kB", "--keep", "3", stdin=CONTENT
    )
    assert done.returncode == 1
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    assert all(path.stat().st_size <= 20_000 for path in files)
    assert frames_of(files) == frames_of([INSECURE])[-len(frames_of(files)) :]


def test_kill_leaves_files_that_read(tmp_path: Path) -> None:
    with running("--write", tmp_path / "w.pcapng", "--rotate", "50kB", "--format", "jsonl") as process:
        wait_for(process, "finding")
        process.kill()
        process.wait(10)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 1
    assert frames_of(files) == frames_of([INSECURE])


def test_packets_to_standard_output_are_a_capture_for_whoever_reads(tmp_path: Path) -> None:
    done = planewire("live", "-", "--write", "-", "--json", tmp_path / "r.json", stdin=CONTENT)
    (tmp_path / "w.pcapng").write_bytes(done.stdout)
    assert frames_of([tmp_path / "w.pcapng"]) == frames_of([INSECURE])
    assert done.returncode == 1
    assert json.loads((tmp_path / "r.json").read_bytes())["ledger"]["frames"] == FRAMES


def test_who_reads_the_packets_may_go_away() -> None:
    with running("--write", "-", first=CONTENT[:5000]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == bytes.fromhex("0a0d0d0a")
        process.stdout.close()
        process.stdin.write(CONTENT[5000:])
        process.stdin.flush()
        assert process.wait(20) in (0, 1)
        assert complaints(process.stderr.read()) == []


def test_the_files_of_an_interval_are_always_whole(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    sizes: set[int] = set()
    with running("--interval", "100ms", "--json", target, "-q", first=CONTENT[:20_000]) as process:
        assert process.stdin is not None
        deadline = time.monotonic() + 20
        at = 20_000
        while len(sizes) < 4 and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                sizes.add(json.loads(target.read_bytes())["ledger"]["frames"])
            process.stdin.write(CONTENT[at : at + 500])
            process.stdin.flush()
            at += 500
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, 1)
    assert len(sizes) >= 4
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_an_interval_that_cannot_write_says_so_once_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    with running("--interval", "50ms", "--json", folder / "r.json", "--format", "jsonl") as process:
        wait_for(process, "channel")
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        seen = wait_for(process, "note")
        assert "No such file" in seen[-1]["text"]
        time.sleep(0.5)
        folder.mkdir()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        rest = list(lines_of(process))
        assert process.wait(20) == 1
    assert [line["type"] for line in rest] == ["summary"]
    assert (folder / "r.json").exists()


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    with running("--format", "jsonl", "--json", tmp_path / "r.json", first=CONTENT[:5000]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(CONTENT[5000:])
        process.stdin.flush()
        assert process.wait(20) in (0, 1)
        assert complaints(process.stderr.read()) == [f"wrote {tmp_path / 'r.json'}"]
    assert json.loads((tmp_path / "r.json").read_bytes())["captures"]


def test_damage_on_the_way_is_told_and_the_rest_kept() -> None:
    done = planewire("live", "-", "--format", "jsonl", "--fail-on", "never", stdin=CONTENT[:-7])
    lines = json_lines(done.stdout)
    note = next(line for line in lines if line["type"] == "note")
    assert "258" in note["text"]
    assert lines[-1]["packets"] == FRAMES - 1
    assert done.returncode == 4
    assert len(complaints(done.stderr)) == 1
    quiet = planewire("live", "-", "-q", "--fail-on", "never", stdin=CONTENT[:-7])
    assert quiet.returncode == 4
    assert len(complaints(quiet.stderr)) == 1


def test_damage_from_the_beginning_comes_after_the_beginning() -> None:
    done = planewire("live", "-", "--format", "jsonl", stdin=CONTENT[:10])
    assert [line["type"] for line in json_lines(done.stdout)] == ["start", "note", "summary"]
    assert done.returncode == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Say what to listen to: -i with one of any, "),
        (("-i", "lo", "-"), "exclude each other"),
        (("eth0.pcap",), "planewire analyze --follow eth0.pcap"),
        (("lo",), "try -i lo"),
        (("-", "--rotate", "1MB"), "go with --write"),
        (("-", "--interval", "1s"), "name one"),
        (("-", "--interval", "1s", "--json", "-"), "cannot be replaced"),
        (("-", "--json", "-", "--format", "lines"), "no place"),
        (("-", "--format", "screen"), "needs a terminal"),
        (("-", "--filter", "tcp"), "goes with -i"),
        (("-", "--write", "-", "--format", "lines"), "leaves no place"),
        (("-", "--write", "-", "--json", "-"), "leaves no place"),
        (("-", "--write", "-", "--rotate", "1MB"), "cannot be rotated"),
        (("-", "--age", "never=1s"), "expected NAME=TIME with one of closed, "),
        (("-", "--age", "udp=soon"), "is no time"),
        (("-", "--duration", "soon"), "is no time"),
        (("-", "--rotate", "big", "--write", "x"), "is no size"),
        (("-", "--metrics", "9464"), "expected [HOST]:PORT"),
        (("-", "--metrics", "256.0.0.1:9464"), "cannot listen there"),
        (("-", "--cluster", "no/such"), "no such file or folder"),
        (("-", "--keys", "no/such"), "No such file"),
    ],
)
def test_usage(arguments: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(cli, ["live", *arguments], input=b"")
    told = done.output + (str(done.exception) if isinstance(done.exception, PlanewireError) else "")
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
    assert says in " ".join(told.split())


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [((), LIMITS), (("--head-octets", "2048"), replace(LIMITS, head_octets=2048))],
    ids=["", "--head-octets"],
)
def test_the_command_holds_as_little_as_a_session_does(
    arguments: tuple[str, ...], limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[LiveSession] = []

    class Noted(LiveSession):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(session, "LiveSession", Noted)
    # In this process, which goes on afterwards.
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(live, "_drop_privileges", lambda *_: "")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    with open_capture(str(INSECURE)) as reader:
        monkeypatch.setattr(live, "_read_feed", lambda _: feed_of(reader))
        CliRunner().invoke(cli, ["live", "-", "-q", *arguments], catch_exceptions=False)

    (one,) = made
    assert one.limits == replace(limits, max_flows=2 * live.MAX_CONNECTIONS)


def test_what_can_never_be_written_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with running("--json", tmp_path / "no" / "r.json", first=b"") as process:
        assert process.wait(20) == 3
        assert process.stderr is not None
        assert f"the folder {tmp_path / 'no'} does not exist" in process.stderr.read().decode().replace("\n", " ")


def test_an_unreadable_input_is_one_line() -> None:
    done = planewire("live", "-", stdin=b"nonsense" * 40)
    assert done.returncode == 3
    assert [line[:24] for line in complaints(done.stderr)] == ["planewire: -: offset 0: "]


def test_the_defaults_that_help_shows_are_those_in_force() -> None:
    ageing = Ageing()
    assert {name: getattr(ageing, f"{name.replace('-', '_')}_s") for name in live.AGES} == live.AGES
    named = {f"{name.replace('-', '_')}_s" for name in live.AGES}
    assert named == {name for name in Ageing.__dataclass_fields__ if name.endswith("_s")}
    assert (ageing.retain, ageing.most) == (live.RETAIN, live.MAX_CONNECTIONS)


def test_pcap_over_ip(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(CONTENT)

        thread = threading.Thread(target=serve)
        thread.start()
        done = planewire("live", f"tcp://127.0.0.1:{server.getsockname()[1]}", "--format", "jsonl")
        thread.join()
    lines = json_lines(done.stdout)
    assert lines[0]["input"].startswith("tcp://127.0.0.1:")
    assert lines[-1]["packets"] == FRAMES


def scrape(url: str, path: str = "/metrics") -> tuple[int, str]:
    connection = http.client.HTTPConnection(url, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_are_those_of_the_report(tmp_path: Path) -> None:
    with running("--metrics", ":0", "--format", "jsonl", "--json", tmp_path / "r.json") as process:
        assert process.stderr is not None
        said = (process.stderr.readline() + process.stderr.readline()).decode() if os.geteuid() == 0 else ""
        said = said or process.stderr.readline().decode()
        address = re.search(r"http://(127\.0\.0\.1:\d+)/metrics", said)
        assert address, said
        wait_for(process, "finding")
        time.sleep(1.2)
        assert scrape(address[1], "/healthz") == (200, "ok\n")
        families = list(text_string_to_metric_families(scrape(address[1])[1]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 1
    document = json.loads((tmp_path / "r.json").read_bytes())
    found = {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}
    assert found["planewire_packets_total",] == FRAMES
    for row in document["channels"]:
        verdicts = [found["planewire_channel_verdict", *sorted((row["id"], word))] for word in
                    ("at-risk", "sound", "undecidable", "informational")]  # fmt: skip
        assert sum(verdicts) == 1
        assert found["planewire_channel_verdict", *sorted((row["id"], row["verdict"]))] == 1
        for question in ("encryption", "client_certificate", "server_verification"):
            for answer, count in row[question].items():
                assert found["planewire_channel_answers", *sorted((row["id"], question, answer))] == count
    counted = sum(value for key, value in found.items() if key[0] == "planewire_channel_connections_total")
    assert counted >= document["summary"]["connections"]
    codes = {row["code"] for row in document["findings"]}
    assert {key[1] for key in found if key[0] == "planewire_findings"} >= codes


def test_suppressions_keys_and_cluster_are_taken_as_analyze_takes_them(tmp_path: Path) -> None:
    stem = "05-proxy-cleartext"
    accepted = tmp_path / "accepted.yaml"
    accepted.write_text("suppressions:\n  - {code: PW102, reason: known, author: me, expires: 2999-12-31}\n")
    given = ("--cluster", LAB / "clusters" / stem, "--suppress", accepted, "-q")
    shown = ("--format", "jsonl")
    lines = json_lines(
        planewire("live", "-", *given[:-1], *shown, "--json", tmp_path / "live.json", stdin=CONTENT).stdout
    )
    assert {line["change"] for line in lines if line["type"] == "finding"} == {"new"}
    assert {line["suppressed"] for line in lines if line["type"] == "finding"} == {"", "known"}
    planewire("analyze", "-", *SAME_LIMIT, *given, "--json", tmp_path / "analyze.json", stdin=CONTENT)
    one, other = (json.loads((tmp_path / name).read_bytes()) for name in ("live.json", "analyze.json"))
    assert one == other
    assert one["cluster"]["given"]
    assert any(row["suppression"] for row in one["findings"])


def test_a_terminal_that_lacks_characters_gets_others(tmp_path: Path) -> None:
    done = planewire("live", "-", stdin=CONTENT, PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert done.stdout.isascii()


def test_a_hung_up_session_ends_it_where_no_file_is_written() -> None:
    with running("--format", "jsonl") as process:
        wait_for(process, "channel")
        os.kill(process.pid, signal.SIGHUP)
        assert list(lines_of(process))[-1]["ended_by"] == "termination"
        assert process.wait(20) == 1


@pytest.mark.skipif(shutil.which("nohup") is None, reason="no nohup here")
def test_nohup_outlives_the_session() -> None:
    with running("--format", "jsonl", under=("nohup",)) as process:
        wait_for(process, "channel")
        os.kill(process.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert process.stdin is not None
        process.stdin.close()
        assert list(lines_of(process))[-1]["ended_by"] == "end of input"
        assert process.wait(20) == 1


def test_drops_that_the_capture_does_not_record_are_not_nought(tmp_path: Path) -> None:
    done = planewire("live", "-", "--format", "jsonl", "--json", str(tmp_path / "r.json"), stdin=CONTENT)
    summary = json.loads(done.stdout.splitlines()[-1])
    VALIDATOR.validate(summary)
    assert summary["dropped"] is None
    assert json.loads((tmp_path / "r.json").read_text())["quality"]["dropped"] is None
    text = planewire("live", "-", "--format", "lines", stdin=CONTENT).stdout.decode()
    assert "258 packets, drops not recorded," in text
    assert " 0 dropped" not in text


def hostile_capture() -> bytes:
    """Requests to the kubelet's read-only port with a token whose claims would drive a terminal, and say so."""
    claims = json.dumps(
        {"sub": "system:serviceaccount:\x1b[2J\x1b]0;owned\x07\u202e:a", "iss": "\r\n\x9b31m[bold]x[/bold]"}
    )
    token = ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (b'{"alg":"RS256"}', claims.encode(), b"s" * 32)
    )
    request = f"GET /pods HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    return pcap(Conversation(dport=10255).open().send(0, request).send(1, answer).close().frames)


@pytest.mark.parametrize("shown_as", ["lines", "jsonl"])
def test_nothing_of_the_wire_reaches_the_terminal_unescaped(shown_as: str) -> None:
    done = planewire("live", "-", "--format", shown_as, stdin=hostile_capture())
    text = done.stdout.decode()
    assert "PW104" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert "\\x1b[2J" in text or "\\u001b[2J" in text
