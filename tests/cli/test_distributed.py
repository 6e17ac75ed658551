"""A real cluster of worker processes and real storages: the same report, whatever happens to the workers."""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from analyzer.analysis import Spread, run
from analyzer.capture.discovery import Source, open_captures
from analyzer.errors import SchedulerError
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.report.document import build_document
from tests.conftest import LAB, ROOT
from tests.dask_cluster import WORKERS, RunningCluster, running

NODES = {
    "node-a": "05-proxy-cleartext.pcap",
    "node-b": "10-tls12.pcap",
    "node-c": "07e-konnectivity-verified-kubelet.pcap",
    "node-d": "08b-etcd-cleartext.pcap",
}
SECRET = "hunter2hunter2"


# ------------------------------------------------------------------------------------------ storages and the cluster


class Gate:
    """Files over HTTP on loopback; the test may hold the answer for one of them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked = 0
        self.held = ""
        self.waiting: list[int] = []  # ports of clients that wait for the file that is held
        self.open = threading.Event()

    def reset(self) -> None:
        self.asked, self.held, self.waiting = 0, "", []
        self.open.set()

    def hold(self, path: str) -> None:
        """Keep the answer back that gives the whole file; the beginning, which is looked at before, is given."""
        assert len(self.files[path]) > 1 << 18
        self.reset()
        self.open.clear()
        self.held = path

    def octets(self, path: str, port: int, last: int) -> bytes | None:
        octets = self.files.get(path)
        if path == self.held and octets is not None and last >= len(octets) - 1:
            self.asked += 1
            self.waiting.append(port)
            self.open.wait(60)
        return octets


@pytest.fixture(scope="module")
def gate() -> Iterator[tuple[Gate, str]]:
    held = Gate()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(held.files.get(self.path.split("?")[0]), body=False)

        def do_GET(self) -> None:
            last = self.headers.get("Range", "").rpartition("-")[2]
            octets = held.octets(self.path.split("?")[0], self.client_address[1], int(last or 1 << 40))
            self._answer(octets, body=True)

        def _answer(self, octets: bytes | None, *, body: bool) -> None:
            if octets is None:
                self.send_error(404)
                return
            wanted = self.headers.get("Range")
            if wanted and body:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                part = octets[int(first) : int(last or len(octets)) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(octets)}")
            else:
                part = octets
                self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if body:
                self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that was killed hears no answer."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for node, name in NODES.items():
        held.files[f"/{node}/eth0.pcap"] = (LAB / name).read_bytes()
    try:
        yield held, f"http://127.0.0.1:{server.server_port}"
    finally:
        held.open.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server with captures in a bucket; the environment that reaches it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = subprocess.Popen(
        [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        _wait_for(port)
        _folder(tmp_path_factory.mktemp("captures"), environment)
        yield environment
    finally:
        server.terminate()
        server.wait(20)


_PUT = (
    "import sys, s3fs; fs = s3fs.S3FileSystem(); fs.mkdir('captures'); fs.put(sys.argv[1], 'captures/', recursive=True)"
)


def _folder(where: Path, environment: dict[str, str]) -> None:
    """Captures of some nodes, one of them cut, and what is no capture; with an environment, put into the bucket."""
    for node, name in NODES.items():
        (where / node).mkdir()
        (where / node / "eth0.pcap.gz").write_bytes(gzip.compress((LAB / name).read_bytes(), mtime=0))
    (where / "node-b" / "notes.pcap.gz").write_bytes(b"this is no capture")
    (where / "node-a" / "cut.pcap.gz").write_bytes(gzip.compress((LAB / "10-tls12.pcap").read_bytes(), mtime=0)[:3000])
    if environment:
        subprocess.run([sys.executable, "-c", _PUT, f"{where}/"], check=True, env=environment)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the S3 server does not answer")


@pytest.fixture(scope="module")
def cluster(bucket: dict[str, str]) -> Iterator[RunningCluster]:
    # A piece of work that has killed two workers is not given to a third.
    with running(bucket | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}) as one:
        yield one


def command(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "analyzer", "analyze", *arguments, "--json", "-", "--quiet", "--fail-on", "never"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )


def analysed(*arguments: str, environment: dict[str, str] | None = None, status: int = 0) -> tuple[bytes, str]:
    out, err = command(*arguments, environment=environment).communicate(timeout=240)
    process_status = json.loads(out)["outcome"]["exit_status"] if out else None
    assert process_status == status, err
    return out, err.decode()


def addresses(base: str) -> list[str]:
    return [f"{base}/{node}/eth0.pcap" for node in NODES]


# ----------------------------------------------------------------------------------------------------------- the tests


def test_files_read_by_workers_give_the_report_of_one_process(tmp_path: Path, cluster: RunningCluster) -> None:
    for node, name in NODES.items():
        (tmp_path / node).mkdir()
        shutil.copy(LAB / name, tmp_path / node / "eth0.pcap")
    (tmp_path / "node-a" / "cut.pcap").write_bytes((LAB / "10-tls12.pcap").read_bytes()[:50_000])
    (tmp_path / "readme.txt").write_text("no capture")
    alone, said = analysed(str(tmp_path), status=4)
    shared, also_said = analysed(str(tmp_path), "--scheduler", cluster.address, status=4)
    assert shared == alone
    assert also_said == said
    document = json.loads(shared)
    assert len(document["captures"]) == 5
    assert [one["name"] for one in document["skipped"]["files"]] == [str(tmp_path / "readme.txt")]


def test_one_file_is_read_by_a_worker_too(tmp_path: Path, cluster: RunningCluster) -> None:
    path = str(LAB / "10-tls12.pcap")
    assert analysed(path, "--scheduler", cluster.address) == analysed(path)
    # One that is on no worker is not taken for one that is nowhere.
    process = command(str(tmp_path / "absent.pcap"), "--scheduler", cluster.address)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 3
    assert b"absent.pcap: no such file on the worker: workers read captures themselves" in err


def test_an_object_store_gives_the_same_alone_with_workers_and_on_a_cluster(
    bucket: dict[str, str], cluster: RunningCluster, tmp_path: Path
) -> None:
    pattern = "s3://captures/node-*/*.pcap.gz"
    alone, said = analysed(pattern, environment=bucket, status=4)
    assert analysed(pattern, "--workers", "3", environment=bucket, status=4) == (alone, said)
    assert analysed(pattern, "--scheduler", cluster.address, environment=bucket, status=4) == (alone, said)
    document = json.loads(alone)
    assert document["captures"][0]["name"].startswith("s3://captures/node-")
    assert len(document["captures"]) == 5
    assert [one["name"] for one in document["skipped"]["files"]] == ["s3://captures/node-b/notes.pcap.gz"]
    damaged = [one["name"] for one in document["captures"] if one["damage"]]
    assert damaged == ["s3://captures/node-a/cut.pcap.gz"]
    assert SECRET.encode() not in alone
    assert SECRET not in said
    # And it is what the same files give that lie here, but for their names.
    for name in ("captures", "vantage_points", "skipped"):
        document.pop(name)
    _folder(tmp_path, {})
    local = json.loads(analysed(str(tmp_path), status=4)[0])
    fingerprints = [finding["fingerprint"] for finding in local["findings"]]
    assert fingerprints
    assert fingerprints == [finding["fingerprint"] for finding in document["findings"]]
    assert local["ledger"] == document["ledger"]


def _killed(gate: Gate, cluster: RunningCluster, times: int) -> list[int]:
    """Kill the worker that waits for the file that is held, so many times; their process ids."""
    killed: list[int] = []
    deadline = time.monotonic() + 180
    while len(killed) < times:
        assert time.monotonic() < deadline, "no worker asked for the file"
        ours = [pid for pid in cluster.workers() if pid not in killed]
        for pid in ours:
            try:
                ports = {c.laddr.port for c in psutil.Process(pid).net_connections("tcp4")}
            except psutil.NoSuchProcess:
                continue
            if ports & set(gate.waiting):
                gate.waiting.clear()
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                break
        time.sleep(0.05)
    return killed


def test_a_worker_that_is_killed_costs_time_only(gate: tuple[Gate, str], cluster: RunningCluster) -> None:
    files, base = gate
    path = "/node-d/eth0.pcap"
    files.reset()
    expected, _ = analysed(*addresses(base))
    files.hold(path)
    process = command(*addresses(base), "--scheduler", cluster.address)
    killed = _killed(files, cluster, 1)
    files.open.set()
    out, err = process.communicate(timeout=240)
    assert err == b""
    assert out == expected
    assert files.asked == 2
    assert killed[0] not in cluster.workers()


def test_a_capture_that_kills_its_workers_is_named_and_the_rest_is_read(
    gate: tuple[Gate, str], cluster: RunningCluster
) -> None:
    files, base = gate
    path = "/node-c/eth0.pcap"
    files.hold(path)
    process = command(*addresses(base), "--scheduler", cluster.address)
    _killed(files, cluster, 2)
    files.open.set()
    out, err = process.communicate(timeout=240)
    document: dict[str, Any] = json.loads(out)
    assert document["outcome"]["exit_status"] == 4
    assert [(one["name"], one["reason"]) for one in document["skipped"]["files"]] == [
        (f"{base}{path}", "no worker could read it: each worker that tried it died (more memory for a worker may help)")
    ]
    assert len(document["captures"]) == len(NODES) - 1
    assert b"died" in err
    assert b"Traceback" not in err
    # Those that are there are enough for the next run.
    deadline = time.monotonic() + 30
    while len(cluster.workers()) < WORKERS and time.monotonic() < deadline:
        time.sleep(0.1)


def test_addresses_are_shown_without_what_opens_them(gate: tuple[Gate, str]) -> None:
    files, base = gate
    files.reset()
    address = base.replace("http://", f"http://auditor:{SECRET}@") + f"/node-a/eth0.pcap?X-Amz-Signature={SECRET}"
    out, err = analysed(address)
    assert SECRET.encode() not in out
    assert SECRET not in err
    assert json.loads(out)["captures"][0]["name"] == f"{base}/node-a/eth0.pcap"
    missing = command(address.replace("node-a", "node-z"))
    out, said = missing.communicate(timeout=240)
    assert missing.returncode == 3
    assert said.decode() == f"planewire: {base}/node-z/eth0.pcap: no such file, folder or bucket\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["captures/10-tls12.pcap", "--scheduler", "127.0.0.1"], 2, "no Dask scheduler can be reached there"),
        (["captures/10-tls12.pcap", "--scheduler", "tls://127.0.0.1:{closed}"], 2, "no Dask scheduler can be reached"),
        (["captures/10-tls12.pcap", "--scheduler", "tcp://127.0.0.1:{closed}"], 2, "no Dask scheduler can be reached"),
        (["s3://captures/absent-*.pcap"], 3, "s3://captures/absent-*.pcap: no file matches"),
        (["s3://no-such-bucket/x.pcap"], 3, "s3://no-such-bucket/x.pcap: no such file, folder or bucket"),
        (["nosuch://bucket/x.pcap"], 3, "nosuch://bucket/x.pcap: Protocol not known: nosuch"),
    ],
)
def test_what_cannot_be_reached_is_one_line(
    bucket: dict[str, str], arguments: list[str], status: int, said: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    quick = bucket | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}
    process = command(*(argument.format(closed=closed) for argument in arguments), environment=quick)
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err
    assert out == b""
    lines = err.decode().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_worker_with_another_version_is_refused(tmp_path: Path, cluster: RunningCluster) -> None:
    # Given a planewire here that calls itself by another version
    metadata = tmp_path / "planewire-9.9.9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: planewire\nVersion: 9.9.9\n")
    process = command(
        "captures/10-tls12.pcap",
        "captures/05-proxy-cleartext.pcap",
        "--scheduler",
        cluster.address,
        environment=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    out, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert out == b""
    assert len(err.splitlines()) == 1
    assert b"has planewire 0." in err
    assert err.endswith(b"and this is 9.9.9\n")


@contextmanager
def _paused(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _settings() -> tuple[int, list[object]]:
    return logging.root.manager.disable, list(warnings.filters)


def test_one_wait_for_scheduler_and_workers_and_what_was_silenced_speaks_again(
    cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analyzer import distributed

    before = _settings()
    with distributed.connect(cluster.address):
        assert logging.root.manager.disable == logging.CRITICAL
    assert _settings() == before
    monkeypatch.setattr(distributed, "CONNECT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent, running(os.environ, workers=0) as empty:
        address = "tcp://{}:{}".format(*silent.getsockname())
        for place, said, paused in (
            (address, "no Dask scheduler answers within 2 seconds", []),
            (empty.address, "the scheduler has no worker after 2 seconds", []),
            (cluster.address, "a worker does not answer within 2 seconds", cluster.workers()),
        ):
            begin = time.monotonic()
            with _paused(paused), pytest.raises(SchedulerError, match=said), distributed.connect(place):
                raise AssertionError
            assert time.monotonic() - begin < 2 + distributed._CLOSE_S
            assert _settings() == before


def test_secrets_are_sent_once_and_not_with_each_capture(
    cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analyzer.distributed import connect

    sent: list[int] = []

    def counted(log: KeyLog) -> dict[str, Any]:
        sent.append(len(log))
        return vars(log)

    monkeypatch.setattr(KeyLog, "__getstate__", counted, raising=False)
    paths = [LAB / "11-keylog-dsb.pcapng", *(LAB / name for name in NODES.values())]

    def analysed_here(spread: Spread | None) -> Any:
        with open_captures([Source(str(path)) for path in paths]) as reader:
            assert len(reader.leading_secrets) > 0
            return build_document(run(reader, spread=spread))

    expected = analysed_here(None)
    assert sent == []
    with connect(cluster.address) as one:
        assert analysed_here(one.read) == expected
    assert len(sent) == 1
    assert sent[0] > 0


def test_without_dask_the_message_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError('not installed')")
    process = command(
        "captures/10-tls12.pcap", "--scheduler", "tcp://h:1", environment=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    out, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert (out, err) == (b"", b"planewire: --scheduler needs Dask: pip install 'planewire[distributed]'\n")
