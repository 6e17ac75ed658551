"""Names of a certificate against what was dialled: as Go and OpenSSL compare them, and on connections."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analyzer.protocols.tls.stacks import Stack
from analyzer.registries import ServerVerification, Ternary
from analyzer.schema import Certificate
from analyzer.verdicts.names import NameComparison, compare_names, names_endpoint
from tests.rules.cases import NODE1, audit, recorded, tls
from tests.unit.protocols.tls.ssl_pairs import START, name


def certificate(dns: tuple[str, ...] = (), addresses: tuple[str, ...] = (), common_name: str = "cn") -> Certificate:
    return Certificate(
        "0" * 64, f"CN={common_name}", "CN=ca", common_name, (), "ca", dns, addresses, 0, 1, "", "", False, False, False
    )


# What Go's crypto/x509 answers (verify_test.go, name_constraints_test.go and the code of matchHostnames).
@pytest.mark.parametrize(
    ("pattern", "host", "named"),
    [
        ("a.b.c", "a.b.c", True),
        ("a.b.c", "b.b.c", False),
        ("A.b.C", "a.B.c", True),
        ("a.b.c", "a.b.c.", True),
        ("a.b.c.", "a.b.c.", True),
        ("a.b.c.", "a.b.c", False),
        ("*.svc", "a.svc", True),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "www.example.com.", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.*.example.com", "a.b.example.com", False),
        ("f*.example.com", "foo.example.com", False),
        ("*foo.example.com", "barfoo.example.com", False),
        ("www.*.com", "www.example.com", False),
        ("*", "example", False),
        ("*.", "example.", False),
        ("*..com", "a..com", False),
        ("", "a", False),
        (".", ".", False),
        ("a_b.c", "A_B.c", True),
        ("-a.b", "-a.b", True),
        ("*.b", "-a.b", False),
    ],
)
def test_names_are_compared_as_go_compares_them(pattern: str, host: str, named: bool) -> None:
    assert names_endpoint(certificate((pattern,)), host, ()) == named


@pytest.mark.parametrize(
    ("name", "addresses", "dns", "listed", "named"),
    [
        ("", ("10.0.0.11",), ("node1",), ("10.0.0.11",), True),
        ("", ("10.0.0.11",), ("10.0.0.11",), (), False),
        ("", ("10.96.0.1", "10.0.0.10"), (), ("10.96.0.1",), True),
        ("", ("fd00::1",), (), ("fd00:0:0::1",), True),
        ("", ("10.0.0.11",), (), ("not an address",), False),
        ("", (), (), ("10.0.0.11",), False),
        ("node2", ("10.0.0.11",), ("node1",), ("10.0.0.11",), False),
        ("cn", (), (), (), False),
    ],
)
def test_addresses_count_where_no_name_was_sent_and_common_names_never(
    name: str, addresses: tuple[str, ...], dns: tuple[str, ...], listed: tuple[str, ...], named: bool
) -> None:
    assert names_endpoint(certificate(dns, listed), name, addresses) == named


def test_any_names_are_compared_without_an_error() -> None:
    @given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=4))
    def compared(host: str, listed: list[str]) -> None:
        names_endpoint(certificate(tuple(listed), tuple(listed)), host, ("10.0.0.11",))

    compared()


_KEY = ec.generate_private_key(ec.SECP256R1())
_LABELS = st.sampled_from(["a", "b", "node1", "x-y", "*", "7"])


def _accepted(folder: Path, pattern: str, host: str) -> bool:
    """Whether OpenSSL takes a certificate with the DNS name `pattern` for `host`."""
    subject = name("somebody")
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(_KEY.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START.replace(year=2124))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(pattern)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(_KEY, hashes.SHA256())
    )
    file = folder / "both.pem"
    encoding = serialization.Encoding.PEM
    file.write_bytes(
        built.public_bytes(encoding)
        + _KEY.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(file)
    dialling = ssl.create_default_context(cadata=built.public_bytes(encoding).decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = dialling.wrap_bio(to_client, to_server, server_hostname=host)
    server = served.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                if "ostname mismatch" not in str(error):
                    raise
                return False
    return True


@given(st.lists(_LABELS, min_size=3, max_size=4), st.lists(_LABELS, min_size=3, max_size=4), st.booleans())
@settings(max_examples=150)
@example(["*", "b", "a"], ["a", "b", "a"], False)
@example(["*", "b", "a"], ["a", "b", "a"], True)
def test_openssl_agrees_on_names_of_three_labels_and_more(
    tmp_path_factory: pytest.TempPathFactory, pattern: list[str], host: list[str], same: bool
) -> None:
    """Elsewhere it is stricter: it takes no ``*.svc``, and no underscore behind a wildcard."""
    host = [label.replace("*", "a") for label in (pattern[:1] + host[1:] if same else host)]
    listed, dialled = ".".join(pattern), ".".join(host)
    # Wildcards elsewhere than in the first label are compared as they stand by Go, and refused by OpenSSL.
    folder = tmp_path_factory.getbasetemp()
    assert names_endpoint(certificate((listed,)), dialled, ()) == _accepted(folder, listed, dialled)


def compared(of: tuple[str, ...], stack: Stack, common_name: str = "", dialled: str = "node1") -> NameComparison:
    """A TLS 1.2 connection to `dialled` whose server's certificate lists the DNS names `of`."""
    found = audit(tls(2379, name=dialled)).audit
    tls_reading = found.evidence.tls
    certificates = list(tls_reading.certificates)
    leaf = int(found.evidence.leaf("server")[0])
    certificates[leaf] = replace(certificates[leaf], dns_names=of, ip_addresses=(), common_name=common_name)
    facts = replace(tls_reading.facts, client_stack=np.full(1, stack, np.uint8))
    reading = replace(tls_reading, certificates=tuple(certificates), facts=facts)
    return compare_names(replace(found.evidence, tls=reading), found.roles)


