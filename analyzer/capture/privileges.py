"""Giving up root's rights once the interfaces are open: what comes off the wire is hostile.

Who the process becomes:

- the user that was named, if one was;
- else, under sudo, the user who called it: files it writes are theirs;
- else ``nobody``, if that user can still read this program and write every file it is yet to write;
- else root without any capability: user number 0, which may write root's files, and nothing else that root may. Only
  where something is to be written that is another's, CAP_DAC_OVERRIDE stays.

A root that may not become another user (a container with CAP_NET_RAW alone) gives up its capabilities, and so does
another user that has some (by the file of its interpreter).

Whatever it is, no program that is started later gains rights (PR_SET_NO_NEW_PRIVS).
"""

from __future__ import annotations

import ctypes
import os
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analyzer.capture import capabilities
from analyzer.errors import PlanewireError

_NOBODY: Final = "nobody"
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITIES: Final = 64

_CODE: Final = (
    *{sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")},
    str(Path(__file__).resolve().parent),
)
"""Folders that modules are imported from when they are needed first."""


class PrivilegeError(PlanewireError):
    """The rights of root cannot be given up as asked for."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    number: int
    group: int


def drop_privileges(user: str | None, writes: Sequence[str | Path] = ()) -> str:
    """Give up root's rights; does nothing for whom has none.

    Call it after the interfaces are open and before threads are started, files are opened and packets are looked at.

    Parameters
    ----------
    user : str, optional
        Name of the user to become.
    writes : sequence of str or Path
        Files, and folders, that will be written later.

    Returns
    -------
    str
        What was done, for people; empty if nothing was.

    Raises
    ------
    PrivilegeError
        There is no such user, it cannot write what is to be written, or a thread would keep what the others give up.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        if user is not None:
            raise PrivilegeError(f"--user {user}: only root can become another user")
        return _give_up(0, "") if capabilities.held()[1] else ""
    may_change = capabilities.SETUID | capabilities.SETGID
    able = capabilities.held()[0] & may_change == may_change
    if user is not None:
        wanted = _named(user)
        if not able and wanted is not None and wanted.number != 0:
            raise PrivilegeError(f"--user {user}: this root may not become another user: it lacks CAP_SETUID")
        if obstacle := _obstacle(wanted, writes):
            raise PrivilegeError(f"--user {user}: {obstacle}")
    else:
        wanted = (_caller() or _named(_NOBODY, missing_ok=True)) if able else None
        if wanted is not None and _obstacle(wanted, writes):
            wanted = None
    if wanted is None or wanted.number == 0:
        return _give_up(0 if all(map(_is_roots, _places(writes))) else capabilities.DAC_OVERRIDE, "as root ")
    _drop_bounds()
    os.setgroups([])
    os.setgid(wanted.group)
    os.setuid(wanted.number)
    if os.getresuid() != (wanted.number,) * 3 or os.getresgid() != (wanted.group,) * 3:
        raise PrivilegeError("root's rights were not given up; the system says nothing of why")
    _check_threads(0)
    return f"runs on as {wanted.name}"


def _named(name: str, *, missing_ok: bool = False) -> _User | None:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        if missing_ok:
            return None
        raise PrivilegeError(f"--user {name}: there is no such user") from None
    return _User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _caller() -> _User | None:
    """Who called sudo."""
    number, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if not (number.isdecimal() and group.isdecimal()) or int(number) == 0:
        return None
    return _User(os.environ.get("SUDO_USER", number), int(number), int(group))


def _obstacle(user: _User | None, writes: Sequence[str | Path]) -> str:
    """Say what `user` could not do that is yet to be done: import more of this program, write a file."""
    if user is None or user.number == 0:
        return ""
    places = _places(writes)
    with _acting_as(user):
        for code in _CODE:
            if not os.access(code, os.R_OK | os.X_OK, effective_ids=True):
                return f"{user.name} cannot read {code}, where parts of this program are still to be read from"
        for path, place in zip(writes, places, strict=True):
            if not os.access(place, os.W_OK, effective_ids=True):
                return f"{user.name} cannot write {path}"
    return ""


def _places(writes: Sequence[str | Path]) -> list[Path]:
    """For each path, what must be writable: itself, or the nearest folder that exists."""
    paths = [Path(path).absolute() for path in writes]
    return [path if path.exists() else next(p for p in path.parents if p.exists()) for path in paths]


def _is_roots(place: Path) -> bool:
    """Whether user number 0 may write it without being excused from permissions."""
    status = place.stat()
    bits = stat.S_IWUSR if status.st_uid == 0 else stat.S_IWGRP if status.st_gid == 0 else stat.S_IWOTH
    return bool(status.st_mode & bits)


@contextmanager
def _acting_as(user: _User) -> Iterator[None]:
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(user.group)
    os.seteuid(user.number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _drop_bounds() -> None:
    """Take every capability out of what programs started later may have (capabilities(7)); Linux only."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        for number in range(_CAPABILITIES):
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _check_threads(kept: int) -> None:
    """See that no thread has more: capset(2) is about one thread, and a library may have started others."""
    more = sum(1 for held in capabilities.of_threads().values() if held & ~kept)
    if more:
        raise PrivilegeError(
            f"{more} other thread{'s' if more > 1 else ''} of this process would keep root's capabilities; a library "
            "started them early: name a user to become with --user, or keep the library from it (OMP_NUM_THREADS=1)"
        )


def _give_up(kept: int, who: str) -> str:
    """Give up the capabilities but those in `kept`; what was done."""
    _drop_bounds()
    if not capabilities.keep(kept):
        raise PrivilegeError("root's capabilities cannot be given up here: name a user to become with --user")
    _check_threads(kept)
    left = kept & capabilities.held()[1]
    return f"runs on {who}{'with CAP_DAC_OVERRIDE only' if left else 'without capabilities'}"
