"""What captures were read, and where each was recorded: of one part of an input, and of all parts joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from analyzer.capture.series import labels
from analyzer.schema import CaptureOrigin, Skipped, VantagePoint

MAX_SKIPPED: Final = 1000
"""Skipped files kept by name; past it they are counted."""


@dataclass(slots=True)
class Vantage:
    """A vantage point while it is read.

    Attributes
    ----------
    series : str
        What the names of its captures have in common.
    node : str
        Its name, where the user gave one.
    interfaces : tuple of (int, str)
        Link type and name of each of its interfaces.
    captures : list of int
    last_ns : int
        Time of the latest frame so far.
    assumed : str
        Why these captures are taken as one vantage point.
    """

    series: str = ""
    node: str = ""
    interfaces: tuple[tuple[int, str], ...] = ()
    captures: list[int] = field(default_factory=list)
    last_ns: int = 0
    assumed: str = ""


@dataclass(slots=True)
class Inventory:
    """Captures read and files skipped, numbered from the first of them.

    Attributes
    ----------
    frames : int
        Of all captures.
    origins : list of CaptureOrigin
        The captures in the order they were read.
    vantages : list of Vantage
    skipped : list of Skipped
        What was found and not analysed, at most `MAX_SKIPPED`; ``skipped_count`` counts all.
    names : list of (str, str)
        Addresses with the names the captures give them, untrusted text.
    """

    frames: int = 0
    origins: list[CaptureOrigin] = field(default_factory=list)
    vantages: list[Vantage] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    skipped_count: int = 0
    names: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Sequence[Inventory]) -> Inventory:
        """All of several, numbered through; joining joined ones gives the same."""
        whole = cls()
        for part in parts:
            captures, places = len(whole.origins), len(whole.vantages)
            whole.origins += [
                replace(one, first_number=one.first_number + whole.frames, vantage=one.vantage + places)
                for one in part.origins
            ]
            whole.vantages += [replace(one, captures=[row + captures for row in one.captures]) for one in part.vantages]
            whole.skipped = (whole.skipped + part.skipped)[:MAX_SKIPPED]
            whole.skipped_count += part.skipped_count
            whole.names += part.names
            whole.frames += part.frames
        whole.names = list(dict.fromkeys(whole.names))
        return whole

    def vantage_points(self) -> list[VantagePoint]:
        """The vantage points with their names, in the order that ``CaptureChunk.vantage`` counts."""
        names = labels([[self.origins[c].name for c in vantage.captures] for vantage in self.vantages])
        if len(self.vantages) == 1:
            names = [""]
        choice = len(self.origins) > 1
        return [
            VantagePoint(
                vantage.node or name, tuple(vantage.captures), bool(vantage.node), vantage.assumed if choice else ""
            )
            for vantage, name in zip(self.vantages, names, strict=True)
        ]
