"""Opening: files, pipes, what is not a capture, and how that is said."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import threading
import time
from pathlib import Path

import pytest

from analyzer.capture.source import FileReader, open_capture
from analyzer.errors import CaptureFormatError, InputError
from analyzer.schema import CaptureReader
from tests.capture_builders import Frame, frames_in, pcap_file, pcapng_file, reading, rows

FRAMES = [Frame(bytes([n % 256]) * (n * 37 % 900), n * 1000) for n in range(400)]
PLAIN = pcap_file(FRAMES)


def as_protocol(reader: FileReader) -> CaptureReader:
    """mypy checks here that the reader is what the pipeline takes."""
    return reader


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "it is not named like a capture.txt"
    path.write_bytes(PLAIN)
    with open_capture(str(path)) as reader:
        assert as_protocol(reader).name == str(path)
        assert reader.size == len(PLAIN)
        assert frames_in(reader) == rows(FRAMES)
        assert reader.octets_read == len(PLAIN)


def test_progress_counts_compressed_octets(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(PLAIN, mtime=0))
    with open_capture(str(path)) as reader:
        frames_in(reader)
        assert reader.octets_read == reader.size == path.stat().st_size


def test_standard_input_is_left_open() -> None:
    stream = io.BytesIO(PLAIN)
    with open_capture("-", stdin=stream) as reader:
        assert (reader.name, reader.size) == ("-", None)
        assert frames_in(reader) == rows(FRAMES)
    assert not stream.closed


def test_standard_input_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    class Standard:
        buffer = io.BytesIO(PLAIN)

    monkeypatch.setattr("sys.stdin", Standard())
    with open_capture("-") as reader:
        assert frames_in(reader) == rows(FRAMES)


def test_a_stream_that_can_only_read() -> None:
    class Reads:
        def __init__(self) -> None:
            self.inner = io.BytesIO(PLAIN)

        def read(self, count: int) -> bytes:
            return self.inner.read(min(count, 1000))

    with open_capture("-", stdin=Reads()) as reader:  # type: ignore[arg-type]
        assert frames_in(reader) == rows(FRAMES)


def test_a_chunk_holds_whole_records_and_reuses_its_memory() -> None:
    with reading(PLAIN, 4096) as reader:
        sizes = [(chunk.octets.shape[0], chunk.octets.__array_interface__["data"][0]) for chunk in reader]
    assert len(sizes) > 10
    assert max(size for size, _ in sizes) <= 4096
    assert len({address for _, address in sizes}) == 1
    assert sum(size for size, _ in sizes) == len(PLAIN) - 24


def test_a_record_larger_than_a_chunk_makes_the_buffer_grow() -> None:
    frames = [Frame(b"small"), Frame(b"L" * 100_000), Frame(b"small")]
    for content in (pcap_file(frames), pcapng_file(frames)):
        with reading(content, 64) as reader:
            assert frames_in(reader) == rows(frames)


def test_iterating_ends_with_close() -> None:
    reader = reading(PLAIN, 4096)
    chunks = iter(reader)
    next(chunks)
    reader.close()
    assert list(chunks) == []
    assert list(reader) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX thing")
def test_a_paused_pipe_hands_over_what_it_has(tmp_path: Path) -> None:
    """A chunk holds what came before the pause, although there is room for more and the writer still has the pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    resume = threading.Event()

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(pcap_file(FRAMES[:10]) + b"\1\2\3")
            resume.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with open_capture(str(path)) as reader:
            chunks = iter(reader)
            began = time.monotonic()
            assert len(next(chunks)) == 10
            assert time.monotonic() - began < 5
            assert reader.size is None
            resume.set()
            assert list(chunks) == []
            assert "3 of 16 octets are left" in reader.damage[0].reason
    finally:
        resume.set()
        writer.join()


@pytest.mark.skipif(not hasattr(os, "set_blocking"), reason="non-blocking descriptors are a POSIX thing")
def test_a_non_blocking_descriptor_is_waited_for() -> None:
    receiving, sending = os.pipe()
    os.set_blocking(receiving, False)

    def write() -> None:
        with os.fdopen(sending, "wb", buffering=0) as pipe:
            for at in range(0, len(PLAIN), 50_000):
                time.sleep(0.01)
                pipe.write(PLAIN[at : at + 50_000])

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(receiving, "rb", buffering=0) as stream, open_capture("-", stdin=stream) as reader:
        assert frames_in(reader) == rows(FRAMES)
    writer.join()


def test_a_read_error_is_damage() -> None:
    class Failing(io.RawIOBase):
        def __init__(self) -> None:
            self.reads = 0
            self.given: list[int] = []

        def readable(self) -> bool:
            return True

        def readinto(self, target: object) -> int:
            view = memoryview(target)  # type: ignore[arg-type]
            self.reads += 1
            if self.reads > 3:
                raise OSError(5, "Input/output error")
            at = sum(self.given)
            piece = PLAIN[at : at + min(len(view), 1000)]
            self.given.append(len(piece))
            view[: len(piece)] = piece
            return len(piece)

    with open_capture("-", stdin=Failing()) as reader:  # type: ignore[arg-type]
        found = frames_in(reader)
        assert 0 < len(found) < len(FRAMES)
        assert found == rows(FRAMES[: len(found)])
        assert "reading failed: Input/output error" in reader.damage[0].reason


# -------------------------------------------------------------------------------------------- refusals


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_capture(str(tmp_path / "absent.pcap"))


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        open_capture(str(tmp_path))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match="permission denied"):
        open_capture(str(tmp_path / "x"))


def test_a_name_that_cannot_be() -> None:
    with pytest.raises(InputError, match="null"):
        open_capture("a\0b")


def tar_archive() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("node-1.pcap")
        member.size = len(PLAIN)
        archive.addfile(member, io.BytesIO(PLAIN))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"\xd4\xc3\xb2", "3 octets, too few"),
        (b"hello world, this is a log\n", "starts with 'hello wo', which is text"),
        (b"\x1b[31mred!!", "starts with the octets 1b 5b 33 31"),
        (bytes(100), "starts with the octets 00 00"),
        (b"PK\x03\x04" + bytes(40), "ZIP archive"),
        (b"snoop\0\0\0" + bytes(40), "editcap -F pcapng"),
        (tar_archive(), "tar archive"),
        (gzip.compress(tar_archive()), "inside its gzip data it is a tar archive"),
        (gzip.compress(b"hello world", mtime=0), "inside its gzip data it starts with 'hello wo'"),
        (gzip.compress(b"", mtime=0), "inside its gzip data it is empty"),
        (b"\x1f\x8b\x08\xff" + b"\xff" * 60, "gzip data are"),
        (b"\x1f\x8b\x08", "cut short inside its gzip data"),
        (b"\x06\0\0\0" + bytes(40), "starts with the octets 06 00"),
    ],
)
def test_not_a_capture(content: bytes, says: str) -> None:
    with pytest.raises(CaptureFormatError, match=re.escape(says)) as error:
        reading(content)
    assert error.value.offset == 0
    assert str(error.value).startswith("-: offset 0: ")
    assert str(error.value).isprintable()
    assert error.value.exit_code == 3


@pytest.mark.parametrize("content", [PLAIN, pcapng_file(FRAMES)])
@pytest.mark.parametrize("length", [4, 15])
def test_a_cut_file_header_is_damage(content: bytes, length: int) -> None:
    with reading(content[:length]) as reader:
        assert frames_in(reader) == []
        assert reader.damage[0].offset == 0
        assert f"{length} of" in reader.damage[0].reason
