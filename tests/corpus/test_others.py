"""Zeek, Arkime, nfstream and the pcapng test generator say the same, or differ for a reason that is documented."""

from __future__ import annotations

import pytest

from tests.corpus.agreement import DOCUMENT, other_sections
from tests.corpus.others import Agreement, agreements


@pytest.fixture(scope="module")
def found() -> list[Agreement]:
    return agreements()


@pytest.mark.corpus
@pytest.mark.tshark
def test_every_disagreement_has_a_class(found: list[Agreement]) -> None:
    assert [line for agreement in found for line in agreement.unexplained] == []
    equal = {agreement.tool: agreement.equal / agreement.stated for agreement in found}
    assert equal["Zeek"] > 0.85
    assert equal["Arkime"] > 0.95
    assert equal["nfstream"] > 0.98
    assert equal["pcapng-test-generator"] == 1.0


@pytest.mark.corpus
@pytest.mark.tshark
def test_the_document_says_what_is_so(found: list[Agreement]) -> None:
    assert other_sections(found) in DOCUMENT.read_text(), "make agreement writes it"
