"""With the key logs beside the recordings, what was encrypted is read: all that the truth states, and nothing else.

Independent of the truth, tshark decrypts the same recordings with the same keys and must name the same requests.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.registries import Grade, Ternary, TlsVersion
from analyzer.report.audit_result import AuditResult
from analyzer.report.document import build_document
from analyzer.report.tables import json_text
from tests.conftest import LAB, SHARED

FOLDER = SHARED / "k8s" if (SHARED / "k8s").is_dir() else LAB
TERNARY = {int(Ternary.UNKNOWN): None, int(Ternary.NO): False, int(Ternary.YES): True}
READ = "decrypted/seen handshake"
Key = tuple[str, int, str, int]


@cache
def all_keys() -> bytes:
    """Every key log of the lab: the recordings of other formats were made from those that have one."""
    return b"".join(path.read_bytes() for path in sorted((FOLDER / "keylogs").glob("*.keys.log")))


@cache
def analysed(path: Path) -> AuditResult:
    with open_capture(str(path)) as reader:
        return run(reader, keys=KeyLog(all_keys()))


@dataclass(frozen=True)
class Facts:
    """What was read of one connection, in the words of the truth."""

    tls_version: str | None
    client_cert_presented: bool | None
    client_cert_requested_by_server: bool | None
    client_cert_subject: str | None
    server_cert: dict[str, Any] | None
    server_cert_self_signed: bool | None
    handshake_complete: bool | None
    alpn: str | None
    observed: bool
    decryption: str
    ambiguous: bool = False


def in_order(name: str) -> list[str]:
    """Parts of a distinguished name, whatever order they are written in."""
    return sorted(name.replace("+", ",").split(","))


@cache
def facts_of(path: Path) -> dict[Key, list[Facts]]:
    result = analysed(path)
    evidence = result.audit.evidence
    columns = build_document(result)["connections"]["data"]
    found: dict[Key, list[Facts]] = defaultdict(list)
    names = ("client_ip", "client_port", "server_ip", "server_port")
    keys = list(zip(*(columns[name] for name in names), strict=True))
    tls = evidence.tls
    texts = {name: evidence.tls_text(name) for name in ("alpn", "decryption")}
    for row, of_tls in enumerate(evidence.tls_row.tolist()):
        if of_tls < 0:
            continue

        def fact(name: str, of_tls: int = of_tls) -> int:
            return int(getattr(tls.facts, name)[of_tls])

        chains = {
            side: [tls.certificates[i] for i in tls.chains[fact(side)]] if fact(side) >= 0 else []
            for side in ("client_chain", "server_chain")
        }
        server, client = chains["server_chain"], chains["client_chain"]
        version = TlsVersion(fact("version")).label
        found[keys[row]].append(
            Facts(
                f"TLS{version}" if version else None,
                TERNARY[fact("client_certificate")],
                TERNARY[fact("certificate_requested")],
                client[0].subject if client else None,
                {
                    "subject": server[0].subject,
                    "issuer": server[0].issuer,
                    "not_after": datetime.fromtimestamp(server[0].not_after_ns // 10**9, UTC).isoformat(),
                    "chain": len(server),
                }
                if server
                else None,
                TERNARY[fact("server_self_made")],
                TERNARY[fact("established")],
                texts["alpn"][row] or None,
                fact("client_certificate_grade") == Grade.OBSERVED,
                texts["decryption"][row],
            )
        )
    return found


def agrees(field: str, want: Any, got: Any) -> bool:
    if field == "server_cert" and got is not None:
        names = all(in_order(want[name]) == in_order(got[name]) for name in ("subject", "issuer"))
        return names and (want["not_after"], want["chain"]) == (got["not_after"], got["chain"])
    return bool(want == got)


FIELDS = (
    "tls_version",
    "client_cert_presented",
    "client_cert_requested_by_server",
    "server_cert",
    "server_cert_self_signed",
    "handshake_complete",
    "alpn",
)


def truths() -> list[str]:
    return sorted(path.name for path in FOLDER.glob("*.truth.json"))


@pytest.mark.parametrize("truth", truths())
def test_everything_the_truth_states_is_read(truth: str) -> None:
    stated = json.loads((FOLDER / truth).read_text())
    found = facts_of(FOLDER / stated["capture"])
    wrong: list[Any] = []
    for group in stated["channels"]:
        subjects: set[tuple[str, ...]] = set()
        opened = 0
        for port in group.get("client_ports", ()):
            # A reused port gives several rows; the truth states one of them.
            rows = [
                facts
                for facts in found.get((group["client"], port, group["server"], group["server_port"]), ())
                if facts.decryption.startswith("decrypted with")
            ]
            if not rows:
                continue
            opened += 1
            subjects |= {tuple(in_order(f.client_cert_subject)) for f in rows if f.client_cert_subject}
            for field in FIELDS:
                want = group.get(field)
                if want is None or (field == "client_cert_presented" and group["client_cert_source"] != READ):
                    continue
                if not any(agrees(field, want, getattr(facts, field)) for facts in rows):
                    wrong.append((port, field, want, [getattr(facts, field) for facts in rows]))
            if not all(facts.observed for facts in rows):
                wrong.append((port, "grade"))
        # The truth names one subject for a group of connections.
        want = group.get("client_cert_subject")
        if want and opened and tuple(in_order(want)) not in subjects:
            wrong.append((group["client"], "client_cert_subject", want, subjects))
    assert wrong == []


def test_keys_open_nearly_every_handshake_that_was_captured() -> None:
    """All but those whose hello was cut, and the one connection that its key log leaves out on purpose."""
    outcomes: Counter[str] = Counter()
    missing: list[tuple[str, Any]] = []
    for truth in truths():
        stated = json.loads((FOLDER / truth).read_text())
        found = facts_of(FOLDER / stated["capture"])
        for group in stated["channels"]:
            if group.get("client_cert_source") != READ or group.get("tls_version") != "TLS1.3":
                continue
            for port in group["client_ports"]:
                key = (group["client"], port, group["server"], group["server_port"])
                for facts in found.get(key, ()):
                    outcomes[facts.decryption] += 1
                    if not facts.decryption.startswith("decrypted"):
                        missing.append((stated["capture"], facts.decryption))
    known = {"20-fmt-snaplen96.pcap", "20b-fmt-snaplen200.pcap", "26b-fmt-no-handshakes.pcap"}
    known |= {"26-fmt-starts-mid-connection.pcap", "10b-legacy-tls.pcap", "09-anonymous-kubelet.pcap"}
    assert [item for item in missing if item[0] not in known] == []
    assert outcomes["decrypted with the keys given"] > 0


@pytest.mark.parametrize(
    "name", ["01-default-insecure-kubelet.pcap", "09-anonymous-kubelet.pcap", "04-node-to-apiserver.pcap"]
)
def test_nothing_decrypted_is_called_cleartext(name: str) -> None:
    """The connections stay encrypted on the wire: no answer and no finding about cleartext may come from keys."""
    with open_capture(str(FOLDER / name)) as reader:
        without = build_document(run(reader))
    with_keys = build_document(analysed(FOLDER / name))

    for column in ("encryption", "encryption_grade", "protocol"):
        assert with_keys["connections"]["data"][column] == without["connections"]["data"][column]

    def of(document: Any, code: str) -> list[Any]:
        return [(f["channel"], f["connections"]) for f in document["findings"] if f["code"] == code]

    for code in ("PW101", "PW104"):
        assert of(with_keys, code) == of(without, code)
    assert len("".join(with_keys["connections"]["data"]["activity"])) > len(
        "".join(without["connections"]["data"]["activity"])
    )


def test_no_key_is_written_anywhere() -> None:
    text = json_text(build_document(analysed(FOLDER / "11-keylog-dsb.pcapng")))
    words = {word for line in all_keys().decode().splitlines() for word in line.split() if len(word) >= 32}
    assert not [word for word in words if word in text or word.upper() in text]


@pytest.mark.tshark
@pytest.mark.parametrize("name", ["01-default-insecure-kubelet", "09-anonymous-kubelet", "04b-tls-bootstrap"])
def test_tshark_reads_the_same_requests(name: str, tmp_path: Path) -> None:
    log = tmp_path / "keys.log"
    log.write_bytes(all_keys())
    fields = ["frame.number", "http.request.uri", "http2.headers.path"]
    done = subprocess.run(
        [
            "tshark",
            "-r",
            str(FOLDER / f"{name}.pcap"),
            "-o",
            f"tls.keylog_file:{log}",
            "-T",
            "fields",
            "-E",
            "separator=\t",
        ]
        + ["-Y", "tls && (http.request || http2.headers.path)"]
        + [word for field in fields for word in ("-e", field)],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        _, http1, http2 = [*line.split("\t"), "", ""][:3]
        theirs.update(path for value in (http1, http2) for path in value.split(",") if path)
    ours = Counter(
        message.target
        for message in analysed(FOLDER / f"{name}.pcap").audit.evidence.cleartext.http
        if message.decrypted and message.method
    )
    assert ours
    assert ours == theirs
