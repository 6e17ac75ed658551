"""Fingerprints and libraries: published vectors, the measured table of Go releases, lists that must hold together."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.protocols.tls import anonymous_cipher, go_releases, null_cipher, suite_name
from analyzer.protocols.tls.fingerprints import is_grease, ja3, ja4
from analyzer.protocols.tls.stacks import Release, Stack, client_stack, releases, server_stack
from analyzer.protocols.tls.suites import cipher_suites

GO = (0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC009, 0xC013, 0xC00A, 0xC014, 0x1301, 0x1302, 0x1303)
KINDS_1_24 = (5, 10, 11, 13, 65281, 23, 16, 18, 43, 51)
KINDS_1_27 = (11, 65281, 23, 18, 5, 10, 13, 50, 16, 43, 51)
OPENSSL = (0x1302, 0x1303, 0x1301, 0xC02C, 0xC030, 0x009F, 0xCCA9, 0x00FF)
KINDS_OPENSSL = (0, 11, 10, 35, 16, 22, 23, 13, 43, 45, 51)


def test_ja3_of_the_projects_example() -> None:
    # https://github.com/salesforce/ja3 README.
    ciphers = (47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4)
    assert ja3(769, ciphers, (0, 10, 11), (23, 24, 25), (0,)) == "ada70206e40642a3e4461f35503241d5"
    assert ja3(769, (4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99), (), (), ()) == "de350869b8c85de67a350c8d186f11e6"


def test_ja4_of_the_projects_example() -> None:
    # https://github.com/FoxIO-LLC/ja4 technical_details/JA4.md.
    ciphers = (
        0x1301,
        0x1302,
        0x1303,
        0xC02B,
        0xC02F,
        0xC02C,
        0xC030,
        0xCCA9,
        0xCCA8,
        0xC013,
        0xC014,
        0x9C,
        0x9D,
        0x2F,
        0x35,
    )
    kinds = (0x1B, 0, 0x33, 0x10, 0x4469, 0x17, 0x2D, 0x0D, 0x05, 0x23, 0x12, 0x2B, 0xFF01, 0x0B, 0x0A, 0x15)
    algorithms = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
    assert ja4(0x0304, ciphers, kinds, algorithms, b"h2") == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    greased = (0x3A3A, *ciphers), (0xAAAA, *kinds)
    assert ja4(0x0304, *greased, algorithms, b"h2") == "t13d1516h2_8daaf6152771_e5627efa2ab1"


@pytest.mark.parametrize(
    ("protocol", "mark"),
    [
        (b"", "00"),
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"h", "hh"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"0\xab", "3b"),
    ],
)
def test_the_alpn_mark_of_ja4(protocol: bytes, mark: str) -> None:
    assert ja4(0x0303, (1,), (10,), (), protocol)[8:10] == mark


def test_empty_lists_of_ja4() -> None:
    assert ja4(0x0300, (), (), (), b"") == "ts3i000000_000000000000_000000000000"
    assert ja4(0x9999, (1,) * 120, (0, 16), (), b"")[:10] == "t00d990200"


def test_grease_is_the_sixteen_reserved_values() -> None:
    assert [v for v in range(1 << 16) if is_grease(v)] == [0x0A0A + 0x1010 * i for i in range(16)]


OLD_ORDER = (5, 10, 11, 13, 65281, 23, 16, 18, 43, 51)
NEW_ORDER = (11, 65281, 23, 18, 5, 10, 13, 16, 43, 51)
THREE_DES = (*GO[:10], 0xC012, *GO[10:])
RSA = (*GO[:10], 0x009C, 0x009D, 0x002F, 0x0035, 0xC012, 0x000A, *GO[10:])
ALGORITHMS = (0x0804, 0x0403, 0x0807, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0503, 0x0603)
SHA1 = (*ALGORITHMS, 0x0201, 0x0203)
ML_DSA = (0x0904, 0x0905, 0x0906, *ALGORITHMS)
CURVES = (29, 23, 24, 25)
HYBRIDS = (4588, 4587, 4589, *CURVES)
HELLOS = {
    "1.21": (RSA, OLD_ORDER, SHA1, CURVES),
    "1.22": (THREE_DES, OLD_ORDER, SHA1, CURVES),
    "1.23": (GO, NEW_ORDER, SHA1, (25497, *CURVES)),
    "1.24": (GO, NEW_ORDER, SHA1, (4588, *CURVES)),
    "1.24 with the defaults of 1.23": (GO, NEW_ORDER, SHA1, CURVES),
    "1.25": (GO, KINDS_1_27, ALGORITHMS, (4588, *CURVES)),
    "1.25 with the defaults of 1.24": (GO, KINDS_1_27, SHA1, (4588, *CURVES)),
    "1.25 with the defaults of 1.23": (GO, KINDS_1_27, SHA1, CURVES),
    "1.26": (GO, KINDS_1_27, ALGORITHMS, HYBRIDS),
    "1.27": (GO, KINDS_1_27, ML_DSA, HYBRIDS),
}
"""Hellos of Go releases by their source (crypto/tls): the table's hashes were measured on the wire."""


