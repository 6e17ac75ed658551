"""Hellos, fingerprints and certificates of all public captures against what other programs read in them.

Every difference must be explained by what the octets are, never by a list of files: `explained` holds the predicates.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from analyzer.heads import HANDSHAKE_LIMIT
from analyzer.protocols.tls import suite_name
from analyzer.registries import TlsVersion
from tests.corpus.readings import PUBLIC, Key, Reading, begins_with_a_hello, manifest_pairs, reading

pytestmark = pytest.mark.corpus


class Tally:
    """Answers compared, and the differences that no predicate explains."""

    def __init__(self) -> None:
        self.equal: Counter[str] = Counter()
        self.explained: Counter[str] = Counter()
        self.open: list[Any] = []

    def add(self, what: str, *, equal: bool, reason: str, where: Any) -> None:
        if equal:
            self.equal[what] += 1
        elif reason:
            self.explained[reason] += 1
        else:
            self.open.append((what, *where))


def explained(found: Reading, key: Key, side: str) -> str:
    """Why another program reads a hello where this one does not; empty where nothing explains it."""
    rows = found.rows(key)
    if not rows:
        return "no such connection: it is inside a tunnel that is not read here (CAPWAP)"
    if not any(found.is_tls(row) for row in rows) and not any(begins_with_a_hello(found, row) for row in rows):
        return "the stream does not begin as TLS: a hello inside another protocol (OpenVPN, PROXY header, CONNECT)"
    for row in rows:
        if found.texts["unclear"][row].endswith(f"{side}'s hello is malformed"):
            return "a length in the hello contradicts the one around it"
        if found.lost_start[row]:
            return "the side's octets are far from the sequence number of its SYN: packets of another connection"
        if any(octets.shape[0] > 9 and octets[0] == 22 and not octets[6:9].any() for octets in found.opening[row]):
            return "encrypted octets that begin like a hello of length 0"
        if found.evidence.conflict[row]:
            return "overlapping segments carry different octets: the first copy counts here"
        if side == "server" and found.number("server_certificate_len", row) > HANDSHAKE_LIMIT:
            return "a Certificate message longer than what is kept of a handshake"
    return ""


def tshark_lines() -> dict[str, list[dict[str, str]]]:
    by_file: dict[str, list[dict[str, str]]] = defaultdict(list)
    path = PUBLIC / "oracle-tshark" / "tls.tsv"
    if path.is_file():
        usual = csv.field_size_limit(1 << 30)  # a certificate is one field; the limit is the whole process's
        try:
            with path.open(newline="") as handle:
                for line in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
                    by_file[line["file"]].append(line)
        finally:
            csv.field_size_limit(usual)
    return by_file


def hellos(lines: list[dict[str, str]], mark: str) -> Iterator[tuple[Key, list[dict[str, str]]]]:
    """Lines with a hello of one kind, by TCP stream; those inside tunnels are named by their innermost addresses."""
    by_stream: dict[str, list[dict[str, str]]] = defaultdict(list)
    for line in lines:
        if line[mark] and line["tcp_stream"] and "," not in line["tcp_stream"]:
            by_stream[line["tcp_stream"]].append(line)
    for of_stream in by_stream.values():
        line = of_stream[0]
        ends = [line[name].split(",")[-1] for name in ("src", "dst")]
        yield (ends[0], int(line["sport"]), ends[1], int(line["dport"])), of_stream


def test_tshark_reads_the_same_hellos() -> None:
    tally = Tally()
    for name, lines in tshark_lines().items():
        found = reading(name)
        if found is None:
            continue
        for key, of_stream in hellos(lines, "ja3"):
            line = of_stream[0]
            reason = explained(found, key, "client")
            wanted = {
                "ja3": line["ja3"].split(",")[0],
                "sni": line["sni"].split(",")[0],
                # What is no ASCII is shown escaped here.
                "alpn_offered": line["alpn"].encode("ascii", "ignore").decode(),
            }
            for what, want in wanted.items():
                ours = [found.texts[what][row] for row in found.tls_rows(key)]
                equal = want in ours or any(re.sub(r"\\x[0-9a-f]{2}", "", text) == want for text in ours)
                tally.add(what, equal=equal, reason=reason, where=(name, line["frame"], want, ours))
        for key, of_stream in hellos(lines, "ja3s"):
            reason = explained(found, key, "server")
            # A HelloRetryRequest is a ServerHello to tshark; here it is the message before it.
            answers = [line for line in of_stream if line["ja3s"]]
            back = (*key[2:], *key[:2])
            clients = next((of for at, of in hellos(lines, "ja3") if at == back), [])
            if len(answers) == 1 and len(clients) == 2:
                reason = reason or "tshark shows the JA3S of the HelloRetryRequest, not that of the ServerHello"
            wanted_of: dict[str, Callable[[dict[str, str]], str]] = {
                "ja3s": lambda line: line["ja3s"].split(",")[-1],
                "version": lambda line: (line["supported_versions"] or line["handshake_versions"]).split(",")[0],
                "cipher_suite": lambda line: line["ciphersuites"].split(",")[0],
            }
            for what, read in wanted_of.items():
                ours = [
                    found.texts[what][row] if what == "ja3s" else f"0x{found.number(what, row):04x}"
                    for row in found.tls_rows(key)
                ]
                equal = any(read(line) in ours for line in answers[:2])
                tally.add(what, equal=equal, reason=reason, where=(name, answers[0]["frame"], read(answers[0]), ours))
    assert not tally.open, "\n".join(map(str, tally.open))
    assert min(tally.equal[what] for what in ("ja3", "ja3s", "sni", "alpn_offered", "version", "cipher_suite")) > 1100
    assert tally.explained.total() < 80


# ------------------------------------------------------------------------------------------------- JA4


def test_ndpi_computes_the_same_ja4() -> None:
    tally = Tally()
    pattern = re.compile(r"TCP \[?([^ \]]+)\]?:(\d+) <?->? \[?([^ \]]+)\]?:(\d+) .*?\[JA4: (t[0-9a-z_]+)\]")
    for name, expected in manifest_pairs("ndpi/", ".out"):
        found = reading(name)
        if found is None:
            continue
        for line in (PUBLIC / expected).read_text(errors="replace").splitlines():
            match = pattern.search(line)
            if match is None:
                continue
            key = (match[1], int(match[2]), match[3], int(match[4]))
            ours = [found.texts["ja4"][row] for row in found.tls_rows(key)]
            reason = explained(found, key, "client") or _ndpi_counts(match[5], ours)
            tally.add("ja4", equal=match[5] in ours, reason=reason, where=(name, key, match[5], ours))
    assert not tally.open, "\n".join(map(str, tally.open))
    assert tally.equal["ja4"] > 290


def _ndpi_counts(theirs: str, ours: list[str]) -> str:
    """How nDPI of October 2024 differs from JA4's own text, part by part; counts and hashes must be equal."""
    for one in ours:
        if not one or theirs[4:8] != one[4:8] or theirs[10:] != one[10:]:
            continue
        reasons = []
        if theirs[1:3] != one[1:3] and theirs[1:3] == "00":
            reasons.append("no version where the record's is none it knows")
        if (theirs[3], one[3]) == ("d", "i"):
            reasons.append("d without a server_name extension")
        if (theirs[8:10], one[8:10]) in (("ht", "h1"), ("sp", "s1")):
            reasons.append("the first two characters of the ALPN name instead of the first and the last")
        return "nDPI: " + ", ".join(reasons) if reasons else ""
    return ""


