"""Capabilities of processes that are started with some of them, as setpriv (util-linux) makes them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from analyzer.capture import capabilities
from tests.rights import obstacle

needs_setpriv = pytest.mark.skipif(obstacle() != "", reason=obstacle())
REPORT = """
import json
from analyzer.capture import capabilities
from tests.rights import obstacle
from analyzer.capture.capabilities import NET_RAW
said = []
def say():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    assert capabilities.held() == (int(status["CapEff"], 16), int(status["CapPrm"], 16))
    said.append(capabilities.held())
"""


def run(steps: str, *options: str) -> list[tuple[int, int]]:
    done = subprocess.run(
        ["setpriv", *options, sys.executable, "-c", f"{REPORT}{steps}\nprint(json.dumps(said))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(pair) for pair in json.loads(done.stdout)]


@needs_setpriv
def test_what_is_permitted_is_raised_and_lowered_again() -> None:
    lowered = "capabilities._set(0, NET_RAW, 0)\nsay()\n"
    steps = f"{lowered}with capabilities.raised(NET_RAW | capabilities.SETUID):\n    say()\nsay()"
    raw = capabilities.NET_RAW
    assert run(steps, "--bounding-set=-all,+net_raw", "--inh-caps=-all") == [(0, raw), (raw, raw), (0, raw)]


@needs_setpriv
def test_an_error_lowers_them_too() -> None:
    steps = """
capabilities._set(0, NET_RAW, 0)
try:
    with capabilities.raised(NET_RAW):
        say()
        raise ValueError
except ValueError:
    say()
"""
    raw = capabilities.NET_RAW
    assert run(steps, "--bounding-set=-all,+net_raw", "--inh-caps=-all") == [(raw, raw), (0, raw)]


@needs_setpriv
def test_what_is_given_up_does_not_come_back() -> None:
    steps = """
assert capabilities.keep(capabilities.DAC_OVERRIDE | capabilities.SETUID)
say()
assert capabilities.keep(0)
say()
with capabilities.raised(NET_RAW):
    say()
"""
    kept = capabilities.DAC_OVERRIDE  # SETUID was not there to be kept
    assert run(steps, "--bounding-set=-all,+net_raw,+dac_override", "--inh-caps=-all") == [(kept, kept), (0, 0), (0, 0)]


@needs_setpriv
def test_who_has_none_raises_none() -> None:
    nobody = ("--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
    if subprocess.run(["setpriv", *nobody, sys.executable, "-c", "import analyzer"], check=False).returncode != 0:
        pytest.skip("this checkout lies where another user may not read it")
    assert run("say()\nwith capabilities.raised(NET_RAW):\n    say()", *nobody) == [(0, 0), (0, 0)]


@needs_setpriv
def test_a_thread_gives_up_its_own_alone_and_the_others_are_seen() -> None:
    steps = """
import os, threading
done = threading.Event()
other = threading.Thread(target=done.wait, daemon=True)
other.start()
assert capabilities.keep(0)
assert capabilities.of_threads() == {os.getpid(): 0, other.native_id: NET_RAW}
done.set()
"""
    assert run(steps, "--bounding-set=-all,+net_raw", "--inh-caps=-all") == []


THREADED = """
import threading
from analyzer.capture import capabilities
from analyzer.capture import privileges
from analyzer.capture.privileges import drop_privileges
privileges._CODE = ()  # nothing is imported after this: the checkout may lie where nobody cannot read
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(drop_privileges({user!r}))
assert set(capabilities.of_threads().values()) == {{0}}
"""


@needs_setpriv
@pytest.mark.parametrize(
    ("user", "bounds", "says"),
    [
        (None, "-all,+net_raw", "1 other thread of this process would keep"),
        ("root", "+all", "1 other thread of this process would keep"),
        ("nobody", "+all", "runs on as nobody"),  # the C library changes the user of all threads
    ],
)
def test_that_a_thread_keeps_rights_is_never_kept_quiet(user: str | None, bounds: str, says: str) -> None:
    command = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", sys.executable, "-c"]
    done = subprocess.run([*command, THREADED.format(user=user)], capture_output=True, text=True, check=False)
    assert says in done.stdout + done.stderr
    assert (done.returncode == 0) is (user == "nobody")


def test_elsewhere_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "_libc", lambda: None)
    assert capabilities.held() == (0, 0)
    assert not capabilities.keep(0)
    with capabilities.raised(capabilities.NET_RAW):
        assert capabilities.held() == (0, 0)


@needs_setpriv
@pytest.mark.parametrize(("user", "says"), [("root", "runs on as root without capabilities"), ("nobody", "CAP_SETUID")])
def test_a_root_that_may_not_become_another_gives_up_its_capabilities(user: str, says: str) -> None:
    steps = f"from analyzer.capture.privileges import drop_privileges\nprint(drop_privileges({user!r}))"
    command = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all", sys.executable, "-c", steps]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert says in done.stdout + done.stderr
    assert (done.returncode == 0) is (user == "root")
