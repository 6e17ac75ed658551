"""Captures that lie in other places than files of this machine: whatever storage fsspec knows, read as a stream.

Object stores (``s3://``, ``gs://``, ``az://``), ``https://``, ``sftp://`` and others, as the user has installed their
packages. Credentials are found where those packages look for them; what stands in an address (a user and password, a
signature) opens it and is shown nowhere.
"""

from __future__ import annotations

import glob
import os
import pickle
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from analyzer.capture.series import natural_key
from analyzer.errors import InputError, MissingProgramError

BLOCK_OCTETS: Final = 8 << 20
"""Octets asked of the storage at once."""
TRIES: Final = 4
"""Times a read is tried, from where the last one that succeeded ended."""
_PAUSE_S: Final = 0.5
"""Seconds before the second try; each further one waits twice as long."""
_MAX_REASON: Final = 200

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://|::)")
_AUTHORITY: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/@:]*:(?!\d+(?:/|$)).*?@(?:[^/]*@)?|[^/]*@)")
"""What may open an address: up to the last ``@`` before the path; a password may hold one, and unquoted slashes too."""
_CONTAINER: Final = re.compile(r"(?:abfss?|wasbs?)://[^/@:]*@[^/@]*(?:/|$)", re.IGNORECASE)
"""Where what stands before the ``@`` is no user, but where the file is: ``abfs://container@account...``."""
_CHAINED: Final = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""Between the links of a chain (``filecache::https://...``): elsewhere ``::`` may be a part of a name or a password."""
_HTTP: Final = re.compile(r"https?://", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Whether an argument names something in a storage, rather than a file here."""
    return _URL.match(text) is not None and not os.path.lexists(text)


def shown(url: str) -> str:
    """The address without a user, a password or a signature in it."""
    parts = [part if _CONTAINER.match(part) else _AUTHORITY.sub(r"\1", part) for part in _CHAINED.split(url)]
    return "::".join(part.split("?")[0].split("#")[0] if _HTTP.match(part) else part for part in parts)


@dataclass(frozen=True, slots=True, repr=False)
class RemoteFile:
    """One file in a storage; it can be sent to another process, which opens it there.

    Attributes
    ----------
    name : str
        As it is shown.
    filesystem : fsspec's AbstractFileSystem
    path : str
        Inside it.
    size : int or None
        Octets; None where the storage does not say.
    """

    name: str
    filesystem: Any
    path: str
    size: int | None

    @property
    def identity(self) -> tuple[Any, str]:
        """The same for the same file alone; two names, which are without queries and users, may be shown alike."""
        return self.filesystem, self.path

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<RemoteFile {self.name}>"

    def open(self, block: int) -> Any:  # noqa: ANN401 - fsspec has no types
        """Open it for reading, in this process."""
        filesystem = self.filesystem
        if getattr(filesystem, "_pid", os.getpid()) != os.getpid():
            # A copy of another process has none of its threads: fsspec makes a new one here.
            filesystem = pickle.loads(pickle.dumps(filesystem))
        return filesystem.open(self.path, "rb", block_size=block, cache_type="readahead")


class RemoteSource:
    """An `OctetSource` over a `RemoteFile`: what fails is tried again, a read from where it was.

    Parameters
    ----------
    file : RemoteFile
    block : int
        Octets asked for at once.

    Raises
    ------
    InputError
        It cannot be opened.
    """

    def __init__(self, file: RemoteFile, block: int = BLOCK_OCTETS) -> None:
        self.octets_read = 0
        self.problem = ""
        self.size = file.size
        self._file: Final = file
        self._block: Final = block
        self._stream: Any = None
        for attempt in range(TRIES):
            try:
                self._stream = file.open(block)
                return
            except Exception as error:
                if attempt + 1 == TRIES or isinstance(error, PermissionError | FileNotFoundError):
                    raise InputError(file.name, reason_of(error)) from None
            time.sleep(_PAUSE_S * 2**attempt)

    def readinto(self, target: memoryview) -> int:
        """See `OctetSource`."""
        for attempt in range(TRIES):
            try:
                if self._stream is None:
                    time.sleep(_PAUSE_S * 2 ** (attempt - 1))
                    self._stream = self._file.open(self._block)
                    self._stream.seek(self.octets_read)
                count = int(self._stream.readinto(target))
            except Exception as error:
                self.problem = f"reading failed {TRIES} times: {reason_of(error)}"
                self.close()
                continue
            self.problem = ""
            self.octets_read += count
            if not count and self.size is not None and self.octets_read < self.size:
                self.problem = f"the storage ended the file after {self.octets_read} of {self.size} octets"
            return count
        return 0

    def waits(self, seconds: float) -> bool:
        """See `OctetSource`; a chunk is filled, however long the storage takes."""
        return False

    def close(self) -> None:
        """See `OctetSource`."""
        if self._stream is not None:
            with suppress(Exception):
                self._stream.close()
            self._stream = None


def find(url: str) -> tuple[list[RemoteFile], bool]:
    """Files that an address, a folder's address or a pattern names, and whether it named one file.

    Raises
    ------
    MissingProgramError
        The package for this storage is not installed.
    InputError
        The pattern matches nothing, or the storage does not let it be looked for.
    """
    name = shown(url)
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingProgramError(
            f"{name}: reading from storage needs fsspec: pip install 'planewire[distributed]'"
        ) from None
    try:
        filesystem, path = url_to_fs(url)
    except ImportError as error:
        raise MissingProgramError(f"{name}: {reason_of(error)} (pip install)") from None
    except Exception as error:
        raise InputError(name, reason_of(error)) from None
    try:
        if "*" in path or (glob.has_magic(path) and not _HTTP.match(url)):
            found = {place: info for place, info in filesystem.glob(path, detail=True).items() if _is_file(info)}
            if not found:
                raise InputError(name, "no file matches")
        else:
            info = filesystem.info(path)
            if _is_file(info):
                return [RemoteFile(name, filesystem, path, info.get("size"))], True
            found = filesystem.find(path, detail=True)
    except InputError:
        raise
    except Exception as error:
        raise InputError(name, reason_of(error)) from None
    return [
        RemoteFile(shown(filesystem.unstrip_protocol(place)), filesystem, place, found[place].get("size"))
        for place in sorted(found, key=natural_key)
    ], False


def _is_file(info: dict[str, Any]) -> bool:
    return info.get("type") == "file"


def reason_of(error: BaseException) -> str:
    """What a storage says is wrong, in one line without credentials."""
    if isinstance(error, PermissionError) or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "the storage denies access: are its credentials set where this process runs, and may they read it?"
    if isinstance(error, FileNotFoundError):
        return "no such file, folder or bucket"
    said = " ".join(str(error).split())
    said = re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+", lambda match: shown(match[0]), said)
    return (said or type(error).__name__)[:_MAX_REASON]
