"""What a capture says besides its frames, collected while it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from analyzer.schema import Damage, Interface

MAX_TEXT: Final = 16 << 20
"""Octets of comments, of names and of secrets kept from one input, each: captured octets are hostile."""

MAX_INTERFACES: Final = 1 << 16

_KEY_LOG_LINE: Final = re.compile(
    r"\b((?:CLIENT|SERVER|EARLY|EXPORTER|RSA|PMS|ECH)[A-Z0-9_]*) +[0-9A-Fa-f]{8,} +[0-9A-Fa-f]+"
)
"""A line of an NSS key log; files exist whose section comment is one."""


@dataclass(slots=True)
class CaptureFacts:
    """The lists of a `schema.CaptureReader`; a parser appends to them as it meets what they hold."""

    interfaces: list[Interface] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    secrets: list[bytes] = field(default_factory=list)
    names: list[tuple[str, str]] = field(default_factory=list)
    comments: list[tuple[int, str]] = field(default_factory=list)
    _room: dict[str, int] = field(default_factory=dict)

    def add_comment(self, frame: int, comment: str, offset: int) -> None:
        """Keep a comment, without TLS keys; `offset` is where in the input it stands."""
        if self._has_room("comments", len(comment), offset):
            self.comments.append((frame, _KEY_LOG_LINE.sub(r"\1 (key removed)", comment)))

    def add_name(self, address: str, name: str, offset: int) -> None:
        """Keep a name of an address."""
        if self._has_room("names", len(address) + len(name), offset):
            self.names.append((address, name))

    def add_secrets(self, key_log: bytes, offset: int) -> None:
        """Keep a TLS key log."""
        if self._has_room("secrets", len(key_log), offset):
            self.secrets.append(key_log)

    def _has_room(self, kind: str, octets: int, offset: int) -> bool:
        # An entry costs more than its text, so that many empty ones are bounded as well.
        room = self._room.get(kind, MAX_TEXT)
        self._room[kind] = room - octets - 64
        if room > 0 >= self._room[kind]:
            self.damage.append(Damage(offset, f"more than {MAX_TEXT} octets of {kind}: the rest are left out"))
        return self._room[kind] > 0
