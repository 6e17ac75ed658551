"""Interim: open a pcap file."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from analyzer.capture.pcap import PcapParser, recognise
from analyzer.errors import CaptureFormatError, InputError
from analyzer.schema import CaptureChunk, Damage, Interface


class _Reader:
    def __init__(self, name: str, stream: BinaryIO) -> None:
        self.name, self.format = name, "pcap"
        self.interfaces: list[Interface] = []
        self.damage: list[Damage] = []
        self.secrets: list[bytes] = []
        self.names: list[tuple[str, str]] = []
        self.comments: list[tuple[int, str]] = []
        self.octets_read = 0
        self.size: int | None = None
        self._data = stream.read()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[CaptureChunk]:
        data = self._data
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        found = recognise(data[:4]) if len(data) >= 4 else None
        if found is None:
            raise CaptureFormatError(self.name, 0, "not a pcap file")
        order, variant = found
        parser = PcapParser(data[: variant.file_header], order, variant)
        self.interfaces.append(parser.interface)
        octets = np.frombuffer(data, np.uint8)[variant.file_header :]
        stretch = parser.parse(octets, variant.file_header, 1)
        self.octets_read = len(self._data)
        f = stretch.frames
        if stretch.damage:
            self.damage.append(stretch.damage)
        elif stretch.consumed < octets.shape[0]:
            n = len(f) + 1
            self.damage.append(
                Damage(variant.file_header + stretch.consumed, parser.describe_cut(octets[stretch.consumed :], n))
            )
        yield CaptureChunk(octets, f.start, f.captured_len, f.wire_len, f.time_ns, f.interface, f.link_type, 1)


def open_capture(path: str) -> _Reader:
    """Open."""
    if path == "-":
        return _Reader(path, sys.stdin.buffer)
    try:
        with open(path, "rb") as stream:
            return _Reader(path, stream)
    except OSError as error:
        raise InputError(path, error.strerror or str(error)) from None
