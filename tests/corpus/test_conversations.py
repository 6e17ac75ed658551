"""Conversations equal tshark's, and every difference has a reason that is a predicate on the octets.

A part of the public captures here; ``make agreement`` compares them all.
"""

from __future__ import annotations

import pytest

from tests.corpus.agreement import LEAST, compare_all

STRIDE = 12
"""One capture in so many: 107 captures with a third of all conversations."""


@pytest.mark.corpus
@pytest.mark.tshark
def test_conversations_are_those_tshark_counts() -> None:
    total = compare_all(STRIDE)

    assert total.unexplained == []
    assert total.captures > 80
    assert total.equal >= LEAST * total.conversations, total.reasons