@pytest.mark.parametrize(
    ("stack", "known"), [(Stack.GO, True), (Stack.OPENSSL, False), (Stack.UNKNOWN, False)], ids=["go", "openssl", "?"]
)
def test_a_common_name_alone_satisfies_no_go_client_and_may_satisfy_others(stack: Stack, known: bool) -> None:
    only = compared((), stack, "node1")
    assert only.matches.tolist() == [Ternary.NO]
    assert only.mismatch.tolist() == [True]
    assert only.known.tolist() == [known]
    other = compared((), stack, "node2")
    assert other.known.tolist() == [True], "its common name is another's too"
    beside = compared(("node2",), stack, "node1")
    assert beside.known.tolist() == [True], "beside names it never counts (RFC 6125 6.4.4)"
    listed = compared(("node1",), stack, "node2")
    assert (listed.matches.tolist(), listed.mismatch.tolist()) == ([Ternary.YES], [False])
    assert not listed.detail


def test_a_connection_seen_at_two_legs_dialled_either_address() -> None:
    found = recorded("04c-pod").audit
    names = found.verdicts.names
    legs = np.flatnonzero((found.evidence.leg_of >= 0) & (names.matches != Ternary.UNKNOWN))
    roots = found.evidence.leg_of[legs]
    assert (names.matches[legs] == names.matches[roots]).all()


def test_what_is_not_readable_is_unknown_and_out_of_scope() -> None:
    found = recorded("01-default").audit
    names = found.verdicts.names
    assert len(names.matches) == len(found.evidence)
    assert not names.scope.any()
    assert (names.matches == Ternary.UNKNOWN).all()
    assert (found.verdicts.server_verification.value != ServerVerification.VERIFIED).all()


def test_the_address_is_named_or_it_is_not() -> None:
    found = audit(tls(2379, server=NODE1)).audit
    assert found.verdicts.names.matches.tolist() == [Ternary.YES]
    other = audit(tls(2379, server="10.0.0.99")).audit
    assert other.verdicts.names.mismatch.tolist() == [True]
    assert "10.0.0.99 was dialled" in other.verdicts.names.detail[0]
