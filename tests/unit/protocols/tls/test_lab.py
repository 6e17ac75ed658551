"""The lab captures against their truth: nothing wrong, and nearly everything decided."""

from __future__ import annotations

import ipaddress
import json
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from analyzer.protocols.tls import read_tls, settled
from analyzer.registries import Grade, Ternary, TlsVersion
from tests.unit.protocols.tls.conversations import conversations, heads_of, lab, lab_names, looks_like_tls
from tests.unit.protocols.tls.wire import table

TERNARY = {int(Ternary.UNKNOWN): None, int(Ternary.NO): False, int(Ternary.YES): True}
TRUTHS = lab_names("*.truth.json")
# The handshakes are not in these captures, or their octets were cut off.
WITHOUT_HANDSHAKE = ("20-fmt-snaplen96", "20b-fmt-snaplen200", "26-fmt-starts-mid", "26b-fmt-no-handshakes")
# 14 is large; what it shows is in the others.
SMALL = [name for name in TRUTHS if not name.startswith("14-")]


@cache
def rows_of(truth: str) -> tuple[dict[str, Any], dict[tuple[str, int, str, int], list[dict[str, Any]]]]:
    """The truth of a capture, and the facts by client and server."""
    stated = json.loads(lab(truth).read_text())
    found = [c for c in conversations(lab(stated["capture"])) if looks_like_tls(c)]
    heads, flags = heads_of(found)
    rows = table(read_tls(heads, np.arange(len(found)), flags))
    by_key: dict[tuple[str, int, str, int], list[dict[str, Any]]] = defaultdict(list)
    for conversation, row in zip(found, rows, strict=True):
        client, client_port, server, server_port = conversation.key
        key = (str(ipaddress.ip_address(client)), client_port, str(ipaddress.ip_address(server)), server_port)
        by_key[key].append(row)
    return stated, by_key


def answers(row: dict[str, Any]) -> dict[str, Any]:
    """Facts in the words of the truth; None = open."""
    label = TlsVersion(row["version"]).label
    return {
        "tls_version": f"TLS{label}" if label else None,
        "cipher_suite": f"0x{row['cipher_suite']:04x}" if row["server_hello_seen"] else None,
        "client_cert_presented": TERNARY[row["client_certificate"]],
        "client_cert_requested_by_server": TERNARY[row["certificate_requested"]],
        "server_cert_self_signed": TERNARY[row["server_self_made"]],
        "handshake_complete": TERNARY[row["established"]],
        "refused": TERNARY[row["refused"]],
    }


def score(truth: str) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Count right and open answers by field; list the wrong ones."""
    stated, by_key = rows_of(truth)
    tally: Counter[tuple[str, str]] = Counter()
    wrong = []
    for channel in stated["channels"]:
        if not channel["protocol"].startswith("TLS") or channel.get("encapsulated_between"):
            continue
        aborted = channel["server_identity_verified_by_client"] == "aborted"
        expected = channel | {"refused": aborted}
        captured = not channel["mid_connection"] and (channel["handshake_complete"] or aborted)
        for port in channel["client_ports"]:
            rows = by_key.get((channel["client"], port, channel["server"], channel["server_port"]), [])
            if not rows:
                wrong.append(f"{truth} port {port}: no TLS flow")
            for field in answers(rows[0]) if rows else ():
                if expected[field] is None:
                    continue
                got = [answers(row)[field] for row in rows]
                if expected[field] in got:
                    tally[field, "right"] += captured
                elif None in got:
                    tally[field, "open"] += captured
                else:
                    wrong.append(f"{truth} port {port} {field}: {got}, truth {expected[field]!r}")
            for row in rows if captured else ():
                # Names come from clear octets: always right where the hello is whole.
                if row["ja4"]:
                    assert row["sni"] == channel["sni"], (truth, port)
                if row["alpn_grade"] != Grade.NONE:
                    assert row["alpn"] == channel["alpn"], (truth, port)
    return tally, wrong


@pytest.mark.parametrize("truth", SMALL)
def test_no_answer_is_wrong(truth: str) -> None:
    assert score(truth)[1] == []


def test_nearly_every_captured_handshake_is_decided() -> None:
    total: Counter[tuple[str, str]] = Counter()
    for truth in SMALL:
        if not truth.startswith(WITHOUT_HANDSHAKE):
            total += score(truth)[0]
    for field in ("tls_version", "cipher_suite", "client_cert_presented", "client_cert_requested_by_server"):
        right, left = total[field, "right"], total[field, "open"]
        assert right > 100
        assert right / (right + left) >= 0.95, field
    assert total["refused", "right"] > 80


def test_answers_are_observed_only_where_the_handshake_is_clear() -> None:
    for truth in SMALL:
        for rows in rows_of(truth)[1].values():
            for row in rows:
                if row["version"] == TlsVersion.TLS_1_3 and row["refused"] != Ternary.YES:
                    assert row["client_certificate_grade"] != Grade.OBSERVED
                    assert row["server_self_made_grade"] != Grade.OBSERVED
                assert (row["client_certificate"] == Ternary.UNKNOWN) == (row["client_certificate_grade"] == Grade.NONE)
                assert (row["refused"] == Ternary.UNKNOWN) == (row["refused_grade"] == Grade.NONE)


def test_kubernetes_clients_are_go_and_curl_is_openssl() -> None:
    stacks = Counter(
        row["client_stack"]
        for rows in rows_of("01-default-insecure-kubelet.truth.json")[1].values()
        for row in rows
        if row["ja4"]
    )
    assert set(stacks) == {1}
    stacks = Counter(
        row["client_stack"] for rows in rows_of("11-keylog-dsb.truth.json")[1].values() for row in rows if row["ja4"]
    )
    assert stacks[2] == 5


@pytest.mark.parametrize(
    "name",
    [
        "01-default-insecure-kubelet.pcap",
        "03-verification-failure-selfsigned.pcap",
        "10-tls12.pcap",
        "10b-legacy-tls.pcap",
    ],
)
def test_collection_may_stop_where_settled(name: str) -> None:
    """Heads cut after any frame: where they are settled, the whole heads say the same."""
    found = [c for c in conversations(lab(name)) if looks_like_tls(c)]
    frames = sorted({segment[3] for c in found for side in c.segments for segment in side})
    flows = np.arange(len(found))
    heads, flags = heads_of(found)
    whole = table(read_tls(heads, flows, flags))
    seen = np.zeros(len(found), bool)
    for last in frames[:: max(1, len(frames) // 12)]:
        early = [replace(c, segments=[[s for s in side if s[3] <= last] for side in c.segments]) for c in found]
        cut, _ = heads_of(early)
        done = settled(cut, flows)
        assert not (seen & ~done).any()
        seen |= done
        rows = table(read_tls(cut, flows, flags))
        for flow in np.flatnonzero(done).tolist():
            assert rows[flow] == whole[flow]
    if name.startswith("03"):
        assert not seen.any()
    else:
        assert seen.any()
