"""What the commands about one finding take: the capture, the finding, and what the capture was analysed with."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from analyzer.errors import InputError

_Function = TypeVar("_Function", bound=Callable[..., Any])
_DECORATORS: Final = (
    click.argument("capture", type=click.Path()),
    click.argument("finding"),
    click.option("--cluster", multiple=True, metavar="PATH", help="Cluster facts, as analyze takes them."),
    click.option("--keys", multiple=True, type=click.Path(), metavar="FILE", help="TLS key log, as analyze takes it."),
)


def finding_options(function: _Function) -> _Function:
    """Give a command the arguments CAPTURE and FINDING, and the options that the finding may have needed."""
    for decorator in reversed(_DECORATORS):
        function = decorator(function)
    return function


def regular_file(path: str, command: str) -> None:
    """Refuse what can be read only once.

    Raises
    ------
    InputError
        It is a pipe or standard input, or not there.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise InputError(path, error.strerror or "cannot be read") from None
    if not stat.S_ISREG(mode):
        raise InputError(path, f"is no file; {command} reads a capture more than once: save it first")
