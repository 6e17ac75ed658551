"""Verdicts against the recorded truth of the lab cluster: what the README's figures rest on.

The truth was measured by decrypting the recordings and from the configuration in force when they were made; nothing
of it is read by the program. A wrong answer graded observed or declared is never tolerated.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.report.document import build_document
from analyzer.user_files import load_cluster
from tests.conftest import LAB, SHARED

FIELDS = ("channel", "tls_version", "encryption", "client_certificate", "server_verification")
VERIFICATION = {True: "verified", False: "unverified", "aborted": "refused"}
CHANNELS_OF_THE_TRUTH = {
    "apiserver-to-kubelet", "node-to-apiserver", "pod-to-apiserver", "user-to-apiserver", "apiserver-to-node-proxy",
    "apiserver-to-pod-proxy", "apiserver-to-service-proxy", "ssh-tunnel", "konnectivity-agent-to-server",
    "apiserver-to-konnectivity-server", "apiserver-to-etcd", "controlplane-to-apiserver", "kubelet-readonly",
}  # fmt: skip
CONFIGURED_CHANNELS = ("apiserver-to-kubelet", "apiserver-to-etcd", "apiserver-to-konnectivity-server")
"""Channels whose client is a component that the lab's cluster facts configure."""

Tally = dict[str, Counter[str]]


def folders() -> list[Path]:
    """The repository's recordings, and the whole set where it lies beside the repository."""
    return [SHARED / "k8s"] if (SHARED / "k8s").is_dir() else [LAB]


def expected(group: dict[str, Any]) -> dict[str, str | None]:
    encrypted, presented = group["encrypted"], group["client_cert_presented"]
    return {
        "channel": group["channel"].replace("->", "-to-"),
        "tls_version": group["tls_version"].removeprefix("TLS") if group["tls_version"] else None,
        "encryption": "undecidable" if encrypted is None else "encrypted" if encrypted else "cleartext",
        "client_certificate": None if presented is None else "presented" if presented else "absent",
        "server_verification": VERIFICATION.get(group["server_identity_verified_by_client"]),
    }


def judge(field: str, want: str, got: str) -> str:
    if field == "channel" and want in ("other", "overlay"):
        return "wrong" if got in CHANNELS_OF_THE_TRUTH else "right"
    if got == want:
        return "right"
    return "undecided" if got in ("", "undecidable", "unknown") else "wrong"


def handshake_seen(group: dict[str, Any]) -> bool:
    aborted = group["server_identity_verified_by_client"] == "aborted"
    return not group.get("mid_connection") and bool(group.get("handshake_complete") or aborted)


@cache
def scored(with_cluster: bool) -> tuple[Tally, tuple[str, ...]]:
    tally: Tally = {}
    mistakes: list[str] = []
    for folder in folders():
        for truth_file in sorted(folder.glob("*.truth.json")):
            truth = json.loads(truth_file.read_text())
            facts = (str(folder / truth["cluster"]),) if with_cluster and truth.get("cluster") else ()
            with open_capture(str(folder / truth["capture"])) as reader:
                document = build_document(run(reader, load_cluster(facts)))
            assert document["ledger"]["balanced"], truth_file.name
            _score(document["connections"]["data"], truth, truth_file.name, tally, mistakes)
    return tally, tuple(mistakes)


def _score(data: dict[str, list[Any]], truth: dict[str, Any], name: str, tally: Tally, mistakes: list[str]) -> None:
    rows: dict[tuple[Any, ...], list[int]] = {}
    keys = zip(data["client_ip"], data["client_port"], data["server_ip"], data["server_port"], strict=True)
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    for group in truth["channels"]:
        want = expected(group)
        for port in group.get("client_ports", ()):
            key = (group["client"], port, group["server"], group["server_port"])
            for field in FIELDS:
                target = want[field]
                if target is None:
                    continue
                # A reused port gives several rows: the best of them counts.
                order = ("right", "undecided", "wrong")
                answers = [
                    (order.index(judge(field, target, data[field][row] or "")), row) for row in rows.get(key, ())
                ]
                rank, row = min(answers, default=(3, -1))
                outcome = (*order, "missing")[rank]
                names = [field, f"{want['channel']}: {field}"]
                if field == "server_verification" and target == "refused":
                    names.append("server_verification (refused)")
                if handshake_seen(group):
                    names += [f"{n} (handshake seen)" for n in names]
                grade = data.get(f"{field}_grade", [""] * (row + 1))[row] if row >= 0 else ""
                for label in names:
                    tally.setdefault(label, Counter())[outcome] += 1
                    if outcome == "wrong" and grade in ("observed", "declared"):
                        tally[label]["overclaimed"] += 1
                if outcome in ("wrong", "missing"):
                    mistakes.append(
                        f"{name}: {key} {field}: {data[field][row] if row >= 0 else None!r}, truth {target!r}"
                    )


def share(tally: Counter[str]) -> float:
    return tally["right"] / (tally["right"] + tally["undecided"] + tally["wrong"] + tally["missing"])


@pytest.mark.parametrize("with_cluster", [False, True], ids=["alone", "with cluster facts"])
def test_no_wrong_answer_is_called_observed_or_declared(with_cluster: bool) -> None:
    tally, mistakes = scored(with_cluster)

    assert {name: n["overclaimed"] for name, n in tally.items() if n["overclaimed"]} == {}, mistakes
    assert all(n["missing"] == 0 for n in tally.values()), mistakes


@pytest.mark.parametrize("with_cluster", [False, True], ids=["alone", "with cluster facts"])
@pytest.mark.parametrize(
    ("field", "least"),
    [("encryption", 0.97), ("tls_version", 0.99), ("client_certificate (handshake seen)", 0.95)],
)
def test_what_the_wire_shows(with_cluster: bool, field: str, least: float) -> None:
    tally, mistakes = scored(with_cluster)

    assert tally[field]["wrong"] == 0, mistakes
    assert share(tally[field]) >= least, tally[field]
    assert tally[field.split(" (")[0]]["wrong"] == 0, mistakes


@pytest.mark.parametrize("with_cluster", [False, True], ids=["alone", "with cluster facts"])
def test_channels(with_cluster: bool) -> None:
    tally, mistakes = scored(with_cluster)

    assert tally["channel"]["wrong"] == 0, mistakes
    assert share(tally["channel"]) >= 0.99, mistakes


def test_server_verification_where_a_component_is_configured() -> None:
    tally, mistakes = scored(True)
    pooled: Counter[str] = Counter()
    for channel in CONFIGURED_CHANNELS:
        pooled += tally.get(f"{channel}: server_verification (handshake seen)", Counter())

    assert pooled["wrong"] == 0, mistakes
    # What is left is curl, which poses as the API server and cannot be known to check.
    assert share(pooled) >= 0.98, pooled
    refused = tally["server_verification (refused)"]
    assert set(refused) == {"right"}, refused


def test_what_configuration_decides_beside_the_wire() -> None:
    tally, mistakes = scored(True)

    for field in ("encryption", "tls_version", "client_certificate (handshake seen)"):
        assert tally[field]["wrong"] == 0, mistakes
        assert share(tally[field]) >= 0.99, (field, tally[field])


@pytest.mark.parametrize("with_cluster", [False, True], ids=["alone", "with cluster facts"])
def test_nobody_is_said_to_verify_who_cannot_be_known_to(with_cluster: bool) -> None:
    """Users' and pods' clients: verified is not visible, so it is not said."""
    tally, _ = scored(with_cluster)

    for channel in ("user-to-apiserver", "pod-to-apiserver"):
        assert tally.get(f"{channel}: server_verification", Counter())["wrong"] == 0
