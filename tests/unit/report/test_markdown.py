"""Markdown: a summary that shows hostile text as text, checked with a CommonMark parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from analyzer.report.markdown import code, markdown_safe, markdown_text
from analyzer.report.schema_document import as_document
from analyzer.report.text import visible
from tests.document_example import HOSTILE, example_document

PARSER = MarkdownIt("commonmark").enable("table").enable("strikethrough")
INERT = (
    *HOSTILE,
    "[click](https://evil.example)",
    "![x](https://evil.example/p.png)",
    "<https://evil.example>",
    "a | b\n| --- | --- |",
    "`` ` ``` code",
    "# heading",
    "1. one",
    "- item",
    "> quote",
    "***bold*** ~~gone~~ __x__",
    "[ref]: https://evil.example",
    "&lt;b&gt; &#42;",
    "trailing \\",
    "---",
    "====",
)


def tokens(text: str) -> list[Token]:
    return [t for block in PARSER.parse(text) for t in [block, *(block.children or [])]]


def shown(text: str) -> str:
    return "".join(t.content for t in tokens(text) if t.type in ("text", "code_inline", "text_special"))


@pytest.mark.parametrize("text", INERT)
def test_text_is_shown_as_it_is(text: str) -> None:
    assert {t.type for t in tokens(markdown_safe(text))} <= {"paragraph_open", "paragraph_close", "inline", "text",
                                                             "text_special"}  # fmt: skip
    assert shown(markdown_safe(text)) == visible(text).strip()


@given(st.text(min_size=1))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    """In the middle of a line, as a cell and as a code span."""
    assert shown(f"x {markdown_safe(text)} y") == f"x {visible(text)} y"
    assert shown(f"x {code(text)} y") == f"x {visible(text)} y"
    table = tokens(f"| a | b |\n| --- | --- |\n| {markdown_safe(text)} | z |")
    assert [t.type for t in table].count("td_open") == 2


def test_no_link_and_no_mention_of_somebody_elses_making() -> None:
    for text in ("https://evil.example", "www.evil.example", "WWW.evil.example", "mail@evil.example", "@somebody"):
        safe = markdown_safe(text)
        assert "://" not in safe
        assert "www." not in safe.lower()
        assert "@" not in safe


@pytest.mark.parametrize("connections", [0, 1, 60])
def test_a_hostile_audit_has_only_our_markup(connections: int) -> None:
    document = as_document(json.loads(json.dumps(example_document(connections))))
    document["summary"]["answer"] = "".join(INERT)
    document["captures"][0]["name"] = "`x` " + HOSTILE[2]
    document["summary"]["not_judged"] = list(INERT)
    for number, finding in enumerate(document["findings"]):
        finding["message"] = INERT[number]
        finding["hosts"] = list(INERT)
        finding["source"] = "javascript:alert(1)" if number else "https://x.example/>)[a](b)"
    text = markdown_text(document)
    assert all(character == "\n" or character.isprintable() for character in text)
    found = tokens(text)
    kinds = {t.type for t in found}
    assert not kinds & {"html_block", "html_inline", "image", "fence", "code_block", "blockquote_open", "s_open"}
    links = [t.attrs["href"] for t in found if t.type == "link_open"]
    assert len(links) == len(document["findings"])
    assert all(not link or str(link).startswith("https://x.example/") for link in links)
    headings = [t.tag for t in found if t.type == "heading_open"]
    assert headings.count("h4") == len(document["findings"])
    assert headings.count("h2") == 1


def test_it_says_who_accepted_what() -> None:
    text = shown(markdown_text(example_document(60)))
    assert "LOW (suppressed) PW203/apiserver-to-pod-proxy" in text
    assert "Suppressed until 2027-01-31 by jane@example.org" in text
    assert "expired" in text


def test_the_answer_and_every_finding_stand_in_it() -> None:
    document: Any = example_document(60)
    text = shown(markdown_text(document))
    assert visible(document["summary"]["answer"]) in text
    for finding in document["findings"]:
        for part in (finding["title"], finding["id"], finding["remediation"], *finding["flags"], finding["filter"]):
            assert visible(part) in text
