"""SSH banners, offers and fingerprints of all public captures against tshark, and the HASSH that others print."""

from __future__ import annotations

import csv
import json
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from analyzer.heads import HEAD_LIMIT
from analyzer.protocols.ssh import HOST_KEY, KEX
from tests.corpus.readings import PUBLIC, Key, Reading, manifest_pairs, reading

pytestmark = pytest.mark.corpus
LISTS = ("ssh.kex_algorithms", "ssh.mac_algorithms_client_to_server")
HASSH = ("ssh.kex.hassh", "ssh.kex.hasshserver")
FIELDS = ("ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", *HASSH, *LISTS)


def tshark_lines() -> Iterator[tuple[str, Key, dict[str, str]]]:
    """Lines over TCP; inside tunnels by the innermost addresses."""
    path = PUBLIC / "oracle-tshark" / "ssh.tsv"
    if not path.is_file():
        return
    with path.open(newline="") as handle:
        for line in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
            ends = [line[name].split(",")[-1] for name in ("src", "dst")]
            yield line["file"], (ends[0], int(line["sport"]), ends[1], int(line["dport"])), line


def sent(found: Reading, key: Key, names: tuple[str, str]) -> list[object]:
    """A fact of the side that `key` names first, for every connection between the two ends."""
    values: list[object] = []
    for row in found.rows(key):
        facts = found.evidence.ssh.get(row)
        if facts is not None:
            side = 0 if int(found.evidence.flows.port[row, 0]) == key[1] else 1
            values.append(getattr(facts, names[side]))
    return values


def test_tshark_reads_the_same_banners_and_offers() -> None:
    equal: Counter[str] = Counter()
    wrong: list[object] = []
    for name, key, line in tshark_lines():
        found = reading(name)
        if found is None:
            continue
        if line["banner"]:
            ours = sent(found, key, ("client_banner", "server_banner"))
            # tshark ends a string at its first NUL; RFC 4253 4.2 allows none.
            equal["banner"] += (same := line["banner"] in [str(text).split("\0")[0] for text in ours])
            good = same or not_our_kind(line["banner"])
            if not good:
                wrong.append((name, line["frame"], line["banner"], ours))
        if line["kex_algorithms"]:
            offers = [offer for offer in sent(found, key, ("client_offer", "server_offer")) if offer]
            lists = [(",".join(o[KEX]), ",".join(o[HOST_KEY])) for o in offers if isinstance(o, tuple)]
            want = (line["kex_algorithms"], line["host_key_algorithms"])
            equal["offer"] += want in lists
            if want not in lists and not too_long(want):
                wrong.append((name, line["frame"], ",".join(want), lists))
    assert not wrong, "\n".join(map(str, wrong))
    assert equal["banner"] > 40
    assert equal["offer"] > 40


def not_our_kind(banner: str) -> bool:
    """Protocol versions before 1.99 are another protocol (RFC 4253 5.1)."""
    return banner.startswith("SSH-1.") and not banner.startswith("SSH-1.99")


def too_long(lists: tuple[str, ...]) -> bool:
    """An offer longer than what is kept of a direction; real ones have 1 to 2 KiB."""
    return sum(map(len, lists)) > HEAD_LIMIT // 4


@pytest.mark.tshark
def test_tshark_computes_the_same_hassh() -> None:
    equal, wrong = 0, []
    for name in sorted({name for name, _, line in tshark_lines() if line["kex_algorithms"]}):
        found = reading(name)
        if found is None:
            continue
        command = ["tshark", "-r", str(PUBLIC / name), "-Y", "ssh.kex.hassh || ssh.kex.hasshserver", "-T", "fields"]
        command += [part for field in FIELDS for part in ("-e", field)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for text in done.stdout.splitlines():
            line = dict(zip(FIELDS, text.split("\t"), strict=True))
            ends = [(line[f"ip.{end}"] or line[f"ipv6.{end}"]).split(",")[-1] for end in ("src", "dst")]
            key = (ends[0], int(line["tcp.srcport"]), ends[1], int(line["tcp.dstport"]))
            long = too_long(tuple(line[field] for field in LISTS))
            for field, column in (("ssh.kex.hassh", "hassh"), ("ssh.kex.hasshserver", "hassh_server")):
                if line[field]:
                    ours = sent(found, key, (column, column))
                    equal += line[field] in ours
                    if line[field] not in ours and not long:
                        wrong.append((name, key, field, line[field], ours))
    assert not wrong, "\n".join(map(str, wrong))
    assert equal > 40


def test_suricata_and_arkime_expect_the_same_hassh() -> None:
    equal, wrong = 0, []
    for name, expected in [*manifest_pairs("suricata-verify/", "checks.json"), *manifest_pairs("arkime/", ".test")]:
        wanted = {
            value
            for value in hashes(json.loads((PUBLIC / expected).read_text()))
            if len(value) == 32 and all(c in "0123456789abcdef" for c in value)
        }
        if not wanted or (found := reading(name)) is None:
            continue
        ours = {h for facts in found.evidence.ssh.values() for h in (facts.hassh, facts.hassh_server)}
        equal += len(wanted & ours)
        if not wanted <= ours:
            wrong.append((name, wanted - ours, ours))
    assert not wrong, "\n".join(map(str, wrong))
    assert equal >= 1


def hashes(value: object, name: str = "") -> Iterator[str]:
    """Strings of a JSON document under a key that names a HASSH."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from hashes(item, key if "hassh" in key.lower() or not name else name)
    elif isinstance(value, list):
        for item in value:
            yield from hashes(item, name)
    elif isinstance(value, str) and "hassh" in name.lower():
        yield value
