"""The picture: every channel is in it, inside its frame, escaped, and readable at any number of nodes."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from analyzer.report.diagram import hub_and_spoke
from analyzer.report.map_layout import MAX_NODES
from tests.document_example import HOSTILE, example_document

NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"


def _drawn(document: Any) -> ET.Element:
    return ET.fromstring(hub_and_spoke(document, range(len(document["channels"]))))


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 7, 10, 11, 300])
def test_every_channel_is_a_link_to_its_anchor_and_lies_inside(nodes: int) -> None:
    document = example_document(nodes * 40, nodes)
    svg = _drawn(document)
    links = svg.findall("a")
    assert {link.get("href") for link in links} == {f"#channel-{channel['id']}" for channel in document["channels"]}
    width, height = (float(n) for n in svg.attrib["viewBox"].split()[2:])
    for box in svg.iter("rect"):
        assert 0 <= float(box.attrib["x"]) <= width - float(box.attrib["width"])
        assert 0 <= float(box.attrib["y"]) <= height - float(box.attrib["height"])
    for path in svg.iter("path"):
        numbers = [float(n) for n in re.findall(NUMBER, path.attrib["d"])]
        assert all(0 <= x <= width for x in numbers[::2])
        assert all(-15 <= y <= height for y in numbers[1::2])


@pytest.mark.parametrize("nodes", [1, 4, 10])
def test_boxes_do_not_overlap(nodes: int) -> None:
    svg = _drawn(example_document(400, nodes))
    boxes = [
        tuple(float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        for box in svg.iter("rect")
        if "box" in box.attrib["class"]
    ]
    for i, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[i + 1 :]:
            apart = x + width <= other_x or other_x + other_width <= x
            assert apart or y + height <= other_y or other_y + other_height <= y


def test_the_verdict_is_told_by_class_number_and_words() -> None:
    document = example_document(12)
    svg = _drawn(document)
    order = {channel["id"]: position + 1 for position, channel in enumerate(document["channels"])}
    for channel in document["channels"]:
        links = [link for link in svg.findall("a") if link.get("href") == f"#channel-{channel['id']}"]
        for link in links:
            assert any(f"line {channel['verdict']}" == path.get("class") for path in link.findall("path"))
            assert f"{channel['title']}: {channel['verdict']}" in link.attrib["aria-label"]
    badges = {badge.findtext("text") for badge in svg.findall("g") if "badge" in badge.get("class", "")}
    assert badges == {str(number) for number in order.values()}


def test_many_nodes_share_cards_that_say_how_many() -> None:
    few, many = (_drawn(example_document(2000, nodes)) for nodes in (MAX_NODES, 200))
    assert "node-3" in {text.text for text in few.iter("text")}
    texts = {text.text for text in many.iter("text")}
    assert "200 nodes" in texts
    assert "node-3" not in texts


def test_more_traffic_is_a_wider_line() -> None:
    document: Any = example_document(12)
    document["connections"]["data"]["octets"] = [10] * 11 + [10_000_000]
    svg = _drawn(document)
    widths = {
        link.attrib["href"]: max(float(path.get("stroke-width", 0)) for path in link.findall("path"))
        for link in svg.findall("a")
    }
    busiest = document["connections"]["data"]["channel"][11]
    assert max(widths, key=lambda href: widths[href]) == f"#channel-{busiest}"


def test_hostile_names_are_text() -> None:
    document: Any = example_document(200)
    names = document["connections"]["data"]
    for side in ("client", "server"):
        names[f"{side}_name"] = [HOSTILE[i % len(HOSTILE)] for i in range(200)]
    for channel, text in zip(document["channels"], HOSTILE, strict=False):
        channel["title"] = text
    svg = _drawn(document)
    assert {element.tag for element in svg.iter()} <= {
        *("svg", "title", "desc", "defs", "marker", "path", "rect", "text", "g", "a", "circle")
    }
    assert not [name for element in svg.iter() for name in element.attrib if name.startswith("on")]


def test_nothing_to_draw_is_nothing() -> None:
    assert hub_and_spoke(example_document(0), []) == ""
