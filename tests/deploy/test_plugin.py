"""``kubectl planewire`` against a kubectl that runs the pod's commands here and answers from a recorded cluster."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import analyzer
from analyzer.capture.source import open_capture
from tests.conftest import LAB, ROOT
from tests.netns import namespaces
from tests.rights import obstacle

PLUGIN = ROOT / "deploy" / "kubectl-planewire"
CAPTURE = LAB / "09-anonymous-kubelet.pcap"
CLUSTER = LAB / "clusters" / "09-anonymous-kubelet"
SECTION = b"\x0a\x0d\x0d\x0a"

KUBECTL = '''\
"""Answers as kubectl would: objects from a recorded cluster, and the pod's commands run here with its volume moved."""
import json, os, pathlib, subprocess, sys

state = pathlib.Path(os.environ["FAKE_STATE"])
words = sys.argv[1:]
with (state / "calls").open("a") as calls:
    calls.write(json.dumps([words, os.environ.get("KUBECONFIG", "")]) + "\\n")
words = [word for word in words if not word.startswith(("--context=", "--namespace="))]
refuse = os.environ.get("FAKE_REFUSE", "").split(",")
if words[0] in refuse:
    sys.exit("Error from server (Forbidden): no \\x1b[31mrights\\x1b[0m")
if words[0] == "create":
    (state / "pod.json").write_text(sys.stdin.read())
elif words[0] == "get" and words[1].startswith("nodes,"):
    sys.stdout.write((pathlib.Path(os.environ["FAKE_CLUSTER"]) / "cluster.json").read_text())
elif words[0] == "get" and words[1:3] == ["nodes", "-o"]:
    print("node1")
elif words[0] == "get" and "jsonpath={.items[0].metadata.name}" in words:
    print(os.environ["FAKE_DAEMON_POD"], end="")
elif words[0] == "get":
    sys.exit("Error from server (NotFound): " + words[1])
elif words[0] == "exec":
    command = words[words.index("--") + 1 :]
    volume = state / "volume"
    volume.mkdir(exist_ok=True)
    command = [word.replace("/capture", str(volume)).replace("/reports", str(volume)) for word in command]
    sys.exit(subprocess.run([*os.environ.get("FAKE_POD", "").split(), *command], check=False).returncode)
elif words[0] not in {"wait", "delete"}:
    sys.exit("not understood: " + words[0])
