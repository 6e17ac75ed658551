"""A reader that is polled: the same chunks, and nobody waits for ever."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import numpy as np
import pytest

from analyzer.capture.feed import Feed, InterfaceStatistics, feed_of, total
from analyzer.capture.source import FileReader, open_capture
from analyzer.schema import CaptureChunk
from tests.capture_builders import Frame, frames_in, pcap_file, pcapng_file, reading

FRAMES = [Frame(b"%05d" % n, 1_700_000_000_000_000_000 + n * 1000) for n in range(5000)]


def drained(feed: Feed, seconds: float = 10.0) -> list[CaptureChunk]:
    chunks, deadline = [], time.monotonic() + seconds
    while not feed.ended:
        assert time.monotonic() < deadline
        if (chunk := feed.poll(0.05)) is not None:
            chunks.append(chunk)
    return chunks


def octets_of(chunks: list[CaptureChunk]) -> list[bytes]:
    return [
        chunk.octets[start : start + length].tobytes()
        for chunk in chunks
        for start, length in zip(chunk.start.tolist(), chunk.captured_len.tolist(), strict=True)
    ]


def test_it_hands_out_copies_of_every_chunk() -> None:
    content = pcapng_file(FRAMES)
    feed = feed_of(reading(content, chunk_octets=4096))
    chunks = drained(feed)
    assert len(chunks) > 5
    # All of them are still what they were, though the reader has used its buffer again since.
    assert octets_of(chunks) == [row[0] for row in frames_in(reading(content))]
    assert [chunk.first_frame for chunk in chunks] == np.cumsum([1, *(len(chunk) for chunk in chunks[:-1])]).tolist()
    # Whoever wrote the capture did not say what was dropped: then what was handed out is not what was received.
    assert (feed.statistics().received, feed.statistics().dropped) == (None, None)
    assert feed.statistics().lag_ns > 0
    assert feed.damage == []
    feed.close()


@pytest.fixture(params=[0, -1], ids=["raw", "buffered"])
def pipe(request: pytest.FixtureRequest) -> Iterator[tuple[BinaryIO, int]]:
    ends = os.pipe()
    with os.fdopen(ends[0], "rb", buffering=request.param) as stream:
        yield stream, ends[1]
        with suppress(OSError):
            os.close(ends[1])


def test_a_pipe_that_is_silent_does_not_hold_up_the_poll(pipe: tuple[BinaryIO, int]) -> None:
    stream, end = pipe
    content = pcap_file(FRAMES)
    os.write(end, content[:1000])
    feed = feed_of(open_capture("-", stdin=stream))
    assert feed.poll(5.0) is not None
    begin = time.monotonic()
    assert feed.poll(0.05) is None
    assert time.monotonic() - begin < 1.0
    assert not feed.ended
    os.write(end, content[1000:2000])
    assert feed.poll(5.0) is not None
    # A writer that is interrupted with us has a moment to end in; one that does not end costs no more than that.
    feed.stop()
    os.write(end, content[2000:3000])
    begin = time.monotonic()
    assert sum(len(chunk) for chunk in drained(feed)) > 0
    assert 0.5 < time.monotonic() - begin < 3.0
    os.close(end)
    feed.close()


def test_a_cut_input_ends_with_its_damage() -> None:
    feed = feed_of(reading(pcap_file(FRAMES)[:-3]))
    assert sum(len(chunk) for chunk in drained(feed)) == len(FRAMES) - 1
    assert "cut" in feed.damage[0].reason
    feed.close()


def test_an_error_of_the_reader_is_raised_where_it_is_polled() -> None:
    class Broken(ValueError):
        pass

    class BrokenReader(FileReader):
        def __iter__(self) -> Iterator[CaptureChunk]:
            raise Broken

    reader = reading(pcap_file(FRAMES))
    reader.__class__ = BrokenReader
    feed = feed_of(reader)
    with pytest.raises(Broken):
        drained(feed)
    assert feed.ended


def test_what_one_interface_cannot_tell_is_not_known_of_all() -> None:
    one, other = InterfaceStatistics("a", 5, 2), InterfaceStatistics("b", 7, None)
    assert (total((one, one), 9).received, total((one, one), 9).dropped, total((one, one), 9).lag_ns) == (10, 4, 9)
    assert (total((one, other), 0).received, total((one, other), 0).dropped) == (12, None)
    unknown = InterfaceStatistics("c", None, None)
    assert (total((one, unknown), 0).received, total((one, unknown), 0).dropped) == (None, None)
