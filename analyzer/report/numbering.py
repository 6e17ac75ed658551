"""Frame numbers as the user's own files count them.

Inside, the frames of all captures of a run are numbered through. Whoever looks a frame up has one file open: so where a
document is made of several captures, every number becomes that of its file, and the file is named beside it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, Final

from analyzer.report.filters import without_frames


class Numbering:
    """Turns numbers that count through all captures into a capture and the number there.

    Parameters
    ----------
    starts : sequence of int
        Number of frames before each capture, ascending: 0 first.
    names : sequence of str
        Of the captures.
    """

    def __init__(self, starts: Sequence[int], names: Sequence[str]) -> None:
        self._starts: Final = list(starts)
        self._names: Final = list(names)
        self.several: Final = len(self._starts) > 1

    def place(self, frame: int) -> tuple[int, int]:
        """Row of the capture and frame number there; ``(0, 0)`` for 0, which means no frame."""
        if frame <= 0:
            return 0, 0
        capture = max(bisect_left(self._starts, frame) - 1, 0)
        return capture, frame - self._starts[capture]

    def name(self, frame: int) -> str:
        """Name of the capture that holds the frame; empty where there is one capture only."""
        return self._names[self.place(frame)[0]] if self.several and frame > 0 else ""

    def grouped(self, frames: Iterable[int]) -> list[dict[str, Any]]:
        """Evidence by capture: ``[{"capture": row, "frames": [...]}, ...]``."""
        groups: dict[int, list[int]] = {}
        for frame in frames:
            capture, number = self.place(frame)
            groups.setdefault(capture, []).append(number)
        return [{"capture": capture, "frames": numbers} for capture, numbers in groups.items()]

    def settle(self, document: dict[str, Any]) -> None:
        """Renumber a document in place: what is called ``frame``, ``frames`` or stands in a column of frames."""
        data = document["connections"]["data"]
        if not self.several:
            data["capture"] = [""] * len(data["first_frame"])
            data["last_capture"] = [""] * len(data["last_frame"])
            return
        data["capture"] = [self.name(frame) for frame in data["first_frame"]]
        data["last_capture"] = [self.name(frame) for frame in data["last_frame"]]
        own = [self.place(frame)[0] for frame in data["first_frame"]]
        data["evidence_frames"] = [
            " ".join(self._short(int(frame), capture) for frame in text.split())
            for text, capture in zip(data["evidence_frames"], own, strict=True)
        ]
        for column in ("first_frame", "last_frame"):
            data[column] = [self.place(frame)[1] for frame in data[column]]
        for name, section in document.items():
            if name not in ("connections", "captures"):
                self._renumber(section)

    def _short(self, frame: int, own: int) -> str:
        capture, number = self.place(frame)
        return str(number) if capture == own else f"{capture}:{number}"

    def _renumber(self, value: Any) -> None:  # noqa: ANN401 - any part of a document
        if isinstance(value, list):
            for item in value:
                self._renumber(item)
        elif isinstance(value, dict):
            if isinstance(value.get("frame"), int):
                capture, value["frame"] = self.place(value["frame"])
                if "capture" in value:
                    value["capture"] = capture
            if isinstance(value.get("frames"), list):
                value["evidence"] = self.grouped(value["frames"])
                value["frames"] = [number for group in value["evidence"] for number in group["frames"]]
                if isinstance(value.get("filter"), str):
                    # One filter serves all captures: numbers would select other frames in the next one.
                    value["filter"] = without_frames(value["filter"])
                return
            for item in value.values():
                self._renumber(item)
