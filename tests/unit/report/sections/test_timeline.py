"""Traffic and events over time, on real recordings: sums are those of the channels, events have their frames."""

from __future__ import annotations

import json

import pytest

from analyzer.analysis import ClusterContext, conclude, run
from analyzer.capture.source import open_capture
from analyzer.pipeline import Pipeline
from analyzer.report.audit_result import CaptureSummary, Document
from analyzer.report.document import build_document
from analyzer.report.sections.timeline import EVENT_KINDS
from tests.builders import Conversation, chunk
from tests.conftest import LAB

CAPTURES = ("09-anonymous-kubelet.pcap", "12-overlay-vxlan.pcap", "28-fmt-duplicates-reordered.pcap")


def document_of(name: str) -> Document:
    with open_capture(str(LAB / name)) as reader:
        return build_document(run(reader))


@pytest.mark.parametrize("name", CAPTURES)
def test_bins_add_up_to_the_channels(name: str) -> None:
    document = document_of(name)
    timeline = document["timeline"]
    assert 0 < timeline["bins"] <= 120
    by_id = {channel["id"]: channel for channel in document["channels"]}
    assert [traffic["id"] for traffic in timeline["channels"]] == list(by_id)
    for traffic in timeline["channels"]:
        for column in ("packets", "octets"):
            assert len(traffic[column]) == timeline["bins"]
            assert sum(traffic[column]) == by_id[traffic["id"]][column]
    for kind in EVENT_KINDS:
        assert sum(timeline["event_bins"][kind]) == timeline["event_counts"][kind]


def test_events_name_what_happened_and_the_frame_that_shows_it() -> None:
    document = document_of("09-anonymous-kubelet.pcap")
    timeline, data = document["timeline"], document["connections"]["data"]
    assert timeline["frame_stride"] == 1
    kinds = [event["kind"] for event in timeline["events"]]
    assert kinds.count("refusal") == data["server_verification"].count("refused") == 1
    assert kinds.count("credential") == 1
    assert kinds.count("cleartext-request") == 5
    times = [event["time"] for event in timeline["events"]]
    assert times == sorted(times)
    for event in timeline["events"]:
        row = event["connection"]
        assert data["first_frame"][row] <= event["frame"] <= data["last_frame"][row]
        assert data["first_time"][row] <= event["time"] <= data["last_time"][row]
        assert data["channel"][row] == event["channel"]


def test_events_of_one_frame_come_in_the_order_of_its_messages() -> None:
    asked = [
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /2 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n",
        b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    frames = Conversation(dport=10255).open().send(0, b"".join(asked)).frames

    pipeline = Pipeline()
    pipeline.add(chunk(frames))
    summary = CaptureSummary("x", "pcap", 0, len(frames), pipeline.first_ns, pipeline.last_ns)
    document = build_document(conclude(pipeline.evidence(), pipeline.ledger, [summary], ClusterContext()))

    events = document["timeline"]["events"]
    assert [event["text"].split()[1] for event in events] == ["/1", "/2", "/3"]
    assert [event["kind"] for event in events] == ["cleartext-request", "credential", "cleartext-request"]
    assert len({event["frame"] for event in events}) == 1


def test_an_empty_capture_has_no_bins() -> None:
    timeline = document_of("29-fmt-empty.pcap")["timeline"]
    assert timeline["bins"] == 0
    assert timeline["channels"] == timeline["events"] == []


@pytest.mark.parametrize(
    "stem", ["01-default-insecure-kubelet", "02b-verified-no-client-cert", "07d-konnectivity-bypass"]
)
def test_interactive_sessions_are_those_of_the_truth(stem: str) -> None:
    """Through TLS: the truth knows them by decryption, the timeline by what the ClientHello offers."""
    document = document_of(f"{stem}.pcap")
    truth = json.loads((LAB / f"{stem}.truth.json").read_text())
    upgraded = {
        port
        for row in truth["channels"]
        if row["channel"] == "apiserver->kubelet" and row["upgrades"]
        for port in row["client_ports"]
    }
    sessions = [event for event in document["timeline"]["events"] if event["kind"] == "session"]
    ports = document["connections"]["data"]["client_port"]
    assert {ports[event["connection"]] for event in sessions if event["channel"] == "apiserver-to-kubelet"} == upgraded
    assert upgraded
    assert sum(document["timeline"]["event_bins"]["session"]) == len(sessions)
