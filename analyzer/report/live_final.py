"""The last moment of a live run as its report has it: verdicts on the way are a little older than the packets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from analyzer.report.live_rows import identity_of, live_channel, live_finding
from analyzer.report.live_view import LiveChannel, LiveFinding, Moment
from analyzer.report.schema_document import ChannelEntry, FindingEntry, as_document


def at_the_end(moment: Moment, document: Mapping[str, Any]) -> Moment:
    """Return the moment with the channels and findings of the report.

    Parameters
    ----------
    moment : Moment
        The last one; rates, open connections and since when a finding is known are taken from it.
    document : mapping
        A report document of everything that was captured.
    """
    typed, view = as_document(document), moment.view
    known = {channel.id: channel for channel in view.channels}
    before = {finding.identity: finding for finding in view.findings}
    channels = tuple(_channel(row, known.get(row["id"])) for row in typed["channels"])
    findings = tuple(_finding(row, before, view.time_ns) for row in typed["findings"])
    return replace(moment, view=replace(view, channels=channels, findings=findings, concluded_ns=view.time_ns))


def _channel(row: ChannelEntry, known: LiveChannel | None) -> LiveChannel:
    rates = (known.packets_per_s, known.octets_per_s) if known is not None else (0.0, 0.0)
    return live_channel(
        row,
        open_now=known.open if known is not None else 0,
        traffic=(row["packets"], row["octets"]),
        rates=rates,
    )


def _finding(row: FindingEntry, before: Mapping[str, LiveFinding], now_ns: int) -> LiveFinding:
    known = before.get(identity_of(row))
    if known is None:
        return live_finding(row, len(row["connections"]), now_ns)
    # Connections that left memory are counted by the session alone.
    return live_finding(row, max(len(row["connections"]), known.connections), known.first_seen_ns)
