"""The picture: every channel is in it, inside its frame, escaped, and readable at any number of nodes."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from analyzer.report.diagram import hub_and_spoke
from analyzer.report.map_layout import MAX_NODES
from tests.document_example import HOSTILE, example_document

NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"


def _drawn(document: Any) -> ET.Element:
    return ET.fromstring(hub_and_spoke(document, range(len(document["channels"])), {"node-1": "node-1"}))


def _points(path: str) -> list[tuple[float, float]]:
    """Points that a straight line or a quadratic curve runs through; of other paths those they name."""
    numbers = [float(n) for n in re.findall(NUMBER, path)]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    if "C" in path or "z" in path:
        return points
    if len(points) == 2:
        points.insert(1, ((points[0][0] + points[1][0]) / 2, (points[0][1] + points[1][1]) / 2))
    (ax, ay), (bx, by), (cx, cy) = points
    steps = [i / 20 for i in range(21)]
    return [
        ((1 - t) ** 2 * ax + 2 * t * (1 - t) * bx + t * t * cx, (1 - t) ** 2 * ay + 2 * t * (1 - t) * by + t * t * cy)
        for t in steps
    ]


@pytest.mark.parametrize("nodes", [2, 5, 9, 300])
def test_lines_pass_the_boxes_they_do_not_join(nodes: int) -> None:
    svg = _drawn(example_document(nodes * 40, nodes))
    boxes = {}
    for group in svg.iter("g"):
        title, box = group.find("title"), group.findall("rect")[-1:]
        if title is not None and box:
            boxes[title.text] = [float(box[0].attrib[name]) for name in ("x", "y", "width", "height")]
    crossing = 0
    for link in svg.findall("a"):
        label = link.attrib["aria-label"]
        for path in link.findall("path")[:1]:
            inside = _points(path.attrib["d"])
            for name, (x, y, width, height) in boxes.items():
                if name and name not in label:
                    crossing += any(x < px < x + width and y < py < y + height for px, py in inside)
    assert crossing == 0


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 7, 10, 11, 300])
def test_every_channel_is_a_link_to_its_anchor_and_lies_inside(nodes: int) -> None:
    document = example_document(nodes * 40, nodes)
    svg = _drawn(document)
    links = [link for link in svg.findall("a") if link.get("class") != "place"]
    assert {link.get("href") for link in links} == {f"#channel-{channel['id']}" for channel in document["channels"]}
    width, height = (float(n) for n in svg.attrib["viewBox"].split()[2:])
    for box in svg.iter("rect"):
        assert 0 <= float(box.attrib["x"]) <= width - float(box.attrib["width"])
        assert 0 <= float(box.attrib["y"]) <= height - float(box.attrib["height"])
    for path in svg.iter("path"):
        points = _points(path.attrib["d"])
        assert all(0 <= x <= width for x, _ in points)
        assert all(-15 <= y <= height for _, y in points)


@pytest.mark.parametrize("nodes", [1, 4, MAX_NODES])
def test_boxes_do_not_overlap(nodes: int) -> None:
    svg = _drawn(example_document(400, nodes))
    boxes = [
        tuple(float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        for box in svg.iter("rect")
        if "box" in box.get("class", "")
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
        assert links
        for link in links:
            assert any(f"line {channel['verdict']}" == path.get("class") for path in link.findall("path"))
            assert f"{channel['title']}: {channel['verdict']}" in link.attrib["aria-label"]
    signs = {"at-risk": "✗", "undecidable": "?", "sound": "✓", "informational": "·"}
    badges = {badge.findtext("text") for badge in svg.findall("g") if "badge" in badge.get("class", "")}
    assert badges == {f"{signs[channel['verdict']]} {order[channel['id']]}" for channel in document["channels"]}


def test_a_node_leads_to_its_row_and_many_to_the_list() -> None:
    few = _drawn(example_document(40, 3))
    assert [link.get("href") for link in few.findall("a") if link.get("class") == "place"] == ["#node-1"]
    many = _drawn(example_document(2000, 200))
    assert {link.get("href") for link in many.findall("a") if link.get("class") == "place"} == {"#nodes"}


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
        if link.get("class") != "place"
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
        *("svg", "title", "desc", "defs", "marker", "path", "rect", "text", "g", "a")
    }
    assert not [name for element in svg.iter() for name in element.attrib if name.startswith("on")]


def test_nothing_to_draw_is_nothing() -> None:
    assert hub_and_spoke(example_document(0), [], {}) == ""


def test_a_line_runs_from_client_to_server_and_counts_each_connection_once() -> None:
    document = example_document(90, 1)
    svg = _drawn(document)
    # With one node there is one line a channel.
    labels = {link.attrib["href"]: link.attrib["aria-label"] for link in svg.findall("a")}
    for channel in document["channels"]:
        assert f", {channel['connections']} connection" in labels[f"#channel-{channel['id']}"]
    boxes = {}
    for group in svg.iter("g"):
        title, box = group.find("title"), group.find("rect")
        if title is not None and box is not None:
            x, y, width, height = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
            boxes[title.text] = (x + width / 2, y + height / 2)
    for href, client, server in (
        ("#channel-apiserver-to-kubelet", "kube-apiserver", "node-1"),
        ("#channel-node-to-apiserver", "node-1", "kube-apiserver"),
        ("#channel-apiserver-to-etcd", "kube-apiserver", "etcd"),
    ):
        (path,) = [p for a in svg.findall("a") if a.get("href") == href for p in a if "line" in p.get("class", "")]
        start_x, start_y, stop_x, stop_y = (float(n) for n in re.findall(NUMBER, path.attrib["d"]))
        assert path.attrib["marker-end"].startswith("url(#head-")
        assert math.dist((start_x, start_y), boxes[client]) < math.dist((start_x, start_y), boxes[server])
        assert math.dist((stop_x, stop_y), boxes[server]) < math.dist((stop_x, stop_y), boxes[client])
