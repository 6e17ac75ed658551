"""The smallest capture that shows a finding: analysed again, it does."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.analysis import run
from analyzer.api import Report, analyze
from analyzer.capture.source import open_capture
from analyzer.errors import FindingError
from analyzer.excerpt import cut_out, frame_connections, select
from analyzer.report.document import build_document
from analyzer.user_files import load_cluster, load_keys
from tests.builders import Conversation
from tests.capture_builders import Frame, pcap_file
from tests.conftest import LAB, lab_captures
from tests.document_example import example_document

LEAKING = LAB / "09-anonymous-kubelet.pcap"


def facts_of(capture: Path) -> tuple[str, ...]:
    facts = LAB / "clusters" / capture.name.split(".", 1)[0]
    return (str(facts),) if facts.is_dir() else ()


@cache
def audited(capture: Path, with_cluster: bool) -> Report:
    return analyze(capture, cluster=facts_of(capture) if with_cluster else ())


def again(octets: bytes, cluster: tuple[str, ...]) -> Any:
    with open_capture("-", stdin=io.BytesIO(octets)) as reader:
        return build_document(run(reader, load_cluster(cluster)))


@pytest.mark.parametrize("with_cluster", [False, True], ids=["alone", "with cluster facts"])
@pytest.mark.parametrize("capture", lab_captures(), ids=lambda p: p.name)
def test_every_finding_of_every_recording_is_shown_by_its_evidence(capture: Path, with_cluster: bool) -> None:
    cluster = facts_of(capture) if with_cluster else ()
    report = audited(capture, with_cluster)
    for finding in report.document["findings"]:
        excerpt = cut_out(str(capture), finding["id"], load_cluster(cluster))

        shown = {f["id"]: f for f in again(excerpt.octets, cluster)["findings"]}[finding["id"]]
        for name in ("fingerprint", "grade", "severity", "code", "channel"):
            assert shown[name] == finding[name], finding["id"]
        assert len(excerpt.frames) < report.document["ledger"]["frames"] or len(excerpt.frames) < 40


@pytest.mark.parametrize("stem", ["03d-expired-accepted", "13-admission-aggregation"])
def test_what_only_keys_show_is_shown_with_them(stem: str) -> None:
    capture, log = str(LAB / f"{stem}.pcap"), str(LAB / "keylogs" / f"{stem}.keys.log")
    alone = {f["id"] for f in analyze(capture).document["findings"]}
    hidden = {f["id"] for f in analyze(capture, keys=log).document["findings"]} - alone
    assert hidden
    for wanted in hidden:
        keys, _ = load_keys((log,))
        excerpt = cut_out(capture, wanted, load_cluster(()), keys=keys)
        assert (excerpt.credentials, excerpt.sessions) == ((), 0)
        with open_capture("-", stdin=io.BytesIO(excerpt.octets)) as reader:
            assert reader.secrets == []
            found = build_document(run(reader, keys=load_keys((log,))[0]))["findings"]
        assert wanted in {f["id"] for f in found}
        assert wanted not in {f["id"] for f in again(excerpt.octets, ())["findings"]}


def test_frames_are_those_of_the_capture_and_say_which() -> None:
    excerpt = cut_out(str(LEAKING), "PW104/workload", load_cluster(()))

    with open_capture(str(LEAKING)) as reader:
        wanted = {}
        for chunk in reader:
            for at in range(len(chunk)):
                start = int(chunk.start[at])
                octets = chunk.octets[start : start + int(chunk.captured_len[at])].tobytes()
                wanted[chunk.first_frame + at] = (octets, int(chunk.wire_len[at]), int(chunk.time_ns[at]))
    with open_capture("-", stdin=io.BytesIO(excerpt.octets)) as reader:
        [chunk] = list(reader)
        found = [
            (chunk.octets[s : s + n].tobytes(), int(w), int(t))
            for s, n, w, t in zip(chunk.start, chunk.captured_len, chunk.wire_len, chunk.time_ns, strict=True)
        ]
        comments = dict(reader.comments)
    assert found == [wanted[number] for number in excerpt.frames]
    [evidence] = [f["frames"] for f in audited(LEAKING, False).document["findings"] if f["id"] == "PW104/workload"]
    assert set(evidence) <= set(excerpt.frames)
    assert comments[0].startswith("PW104/workload: ")
    for number, original in enumerate(excerpt.frames, 1):
        place = f"PW104/workload, frame {original} of the capture"
        assert comments[number] == (place if original in evidence else f"frame {original}")


def token_of(octets: bytes) -> bytes:
    at = octets.index(b"Authorization: Bearer ") + len(b"Authorization: Bearer ")
    return octets[at : octets.index(b"\r\n", at)]


def test_a_readable_credential_is_said_and_can_be_masked() -> None:
    token = token_of(LEAKING.read_bytes())
    plain = cut_out(str(LEAKING), "PW104", load_cluster(()))
    masked = cut_out(str(LEAKING), "PW104", load_cluster(()), redact=True)

    assert plain.credentials
    assert token in plain.octets
    assert masked.credentials == ()
    claims, signature = token.rsplit(b".", 1)
    assert signature not in masked.octets
    assert claims in masked.octets
    assert len(masked.frames) == len(plain.frames)
    shown = {f["id"]: f["message"] for f in again(masked.octets, ())["findings"]}["PW104/workload"]
    assert "service account default/default" in shown


def test_two_interfaces_stay_two_where_both_are_needed() -> None:
    capture = LAB / "16-pcapng-two-interfaces.pcapng"
    excerpt = cut_out(str(capture), "PW201", load_cluster(()))
    with open_capture(str(capture)) as reader:
        list(reader)
        known = {(i.name, i.link_type) for i in reader.interfaces}
    with open_capture("-", stdin=io.BytesIO(excerpt.octets)) as reader:
        list(reader)
        assert {(i.name, i.link_type) for i in reader.interfaces} <= known


def test_frames_belong_to_the_connections_that_carried_them() -> None:
    """Held against the totals of the connections table, tunnelled packets included."""
    for name in ("12-overlay-vxlan.pcap", "05-proxy-cleartext.pcap"):
        frame, row = frame_connections(str(LAB / name))
        data = analyze(LAB / name).document["connections"]["data"]
        assert np.bincount(row, minlength=len(data["packets"])).tolist() == data["packets"]
        first = np.full(len(data["packets"]), 1 << 60)
        np.minimum.at(first, row, frame)
        assert first.tolist() == data["first_frame"]


# ------------------------------------------------------------------------------------------ which finding


@pytest.mark.parametrize("wanted", ["PW102/kubelet-readonly", "pw102", "kubelet-read-only-port", " PW102 "])
def test_a_finding_is_named_by_id_code_or_name(wanted: str) -> None:
    assert select(audited(LEAKING, False).document, wanted)["id"] == "PW102/kubelet-readonly"


def test_a_fingerprint_names_it_too() -> None:
    [finding] = [f for f in audited(LEAKING, False).document["findings"] if f["code"] == "PW104"]
    assert select(audited(LEAKING, False).document, finding["fingerprint"][:12])["id"] == finding["id"]


def test_what_names_several_or_none_says_which_there_are() -> None:
    document = audited(LAB / "05-proxy-cleartext.pcap", False).document
    with pytest.raises(FindingError, match=r"names 2 findings; say which: PW101/apiserver-to-node-proxy, PW101/api"):
        select(document, "PW101")
    with pytest.raises(FindingError, match=r"no finding 'PW999'; there are PW101/"):
        select(document, "PW999")
    with pytest.raises(FindingError, match=r"no finding '\\x1b\[31m'; there are none at all"):
        select(example_document(0), "\x1b[31m")


def test_what_another_connection_carries_is_shown_by_its_frames(tmp_path: Path) -> None:
    """A token in cleartext behind CONNECT: the evidence is the connection to the proxy, and shows it again."""
    request = b"GET /pods HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sixteen-or-more-letters\r\n\r\n"
    conversation = Conversation(dport=8131).open().send(0, b"CONNECT 10.1.0.11:10255 HTTP/1.1\r\nHost: x\r\n\r\n")
    conversation.send(1, b"HTTP/1.1 200 OK\r\n\r\n").send(0, request)
    other = Conversation(sport=41000, dport=9, isn=(7, 8)).open().send(0, b"nothing of it")
    path = tmp_path / "connect.pcap"
    frames = [*conversation.frames, *other.frames]
    path.write_bytes(pcap_file(Frame(octets, 1_700_000_000_000_000_000 + i) for i, octets in enumerate(frames)))
    excerpt = cut_out(str(path), "PW104", load_cluster(()))

    assert excerpt.frames == tuple(range(1, len(conversation.frames) + 1))
