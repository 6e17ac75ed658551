from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.cluster.expectation import ExpectedPorts, read_expectation
from analyzer.decode.transport import TCP, UDP
from analyzer.errors import ClusterFactsError

HEADER = "Direction,Protocol,Port,Namespace,Service,Pod,Container,Node Role,Optional\n"
# The example of https://github.com/openshift-kni/commatrix, "oc commatrix generate".
EXAMPLE = (
    HEADER + "Ingress,TCP,22,Host system service,sshd,,,master,true\n"
    "Ingress,TCP,53,openshift-dns,dns-default,dnf-default,dns,master,false\n"
    "Ingress,TCP,80,openshift-ingress,router-internal-default,router-default,router,master,false\n"
    "Ingress,TCP,111,Host system service,rpcbind,,,master,true\n"
)


def test_what_oc_commatrix_writes() -> None:
    matrix = read_expectation(EXAMPLE.encode(), "m.csv")

    assert [(row.first, row.service) for row in matrix.ports] == [
        (22, "sshd"), (53, "dns-default"), (80, "router-internal-default"), (111, "rpcbind"),
    ]  # fmt: skip
    assert matrix.allows(TCP, 53, frozenset({"master"}))
    assert not matrix.allows(UDP, 53, frozenset({"master"}))
    assert not matrix.allows(TCP, 53, frozenset({"worker"}))
    assert not matrix.notes


@pytest.mark.parametrize("column", ["Node Role", "nodeRole", "NodeGroup"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_headers_of_its_versions(column: str, end: str) -> None:
    text = HEADER.replace("Node Role", column) + "Ingress, TCP , 30000-32767 ,,,,,worker,true\n"

    matrix = read_expectation(b"\xef\xbb\xbf" + text.replace("\n", end).encode(), "m.csv")

    assert matrix.ports == (ExpectedPorts(TCP, 30000, 32767, "worker", ""),)


def test_rows_that_are_not_compared_are_named() -> None:
    text = HEADER + "Egress,TCP,1,,,,,,\n\nIngress,SCTP,2,,,,,,\nIngress,UDP,3,,,,,,\n"

    matrix = read_expectation(text.encode(), "m.csv")

    assert [row.first for row in matrix.ports] == [3]
    assert matrix.notes == (
        "m.csv: line 2: only ingress is compared, not used",
        "m.csv: line 4: protocol 'SCTP' is neither TCP nor UDP, not used",
    )


def test_a_role_that_is_no_control_plane_is_a_worker() -> None:
    matrix = read_expectation((HEADER + "Ingress,TCP,1,,,,,infra,\n").encode(), "m.csv")

    assert matrix.allows(TCP, 1, frozenset({"worker"}))
    assert not matrix.allows(TCP, 1, frozenset({"master"}))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1: has no column direction"),
        (b"\xff\xfe", "is not UTF-8 text: octet 0"),
        (b"Direction,Port\n", "line 1: has no column protocol"),
        ((HEADER + "Ingress,TCP,0,,,,,,\n").encode(), "line 2: '0' is neither a port nor a range of ports"),
        ((HEADER + "Ingress,TCP,65536,,,,,,\n").encode(), "'65536' is neither"),
        ((HEADER + "Ingress,TCP,9-8,,,,,,\n").encode(), "'9-8' is neither"),
        ((HEADER + "Ingress,TCP,9-,,,,,,\n").encode(), "'9-' is neither"),
        ((HEADER + "Ingress,TCP,https,,,,,,\n").encode(), "'https' is neither"),
        ((HEADER + "Ingress,TCP," + "9" * 5000 + ",,,,,,\n").encode(), "is neither"),
        ((HEADER + '"' + "x" * 200_000 + '",TCP,1\n').encode(), "line 2: is not CSV"),
    ],
)
def test_what_is_no_matrix_is_one_clear_line(content: bytes, reason: str) -> None:
    with pytest.raises(ClusterFactsError) as caught:
        read_expectation(content, "m.csv")

    assert str(caught.value).startswith("m.csv: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=200))
def test_any_octets_give_a_matrix_or_a_clear_error(content: bytes) -> None:
    for text in (content, HEADER.encode() + content):
        with suppress(ClusterFactsError):
            read_expectation(text, "m.csv")


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(1, 65535))
def test_a_range_holds_both_its_ends(first: int, last: int, port: int) -> None:
    low, high = sorted((first, last))
    matrix = read_expectation(f"{HEADER}Ingress,TCP,{low}-{high},,,,,,\n".encode(), "m.csv")

    assert matrix.allows(TCP, port, frozenset()) == (low <= port <= high)
