"""Who the process is afterwards, asked of the system by the process itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.capture.privileges import PrivilegeError, drop_privileges
from tests.conftest import ROOT

ROOT_ONLY = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give up root")

SCRIPT = """
import json, os, sys
from analyzer.capture import privileges
readable, user, *writes = sys.argv[1:]
privileges._CODE = (readable,)
try:
    said = privileges.drop_privileges(user or None, writes)
except privileges.PrivilegeError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
def may(path):
    try:
        open(path, "a").close()
        return True
    except OSError:
        return False
print(json.dumps({
    "said": said, "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
    "effective": int(status["CapEff"], 16), "permitted": int(status["CapPrm"], 16),
    "bounding": int(status["CapBnd"], 16), "no_new": status["NoNewPrivs"], "writes": [may(p) for p in writes],
}))
"""


def dropped(user: str = "", *writes: Path, **environment: str) -> dict[str, object]:
    """Drop root's rights in a process of its own, as if the program lay where everybody may read it."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "/", user, *map(str, writes)],
        capture_output=True, text=True, check=False, env={**base, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    if "error" not in found:
        assert found["no_new"] == "1"
        assert found["bounding"] == 0
    return found


@pytest.fixture
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that everybody can reach and write."""
    folder = tmp_path_factory.mktemp("open")
    for place in (folder, *folder.parents):
        if place == Path("/tmp") or place.parent == place:
            break
        place.chmod(0o777 if place == folder else place.stat().st_mode | 0o055)
    return folder


@ROOT_ONLY
def test_nobody_where_that_user_can_write_what_is_to_be_written(open_folder: Path) -> None:
    found = dropped("", open_folder / "report.json")
    assert found["said"] == "runs on as nobody"
    assert found["uid"] == [65534] * 3
    assert (found["groups"], found["effective"], found["permitted"]) == ([], 0, 0)
    assert found["writes"] == [True]


@ROOT_ONLY
def test_whoever_called_sudo(open_folder: Path) -> None:
    found = dropped("", open_folder / "report.json", SUDO_UID="4711", SUDO_GID="4712", SUDO_USER="somebody")
    assert (found["said"], found["uid"], found["gid"]) == ("runs on as somebody", [4711] * 3, [4712] * 3)
    assert (open_folder / "report.json").stat().st_uid == 4711


@ROOT_ONLY
@pytest.mark.parametrize("sudo", [{}, {"SUDO_UID": "4711", "SUDO_GID": "4712"}, {"SUDO_UID": "0", "SUDO_GID": "0"}])
def test_root_without_capabilities_where_only_root_can_write(tmp_path: Path, sudo: dict[str, str]) -> None:
    tmp_path.chmod(0o700)
    found = dropped("", tmp_path / "report.json", **sudo)
    assert found["said"] == "runs on as root without capabilities"
    assert (found["uid"], found["effective"], found["permitted"], found["writes"]) == ([0] * 3, 0, 0, [True])


@ROOT_ONLY
def test_a_folder_of_somebody_else_takes_one_capability(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir(mode=0o755)
    os.chown(others, 4711, 4712)
    found = dropped("", others / "report.json")
    assert found["said"] == "runs on as root with CAP_DAC_OVERRIDE only"
    assert (found["effective"], found["writes"]) == (2, [True])


@ROOT_ONLY
def test_the_user_that_was_named(open_folder: Path, tmp_path: Path) -> None:
    assert dropped("nobody", open_folder / "x")["said"] == "runs on as nobody"
    assert dropped("root")["said"] == "runs on as root without capabilities"
    tmp_path.chmod(0o700)
    for user, reason in (("nobody", f"cannot write {tmp_path}"), ("no such", "there is no such user")):
        error = dropped(user, tmp_path / "x")["error"]
        assert isinstance(error, str)
        assert error.startswith(f"--user {user}: ")
        assert reason in error


@ROOT_ONLY
def test_a_program_that_the_other_could_not_read_stays_with_root(tmp_path: Path) -> None:
    """Modules are imported when they are first needed, which is later."""
    code = tmp_path / "code"
    code.mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(code), ""], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert json.loads(done.stdout)["said"] == "runs on as root without capabilities"


def test_whoever_has_no_rights_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("analyzer.capture.capabilities.held", lambda: (0, 0))
    assert drop_privileges(None) == ""
    with pytest.raises(PrivilegeError, match="only root"):
        drop_privileges("nobody")