def test_arkime_computes_the_same_fingerprints() -> None:
    tally = Tally()
    for name, expected in manifest_pairs("arkime/", ".test"):
        found = reading(name)
        if found is None:
            continue
        for session in json.loads((PUBLIC / expected).read_text())["sessions3"]:
            body = session["body"]
            tls = body.get("tls", {})
            if "source" not in body or "tcp" not in body.get("protocol", []):
                continue
            key = (
                body["source"]["ip"],
                body["source"].get("port", 0),
                body["destination"]["ip"],
                body["destination"].get("port", 0),
            )
            for what in ("ja3", "ja3s", "ja4"):
                for want in tls.get(what, [])[:1]:
                    ours = [found.texts[what][row] for row in found.tls_rows(key)]
                    reason = explained(found, key, "server" if what == "ja3s" else "client")
                    tally.add(
                        what, equal=bool(set(tls[what]) & set(ours)), reason=reason, where=(name, key, want, ours)
                    )
    assert not tally.open, "\n".join(map(str, tally.open))
    assert tally.equal["ja4"] >= 8


def test_the_authors_of_ja4_expect_the_same() -> None:
    """Their three programs' outputs: Python by stream, Rust by stream, the Wireshark plugin by frame."""
    tally = Tally()
    folder = PUBLIC / "ja4"
    for snap in sorted((folder / "expected-rust").glob("*.snap")):
        name = f"ja4/pcap/{snap.name.removesuffix('.snap')}"
        if not (PUBLIC / name).exists() or (found := reading(name)) is None:
            continue
        for block in snap.read_text().split("- stream:")[1:]:
            fields = dict(re.findall(r"^  (\w+): (.*)$", block, re.MULTILINE))
            if fields.get("transport") != "tcp" or not fields.get("ja4", "").startswith("t"):
                continue
            key = (fields["src"], int(fields["src_port"]), fields["dst"], int(fields["dst_port"]))
            ours = [found.texts["ja4"][row] for row in found.tls_rows(key)]
            want, reason = fields["ja4"], explained(found, key, "client")
            if want[8:10] == "99" and any(one[:8] + one[10:] == want[:8] + want[10:] for one in ours):
                # Their text says so since ("ALPN Extension Value"), their expected outputs do not yet.
                reason = "an ALPN name that is no ASCII: the ends of its hexadecimal form"
            tally.add("ja4", equal=want in ours, reason=reason, where=(name, key, want, ours))
    for path in sorted((folder / "expected-wireshark").glob("*.json")):
        name = f"ja4/pcap/{path.name.removesuffix('.json')}"
        if not (PUBLIC / name).exists() or (found := reading(name)) is None:
            continue
        frames = found.evidence.tls_column("client_hello_frame").tolist()
        printed = {frame: found.texts["ja4"][row] for row, frame in enumerate(frames) if frame}
        theirs = set()
        for packet in json.loads(path.read_text()):
            layers = packet["_source"]["layers"]
            theirs |= {want for want in layers.get("ja4.ja4", []) if want.startswith("t")}
        for want in sorted(theirs):
            tally.add("ja4", equal=want in printed.values(), reason="", where=(name, want, printed))
    assert not tally.open, "\n".join(map(str, tally.open))
    assert tally.equal["ja4"] > 20


