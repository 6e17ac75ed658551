"""Whether rights can be given and taken here, as a container runtime gives and takes them."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

_SETPCAP, _SETUID, _SETGID, _NET_RAW = 1 << 8, 1 << 7, 1 << 6, 1 << 13


@cache
def obstacle() -> str:
    """Say what is in the way; empty if nothing is."""
    status = Path("/proc/self/status")
    if not status.exists() or os.geteuid() != 0 or shutil.which("setpriv") is None:
        return "needs Linux, root and setpriv (util-linux)"
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    needed = _SETPCAP | _SETUID | _SETGID | _NET_RAW
    held = int(fields["CapEff"], 16) & int(fields["CapBnd"], 16)
    if held & needed != needed or fields.get("NoNewPrivs", "0").strip() != "0":
        return "root lacks CAP_SETPCAP, CAP_SETUID, CAP_SETGID or CAP_NET_RAW here"
    return ""
