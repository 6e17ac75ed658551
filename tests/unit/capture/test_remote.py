"""Files in a storage: found, read to their end whatever fails on the way, and shown without what opens them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from analyzer.analysis import run
from analyzer.capture import remote
from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.remote import TRIES, RemoteFile, RemoteSource, find, is_url, shown
from analyzer.errors import InputError, MissingProgramError
from analyzer.report.document import build_document
from tests.capture_builders import Frame, pcap_file
from tests.conftest import LAB

OCTETS = bytes(range(256)) * 400


class Flaky:
    """An open file that fails at every so many reads; how often it was opened is counted."""

    opened = 0

    def __init__(self, octets: bytes, fails: list[bool]) -> None:
        self._octets, self._fails, self._at = octets, fails, 0
        Flaky.opened += 1

    def seek(self, offset: int) -> None:
        self._at = offset

    def readinto(self, target: memoryview) -> int:
        if self._fails and self._fails.pop(0):
            raise RuntimeError("https://user:hunter2@host/x?sig=hunter2 went away")
        part = self._octets[self._at : self._at + min(len(target), 1000)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        raise OSError("closing fails too")


class FlakySystem:
    """A storage; the first `well` times it is asked for its file nothing fails."""

    def __init__(self, octets: bytes, fails: list[bool], well: int = 0) -> None:
        self._octets, self._fails, self._well = octets, fails, well

    def open(self, *_: object, **__: object) -> Flaky:
        self._well -= 1
        return Flaky(self._octets, [] if self._well >= 0 else self._fails)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSE_S", 0.0)
    Flaky.opened = 0


def read(source: RemoteSource) -> bytes:
    found = b""
    target = memoryview(bytearray(7777))
    while count := source.readinto(target):
        found += bytes(target[:count])
    return found


def source_of(fails: list[bool], size: int | None = len(OCTETS)) -> RemoteSource:
    return RemoteSource(RemoteFile("s3://b/x", FlakySystem(OCTETS, fails), "b/x", size))


def test_a_read_that_fails_goes_on_where_it_was() -> None:
    fails = [False, True, False, True, True, False, True, True, True, False]
    source = source_of(list(fails))
    assert read(source) == OCTETS
    assert source.octets_read == len(OCTETS)
    assert source.problem == ""
    assert Flaky.opened == 1 + sum(fails)


def test_what_always_fails_ends_the_input_and_is_said_without_credentials() -> None:
    source = source_of([False] * 3 + [True] * TRIES)
    assert read(source) == OCTETS[:3000]
    assert source.problem == f"reading failed {TRIES} times: https://host/x went away"


def test_a_storage_that_ends_a_file_early_is_told() -> None:
    source = source_of([], len(OCTETS) + 5)
    assert read(source) == OCTETS
    assert source.problem == f"the storage ended the file after {len(OCTETS)} of {len(OCTETS) + 5} octets"


@pytest.mark.parametrize(
    ("address", "as_shown"),
    [
        ("s3://bucket/node-?/x@y.pcap", "s3://bucket/node-?/x@y.pcap"),
        ("s3://key:secret@bucket/x.pcap", "s3://bucket/x.pcap"),
        ("s3://key:sec/ret@bucket/x.pcap", "s3://bucket/x.pcap"),
        ("https://user:secret@host:8080/x.pcap?X-Amz-Signature=secret#secret", "https://host:8080/x.pcap"),
        ("filecache::https://user:secret@host/x?secret", "filecache::https://host/x"),
        ("sftp://root@host/x.pcap", "sftp://host/x.pcap"),
        ("https://host:9000/a@b.pcap", "https://host:9000/a@b.pcap"),
        ("sftp://user:secret@secret@host/x@y.pcap", "sftp://host/x@y.pcap"),
        ("sftp://secret@secret@host/x.pcap", "sftp://host/x.pcap"),
        ("s3://key:sec/ret@secret@bucket/x.pcap", "s3://bucket/x.pcap"),
        ("abfs://c1@account.dfs.core.windows.net/x.pcap", "abfs://c1@account.dfs.core.windows.net/x.pcap"),
        ("WASBS://c1@account/x", "WASBS://c1@account/x"),
        ("abfss://user:secret@account/x", "abfss://account/x"),
        ("abfs://c1@secret@account/x", "abfs://account/x"),
        ("http://c1@account/x", "http://account/x"),
    ],
)
def test_addresses_are_shown_without_what_opens_them(address: str, as_shown: str) -> None:
    assert shown(address) == as_shown
    assert is_url(address)
    assert "secret" not in repr(RemoteFile(shown(address), None, address, None))


@given(st.text("abc:/@?#.", max_size=12), st.text("abc/:.", max_size=8))
def test_no_password_is_ever_shown(user: str, rest: str) -> None:
    said = shown(f"https://u{user.replace('@', '').replace('/', '')}:hunter2@host/{rest}?k=hunter2")
    assert "hunter2" not in said


@given(st.text("ab:@?#.", max_size=12), st.text("abc/:.", max_size=8))
def test_no_part_of_a_password_is_shown_up_to_the_last_at_of_the_host(user: str, rest: str) -> None:
    assert "hunter2" not in shown(f"sftp://u{user}@hunter2@host/{rest}")
    assert "hunter2" not in shown(f"sftp://u:hunter2{user}@host/{rest}")


def test_a_file_here_is_not_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd::name").write_bytes(b"")
    assert not is_url("odd::name")
    assert not is_url("captures/x.pcap")
    assert not is_url("C:/captures/x.pcap")


@pytest.fixture
def storage() -> Any:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    system = fsspec.filesystem("memory")
    for node, name in (
        ("node-1", "05-proxy-cleartext.pcap"),
        ("node-10", "10-tls12.pcap"),
        ("node-2", "12-overlay-vxlan.pcap"),
    ):
        system.pipe(f"/bucket/{node}/eth0.pcap", (LAB / name).read_bytes())
    system.pipe("/bucket/node-1/readme.txt", b"no capture")
    return system


@pytest.mark.usefixtures("storage")
def test_a_pattern_a_folder_and_a_name() -> None:
    found, named = find("memory://bucket/node-*/*.pcap")
    assert not named
    assert [file.path for file in found] == [f"/bucket/node-{n}/eth0.pcap" for n in (1, 2, 10)]
    assert [file.size for file in found] == [len(pickle.loads(pickle.dumps(f)).open(1 << 16).read()) for f in found]
    assert len(find("memory://bucket")[0]) == 4
    assert find("memory://bucket/node-1/eth0.pcap")[1]


@pytest.mark.usefixtures("storage")
def test_captures_in_a_storage_are_one_input() -> None:
    with open_captures([Source("memory://bucket/")]) as reader:
        document = build_document(run(reader))
    assert len(document["captures"]) == 3
    assert document["skipped"]["count"] == 1
    assert [one["name"] for one in document["vantage_points"]] == ["node-1/eth0", "node-10/eth0", "node-2/eth0"]


@pytest.mark.usefixtures("storage")
def test_one_that_is_missing_costs_nothing_of_the_rest() -> None:
    with open_captures([Source("memory://bucket/absent.pcap"), Source("memory://bucket/node-*/*.pcap")]) as reader:
        document = build_document(run(reader))
    assert len(document["captures"]) == 3
    assert [(one["name"], one["named"]) for one in document["skipped"]["files"]] == [
        ("memory://bucket/absent.pcap", True)
    ]


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://bucket/none-*", "memory://bucket/none-*: no file matches"),
        ("memory://bucket/absent.pcap", "memory://bucket/absent.pcap: no such file, folder or bucket"),
        ("nosuch://bucket/x", "nosuch://bucket/x: Protocol not known: nosuch"),
    ],
)
def test_what_cannot_be_found_is_one_line(address: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        open_captures([Source(address)])
    assert str(raised.value) == said


class Named:
    """A storage whose files are told apart by what is not shown: a query, a container."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def info(self, path: str) -> dict[str, object]:
        return {"name": path, "type": "file", "size": len(self.files[path])}

    def open(self, path: str, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO(self.files[path])


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (["http://h/get?file=a", "http://h/get?file=b"], ["http://h/get", "http://h/get (b)"]),
        (["abfs://c1@account/x.pcap", "abfs://c2@account/x.pcap"], None),
    ],
)
def test_files_that_differ_by_what_is_not_shown_are_two(
    addresses: list[str], names: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    octets = [(LAB / name).read_bytes() for name in ("05-proxy-cleartext.pcap", "10-tls12.pcap")]
    system = Named(dict(zip(addresses, octets, strict=True)))
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (system, url))
    with open_captures([Source(address) for address in [*addresses, addresses[0]]]) as reader:
        document = build_document(run(reader))
    assert sorted(capture["name"] for capture in document["captures"]) == (names or addresses)
    assert len(document["vantage_points"]) == 2
    assert [one["reason"] for one in document["skipped"]["files"]] == ["the same file as one before it"]


def test_what_must_be_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingProgramError, match="gcsfs"):
        find("gs://bucket/x.pcap")
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(MissingProgramError, match=r"pip install 'planewire\[distributed\]'"):
        find("s3://bucket/x.pcap")


def test_a_capture_that_breaks_off_in_its_storage_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = pcap_file([Frame(bytes(60), 10**18 + n) for n in range(100)])
    file = RemoteFile("s3://b/x.pcap", FlakySystem(octets, [False] * 6 + [True] * TRIES, 1), "b/x.pcap", len(octets))
    monkeypatch.setattr("analyzer.capture.discovery.find", lambda _: ([file], True))
    with open_captures([Source("s3://b/x.pcap")]) as reader:
        document = build_document(run(reader))
    assert 0 < document["ledger"]["frames"] < 100
    (damage,) = document["captures"][0]["damage"]
    assert damage["reason"].startswith(f"reading failed {TRIES} times: https://host/x went away: ")
