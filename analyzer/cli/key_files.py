"""Read the TLS key logs that ``--keys`` names. What they hold is never shown: messages name file and line only."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analyzer.errors import KeyLogError

if TYPE_CHECKING:
    from analyzer.protocols.tls.keylog import KeyLog

_EXPECTED = "expected lines as SSLKEYLOGFILE writes them: LABEL CLIENT_RANDOM SECRET, in hexadecimal"


def load_keys(paths: tuple[str, ...]) -> KeyLog | None:
    """Read key logs; None where no file was named.

    Raises
    ------
    KeyLogError
        A file is missing, unreadable, too large, or holds no usable line.
    """
    if not paths:
        return None
    from analyzer.protocols.tls.keylog import MAX_KEY_LOG, KeyLog

    keys = KeyLog()
    for path in map(Path, paths):
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise KeyLogError(str(path), "is not a file; name a key log")
            content = path.read_bytes()
        except OSError as error:
            raise KeyLogError(str(path), error.strerror or "cannot be read") from None
        if len(content) > MAX_KEY_LOG:
            raise KeyLogError(str(path), f"is larger than {MAX_KEY_LOG} octets; keep the lines of this capture only")
        part = KeyLog(content)
        if len(part) == 0:
            where = f"line {part.first_bad_line} is none of a key log" if part.bad_lines else "holds no secret"
            raise KeyLogError(str(path), f"{where}; {_EXPECTED}")
        if part.bad_lines:
            lines = "line is" if part.bad_lines == 1 else "lines are"
            click.echo(
                f"planewire: {path}: {part.bad_lines} {lines} none of a key log and passed over, "
                f"the first is line {part.first_bad_line}",
                err=True,
            )
        keys.add(content)
    return keys
