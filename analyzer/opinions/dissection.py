"""Frames dissected in full by tshark, through pyshark, which is imported here only.

pyshark 0.6 is the last there is. What it does to its surroundings is kept away from them: it gets an event loop of its
own (else it installs a child watcher, which Python 3.14 no longer has), the path of tshark (else it looks for a
``config.ini`` in the current folder and runs what that names), and what it leaves running after an error is ended here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from analyzer.errors import OpinionError
from analyzer.opinions.by_tshark import tshark_path
from analyzer.redaction import REDACTED, redacted_text
from analyzer.report.text import visible

_SECRET_FIELDS: Final = (
    "http.authbasic",
    "http.cookie_pair",
    "http.cookie",
    "http.set_cookie",
    "http2.cookie",
    "http2.headers.authorization",
    "http2.headers.cookie",
    "http2.headers.set_cookie",
)
"""Fields whose whole value is a credential."""
_OCTET_FIELDS: Final = re.compile(
    r"(^|\.)(data|payload|segment_data|segment|file_data|fragment|body|reassembled\.data)$"
)
"""Fields that show payload as hexadecimal digits: a credential could hide there."""
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})


@dataclass(frozen=True, slots=True)
class DissectedFrame:
    """One frame: its number, and its layers with the lines of each. All text is inert and without credentials."""

    number: int
    layers: tuple[tuple[str, tuple[str, ...]], ...]


def dissect(capture: str, frames: Sequence[int], keys: Sequence[str] = ()) -> Iterator[DissectedFrame]:
    """Dissect frames of a capture.

    Parameters
    ----------
    capture : str
        A file that tshark reads.
    frames : sequence of int
        Their numbers.
    keys : sequence of str
        TLS key logs to decrypt with; tshark takes one, so that several must be joined by the caller.

    Raises
    ------
    MissingProgramError
        tshark is not installed.
    OpinionError
        tshark cannot read the capture.
    """
    program = tshark_path()
    # Importing it costs a third of a second, and prints nothing only because nobody else imports it.
    import pyshark
    from pyshark.capture.capture import TSharkCrashException

    loop = asyncio.new_event_loop()
    preferences = {"tls.keylog_file": keys[0]} if keys else None
    capturing = pyshark.FileCapture(
        capture,
        display_filter=f"frame.number in {{{', '.join(map(str, frames))}}}",
        keep_packets=False,
        tshark_path=program,
        eventloop=loop,
        override_prefs=preferences,
    )
    found = 0
    try:
        while True:
            try:
                packet = capturing.next()
            except StopIteration:
                if found == 0:
                    said = visible(capturing._last_error_line or "it shows none of the frames")[:300]
                    raise OpinionError(f"tshark cannot dissect {visible(capture)}: {said}") from None
                break
            except TSharkCrashException as error:
                # Said at the end of a capture that is cut, behind its last frame: what was dissected stands.
                if found == 0:
                    raise OpinionError(f"tshark cannot dissect {visible(capture)}: {_last(error)}") from None
                break
            found += 1
            yield _frame(packet)
    finally:
        processes = list(capturing._running_processes)
        with contextlib.suppress(TSharkCrashException):
            capturing.close()
        # Killed, but pyshark waits a second at most; a loop that is closed before says "unknown child process" later.
        for process in processes:
            loop.run_until_complete(process.wait())
        # Its destructor would run the closed loop for what is still listed.
        capturing._running_processes.clear()
        loop.close()


def _last(error: Exception) -> str:
    said = re.search(r"Last error line: (.*)", str(error))
    return visible(said[1] if said else str(error).split("\n")[0])[:300]


def _frame(packet: Any) -> DissectedFrame:  # noqa: ANN401 - pyshark has no types
    return DissectedFrame(
        int(packet.number), tuple((visible(layer.layer_name), tuple(_lines(layer))) for layer in packet.layers)
    )


def _lines(layer: Any) -> Iterator[str]:  # noqa: ANN401
    """Fields in the order of their octets, each as Wireshark shows it."""
    # The public names lose fields whose names differ in punctuation only.
    fields = [f for f in layer._get_all_fields_with_alternates() if not f.hide and (f.showname or f.show)]
    fields.sort(key=lambda f: (int(f.pos or 0), -int(f.size or 0)))
    header = ""
    for field in fields:
        if field.name in ("http2.header.name", "http3.headers.header.name"):
            header = str(field.show).lower()
        line = redacted_text(_shown(field, header))
        if line:
            yield visible(line)


def _shown(field: Any, header: str) -> str:  # noqa: ANN401
    text = str(field.showname or field.show)
    if _OCTET_FIELDS.search(field.name):
        name = text.split(":", 1)[0].strip()
        return "" if not field.showname else name if "bytes" in name else f"{name} ({field.size or 0} octets)"
    secret = field.name in _SECRET_FIELDS or (field.name.endswith("header.value") and header in _SECRET_HEADERS)
    return f"{text.split(':', 1)[0]}: {REDACTED}" if secret else text
