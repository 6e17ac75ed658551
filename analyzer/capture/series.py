"""Which captures are one recording, cut by rotation, and which were made at different places.

``tcpdump -C -W -G`` and dumpcap cut a recording into files whose names differ only by numbers, and each begins where
the one before it ends. So captures in one folder whose names are equal but for their numbers, with the same interfaces,
and which do not overlap in time, are one recording. All others are vantage points of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from analyzer.schema import Interface

TOLERANCE_NS: Final = 1_000_000_000
"""What one file may begin before the one before it ends: packets of several CPUs are written slightly out of order."""

_COMPRESSION: Final = re.compile(r"\.(gz|zst|zstd|xz|bz2|lz4)$", re.IGNORECASE)
_EXTENSION: Final = re.compile(r"\.(pcapng|pcap|cap|ntar|dmp|dump)(\d*)$", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d+")


def series_key(name: str) -> str:
    """Name of the recording that a file may be a part of: its path with every number of the last part left out.

    ``x.pcap``, ``x.pcap1`` and ``x.pcap02.gz`` (tcpdump -C and -W), ``x-2026-11-25_14:36:19.pcap`` (-G) and
    ``x_00001_20261125143619.pcapng`` (dumpcap -b) each give the key of their siblings.
    """
    path = PurePath(name)
    last = _COMPRESSION.sub("", path.name)
    extension = _EXTENSION.search(last)
    stem = last[: extension.start()] if extension else last
    kind = extension[1].lower() if extension else ""
    return f"{path.parent}/{_NUMBER.sub('#', stem)}.{kind}"


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key of a name in which numbers count as numbers: ``x.pcap``, ``x.pcap2``, ``x.pcap10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((1, int(p[:18]), p) if p.isdigit() and p.isascii() else (0, 0, p) for p in parts if p)


def signature(interfaces: Sequence[Interface]) -> tuple[tuple[int, str], ...]:
    """What the files of one recording have in common; a rotated pcapng repeats its interfaces at each file's start."""
    return tuple(sorted({(interface.link_type, interface.name) for interface in interfaces}))


def stem(name: str) -> str:
    """Last part of a path without the extensions of captures and compression."""
    last = _COMPRESSION.sub("", PurePath(name).name)
    return _EXTENSION.sub("", last) or last


def labels(groups: Sequence[Sequence[str]]) -> list[str]:
    """A short name for each group of captures, no two alike.

    Parameters
    ----------
    groups : sequence of sequences of str
        Names of the captures of each vantage point.
    """
    parts = [PurePath(group[0]) for group in groups]
    texts = [_common([stem(name) for name in group]) for group in groups]
    depth = 1
    while len(set(texts)) < len(texts) and depth < max(len(p.parts) for p in parts):
        # Equal names in different folders: as many folders as tell them apart.
        doubled = {text for text in texts if texts.count(text) > 1}
        texts = [
            "/".join([*path.parts[-depth - 1 : -1], _common([stem(name) for name in group])])
            if text in doubled
            else text
            for path, group, text in zip(parts, groups, texts, strict=True)
        ]
        depth += 1
    seen: dict[str, int] = {}
    for row, text in enumerate(texts):
        seen[text] = seen.get(text, 0) + 1
        if seen[text] > 1:
            texts[row] = f"{text} ({seen[text]})"
    return texts


def _common(stems: Sequence[str]) -> str:
    """One name for several that differ by numbers: the numbers that differ become ``*``."""
    if len(set(stems)) == 1:
        return stems[0]
    split = [re.split(r"(\d+)", text) for text in stems]
    if len({len(parts) for parts in split}) > 1:
        return stems[0]
    return "".join(column[0] if len(set(column)) == 1 else "*" for column in zip(*split, strict=True))
