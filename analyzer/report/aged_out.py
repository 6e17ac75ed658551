"""What a live session no longer holds connection by connection, in words."""

from __future__ import annotations

from typing import Final

from analyzer.report.schema_document import Document

MAX_GROUPS: Final = 20
"""Groups listed; the JSON report has all."""


def aged_out_notes(document: Document) -> list[str]:
    """Sentences about connections that left memory; none where all are in the table."""
    gone = document.get("aged_out")
    if gone is None or not gone["connections"]:
        return []
    first, last = (_moment(gone[end]) for end in ("first_time", "last_time"))
    notes = [
        f"Connections of this live session that have left memory: {gone['connections']:,}, with {gone['packets']:,} "
        f"packets, seen between {first} and {last}. They are counted in every number here and are in no row of the "
        "connection table."
    ]
    if gone["without_stand_in"]:
        notes.append(
            f"For {gone['without_stand_in']:,} of them no connection like them is left in the table: there are more "
            "kinds of connections than are kept."
        )
    if gone["early"]:
        notes.append(
            f"{gone['early']:,} of them left before they were over, because more were held than --max-connections "
            "allows: if they spoke again, they are counted once more, as begun before the capture."
        )
    return notes


def _moment(time: str | None) -> str:
    return f"{time[:10]} {time[11:19]} UTC" if time else "an unknown time"
