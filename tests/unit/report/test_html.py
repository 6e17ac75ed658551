"""The page: self-contained, inert whatever was captured, complete without script, readable by everyone."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analyzer.report.connections_view import MAX_PACKED, MAX_ROWS
from analyzer.report.html import moment_text, octets_text, render_html, write_html
from analyzer.report.schema_document import QUESTIONS
from analyzer.report.text import visible
from tests.conftest import ROOT
from tests.document_example import HOSTILE, example_document, hostile_document

VOID = {"meta", "link", "br", "input"}
STYLES = ROOT / "analyzer" / "report" / "templates" / "style"


class Page(HTMLParser):
    """Elements, text and structure of a page, by the standard library's own parser."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.contents: dict[str, list[str]] = {"script": [], "style": []}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} repeats an attribute"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            if tag in self.contents:
                self.contents[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.contents:
            self.contents[self.open[-1]][-1] += data
        else:
            self.text.append(data)

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@cache
def _page(kind: str) -> tuple[str, Page]:
    sizes = {"plain": (40, 3), "empty": (0, 3), "large": (10_000, 300)}
    document = example_document(*sizes[kind]) if kind in sizes else hostile_document(200, 3)
    text = render_html(document)
    return text, Page(text)


KINDS = ("plain", "empty", "hostile", "large")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_well_formed_and_asks_no_host_for_anything(kind: str) -> None:
    text, page = _page(kind)
    assert text.startswith("<!doctype html>")
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"iframe", "object", "embed", "form", "base", "img", "video", "audio", "source", "use", "image"}
    assert not page.attributes("src")
    assert not page.attributes("srcset")
    assert [attributes["href"] for tag, attributes in page.elements if tag == "link"] == ["data:,"]
    assert "url(" not in page.contents["style"][0].replace('url("data:', "")
    assert "@import" not in page.contents["style"][0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_scripts_and_styles_are_ours_and_the_policy_names_them(kind: str) -> None:
    _, page = _page(kind)
    assert [attributes.get("type", "") for tag, attributes in page.elements if tag == "script"] == [
        "application/json",
        "",
    ]
    assert not [
        name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "style"
    ]
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    for name, content in (("script-src", page.contents["script"][1]), ("style-src", page.contents["style"][0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[name] == f"'sha256-{digest}'"


def test_hostile_text_is_shown_as_text() -> None:
    text, page = _page("hostile")
    shown = "".join(page.text)
    packed = {t for c in json.loads(page.contents["script"][0])["columns"].values() for t in c.get("values", ())}
    for hostile in HOSTILE:
        assert visible(hostile) in shown
        assert visible(hostile) in packed
    assert all(character == "\n" or character.isprintable() for character in text)
    assert text.encode("utf-8")
    for href in page.attributes("href"):
        assert href.startswith(("#", "https://")) or href == "data:,"


@pytest.mark.parametrize("kind", KINDS)
def test_identifiers_are_unique_and_every_reference_arrives(kind: str) -> None:
    _, page = _page(kind)
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    for reference in (*page.attributes("aria-labelledby"), *page.attributes("aria-describedby")):
        assert set(reference.split()) <= set(ids)
    targets = {href[1:] for href in page.attributes("href") if href.startswith("#")}
    assert targets <= set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_landmarks_headings_captions_and_headers(kind: str) -> None:
    _, page = _page(kind)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("main") == tags.count("header") - tags.count("article") == tags.count("footer") == 1
    assert tags.count("h1") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    for tag, attributes in page.elements:
        if attributes.get("tabindex") == "0":
            assert attributes["role"] == "region"
            assert "aria-label" in attributes or "aria-labelledby" in attributes, tag


def test_the_counts_are_those_of_the_document() -> None:
    document = example_document(400, 9)
    page = Page(render_html(document))
    words = " ".join(" ".join(page.text).split())
    data = document["connections"]["data"]
    counted = [row for row, leg in enumerate(data["leg_of"]) if leg < 0]
    for question, values in QUESTIONS.items():
        for value in values:
            count = sum(data[question][row] == value for row in counted)
            assert re.search(rf"\b{count:,} \S {value}\b", words), (question, value, count)
    for verdict, count in document["summary"]["channels"].items():
        assert re.search(rf"\b{count} \S {verdict.replace('-', ' ')}\b", words)
    for finding in document["findings"]:
        assert finding["title"] in words
        assert finding["filter"] in words
        assert all(flag in words for flag in finding["flags"])
    for certificate in document["certificates"]:
        assert visible(certificate["subject"]) in words
    for label, number in document["ledger"]["lines"]:
        assert f"{label} {number:,}" in words
    packed = json.loads(page.contents["script"][0])
    assert packed["count"] == len(data["channel"]) == 400
    assert sorted(packed["row"]) == list(range(400))


def test_without_script_every_channel_and_pair_is_there() -> None:
    document = example_document(120, 3)
    page = Page(render_html(document))
    words = " ".join(page.text)
    data = document["connections"]["data"]
    for name, address, port in zip(data["server_name"], data["server_ip"], data["server_port"], strict=True):
        assert f"{name or address}:{port}" in words
    rows = [attributes for tag, attributes in page.elements if tag == "tr"]
    assert len(rows) > 120
    assert ("div", "hidden") in {(tag, name) for tag, attributes in page.elements for name in attributes}


def test_a_large_audit_stays_below_two_megabytes_and_says_where_the_rest_is() -> None:
    text, page = _page("large")
    assert len(text.encode("utf-8")) < 2_000_000
    words = " ".join(" ".join(page.text).split())
    assert f"The first {MAX_ROWS} of 10,000 rows, worst channels first; all are in connections.csv." in words
    assert json.loads(page.contents["script"][0])["count"] == 10_000


def test_beyond_what_the_script_holds_the_page_does_not_grow() -> None:
    text = render_html(example_document(MAX_PACKED + 2000, 300))
    assert len(text.encode("utf-8")) < 2_100_000
    assert f"The search covers the first {MAX_PACKED:,} of {MAX_PACKED + 2000:,} rows" in text


def test_it_is_written_whole(tmp_path: Path) -> None:
    document = example_document()
    path = write_html(document, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == render_html(document)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_what_is_unknown_is_said() -> None:
    document: Any = example_document()
    document["captures"][0] |= {"first_time": None, "last_time": None}
    document["quality"]["dropped"] = None
    document["cluster"]["given"] = False
    document["ledger"]["balanced"] = False
    words = " ".join("".join(Page(render_html(document)).text).split())
    for phrase in ("unknown time", "not recorded", "Nothing: roles are inferred from the traffic", "not balanced"):
        assert phrase in words


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5 * 10**12, "5000.0 GB")],
)
def test_sizes(octets: int, text: str) -> None:
    assert octets_text(octets) == text


def test_moments() -> None:
    assert moment_text("2026-11-23T10:00:01.123456789Z") == "2026-11-23 10:00:01 UTC"
    assert moment_text(None) == "unknown time"


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_has_the_contrast_wcag_asks_for(scheme: int) -> None:
    """WCAG 2.2, success criterion 1.4.3: 4.5 to 1 for text of any size."""
    tokens, print_style = ((STYLES / name).read_text(encoding="utf-8") for name in ("tokens.css", "print.css"))
    colours = {
        name: (light, dark)[scheme % 2]
        for name, light, dark in re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{3,6}), (#[0-9a-f]{3,6})\)", tokens)
    }
    assert len(colours) > 10
    block = re.search(r":root \{(.*?)\}", print_style if scheme == 2 else tokens, re.DOTALL)
    assert block is not None
    colours |= dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block[1]))
    tones = ("risk", "open", "good", "plain")
    pairs = [(ink, ground) for ink in ("ink", "muted", "accent", *tones) for ground in ("page", "paper")]
    pairs += [(tone, f"{tone}-soft") for tone in tones] + [("ink", "soft"), ("muted", "soft"), ("paper", "risk")]
    pairs += [("hub-ink", "hub")]
    for ink, ground in pairs:
        lighter, darker = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, ground)
