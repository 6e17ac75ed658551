"""Numbers that count through all captures become those of each file, and nothing else changes."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from analyzer.report.numbering import Numbering
from tests.document_example import example_document


def document() -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(dict(example_document(12)))
    return made


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.data())
def test_places_are_those_of_a_plain_count(lengths: list[int], data: st.DataObject) -> None:
    plain = [(capture, number) for capture, length in enumerate(lengths) for number in range(1, length + 1)]
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    numbering = Numbering(starts, [f"{n}.pcap" for n in range(len(lengths))])

    assert [numbering.place(n) for n in range(1, len(plain) + 1)] == plain
    assert numbering.place(0) == (0, 0)
    if plain:
        chosen = data.draw(st.lists(st.integers(1, len(plain)), max_size=8))
        groups = numbering.grouped(chosen)
        assert sorted((g["capture"], n) for g in groups for n in g["frames"]) == sorted(plain[n - 1] for n in chosen)


def test_one_capture_keeps_its_numbers() -> None:
    before, after = document(), document()
    Numbering([0], ["x.pcap"]).settle(after)
    assert after == before


def test_every_number_of_a_document_is_turned() -> None:
    """Two captures, the second from frame 51 on: what is in the first stays, what is in the second loses 50."""
    before, after = document(), document()
    Numbering([0, 50], ["a.pcap", "b.pcap"]).settle(after)

    old, new = before["connections"]["data"], after["connections"]["data"]
    assert new["capture"] == ["a.pcap" if n <= 50 else "b.pcap" for n in old["first_frame"]]
    assert new["first_frame"] == [n if n <= 50 else n - 50 for n in old["first_frame"]]
    for was, now, first in zip(old["evidence_frames"], new["evidence_frames"], old["first_frame"], strict=True):
        own = int(first > 50)
        places = [(int(n > 50), n - 50 * (n > 50)) for n in map(int, was.split())]
        assert now == " ".join(str(n) if capture == own else f"{capture}:{n}" for capture, n in places)
    for was, now in zip(before["findings"], after["findings"], strict=True):
        assert now["frames"] == [n for group in now["evidence"] for n in group["frames"]]
        assert sorted(n + 50 * g["capture"] for g in now["evidence"] for n in g["frames"]) == sorted(was["frames"])
    for was, now in zip(before["timeline"]["events"], after["timeline"]["events"], strict=True):
        assert (now["capture"], now["frame"] + 50 * now["capture"]) == (int(was["frame"] > 50), was["frame"])
    assert after["channels"] == before["channels"]
    assert after["captures"] == before["captures"]
