"""Dissections: tshark's, in full, inert, and without credentials."""

from __future__ import annotations

import gc
import shutil
import warnings
from pathlib import Path

import pytest

from analyzer.errors import MissingProgramError, OpinionError
from analyzer.opinions.by_tshark import tshark_opinion
from analyzer.opinions.dissection import dissect
from analyzer.redaction import redacted_text
from tests.builders import Conversation
from tests.cli.test_analyze import pcap
from tests.conftest import LAB

LEAKING = LAB / "09-anonymous-kubelet.pcap"


def lines(path: Path, *frames: int) -> list[str]:
    return [line for frame in dissect(str(path), frames) for _, body in frame.layers for line in body]


@pytest.mark.tshark
def test_the_frames_asked_for_are_dissected_in_order() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = list(dissect(str(LEAKING), (361, 10, 15)))
        gc.collect()
    assert [frame.number for frame in found] == [10, 15, 361]
    assert [name for name, _ in found[2].layers][:4] == ["eth", "ip", "tcp", "http"]
    assert "Request Method: GET" in dict(found[2].layers)["http"]
    assert [name for name, _ in found[0].layers] == ["eth", "ip", "tcp"]
    assert "Handshake Type: Server Hello (2)" in dict(found[1].layers)["tls"]


@pytest.mark.tshark
def test_no_part_of_a_token_is_shown() -> None:
    octets = LEAKING.read_bytes()
    at = octets.index(b"Authorization: Bearer ") + len(b"Authorization: Bearer ")
    token = octets[at : octets.index(b"\r\n", at)].decode()

    shown = "\n".join(lines(LEAKING, 361))

    assert "Authorization: Bearer REDACTED" in shown
    for part in token.split("."):
        assert part[:16] not in shown
        assert part.encode().hex()[:32] not in shown


@pytest.mark.tshark
def test_hostile_text_is_inert_and_basic_credentials_are_not_decoded(tmp_path: Path) -> None:
    request = (
        b"GET /\x1b[2J?access_token=hunter2hunter2 HTTP/1.1\r\nHost: evil\x1b]0;owned\x07\r\n"
        b"Authorization: Basic dXNlcjpodW50ZXIyaHVudGVyMg==\r\nCookie: sid=hunter2hunter2\r\n\r\n"
    )
    path = tmp_path / "x.pcap"
    frames = Conversation().open().send(0, request).frames
    path.write_bytes(pcap(frames))

    shown = lines(path, len(frames))

    assert any("\\x1b" in line or "033" in line or "\ufffd" in line for line in shown)
    assert all(line.isprintable() for line in shown)
    text = "\n".join(shown)
    for secret in ("hunter2", "dXNlcjpo", "user:"):
        assert secret not in text


@pytest.mark.tshark
def test_a_capture_that_is_cut_is_dissected_up_to_there() -> None:
    assert lines(LAB / "25-fmt-cut-mid-packet.pcap", 1)


@pytest.mark.tshark
def test_what_tshark_cannot_read_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(b"no capture at all")
    for ask in (lambda: list(dissect(str(path), (1,))), lambda: tshark_opinion(str(path))):
        with pytest.raises(OpinionError, match=r"tshark cannot (dissect|read) .*x\.pcap") as caught:
            ask()
        assert str(caught.value).isprintable()


def test_without_tshark_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for ask in (lambda: list(dissect(str(LEAKING), (1,))), lambda: tshark_opinion(str(LEAKING))):
        with pytest.raises(MissingProgramError, match="tshark is not installed"):
            ask()


@pytest.mark.tshark
def test_a_config_file_in_the_folder_names_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyshark would run what a config.ini in the current folder says."""
    trap = tmp_path / "tshark"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'sprung'}\n")
    trap.chmod(0o755)
    (tmp_path / "config.ini").write_text(f"[tshark]\ntshark_path = {trap}\n")
    monkeypatch.chdir(tmp_path)

    assert lines(LEAKING, 10)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("Authorization: Bearer abcdefgh1234\\r\\n", "Authorization: Bearer REDACTED"),
        ("[Full request URI: http://x/?token=abc]", "[Full request URI: http://x/?token=REDACTED"),
        ("Request URI Query Parameter: access_token=a", "Request URI Query Parameter: access_token=REDACTED"),
        ("Header: authorization: Bearer abcdefgh", "Header: authorization: Bearer REDACTED"),
        ("Value: Basic dXNlcjpw", "Value: Basic REDACTED"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln and more", "REDACTED and more"),
        ("Source Port: 443", "Source Port: 443"),
        ("Token Ring", "Token Ring"),
    ],
)
def test_credentials_in_text_of_any_form(line: str, wanted: str) -> None:
    assert redacted_text(line) == wanted