'''
TCPDUMP = """\
import os, pathlib, shutil, sys, time
words = sys.argv[1:]
(pathlib.Path(os.environ["FAKE_STATE"]) / "tcpdump").write_text("\\n".join(words))
if words[-1] == "slow":
    time.sleep(8)
if words[-1] == "bogus":
    sys.exit("tcpdump: can't parse filter expression: syntax error")
with open(os.environ["FAKE_CAPTURE"], "rb") as capture:
    shutil.copyfileobj(capture, sys.stdout.buffer)
sys.stderr.write("tcpdump: listening on any\\n250 packets captured\\n0 packets dropped by kernel\\n")
"""
PLANEWIRE = """\
from analyzer.cli import main
main()
"""


class Desk:
    """A PATH with the programs the plugin calls, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        programs = folder / "bin"
        for made in (self.state, programs, folder / "tmp"):
            made.mkdir()
        for name, text in (("kubectl", KUBECTL), ("tcpdump", TCPDUMP), ("planewire", PLANEWIRE)):
            (programs / name).write_text(f"#!{sys.executable}\n{text}")
            (programs / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder / "tmp"),
            "FAKE_STATE": str(self.state),
            "FAKE_CLUSTER": str(CLUSTER),
            "FAKE_CAPTURE": str(CAPTURE),
            "FAKE_DAEMON_POD": "planewire-x2x4z",
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["sh", str(PLUGIN), *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert list((self.folder / "tmp").iterdir()) == [], "nothing is left behind"
        return done

    @property
    def calls(self) -> list[list[str]]:
        path = self.state / "calls"
        return [json.loads(line)[0] for line in path.read_text().splitlines()] if path.exists() else []

    def pod(self) -> Any:
        return json.loads((self.state / "pod.json").read_text())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_one_command_gives_the_verdicts_of_analyze(desk: Desk) -> None:
    done = desk.run("node1", "-d", "5", "--", "--json", "report.json", "--no-color")
    assert done.returncode == 1, done.stderr
    report = json.loads((desk.folder / "report.json").read_text())
    direct = analyzer.analyze(CAPTURE, cluster=CLUSTER / "cluster.json").document
    assert [finding["id"] for finding in report["findings"]] == [finding["id"] for finding in direct["findings"]]
    assert report["cluster"]["given"], "the facts were gathered and used"
    assert "PW102" in done.stdout
    assert "250 packets captured" in done.stderr
    assert "0 packets dropped by kernel" in done.stderr
    pod = desk.pod()
    assert desk.calls[-1] == ["delete", "pod", pod["metadata"]["name"], "--ignore-not-found", "--wait=false"]
    # The capture was running while the API server was made to call the kubelet.
    verbs = [call[0] if call[0] != "exec" else " ".join(call[2:5]) for call in desk.calls]
    assert [verb for verb in verbs if verb != "get"] == [
        "create",
        "wait",
        "-- sh -c",
        "-- true",
        "-- sh -c",
        "delete",
    ]
    assert (desk.state / "tcpdump").read_text().split("\n") == ["-i", "any", "-s", "262144", "-U", "-w", "-", "--", ""]


def test_the_pod_is_valid_and_can_do_little_but_capture(desk: Desk) -> None:
    import kubernetes_validate

    desk.run(
        "node1.example.org",
        "--duration=7",
        "--no-facts",
        "--no-call",
        "--max-mb",
        "50",
        "--image",
        "r.io/t:1@sha256:0a",
    )
    pod = desk.pod()
    kubernetes_validate.validate(pod, "1.36", strict=True)
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["nodeName"] == "node1.example.org"
    assert spec["automountServiceAccountToken"] is False
    assert {"hostPID", "hostIPC"}.isdisjoint(spec)
    assert [list(volume) for volume in spec["volumes"]] == [["name", "emptyDir"]]
    assert spec["volumes"][0]["emptyDir"]["sizeLimit"] == "150M"
    assert spec["activeDeadlineSeconds"] == 607
    assert container["image"] == "r.io/t:1@sha256:0a"
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert "NET_RAW" in container["securityContext"]["capabilities"]["add"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_users_words_reach_tcpdump_as_they_are(desk: Desk) -> None:
    words = "tcp port 6443 or (host 10.0.0.1 and 'x; touch pwned')"
    done = desk.run("node1", "-f", words, "-i", "eth0", "-s", "96", "--no-facts", "--no-call", "-w", "kept.pcap.gz")
    assert (desk.state / "tcpdump").read_text().split("\n") == ["-i", "eth0", "-s", "96", "-U", "-w", "-", "--", words]
    assert not list(desk.folder.rglob("pwned"))
    assert gzip.decompress((desk.folder / "kept.pcap.gz").read_bytes()) == CAPTURE.read_bytes()
    assert (desk.folder / "kept.pcap.gz").stat().st_mode & 0o077 == 0
    assert "kept.pcap.gz" in done.stderr


def test_a_capture_ends_at_its_limit_and_says_so(desk: Desk, tmp_path: Path) -> None:
    capture = tmp_path / "large.pcap"
    octets = CAPTURE.read_bytes()
    capture.write_bytes(octets + octets[24:] * (1_500_000 // len(octets) + 1))
    done = desk.run(
        "node1", "--no-facts", "--no-call", "--max-mb", "1", "-w", "kept.gz", "--", "--fail-on", "never",
        FAKE_CAPTURE=str(capture),
    )  # fmt: skip
    assert len(gzip.decompress((desk.folder / "kept.gz").read_bytes())) == 1_000_000
    assert done.returncode == 4, "read but incomplete"


def test_context_and_kubeconfig_reach_every_call(desk: Desk) -> None:
    config = desk.folder / "my config"
    config.write_text("")
    context = "arn:aws:eks:eu-west-1:1234:cluster/lab"
    done = desk.run("node1", "--context", context, "--kubeconfig", str(config), "-n", "audit", "--", "-q")
    assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in (desk.state / "calls").read_text().splitlines()]
    assert len(lines) > 8
    assert all(f"--context={context}" in words and kubeconfig == str(config) for words, kubeconfig in lines)
    assert all("--namespace=audit" in words for words, _ in lines if words[2] in {"create", "exec", "delete", "wait"})


@pytest.mark.parametrize(
    ("refused", "says"),
    [("create", "the pod was refused"), ("wait", "the pod did not start"), ("exec", "capturing failed")],
)
def test_what_the_cluster_refuses_is_one_line_and_leaves_no_pod(desk: Desk, refused: str, says: str) -> None:
    done = desk.run("node1", "--no-facts", "--no-call", FAKE_REFUSE=refused)
    assert done.returncode == 2
    assert says in done.stderr
    assert "rights" in done.stderr
    assert "\x1b" not in done.stderr
    assert desk.calls[-1][0] == "delete"


def test_facts_that_cannot_be_gathered_are_named_and_do_not_stop_it(desk: Desk) -> None:
    done = desk.run("node1", "--no-call", "--", "--json", "report.json", "-q", FAKE_REFUSE="get")
    assert done.returncode == 1, done.stderr
    assert "no facts could be gathered" in done.stderr
    assert not json.loads((desk.folder / "report.json").read_text())["cluster"]["given"]


def test_a_filter_that_tcpdump_refuses_is_told_in_its_words(desk: Desk) -> None:
    done = desk.run("node1", "--no-facts", "--no-call", "-f", "bogus")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "kubectl planewire: nothing was captured: tcpdump: can't parse filter expression: syntax error"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_ended_takes_its_pod_and_its_files_with_it(desk: Desk, number: signal.Signals) -> None:
    process = subprocess.Popen(
        ["sh", str(PLUGIN), "node1", "--no-facts", "--no-call", "-f", "slow"],
        cwd=desk.folder,
        env=desk.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 20
        while not (desk.state / "tcpdump").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # A terminal sends Ctrl-C to all of them; whoever else ends the script, to it alone.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        process.communicate(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert list((desk.folder / "tmp").iterdir()) == []
    assert desk.calls[-1][:2] == ["delete", "pod"]


@pytest.mark.parametrize(
    "node",
    ["", "Node", "a b", "a;reboot", '"},{"', "$(reboot)", "../etc", "a/b", "-node", ".a", "a..b", "a-.b", "nöde",
     "a\nb", "x" * 254],
)  # fmt: skip
def test_hostile_node_names_reach_nobody(desk: Desk, node: str) -> None:
    done = desk.run("--no-facts", node)
    assert done.returncode == 2
    assert desk.calls == []
    assert node not in done.stderr or not node


@pytest.mark.parametrize(
    "words",
    [
        ("--image", 'x","y":"z'), ("--image", ""), ("--namespace", "a b"), ("--context", "a b"), ("--context", "-x"),
        ("-i", "eth0;reboot"), ("-i", "-w"), ("-d", "0"), ("-d", "1e9"), ("-d", "99999999"), ("--max-mb", "-5"),
        ("--snaplen", "abc"), ("--platform", "other"), ("--cluster", "/nowhere"), ("--kubeconfig", "/nowhere"),
        ("--unknown",), ("-d",), ("node2",),
    ],
)  # fmt: skip
def test_hostile_and_wrong_options_reach_nobody(desk: Desk, words: tuple[str, ...]) -> None:
    done = desk.run("node1", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("kubectl planewire: ")
    assert len(done.stderr.splitlines()) == 1
    assert desk.calls == []


def test_the_last_report_of_the_nodes_pod_is_shown(desk: Desk) -> None:
    (desk.state / "volume").mkdir()
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "analyzer",
            "analyze",
            str(CAPTURE),
            "-q",
            "--json",
            str(desk.state / "volume" / "report.json"),
        ],
        cwd=ROOT,
        check=False,
    )
    assert made.returncode == 1
    done = desk.run("--report", "node1", "--", "--no-color")
    assert done.returncode == 1, done.stderr
    assert "PW102" in done.stdout
    assert "spec.nodeName=node1" in desk.calls[0]
    assert desk.calls[0][0] == "--namespace=planewire"
    assert desk.calls[1][1:] == ["exec", "planewire-x2x4z", "--", "cat", "/reports/report.json"]
    assert desk.run("--report", "node1", FAKE_REFUSE="get").returncode == 2


def test_the_screen_is_opened_in_the_nodes_pod(desk: Desk) -> None:
    done = desk.run("--watch", "node1", "-f", "tcp port 6443", "--", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: planewire live")
    assert desk.calls[0][1:5] == ["get", "pods", "--selector", "app.kubernetes.io/name=planewire"]
    command = ["planewire", "live", "--interface", "any", "--filter", "tcp port 6443", "--help"]
    assert desk.calls[1] == ["--namespace=planewire", "exec", "--stdin", "planewire-x2x4z", "--", *command]


def test_help_names_every_option_that_is_understood() -> None:
    done = subprocess.run(["sh", str(PLUGIN), "--help"], capture_output=True, text=True, check=True)
    text = PLUGIN.read_text().split("while [", 1)[1].split("\ndone\n", 1)[0]
    understood = set(re.findall(r"(?<![\w-])(-{1,2}[a-z][a-z-]*)(?= *[|)])", text))
    assert {"--duration", "--watch", "--report", "--no-facts", "-w"} <= understood
    for option in understood:
        assert f"{option} " in done.stdout or f"{option}," in done.stdout, option


@pytest.mark.kubectl
def test_kubectl_finds_the_plugin() -> None:
    environment = {**os.environ, "PATH": f"{PLUGIN.parent}:{os.environ['PATH']}"}
    listed = subprocess.run(["kubectl", "plugin", "list"], env=environment, capture_output=True, text=True, check=False)
    assert str(PLUGIN) in listed.stdout
    assert "not executable" not in listed.stderr
    through = subprocess.run(
        ["kubectl", "planewire", "--help"], env=environment, capture_output=True, text=True, check=True
    )
    assert through.stdout.startswith("Usage: kubectl planewire NODE")


def test_the_recorded_cluster_is_what_the_fake_answers_with() -> None:
    assert {item["kind"] for item in yaml.safe_load((CLUSTER / "cluster.json").read_text())["items"]} >= {"Node"}


SERVE = """
import http.server, threading, time, urllib.request
server = http.server.HTTPServer(("127.0.0.1", 10255), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for _ in range(40):
    try:
        urllib.request.urlopen("http://127.0.0.1:10255/").read()
    except OSError:
        pass
    time.sleep(0.1)
"""


@pytest.mark.live
def test_tcpdump_captures_with_the_rights_of_the_pod(desk: Desk) -> None:
    """The pod's command line with the machine's own tcpdump, in a network of its own, with the pod's capabilities."""
    if obstacle():
        pytest.skip(obstacle())
    (desk.folder / "bin" / "tcpdump").unlink()
    for folder in (desk.folder, desk.state):
        folder.chmod(0o755)
    with namespaces("node") as (space,):
        space.start(sys.executable, "-c", SERVE, cwd="/")
        kept = "-all,+net_raw,+setuid,+setgid,+kill"
        rights = ["setpriv", f"--bounding-set={kept}", "--inh-caps=-all", "--no-new-privs"]
        done = desk.run(
            "node1", "-d", "4", "--no-facts", "--no-call", "--", "--no-color", FAKE_POD=" ".join(space.command(*rights))
        )
    assert done.returncode == 1, done.stderr
    assert "PW102" in done.stdout
    assert re.search(r"[1-9][0-9]* packets captured", done.stderr), done.stderr
    pod = desk.pod()["spec"]["containers"][0]
    asked = pod["securityContext"]["capabilities"]["add"]
    assert {f"+{name.lower()}" for name in asked} == set(kept.split(",")[1:]), "the rights tried are those asked for"


@pytest.mark.live
def test_the_installed_pod_captures_by_itself(desk: Desk) -> None:
    """As the DaemonSet's user, who has NET_RAW only where the runtime starts the program itself."""
    with namespaces("node") as (space,):
        space.start(sys.executable, "-c", SERVE, cwd="/")
        done = desk.run(
            "node1", "-d", "4", "--no-facts", "--installed", "-f", "tcp", "--", "--json", "report.json", "--no-color",
            FAKE_POD=" ".join(space.command()),
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "PW102" in done.stdout
    report = json.loads((desk.folder / "report.json").read_text())
    assert report["captures"][0]["interfaces"][0]["filter"] == "tcp"
    assert list((desk.state / "volume").iterdir()) == [], "nothing is left in the pod"
    assert "create" not in [call[1] for call in desk.calls]
    capturing = next(call for call in desk.calls if "live" in call)
    assert capturing[3:6] == ["--", "planewire", "live"], "a shell in between would lose the capability"


@pytest.mark.live
def test_of_a_long_capture_the_installed_pod_keeps_the_newest_half_and_more(desk: Desk) -> None:
    served = desk.folder / "served"
    served.mkdir()
    (served / "index.html").write_bytes(bytes(60_000))
    with namespaces("node") as (space,):
        space.start(sys.executable, "-c", SERVE, cwd=served)  # 2.4 MB in four seconds
        done = desk.run(
            "node1", "-d", "6", "--no-facts", "--no-call", "--installed", "--max-mb", "1", "-w", "kept.gz",
            "--", "--json", "report.json", "--no-color", FAKE_POD=" ".join(space.command()),
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    octets = gzip.decompress((desk.folder / "kept.gz").read_bytes())
    assert 500_000 < len(octets) <= 1_000_000
    # Two files one after the other, and read as one recording: no frame of either is missing.
    with open_capture(str(desk.folder / "kept.gz")) as reader:
        frames = sum(len(chunk) for chunk in reader)
        assert reader.damage == []
    report = json.loads((desk.folder / "report.json").read_text())
    (capture,) = report["captures"]
    assert (capture["frames"], report["ledger"]["frames"]) == (frames, frames)
    assert octets.count(SECTION) == 2
    assert octets.count(b"GET / HTTP/1.1") >= 500_000 // 65_000


def understood(*words: str) -> None:
    """Have kubectl itself read a command line, and stop at its help."""
    at = words.index("--") if "--" in words else len(words)
    done = subprocess.run(
        ["kubectl", *words[:at], "--help"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout, words


@pytest.mark.kubectl
def test_kubectl_knows_every_word_that_the_plugin_says_to_it(desk: Desk) -> None:
    desk.run("node1", "-n", "audit", "--context", "lab", "--", "-q")
    desk.run("--watch", "node1", "--", "--help")
    said = [call for call in desk.calls if "get" not in call[:2] or "--selector" in call]
    assert {word for call in said for word in call[:3]} >= {"create", "wait", "exec", "delete", "get"}
    for call in said:
        understood(*call)
    with pytest.raises(AssertionError):
        understood("delete", "pod", "x", "--no-such-option")


@pytest.mark.kubectl
def test_kubectl_knows_the_words_of_the_documents() -> None:
    text = (ROOT / "docs" / "live.md").read_text().replace("\\\n", " ")
    lines = [line for line in re.findall(r"^ {4}kubectl (.*)$", text, re.M) if not line.startswith("planewire")]
    lines = [re.split(r" [#|]", line)[0].strip() for line in lines]
    assert {line.split()[0] for line in lines} == {"apply", "debug", "kustomize"}
    for line in lines:
        understood(*shlex.split(line))
