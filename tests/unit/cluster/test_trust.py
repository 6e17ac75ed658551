"""Chains against CAs by role, on the lab's recordings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.cluster.authorities import Authority
from analyzer.cluster.trust import Trust
from analyzer.protocols.tls.certificates import parse_certificate
from analyzer.protocols.tls.keylog import KeyLog
from analyzer.registries import Ternary
from analyzer.rules import Audit
from analyzer.user_files import load_cluster
from tests.conftest import LAB, SHARED
from tests.unit.protocols.tls.ssl_pairs import identity


def audit(name: str) -> Audit:
    folder = LAB if (LAB / f"{name}.pcap").exists() else SHARED / "k8s"
    log = folder / "keylogs" / f"{name}.keys.log"
    with open_capture(str(folder / f"{name}.pcap")) as reader:
        context = load_cluster((str(folder / "clusters" / name),))
        return run(reader, context, keys=KeyLog(log.read_bytes()) if log.exists() else None).audit


def counted(name: str) -> Counter[tuple[str, str, int]]:
    found = audit(name)
    seen = found.evidence.tls_column("server_chain", -1) >= 0
    columns = zip(
        found.trust.roles("server"),
        found.trust.roles("client"),
        found.verdicts.names.matches.tolist(),
        seen,
        strict=True,
    )
    return Counter((server, client, matches) for server, client, matches, visible in columns if visible)


def test_the_cluster_ca_issued_both_sides_of_a_bootstrap() -> None:
    assert counted("04b-tls-bootstrap") == {
        ("kubernetes", "kubernetes", int(Ternary.YES)): 4,
        ("kubernetes", "", int(Ternary.YES)): 1,
    }


def test_a_self_made_kubelet_certificate_leads_to_no_ca_and_names_no_address() -> None:
    found = counted("01-default-insecure-kubelet")
    assert set(found) == {("none", "kubernetes", int(Ternary.NO))}


def test_without_authorities_nothing_is_said_of_chains() -> None:
    found = audit("04b-tls-bootstrap")
    alone = replace(found, authorities=())
    assert set(alone.trust.roles("server")) == {""}


def test_a_ca_of_the_same_name_with_another_key_issued_nothing() -> None:
    """The name alone proves nothing: the signature decides."""
    found = audit("04b-tls-bootstrap")
    impostor = parse_certificate(_der("kubernetes"))
    trust = Trust(found.evidence, [Authority("kubernetes", "x.crt", impostor)])
    assert set(trust.roles("server")) == {"", "none"}


def _der(common_name: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return identity(common_name).certificate.public_bytes(Encoding.DER)


def test_columns_have_a_row_a_connection() -> None:
    found = audit("10-tls12")
    assert len(found.trust.roles("client")) == len(found.evidence) == found.verdicts.names.matches.shape[0]
    assert np.isin(found.verdicts.names.matches, (Ternary.UNKNOWN, Ternary.NO, Ternary.YES)).all()
