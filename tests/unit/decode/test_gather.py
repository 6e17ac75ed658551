"""Numbers gathered from octets, against the octets themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.decode import gather
from analyzer.decode.gather import gather_numbers, gather_words


@given(st.binary(min_size=8, max_size=100), st.integers(0, 8), st.lists(st.integers(0, 120), max_size=12))
def test_words_and_numbers_are_the_octets_and_zeros_past_the_end(octets: bytes, skip: int, places: list[int]) -> None:
    buffer = np.frombuffer(octets + bytes(8), np.uint8)[skip : skip + len(octets)]
    octets = buffer.tobytes()
    at = np.array(places, np.int64)
    found = [octets[place : place + 8].ljust(8, b"\0") for place in places]
    assert gather_words(buffer, at).tolist() == [int.from_bytes(eight) for eight in found]
    assert gather_numbers(buffer, at).tolist() == [int.from_bytes(eight, "little") for eight in found]


@pytest.mark.parametrize("little", [True, False])
def test_numbers_do_not_depend_on_how_they_are_read(little: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_LITTLE", little)
    octets = np.arange(64, dtype=np.uint8)
    at = np.arange(40)
    assert gather_numbers(octets, at).tolist() == [int.from_bytes(bytes(range(i, i + 8)), "little") for i in range(40)]
