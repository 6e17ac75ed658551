"""What a channel's connections have in common: counted, second legs left out, cut where there is much."""

from __future__ import annotations

from collections import Counter
from typing import Any

from analyzer.report.channel_view import FACTS, channel_facts
from analyzer.report.schema_document import QUESTIONS
from tests.document_example import example_document


def test_facts_and_reasons_add_up() -> None:
    document = example_document(900, 12)
    data = document["connections"]["data"]
    found = channel_facts(document["connections"])
    for channel in document["channels"]:
        rows = [r for r, c in enumerate(data["channel"]) if c == channel["id"] and data["leg_of"][r] < 0]
        facts = found[channel["id"]]
        for name, title in FACTS.items():
            counts = Counter(data[name][row] for row in rows if data[name][row])
            shown = dict(facts.facts.get(title, ()))
            assert all(counts[value] == count for value, count in shown.items())
            assert len(shown) + facts.more.get(title, 0) == len(counts)
        for question in QUESTIONS:
            assert sum(count for *_, count in facts.reasons[question]) <= len(rows)
            if question not in facts.more:
                assert sum(count for *_, count in facts.reasons[question]) == len(rows)


def test_many_values_are_cut_and_counted() -> None:
    document: Any = example_document(90)
    document["connections"]["data"]["user_agent"] = [f"agent {row}" for row in range(90)]
    facts = channel_facts(document["connections"])["dns"]
    assert len(facts.facts["User agent"]) == 4
    assert facts.more["User agent"] == 6
