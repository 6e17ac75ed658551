"""Where things are, what may be skipped, and how hard hypothesis tries."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "captures"
SHARED = ROOT.parent / "shared" / "captures"

settings.register_profile(
    "default", deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@functools.cache
def may_make_namespaces() -> bool:
    """Whether network namespaces can be made here: a right of root, which containers often lack."""
    name = f"pw-probe-{os.getpid()}"
    made = [subprocess.run(["ip", "netns", verb, name], capture_output=True, check=False) for verb in ("add", "delete")]
    return made[0].returncode == 0


_NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "tshark": (lambda: shutil.which("tshark") is not None, "tshark is not installed"),
    "kubectl": (lambda: shutil.which("kubectl") is not None, "kubectl is not installed"),
    "tmux": (lambda: shutil.which("tmux") is not None, "tmux is not installed"),
    "corpus": (
        lambda: (SHARED / "public").is_dir(),
        "the public captures are not here: they are other people's and not part of this repository",
    ),
    "browser": (
        lambda: any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")),
        "no Chromium browser is installed",
    ),
    "live": (
        lambda: all(map(shutil.which, ("ip", "tcpdump", "tcpreplay", "tshark"))) and may_make_namespaces(),
        "ip, tcpdump, tcpreplay or tshark is not installed, or network namespaces cannot be made (not root)",
    ),
    "sshd": (lambda: shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") is not None, "sshd is not installed"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs something that is not here; what REQUIRE names fails instead."""
    required = set(filter(None, os.environ.get("REQUIRE", "").split(",")))
    for item in items:
        for need, (present, reason) in _NEEDS.items():
            if item.get_closest_marker(need) is None or present():
                continue
            # A machine of its own (a fresh clone in CI) may have no corpus beside it: that stays a skip, and is said.
            if need in required and not (need == "corpus" and not SHARED.is_dir()):
                item.add_marker(pytest.mark.usefixtures("required_but_missing"))
            else:
                # Said with its reason at the end of the run (-ra); nowhere a newcomer must install these programs.
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def required_but_missing() -> None:
    pytest.fail("what REQUIRE names is not here: a program, or the right to use it")


def lab_captures() -> list[Path]:
    """The recordings that come with the repository."""
    return sorted(p for p in LAB.iterdir() if p.suffix in {".pcap", ".pcapng", ".gz"})


def all_lab_captures() -> list[Path]:
    """The repository's recordings and, where they lie beside it, the larger ones of the same lab."""
    own = {p.name: p for p in lab_captures()}
    beside = SHARED / "k8s"
    if beside.is_dir():
        for path in beside.iterdir():
            if path.suffix in {".pcap", ".pcapng", ".gz"}:
                own.setdefault(path.name, path)
    return [own[name] for name in sorted(own)]