@pytest.mark.parametrize("row", releases(), ids=lambda row: row.go)
def test_the_measured_hashes_are_those_of_the_releases_hellos(row: Release) -> None:
    ciphers, kinds, algorithms, groups = HELLOS[row.go]
    assert ja3(771, ciphers, kinds, groups, (0,)) == row.ja3
    assert ja4(0x0304, ciphers, kinds, algorithms, b"h2").split("_")[1:] == [row.ciphers, row.extensions]
    assert client_stack(ciphers, kinds) == Stack.GO
    dashed = "-".join(map(str, groups))
    assert row.go in go_releases(ja4(0x0304, ciphers, (0, *kinds), algorithms, b"http/1.1"), dashed)


def test_measured_releases_are_told_apart() -> None:
    assert go_releases("t13d1312h1_f57a46bbacb6_f50d94e863eb", "4588-4587-4589-29-23-24-25") == ("1.27",)
    assert go_releases("t13i1310h2_f57a46bbacb6_e7c285222651", "4588-29-23-24-25") == ("1.24",)
    assert go_releases("t13i1311h2_000000000000_f50d94e863eb", "29") == ()


@pytest.mark.parametrize(
    ("ciphers", "kinds", "stack"),
    [
        (GO, KINDS_1_24, Stack.GO),
        (GO, KINDS_1_27, Stack.GO),
        (GO, (0, *KINDS_1_27), Stack.GO),
        (GO[:6], KINDS_1_27, Stack.GO),  # --tls-cipher-suites
        (GO, (11, 65281, 23, 18, 5, 10, 13, 50, 43, 51), Stack.GO),  # no ALPN
        (GO, (11, 65281, 23, 35, 18, 5, 10, 13, 50, 16, 43, 51), Stack.UNKNOWN),  # a session cache: not stock
        (GO, KINDS_1_27[::-1], Stack.UNKNOWN),
        ((*GO, 0x009F), KINDS_1_27, Stack.UNKNOWN),
        (OPENSSL, KINDS_OPENSSL, Stack.OPENSSL),
        (OPENSSL[:-1], KINDS_OPENSSL, Stack.UNKNOWN),
        ((0x1A1A, *GO), KINDS_1_27, Stack.OTHER),
        (GO, (0x2A2A, *KINDS_1_27), Stack.OTHER),
        ((), (), Stack.UNKNOWN),
    ],
)
def test_client_libraries(ciphers: tuple[int, ...], kinds: tuple[int, ...], stack: Stack) -> None:
    assert client_stack(ciphers, kinds) == stack


@pytest.mark.parametrize(
    ("version_13", "cipher", "kinds", "offered", "stack"),
    [
        (True, 0x1301, (43, 51), GO, Stack.GO),
        (True, 0x1301, (43, 51), OPENSSL, Stack.GO),
        (True, 0x1302, (43, 51), OPENSSL, Stack.UNKNOWN),
        (True, 0x1303, (43, 51), GO, Stack.UNKNOWN),
        (True, 0x1303, (43, 51), (0x1303, 0x1301), Stack.GO),
        (True, 0x1301, (51, 43), GO, Stack.UNKNOWN),
        (False, 0xC02F, (65281, 16, 11), GO, Stack.GO),
        (False, 0xC02F, (65281, 23, 16, 11), GO, Stack.GO),
        (False, 0xC030, (65281, 0, 11, 35, 16, 23), OPENSSL, Stack.OPENSSL),
        (False, 0xC030, (65281, 11, 35), OPENSSL, Stack.OPENSSL),
        (False, 0xC030, (65281,), OPENSSL, Stack.UNKNOWN),
        (False, 0xC02F, (65281, 11), GO, Stack.UNKNOWN),  # both write these in this order
    ],
)
def test_server_libraries(
    version_13: bool, cipher: int, kinds: tuple[int, ...], offered: tuple[int, ...], stack: Stack
) -> None:
    assert server_stack(version_13, cipher, kinds, offered) == stack


def test_the_registry() -> None:
    suites = cipher_suites()
    assert len(suites) > 340
    assert all(name.startswith("TLS_") for name, _ in suites.values())
    assert suite_name(0x1301) == "TLS_AES_128_GCM_SHA256"
    assert suite_name(0xC02F) == "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    assert suite_name(0xFACE) == "0xface"
    for name, flags in suites.values():
        assert ("null" in flags) == ("_WITH_NULL_" in name or name in ("TLS_SHA256_SHA256", "TLS_SHA384_SHA384")), name
        assert ("anon" in flags) == ("_anon_" in name or name == "TLS_NULL_WITH_NULL_NULL"), name
    column = np.array([0x0000, 0x003B, 0x006C, 0xC02F, 0x1301, 0xC0B4, 0xFFFF], np.uint16)
    assert null_cipher(column).tolist() == [True, True, False, False, False, True, False]
    assert anonymous_cipher(column).tolist() == [True, False, True, False, False, False, False]
