"""Masking: every octet of a secret, wherever its segments lie, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.redaction import Segment, masked, secret_ranges

TOKEN = b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6YTpiIn0.c2lnbmF0dXJlLW9mLXRoaXM"
REQUEST = b"GET /pods HTTP/1.1\r\nHost: node1\r\nAuthorization: Bearer " + TOKEN + b"\r\nAccept: */*\r\n\r\n"


def text_of(octets: bytes) -> bytes:
    hidden = bytearray(octets)
    for start, stop in secret_ranges(octets):
        hidden[start:stop] = b"x" * (stop - start)
    return bytes(hidden)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"Authorization: Basic dXNlcjpwYXNz", b"Authorization: Basic xxxxxxxxxxxx"),
        (b"authorization:Bearer opaque-token-1", b"authorization:Bearer xxxxxxxxxxxxxx"),
        (b"Authorization: opaque", b"Authorization: xxxxxx"),
        (b"Proxy-Authorization: Digest username=\"a\"", b"Proxy-Authorization: Digest xxxxxxxxxxxx"),
        (b"Cookie: a=1234; b=56", b"Cookie: a=xxxx; b=xx"),
        (b"Set-Cookie: sid=abc; Path=/", b"Set-Cookie: sid=xxx; Path=x"),
        (b"X-Api-Key: 12345", b"X-Api-Key: xxxxx"),
        (b"GET /x?access_token=abc&b=c HTTP/1.1", b"GET /x?access_token=xxx&b=c HTTP/1.1"),
        (b"GET http://u:p@host/ HTTP/1.1", b"GET http://xxx@host/ HTTP/1.1"),
        (b"Sec-WebSocket-Protocol: v4, base64url.bearer.authorization.k8s.io.YWJj", b"Sec-WebSocket-Protocol: v4, "
         b"base64url.bearer.authorization.k8s.io.xxxx"),
        (b"Host: node1", b"Host: node1"),
        (b"X-Authorization-Note: none", b"X-Authorization-Note: none"),
    ],
)  # fmt: skip
def test_what_is_masked(line: bytes, wanted: bytes) -> None:
    assert text_of(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n") == b"GET / HTTP/1.1\r\n" + wanted + b"\r\n\r\n"


def test_of_a_token_the_signature_goes_and_the_claims_stay() -> None:
    claims, signature = TOKEN.rsplit(b".", 1)
    hidden = text_of(REQUEST)
    assert hidden == REQUEST.replace(signature, b"x" * len(signature))
    assert claims in hidden


@given(st.data(), st.integers(0, 2**32 - 1))
def test_however_it_is_cut_repeated_and_mixed(data: st.DataObject, origin: int) -> None:
    """Segments of any size, some sent twice, in any order, sequence numbers that wrap: no octet of it is left."""
    stream = REQUEST * 2
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    edges = list(zip([0, *cuts], [*cuts, len(stream)], strict=True))
    edges += data.draw(st.lists(st.sampled_from(edges), max_size=4))
    edges = data.draw(st.permutations(edges))
    frames = {number: b"head" + stream[start:stop] for number, (start, stop) in enumerate(edges)}
    segments = [
        Segment(number, 4, 4 + stop - start, (origin + start) & 0xFFFFFFFF)
        for number, (start, stop) in enumerate(edges)
    ]

    changed, secrets = masked(frames, [segments])

    wanted = text_of(stream)
    assert {n: octets[4:] for n, octets in changed.items()} == {n: wanted[a:b] for n, (a, b) in enumerate(edges)}
    assert all(octets[:4] == b"head" for octets in changed.values())
    assert secrets == {TOKEN.rsplit(b".", 1)[1]}


def test_what_lies_behind_a_hole_is_masked_by_itself() -> None:
    frames = {1: REQUEST, 2: REQUEST}
    changed, _ = masked(frames, [[Segment(1, 0, len(REQUEST), 0), Segment(2, 0, len(REQUEST), 1 << 30)]])
    assert set(changed.values()) == {text_of(REQUEST)}


def test_a_secret_that_an_answer_echoes_is_masked_there_too() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\nyour session is abcdefgh1234"
    request = b"GET / HTTP/1.1\r\nCookie: sid=abcdefgh1234\r\n\r\n"
    streams = [[Segment(1, 0, len(request), 0)], [Segment(2, 0, len(answer), 0)]]
    changed, _ = masked({1: request, 2: answer}, streams)
    assert changed[2] == answer.replace(b"abcdefgh1234", b"x" * 12)


@pytest.mark.parametrize("begin", [b"\x16\x03\x01", b"\x17\x03\x03", b"SSH-2.0-"])
def test_what_looks_like_a_field_inside_tls_or_ssh_is_none(begin: bytes) -> None:
    octets = begin + REQUEST
    changed, secrets = masked({1: octets}, [[Segment(1, 0, len(octets), 0)]])
    assert (changed, secrets) == ({1: octets}, set())
