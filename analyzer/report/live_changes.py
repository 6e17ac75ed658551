"""What is different from one moment of a live session to the next: the events that lines and the screen tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analyzer.report.live_view import LiveChannel, LiveFinding, LiveView
from analyzer.report.schema_document import QUESTIONS
from analyzer.report.terminal_style import Dominant, dominant_of


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """A channel that appeared, or of which the verdict or a commonest answer or grade changed.

    ``previous`` is the verdict before, None where the channel is new.
    """

    channel: LiveChannel
    previous: str | None


@dataclass(frozen=True, slots=True)
class FindingChange:
    """A finding that appeared, changed its severity, grade or suppression, or no longer holds."""

    change: Literal["new", "changed", "gone"]
    finding: LiveFinding


Change = ChannelChange | FindingChange


def answers_of(channel: LiveChannel) -> dict[str, Dominant]:
    """Return the commonest answer of a channel to each question."""
    return {name: dominant_of(channel.answers[name], channel.grades[name], name) for name in QUESTIONS}


class Changes:
    """Compares each moment with the one before; how often something was counted is no change."""

    def __init__(self) -> None:
        self._channels: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}
        self._findings: dict[str, LiveFinding] = {}

    def since(self, view: LiveView) -> list[Change]:
        """Return what changed since the view before this one, channels first."""
        found: list[Change] = []
        for channel in view.channels:
            said = tuple(answer[:2] for answer in answers_of(channel).values())
            before = self._channels.get(channel.id)
            if before != (channel.verdict, said):
                found.append(ChannelChange(channel, before and before[0]))
                self._channels[channel.id] = (channel.verdict, said)
        current = {finding.identity: finding for finding in view.findings}
        for identity, finding in current.items():
            known = self._findings.get(identity)
            if known is None:
                found.append(FindingChange("new", finding))
            elif _told(known) != _told(finding):
                found.append(FindingChange("changed", finding))
        found += [FindingChange("gone", known) for name, known in self._findings.items() if name not in current]
        self._findings = current
        return found


def _told(finding: LiveFinding) -> tuple[str, str, str]:
    return finding.severity, finding.grade, finding.suppressed
