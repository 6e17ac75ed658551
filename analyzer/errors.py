"""The exceptions the program raises on purpose.

Exceptions are for the *file* and for the *user*. A malformed packet never raises: it is a row with a
status and a line of the ledger.
"""

from __future__ import annotations

from typing import Final


class PlanewireError(Exception):
    """Base of every error meant for the person at the terminal; ``str()`` is one complete line.

    Attributes
    ----------
    exit_code : int
        Process exit status the command line uses for this error.
    """

    exit_code: int = 3


class CaptureFormatError(PlanewireError):
    """The input is not a capture this program reads, or stops being one at an offset.

    Parameters
    ----------
    path : str
        The input as the user named it.
    offset : int
        Octets from the start of the (decompressed) input at which reading stopped.
    reason : str
        What is wrong and what to do, without a trailing full stop.
    """

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(f"{path}: offset {offset}: {reason}")
        self.path: Final = path
        self.offset: Final = offset
        self.reason: Final = reason


class FileError(PlanewireError):
    """Something is wrong with a file as a whole.

    Parameters
    ----------
    path : str
        The file, as the user named it.
    reason : str
        What is wrong with it and what is expected.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path: Final = path
        self.reason: Final = reason


class InputError(FileError):
    """An input cannot be opened: missing, a directory, not permitted."""


class ClusterFactsError(FileError):
    """A file handed over with ``--cluster`` cannot be used."""

    exit_code = 2


class KeyLogError(FileError):
    """A file handed over with ``--keys`` cannot be used; the message never holds any of its content."""

    exit_code = 2


class SuppressionError(PlanewireError):
    """A suppression file cannot be used as it stands.

    Parameters
    ----------
    path : str
        The file.
    line : int
        Line from 1; 0 where no single line is at fault.
    reason : str
        What is wrong with it and what is expected.
    """

    exit_code = 2

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(f"{path}: line {line}: {reason}" if line else f"{path}: {reason}")
        self.path: Final = path
        self.line: Final = line
        self.reason: Final = reason


class ReportError(FileError):
    """A JSON report cannot be used: not ours, of another schema, or without a fact that is needed."""


class FindingError(PlanewireError):
    """A finding that was asked for cannot be named or shown."""

    exit_code = 2


class OpinionError(PlanewireError):
    """Another program that was asked about a capture did not answer."""


class MissingProgramError(PlanewireError):
    """A program or optional package that a command needs is not installed; the message says how to get it."""

    exit_code = 2


class SchedulerError(PlanewireError):
    """The cluster that was to share the work cannot: not reached, no workers, another version there."""

    exit_code = 2

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.address: Final = address
        self.reason: Final = reason


class CatalogueError(PlanewireError):
    """A row of a catalogue under ``analyzer/data`` breaks its schema."""

    def __init__(self, row: str, key: str, reason: str) -> None:
        super().__init__(f"catalogue row {row!r}, key {key!r}: {reason}")
        self.row: Final = row
        self.key: Final = key


class OutputError(FileError):
    """A report cannot be written."""


class InterfaceError(PlanewireError):
    """Packets cannot be captured on an interface.

    Parameters
    ----------
    interface : str
        As the user named it.
    reason : str
        What is wrong and what to do.
    """

    def __init__(self, interface: str, reason: str) -> None:
        super().__init__(f"{interface}: {reason}")
        self.interface: Final = interface
        self.reason: Final = reason


class FilterError(PlanewireError):
    """A capture filter cannot be compiled; the message is libpcap's."""

    exit_code = 2

    def __init__(self, expression: str, reason: str) -> None:
        super().__init__(f"filter {expression!r}: {reason}")
        self.expression: Final = expression
        self.reason: Final = reason
