"""Lanes over time: every bin with traffic is drawn, labels are text, ticks are round."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from analyzer.report.charts import HEIGHT, axis, event_lanes, lanes, timeline_of
from analyzer.report.schema_document import Timeline
from tests.document_example import HOSTILE, example_document


def timeline(document: Any) -> Timeline:
    found = timeline_of(document)
    assert found is not None
    return found


def heights(svg: str, bins: int) -> list[float]:
    """Height of the area in each bin, read back from its path."""
    path = ET.fromstring(svg)[0].attrib["d"]
    found, at, height = [0.0] * bins, 0, 0.0
    for letter, number in re.findall(r"([HV])([0-9.e-]+)", path.rstrip("Z")):
        if letter == "V":
            height = HEIGHT - float(number)
        else:
            for place in range(at, int(float(number))):
                found[place] = height
            at = int(float(number))
    return found


def test_a_lane_is_as_high_as_its_traffic_and_hides_none() -> None:
    document: Any = example_document(900)
    line = timeline(document)
    for traffic in line["channels"]:
        traffic["octets"][7], traffic["packets"][7] = 1, 1
        lane = lanes(document, line)[traffic["id"]]
        drawn = heights(lane.svg, line["bins"])
        top = max(traffic["octets"])
        for value, height in zip(traffic["octets"], drawn, strict=True):
            assert height == pytest.approx(max(1.5, (HEIGHT - 2) * value / top) if value else 0, abs=0.05)
        assert lane.peak == pytest.approx(top / (line["bin_ns"] / 1e9))
        assert lane.active == sum(packets > 0 for packets in traffic["packets"])


def test_events_are_marked_in_their_bins_and_counted_in_full() -> None:
    document: Any = example_document(900)
    line = timeline(document)
    kinds = {lane.kind: lane for lane in event_lanes(line)}
    assert set(kinds) == {kind for kind, count in line["event_counts"].items() if count}
    for kind, lane in kinds.items():
        marks = re.findall(r"M([0-9.]+) ", ET.fromstring(lane.svg)[0].attrib["d"])
        assert [int(float(mark)) for mark in marks] == [i for i, n in enumerate(line["event_bins"][kind]) if n]
        assert lane.count == line["event_counts"][kind]


def test_titles_are_escaped() -> None:
    document: Any = example_document(90)
    for channel, text in zip(document["channels"], HOSTILE, strict=False):
        channel["title"] = text
    for lane in lanes(document, timeline(document)).values():
        assert {element.tag for element in ET.fromstring(lane.svg).iter()} == {"svg", "path"}


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (0.1, ["0", "20 ms", "40 ms", "60 ms", "80 ms"]),
        (4.1, ["0", "1.0 s", "2.0 s", "3.0 s"]),
        (600, ["0", "2 min", "4 min", "6 min", "8 min"]),
        (86400, ["0", "3 h 0 min", "6 h 0 min", "9 h 0 min", "12 h 0 min", "15 h 0 min", "18 h 0 min", "21 h 0 min"]),
    ],
)
def test_ticks_are_at_round_times(seconds: float, labels: list[str]) -> None:
    line: Any = timeline(example_document(90)) | {"bin_ns": int(seconds * 1e7), "bins": 100}
    ticks = axis(line)
    assert [label for _, label, _ in ticks][: len(labels)] == labels
    assert len(ticks) <= 9
    assert all(0 <= percent < 100 for percent, _, _ in ticks)


def test_an_older_document_has_no_timeline() -> None:
    document: Any = example_document(9)
    del document["timeline"]
    assert timeline_of(document) is None
    assert timeline_of(example_document(0)) is None
