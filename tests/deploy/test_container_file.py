"""The container file: what is in the image, as whom it runs, and that its interpreter may capture and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.netns import namespaces
from tests.rights import obstacle

FILE = ROOT / "deploy" / "Containerfile"
TEXT = FILE.read_text().replace("\\\n", "")
FINAL = TEXT.rsplit("\nFROM ", 1)[1]
CAP_NET_RAW = 13
SET_CAPABILITY = re.search(r"os\.setxattr\('([^']+)', '([^']+)', (struct\.pack\([^;]*\))\)\"", TEXT)


def capability() -> bytes:
    """The octets that the container file writes as the interpreter's capability."""
    assert SET_CAPABILITY is not None
    assert SET_CAPABILITY[1] == "/opt/planewire/bin/python"
    assert SET_CAPABILITY[2] == "security.capability"
    value: bytes = eval(SET_CAPABILITY[3], {"struct": struct})
    return value


def test_the_last_stage_is_the_base_with_the_command_and_runs_as_nobody() -> None:
    stages = re.findall(r"^FROM (\S+)", TEXT, re.M)
    assert len(stages) == 2
    assert len(set(stages)) == 1
    assert re.findall(r"^USER (\S+)", FINAL, re.M) == ["65532:65532"]
    assert re.findall(r"^COPY .*", FINAL, re.M) == ["COPY --from=build /opt/planewire /opt/planewire"]
    assert re.findall(r"apt-get install (?:--\S+ )*([^&]*?) *&&", FINAL) == ["libpcap0.8"]
    assert "ADD " not in TEXT
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)", FINAL, re.M)[0]) == ["/opt/planewire/bin/planewire"]


def test_the_interpreter_is_permitted_net_raw_alone_and_starts_without_it() -> None:
    magic, permitted, inheritable, permitted_high, inheritable_high = struct.unpack("<5I", capability())
    assert magic >> 24 == 2, "revision 2 of struct vfs_cap_data (linux/capability.h)"
    assert magic & 1 == 0, "VFS_CAP_FLAGS_EFFECTIVE would keep the program from starting where NET_RAW is not given"
    assert (permitted, inheritable, permitted_high, inheritable_high) == (1 << CAP_NET_RAW, 0, 0, 0)


