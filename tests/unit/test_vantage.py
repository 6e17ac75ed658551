"""One connection seen from several places counts once, and clocks are compared by the handshakes both saw."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.analysis import ClusterContext, conclude, run
from analyzer.capture.discovery import Source, open_captures
from analyzer.capture.source import open_capture
from analyzer.pipeline import Pipeline
from analyzer.report.audit_result import AuditResult, CaptureSummary, InputSummary
from analyzer.report.document import build_document
from analyzer.schema import FlowTable, VantagePoint
from analyzer.vantage import Handshakes, correlate
from tests.builders import Conversation, chunk, ethernet, ipv4, udp
from tests.capture_builders import Frame, pcap_file
from tests.conftest import LAB

MS = 1_000_000
BEGIN = 1_700_000_000_000 * MS


@dataclass
class Sighting:
    """Frames as one vantage point recorded them, with its own clock."""

    frames: list[bytes]
    times: list[int]


def audit(*sightings: Sighting, names: tuple[str, ...] = ("cp", "node", "third")) -> AuditResult:
    pipeline = Pipeline()
    summaries, first = [], 0
    for number, sighting in enumerate(sightings):
        if sighting.frames:
            piece = chunk(sighting.frames, times_ns=sighting.times, first_frame=first + 1)
            pipeline.add(replace(piece, capture=number, vantage=number))
        book = pipeline.book(number)
        assert book.ledger.balanced
        summaries.append(
            CaptureSummary(
                f"{names[number]}.pcap", "pcap", 0, len(sighting.frames), book.first_ns, book.last_ns,
                first_number=first, vantage=names[number], ledger=book.ledger,
            )
        )  # fmt: skip
        first += len(sighting.frames)
    result = conclude(pipeline.evidence(), pipeline.ledger, summaries, ClusterContext())
    points = tuple(VantagePoint(names[n], (n,), True, "") for n in range(len(sightings)))
    return replace(result, inputs=InputSummary(points))


def seen(
    conversations: list[Conversation], *, ahead: int = 0, way: int = 0, near: int = 0, keep: slice = slice(None)
) -> Sighting:
    """Record conversations at a place `way` ns from side `near`, with a clock that is `ahead`."""
    frames, times = [], []
    for turn, conversation in enumerate(conversations):
        for number, frame in enumerate(conversation.frames[keep]):
            from_client = frame[34:36] == conversation.sport.to_bytes(2, "big")
            # A packet is ten milliseconds under way, and passes here `way` of them from the near side.
            late = way if from_client == (near == 0) else 10 * MS - way
            frames.append(frame)
            times.append(BEGIN + turn * 50 * MS + number * 20 * MS + late + ahead)
    order = np.argsort(times, kind="stable")
    return Sighting([frames[i] for i in order], [times[i] for i in order])


def conversations(count: int, **named: Any) -> list[Conversation]:
    rng = np.random.default_rng(count)
    made = []
    for n in range(count):
        isn = tuple(int(v) for v in rng.integers(0, 2**32, 2))
        made.append(
            Conversation(sport=40000 + n, isn=(isn[0], isn[1]), **named)
            .open()
            .send(0, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            .send(1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .close()
        )
    return made


@pytest.mark.parametrize("ahead", [0, 300 * MS, -45_000 * MS, 7_200_000 * MS])
def test_a_connection_seen_at_two_places_counts_once_and_tells_the_clocks_apart(ahead: int) -> None:
    shared, own = conversations(5), conversations(3, client="10.0.0.77")
    at_client = seen(shared + own, way=1 * MS)
    at_server = seen(shared, ahead=ahead, way=9 * MS)

    document = build_document(audit(at_client, at_server))

    assert document["summary"]["connections"] == 8
    assert sum(channel["connections"] for channel in document["channels"]) == 8
    assert sum(channel["legs"] for channel in document["channels"]) == 5
    assert sum(document["connections"]["data"]["packets"]) == document["ledger"]["packets_in_flows"]
    [skew] = document["clock_skews"]
    assert (skew["one"], skew["other"], skew["handshakes"], skew["connections"]) == ("cp", "node", 5, 5)
    assert skew["offset_ns"] == ahead
    assert skew["delay_ns"] == 8 * MS
    assert [point["seen_elsewhere"] for point in document["vantage_points"]] == [5, 5]
    assert document["connections"]["data"]["vantage"] == ["cp"] * 8 + ["node"] * 5


@given(
    ahead=st.integers(-(10**13), 10**13),
    jitter=st.lists(st.integers(0, 2 * MS), min_size=4, max_size=12),
    way=st.integers(0, 10 * MS),
)
def test_the_median_is_within_the_jitter(ahead: int, jitter: list[int], way: int) -> None:
    shared = conversations(len(jitter))
    one = seen(shared, way=0)
    other = seen(shared, ahead=ahead, way=way)
    delay = dict(zip((c.sport for c in shared), jitter, strict=True))
    for row, frame in enumerate(other.frames):
        ports = [int.from_bytes(frame[at : at + 2], "big") for at in (34, 36)]
        other.times[row] += next(delay[port] for port in ports if port in delay)

    [skew] = audit(one, other).audit.evidence.skews

    assert min(jitter) <= skew.offset_ns - ahead <= max(jitter)
    assert skew.spread_ns <= max(jitter) - min(jitter)
    assert skew.handshakes == len(jitter)


def test_the_same_connection_joined_in_its_middle_at_both_places() -> None:
    [conversation] = conversations(1)
    begun = seen([conversation], way=0, keep=slice(3, None))
    later = seen([conversation], way=9 * MS, keep=slice(4, None))

    result = audit(begun, later)

    assert result.audit.evidence.leg_of.tolist() == [-1, 0]
    [skew] = result.audit.evidence.skews
    assert (skew.handshakes, skew.shared) == (0, 1)
    notes = build_document(result)["quality"]["notes"]
    assert any("how their clocks differ is not known" in note for note in notes)


def test_a_whole_sighting_leads_one_that_lacks_octets() -> None:
    shared = conversations(3)
    one_sided = seen(shared, way=0)
    one_sided = Sighting(
        *map(
            list,
            zip(
                *[(f, t) for f, t in zip(one_sided.frames, one_sided.times, strict=True) if f[34:36] != b"\x19\x2b"],
                strict=True,
            ),
        )
    )
    whole = seen(shared, way=9 * MS)

    result = audit(one_sided, whole)

    # The sightings without the server's half have no pair of sequence numbers: the ends and the client's numbers match.
    assert result.audit.evidence.leg_of.tolist() == [3, 4, 5, -1, -1, -1]
    assert build_document(result)["quality"]["one_sided"] == 0


def test_a_translated_connection_is_led_by_the_leg_nearest_the_client() -> None:
    [dialled] = conversations(1, server="10.96.0.1", dport=443)
    isn = dialled.isn
    arrived = (
        Conversation("10.0.0.1", "192.168.0.2", 61000, 6443, isn)
        .open()
        .send(0, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .send(1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .close()
    )

    # The server's clock is ten seconds behind, so its sighting seems the earlier one.
    result = audit(seen([arrived], ahead=-10_000 * MS, way=9 * MS), seen([dialled], way=0))

    assert result.audit.evidence.leg_of.tolist() == [1, -1]


def test_a_translated_connection_whose_syn_one_place_missed_is_known_by_its_hello() -> None:
    """The first TLS connection of a recording, as dialled and, from its ClientHello on, as translated elsewhere."""
    frames = records(LAB / "02b-verified-no-client-cert.pcap")
    with_hello = next(n for n, f in enumerate(frames) if f.octets[66:67] == b"\x16" and f.octets[71:72] == b"\x01")
    ends = {frames[with_hello].octets[at : at + 2] for at in (34, 36)}
    own = [f for f in frames if {f.octets[34:36], f.octets[36:38]} == ends]

    def moved(octets: bytes) -> bytes:
        """As another network has it: every address one octet off."""
        changed = bytearray(octets)
        changed[27] ^= 0x55
        changed[31] ^= 0x55
        return bytes(changed)

    hello_at = next(n for n, f in enumerate(own) if f.octets[66:67] == b"\x16")
    one = Sighting([f.octets for f in own], [f.time_ns for f in own])
    other = Sighting([moved(f.octets) for f in own[hello_at:]], [f.time_ns + MS for f in own[hello_at:]])

    result = audit(one, other)

    assert result.audit.evidence.leg_of.tolist() == [-1, 0]


@pytest.mark.parametrize("what", ["ports reused", "another cluster", "unanswered"])
def test_what_only_looks_the_same_stays_apart(what: str) -> None:
    [one] = conversations(1)
    if what == "ports reused":  # both handshakes were seen, and they differ
        other = Conversation(sport=one.sport, isn=(5, 6)).open().send(0, b"GET / HTTP/1.1\r\n\r\n")
        pair = [seen([one]), seen([other], ahead=MS)]
    elif what == "another cluster":  # joined in the middle, with sequence numbers far off
        other = Conversation(sport=one.sport, isn=(one.isn[0] + 2**30, one.isn[1] + 2**30)).open().send(0, b"x" * 50)
        pair = [seen([one]), seen([other], keep=slice(3, None))]
    else:  # the same number in two SYNs that nobody answered, between other ends
        other = Conversation(client="10.9.9.9", sport=1234, isn=one.isn).open()
        pair = [seen([one], keep=slice(0, 1)), seen([other], keep=slice(0, 1))]

    assert audit(*pair).audit.evidence.leg_of.tolist() == [-1, -1]


def test_datagram_flows_with_the_same_ends_at_the_same_time_are_one() -> None:
    frames = [
        ethernet(ipv4(udp(b"query", 5000, 53), protocol=17)),
        ethernet(ipv4(udp(b"again", 5000, 53), protocol=17)),
    ]
    now, hour_later = [BEGIN, BEGIN + MS], [BEGIN + 3600_000 * MS, BEGIN + 3600_001 * MS]

    assert audit(Sighting(frames, now), Sighting(frames, now)).audit.evidence.leg_of.tolist() == [-1, 0]
    assert audit(Sighting(frames, now), Sighting(frames, hour_later)).audit.evidence.leg_of.tolist() == [-1, -1]


def test_three_places_share_one_connection() -> None:
    shared = conversations(4)
    result = audit(seen(shared), seen(shared, ahead=MS, way=5 * MS), seen(shared, ahead=-MS, way=9 * MS))

    assert result.audit.evidence.leg_of.tolist() == [-1] * 4 + [0, 1, 2, 3] * 2
    assert {(s.one, s.other, s.offset_ns) for s in result.audit.evidence.skews} == {
        (0, 1, MS), (0, 2, -MS), (1, 2, -2 * MS)
    }  # fmt: skip


# ------------------------------------------------------------------------ recordings of the lab, as files


def records(path: Path) -> list[Frame]:
    with open_capture(str(path)) as reader:
        return [
            Frame(piece.octets[start : start + length].tobytes(), time, wire)
            for piece in reader
            for start, length, wire, time in zip(
                piece.start.tolist(), piece.captured_len.tolist(), piece.wire_len.tolist(), piece.time_ns.tolist(),
                strict=True,
            )
        ]  # fmt: skip


def document_of(*paths: str | Path) -> dict[str, Any]:
    with open_captures([Source(str(path)) for path in paths]) as reader:
        return build_document(run(reader))


def without_inputs(document: dict[str, Any]) -> dict[str, Any]:
    """What a document says of the traffic, however many files it was in."""
    kept = {name: document[name] for name in ("connections", "channels", "findings", "endpoints", "rules", "summary")}
    text: dict[str, Any] = json.loads(json.dumps(kept))
    for name in ("capture", "last_capture", "first_frame", "last_frame", "evidence_frames", "vantage"):
        del text["connections"]["data"][name]
    for finding in text["findings"]:
        # A filter that is for one file names frames of it.
        del finding["frames"], finding["evidence"], finding["filter"]
    for endpoint in text["endpoints"]:
        for role in endpoint["roles"]:
            del role["frame"], role["capture"]
    return text


@pytest.mark.parametrize("name", ["05-proxy-cleartext.pcap", "10-tls12.pcap", "09-anonymous-kubelet.pcap"])
def test_a_recording_cut_into_files_says_what_the_recording_says(tmp_path: Path, name: str) -> None:
    frames = records(LAB / name)
    for number, at in enumerate(range(0, len(frames), 40)):
        suffix = str(number) if number else ""
        (tmp_path / f"x.pcap{suffix}").write_bytes(pcap_file(frames[at : at + 40], tick_ns=1))
    whole, cut = document_of(LAB / name), document_of(tmp_path)

    assert len(cut["captures"]) > 3
    assert without_inputs(cut) == without_inputs(whole)
    # Every frame number is that of the file named beside it.
    starts = [sum(c["frames"] for c in cut["captures"][:n]) for n in range(len(cut["captures"]))]
    row = {capture["name"]: number for number, capture in enumerate(cut["captures"])}
    mine, theirs = cut["connections"]["data"], whole["connections"]["data"]
    for column, file in (("first_frame", "capture"), ("last_frame", "last_capture")):
        numbers = [starts[row[f]] + n for f, n in zip(mine[file], mine[column], strict=True)]
        assert numbers == theirs[column]
    for short, own, full in zip(mine["evidence_frames"], mine["capture"], theirs["evidence_frames"], strict=True):
        places = [(part.split(":") if ":" in part else [row[own], part]) for part in short.split()]
        assert [starts[int(capture)] + int(frame) for capture, frame in places] == [int(f) for f in full.split()]
    for ours, other in zip(cut["findings"], whole["findings"], strict=True):
        told = [starts[group["capture"]] + frame for group in ours["evidence"] for frame in group["frames"]]
        assert told == other["frames"]


@pytest.mark.parametrize(
    "name", ["05-proxy-cleartext.pcap", "04-node-to-apiserver.pcap", "12-overlay-vxlan.pcap", "06b-ssh-tunnel-any.pcap"]
)
def test_a_recording_beside_its_copy_with_another_clock_counts_once(tmp_path: Path, name: str) -> None:
    frames = records(LAB / name)
    with open_capture(str(LAB / name)) as reader:
        link_type = reader.interfaces[0].link_type
    late = [replace(f, time_ns=f.time_ns + 1_234_567_000) for f in frames]
    for file, copy in (("cp.pcap", frames), ("node.pcap", late)):
        content = bytearray(pcap_file(copy, tick_ns=1))
        content[20:24] = link_type.to_bytes(4, "little")
        (tmp_path / file).write_bytes(content)
    alone, both = document_of(tmp_path / "cp.pcap"), document_of(tmp_path)

    def counts(document: dict[str, Any]) -> dict[str, Any]:
        keys = ("connections", "encryption", "client_certificate", "server_verification", "verdict")
        return {channel["id"]: [channel[key] for key in keys] for channel in document["channels"]}

    assert counts(both) == counts(alone)
    assert both["summary"]["connections"] == alone["summary"]["connections"]
    assert both["quality"]["connections"] == alone["quality"]["connections"]
    [skew] = both["clock_skews"]
    assert (skew["offset_ns"], skew["spread_ns"], skew["delay_ns"]) == (1_234_567_000, 0, 0)
    assert [f["code"] for f in both["findings"]] == [f["code"] for f in alone["findings"]]


def test_vantage_points_that_take_turns_in_one_recording_are_compared_all_the_same(tmp_path: Path) -> None:
    """Names that differ by numbers only, and times that overlap: the fourth file goes on where the second ended."""
    with open_capture(str(LAB / "05-proxy-cleartext.pcap")) as reader:
        frames = [
            Frame(part.octets[start : start + length].tobytes(), when)
            for part in reader
            for start, length, when in zip(
                part.start.tolist(), part.captured_len.tolist(), part.time_ns.tolist(), strict=True
            )
        ]
    end = frames[-1].time_ns

    def later(seconds: int) -> Frame:
        return Frame(bytes(60), end + seconds * 10**9)

    more = [Frame(frame, end + (50 + n) * 10**9) for n, frame in enumerate(Conversation(dport=6443).open().frames)]
    files = {1: [*frames, later(100)], 2: frames, 3: [*frames, later(200)], 4: more}
    for number, content in files.items():
        (tmp_path / f"node{number}.pcap").write_bytes(pcap_file(content, tick_ns=1))
    with open_captures([Source(str(tmp_path))]) as several:
        result = run(several)
    assert [vantage.captures for vantage in result.inputs.vantages] == [(0,), (1, 3), (2,)]
    evidence = result.audit.evidence
    alone = run(open_captures([Source(str(tmp_path / "node2.pcap"))])).audit.evidence
    assert np.unique(evidence.root).shape[0] == len(alone) + 1
    assert {(skew.one, skew.other) for skew in evidence.skews} == {(0, 1), (0, 2), (1, 2)}


def test_hundreds_of_vantage_points_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(7)
    places, pairs = 300, 40_000
    near = rng.integers(0, places - 1, pairs)
    seen_by = np.concatenate([near, near + 1 + rng.integers(0, places - 1 - near)])
    order = np.argsort(seen_by, kind="stable")
    offset = rng.integers(-(10**9), 10**9, places)
    empty, _ = Pipeline().flows.finish(np.empty(0, np.int64))
    like = {column.name: getattr(empty, column.name) for column in fields(FlowTable)}
    table = FlowTable(**{name: np.zeros((2 * pairs, *one.shape[1:]), one.dtype) for name, one in like.items()})
    number = np.concatenate([np.arange(pairs)] * 2)
    columns = {
        "vantage": seen_by.astype(np.int32),
        "protocol": np.full(2 * pairs, 6, np.uint8),
        "syn_seq": np.stack([number * 7919, number * 104729], axis=1),
        "port": np.stack([number % 60_000, number // 60_000], axis=1).astype(np.uint16),
        "first_ns": 10**18 + number * 10**6 + offset[seen_by],
    }
    table = replace(table, **columns).take(order)
    syn_ns = np.stack([table.first_ns, table.first_ns + 1000], axis=1)
    handshakes = Handshakes(syn_ns, table.syn_seq, np.zeros((2 * pairs, 4), np.uint64))
    begin = time.process_time()
    found = correlate(table, np.full(2 * pairs, -1, np.int64), handshakes, np.zeros(2 * pairs, bool))
    assert time.process_time() - begin < 8
    assert int((found.leg_of >= 0).sum()) == pairs
    assert all(skew.offset_ns == offset[skew.other] - offset[skew.one] for skew in found.skews)
    assert len(found.skews) == len(set(zip(near.tolist(), seen_by[pairs:].tolist(), strict=True)))