# -------------------------------------------------------------------------------------------- handshakes


_ZEEK_VERSIONS = {
    "SSLv3": 0x0300,
    "TLSv10": 0x0301,
    "TLSv11": 0x0302,
    "TLSv12": 0x0303,
    "TLSv13": 0x0304,
}


def zeek_rows(path: Any) -> Iterator[dict[str, str]]:
    fields: list[str] = []
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("#fields"):
            fields = line.split("\t")[1:]
        elif line and not line.startswith("#") and fields:
            yield dict(zip(fields, line.split("\t"), strict=False))


def test_zeek_reads_the_same_handshakes() -> None:
    tally = Tally()
    for name, expected in manifest_pairs("zeek/", "/ssl.log"):
        found = reading(name)
        if found is None:
            continue
        for line in zeek_rows(PUBLIC / expected):
            key = (line["id.orig_h"], int(line["id.orig_p"]), line["id.resp_h"], int(line["id.resp_p"]))
            if line["version"] not in _ZEEK_VERSIONS or not found.tls_rows(key):
                # QUIC, DTLS, drafts of TLS 1.3; TLS inside another protocol (STARTTLS).
                continue
            reason = explained(found, key, "client") or explained(found, key, "server")
            rows = found.tls_rows(key)
            answers: dict[str, tuple[Any, list[Any]]] = {
                "version": (_ZEEK_VERSIONS[line["version"]], [found.number("version", row) for row in rows]),
                "cipher": (line["cipher"], [suite_name(found.number("cipher_suite", row)) for row in rows]),
                "sni": (line["server_name"].replace("-", "", line["server_name"] == "-"), _texts(found, "sni", rows)),
            }
            if line.get("cert_chain_fps", "-") not in ("-", "(empty)"):
                answers["chain"] = (line["cert_chain_fps"], [_chain(found, "server_chain", row) for row in rows])
            if line.get("client_cert_chain_fps", "-") not in ("-", "(empty)"):
                answers["client chain"] = (
                    line["client_cert_chain_fps"],
                    [_chain(found, "client_chain", row) for row in rows],
                )
            for what, (want, ours) in answers.items():
                tally.add(what, equal=want in ours, reason=reason, where=(name, key, want, ours))
    assert not tally.open, "\n".join(map(str, tally.open))
    assert min(tally.equal[what] for what in ("version", "cipher", "sni", "chain")) >= 18