def test_the_build_context_is_enough_to_build_from(tmp_path: Path) -> None:
    """The first stage's COPY lines and its pip, with the build tool at hand so that no network is asked."""
    source = tmp_path / "src"
    source.mkdir()
    sent = (ROOT / "deploy" / "Containerfile.dockerignore").read_text()
    copied = re.findall(r"^COPY (?!--)(.*)", TEXT, re.M)
    for line in copied:
        *names, target = line.split()
        for name in names:
            assert f"!{name}\n" in sent, "the context leaves out what is copied"
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / target)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."],
        cwd=source,
        check=True,
    )
    (wheel,) = tmp_path.glob("planewire-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"analyzer"}
    for path in (ROOT / "analyzer").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names


PROBE = """
import ctypes, json, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
state = {line.split(":")[0]: line.split()[1] for line in open("/proc/self/status") if line.startswith(("Cap", "NoNew"))}
header, data = struct.pack("<Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
libc.capget(header, data)
effective, permitted, inheritable, *rest = struct.unpack("<6I", data.raw)
libc.capset(header, struct.pack("<6I", permitted, permitted, inheritable, *rest))
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    opened = True
except PermissionError:
    opened = False
print(json.dumps([os.getuid(), state["CapPrm"], state["CapEff"], state["CapBnd"], state["NoNewPrivs"], opened]))
"""
NOBODY = ("--reuid=65532", "--regid=65532", "--clear-groups", "--inh-caps=-all")
ONLY_NET_RAW = "--bounding-set=-all,+net_raw"


@pytest.fixture
def interpreter() -> Iterator[Path]:
    if obstacle() or os.statvfs("/tmp").f_flag & os.ST_NOSUID:
        pytest.skip(obstacle() or "/tmp is mounted so that files give no rights")
    copy = Path("/tmp") / f"planewire-test-{os.getpid()}" / "python"
    copy.parent.mkdir(mode=0o755)
    shutil.copy(Path(sys.executable).resolve(), copy)
    copy.chmod(0o755)
    try:
        try:
            os.setxattr(copy, "security.capability", capability())
        except OSError as error:
            pytest.skip(f"files cannot be given capabilities here: {error}")
        yield copy
    finally:
        shutil.rmtree(copy.parent)


def started(*command: str | Path) -> list[object]:
    done = subprocess.run([*map(str, command), "-I", "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: list[object] = json.loads(done.stdout)
    return answer


def test_a_pod_as_the_manifest_asks_for_it_may_capture(interpreter: Path) -> None:
    """As containerd and CRI-O start it: NET_RAW permitted until exec, another user than root, no new privileges."""
    raw = f"{1 << CAP_NET_RAW:016x}"
    none = f"{0:016x}"
    assert started("setpriv", ONLY_NET_RAW, *NOBODY, "--no-new-privs", interpreter) == [
        65532,
        raw,
        none,
        raw,
        "1",
        True,
    ]
    assert started("setpriv", "--bounding-set=-all", *NOBODY, "--no-new-privs", interpreter) == [
        65532, none, none, none, "1", False,
    ], "without NET_RAW it starts all the same"  # fmt: skip


def test_where_the_runtime_drops_capabilities_before_exec_root_is_needed(interpreter: Path) -> None:
    """As Docker starts another user than root, and what components/as-root changes."""
    raw, none = f"{1 << CAP_NET_RAW:016x}", f"{0:016x}"
    as_nobody = ("setpriv", ONLY_NET_RAW, *NOBODY, "setpriv", "--no-new-privs", interpreter)
    assert started(*as_nobody) == [65532, none, none, raw, "1", False]
    as_root = ("setpriv", ONLY_NET_RAW, "--inh-caps=-all", "--no-new-privs", interpreter)
    assert started(*as_root) == [0, raw, raw, raw, "1", True]


SERVE = """
import http.server, socket, threading, urllib.request
server = http.server.HTTPServer(("127.0.0.1", 10255), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
urllib.request.urlopen("http://127.0.0.1:10255/").read()
"""


@pytest.mark.live
@pytest.mark.parametrize(
    ("who", "says"),
    [
        ((ONLY_NET_RAW, *NOBODY, "--no-new-privs"), "runs on without capabilities"),
        ((ONLY_NET_RAW, "--inh-caps=-all", "--no-new-privs"), "runs on as root without capabilities"),
    ],
    ids=["as the manifest", "components/as-root"],
)
def test_live_captures_with_the_rights_of_the_pod(
    interpreter: Path, tmp_path: Path, who: tuple[str, ...], says: str
) -> None:
    """The program itself on an interface of its own, its report in a folder that only the pod's user may write."""
    code = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    readable = subprocess.run(["setpriv", *NOBODY, "ls", *code], capture_output=True, check=False)
    if readable.returncode != 0:
        pytest.skip("this checkout lies where another user may not read it")
    reports = interpreter.parent / "reports"
    reports.mkdir(mode=0o700)
    if "--reuid=65532" in who:
        os.chown(reports, 65532, 65532)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(code), "HOME": "/nonexistent"}
    with namespaces("pod") as (space,):
        command = ["setpriv", *who, str(interpreter), "-m", "analyzer", "live", "-i", "any", "--filter", "tcp"]
        command += [
            "--format",
            "jsonl",
            "--json",
            str(reports / "report.json"),
            "--metrics",
            ":9464",
            "--interval",
            "60s",
        ]
        with (tmp_path / "stderr").open("wb") as told:
            process = space.start(*command, env=environment, cwd="/", stderr=told, stdout=subprocess.PIPE)
            deadline = time.monotonic() + 30
            while b"metrics at" not in (tmp_path / "stderr").read_bytes():
                assert process.poll() is None, (tmp_path / "stderr").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            space.run(sys.executable, "-c", SERVE)
            time.sleep(1)
            process.terminate()
            shown, _ = process.communicate(timeout=30)
    assert process.returncode == 1, (tmp_path / "stderr").read_text()
    assert (status["CapPrm"], status["CapEff"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert says in (tmp_path / "stderr").read_text()
    report = json.loads((reports / "report.json").read_text())
    assert {finding["code"] for finding in report["findings"]} == {"PW102"}
    assert any(json.loads(line).get("code") == "PW102" for line in shown.decode().splitlines())