def _texts(found: Reading, name: str, rows: list[int]) -> list[str]:
    return [found.texts[name][row] for row in rows]


def _chain(found: Reading, name: str, row: int) -> str:
    tls = found.evidence.tls
    number = found.number(name, row)
    return ",".join(tls.certificates[i].sha256 for i in tls.chains[number]) if number >= 0 else ""


CERTIFICATE_FIELDS = (
    "ip.src",
    "ipv6.src",
    "tcp.srcport",
    "ip.dst",
    "ipv6.dst",
    "tcp.dstport",
    "tls.handshake.certificate",
)


def tshark_certificates(name: str) -> str:
    command = ["tshark", "-r", str(PUBLIC / name), "-Y", "tcp && tls.handshake.certificate", "-T", "fields"]
    command += [part for field in CERTIFICATE_FIELDS for part in ("-e", field)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.tshark
def test_tshark_reads_the_same_certificates() -> None:
    """Every certificate in clear, octet for octet, over all captures in which tshark has seen one."""
    import hashlib

    tally = Tally()
    with_certificates = [
        name
        for name, lines in tshark_lines().items()
        if any("11" in line["handshake_types"].split(",") for line in lines)
    ]
    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(tshark_certificates, with_certificates))
    for name, output in zip(with_certificates, outputs, strict=True):
        found = reading(name)
        if found is None:
            continue
        ours = {c.sha256 for c in found.evidence.tls.certificates}
        for line in output.splitlines():
            values = dict(zip(CERTIFICATE_FIELDS, line.split("\t"), strict=True))
            ends = [(values[f"ip.{end}"] or values[f"ipv6.{end}"]).split(",")[-1] for end in ("src", "dst")]
            key = (ends[0], int(values["tcp.srcport"]), ends[1], int(values["tcp.dstport"]))
            for der in values["tls.handshake.certificate"].split(","):
                digest = hashlib.sha256(bytes.fromhex(der)).hexdigest()
                reason = explained(found, key, "client") or explained(found, key, "server")
                tally.add("certificate", equal=digest in ours, reason=reason, where=(name, key, digest))
    assert not tally.open, "\n".join(map(str, tally.open))
    assert tally.equal["certificate"] > 400


def test_versions_have_names() -> None:
    assert {TlsVersion(v).label for v in _ZEEK_VERSIONS.values()} == {"SSL3.0", "1.0", "1.1", "1.2", "1.3"}
