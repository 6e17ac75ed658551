from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.credentials import (
    MAX_TOKEN,
    NO_CREDENTIAL,
    WEBSOCKET_BEARER,
    Credential,
    read_authorization,
    read_subprotocols,
    read_target,
    without_secrets,
)


def base64url(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def jwt(claims: Any, *, header: bytes = b'{"alg":"RS256"}') -> bytes:
    return b".".join([base64url(header), base64url(json.dumps(claims).encode()), base64url(b"the-signature" * 8)])


CLAIMS = {
    "iss": "https://kubernetes.default.svc.cluster.local",
    "sub": "system:serviceaccount:kube-system:coredns",
    "aud": ["https://kubernetes.default.svc", "k3s"],
    "exp": 1793475600,
    "kubernetes.io": {"pod": {"uid": "u"}},
}


def test_a_service_account_token_names_its_account() -> None:
    found = read_authorization(b"Bearer " + jwt(CLAIMS))
    assert found.text == "bearer (service account kube-system/coredns)"
    assert found.facts == (
        ("iss", "https://kubernetes.default.svc.cluster.local"),
        ("sub", "system:serviceaccount:kube-system:coredns"),
        ("aud", "https://kubernetes.default.svc, k3s"),
        ("exp", "1793475600"),
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", ""),
        (b"   ", ""),
        (b"Bearer opaque-token", "bearer"),
        (b"bearer abcdef.0123456789abcdef", "bearer (bootstrap token)"),
        (b"Bearer", "bearer"),
        (b"Basic dXNlcjpwYXNz", "basic"),
        (b"BASIC dXNlcjpwYXNz", "basic"),
        (b"Digest username=x", "digest"),
        (b"Negotiate abc", "negotiate"),
        (b"AWS4-HMAC-SHA256 Credential=x", "aws4-hmac-sha256"),
        (b"c2VjcmV0LXRva2Vu", "other scheme"),
        (b"Secret: value", "other scheme"),
        (b"Bearer " + jwt({"sub": "alice"}), "bearer"),
        (b"Bearer " + jwt({"sub": "system:serviceaccount:broken"}), "bearer"),
        (b"Bearer " + jwt(["sub"]), "bearer"),
    ],
)
def test_kinds_of_credentials(value: bytes, expected: str) -> None:
    assert read_authorization(value).text == expected


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"not json", id="not JSON"),
        pytest.param(b"[" * 5000, id="deep"),
        pytest.param(b'{"exp":' + b"9" * 5000 + b"}", id="long integer"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(b'{"sub":{"a":1},"exp":true,"iss":null,"aud":[1,{}]}', id="wrong types"),
        pytest.param(b'{"exp":NaN}', id="not a number"),
    ],
)
def test_unreadable_claims_leave_a_bearer_token(payload: bytes) -> None:
    token = b"eyJ.".replace(b".", b"") + b"." + base64url(payload) + b".sig"
    assert read_authorization(b"Bearer " + token) == Credential("bearer")


@pytest.mark.parametrize("parts", [1, 2, 4, 5])
def test_only_three_parts_make_a_signed_token(parts: int) -> None:
    # Five are an encrypted token (RFC 7516 7.1), whose second part is a key.
    token = b".".join([base64url(json.dumps({"sub": "alice"}).encode())] * parts)
    assert read_authorization(b"Bearer " + token) == Credential("bearer")


def test_lone_surrogates_cannot_reach_an_output() -> None:
    token = b"eyJhIjoxfQ." + base64url(rb'{"sub":"a\ud800b","iss":"\u00e9"}') + b".s"
    facts = dict(read_authorization(b"Bearer " + token).facts)
    assert facts["sub"].encode() == b"a?b"
    assert facts["iss"] == "é"


def test_tokens_past_the_limit_are_not_looked_into() -> None:
    token = jwt({"sub": "alice", "pad": "x" * MAX_TOKEN})
    assert read_authorization(b"Bearer " + token) == Credential("bearer")
    assert read_subprotocols(WEBSOCKET_BEARER + b"A" * (MAX_TOKEN + 1)) == Credential("bearer")


def test_a_token_among_the_subprotocols_is_found() -> None:
    value = b"v5.channel.k8s.io, " + WEBSOCKET_BEARER + base64url(jwt(CLAIMS))
    assert read_subprotocols(value).text == "bearer (service account kube-system/coredns)"
    assert without_secrets(value) == f"v5.channel.k8s.io, {WEBSOCKET_BEARER.decode()}REDACTED"
    assert read_subprotocols(b"v5.channel.k8s.io") == NO_CREDENTIAL
    assert read_subprotocols(WEBSOCKET_BEARER + b"!!!").text == "bearer"


@pytest.mark.parametrize(
    ("target", "shown", "kind"),
    [
        (b"/a?token=s3cret&b=1", "/a?token=REDACTED&b=1", "token (in the request target)"),
        (b"/a?b=1&access_token=s3cret", "/a?b=1&access_token=REDACTED", "token (in the request target)"),
        (b"/a?client-secret=s3cret#f", "/a?client-secret=REDACTED#f", "token (in the request target)"),
        (
            b"/b?X-Amz-Signature=s3cret&sig=s3cret",
            "/b?X-Amz-Signature=REDACTED&sig=REDACTED",
            "token (in the request target)",
        ),
        (b"http://u:s3cret@h/p", "http://REDACTED@h/p", "basic (in the request target)"),
        (b"/api/v1/pods?watch=1&timeout=5s", "/api/v1/pods?watch=1&timeout=5s", ""),
        (b"/logs?tokens=5", "/logs?tokens=5", ""),
        (b"/a@b?c=d", "/a@b?c=d", ""),
        (b"/x/eyJhbGciOiJub25lIn0.eyJzdWIiOiJzM2NyZXQifQ.sig", "/x/REDACTED", ""),
        (b"framework.default.svc", "framework.default.svc", ""),
        (b"kubectl/v1.36.2 (linux/amd64) kubernetes/98b3519", "kubectl/v1.36.2 (linux/amd64) kubernetes/98b3519", ""),
    ],
)
def test_secrets_in_targets(target: bytes, shown: str, kind: str) -> None:
    assert without_secrets(target) == shown
    assert read_target(target).text == kind


SECRET = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=12, max_size=60).map(
    lambda s: s.encode()
)


@given(SECRET, st.sampled_from([b"Bearer ", b"bearer  ", b"Basic ", b"", b"Token ", b"X ", b"\t"]))
def test_no_part_of_a_secret_survives(secret: bytes, scheme: bytes) -> None:
    for octets in (scheme + secret, scheme + secret + b".x." + secret):
        assert secret.decode() not in repr(read_authorization(octets))
    assert secret.decode() not in repr(read_subprotocols(WEBSOCKET_BEARER + secret))
    assert secret.decode() not in without_secrets(b"/p?x=1&token=" + secret + b"&y=2")


@given(st.binary(max_size=200))
def test_any_octets_never_raise(octets: bytes) -> None:
    for found in (read_authorization(octets), read_authorization(b"Bearer a." + octets), read_target(octets)):
        assert isinstance(found.text, str)
    read_authorization(b"Bearer eyJ." + base64url(octets) + b".s")
    assert len(without_secrets(octets)) <= 512


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/exec/VJIwJOle", "/exec/REDACTED"),
        (b"/attach/ab_-12Zz?tty=1", "/attach/REDACTED?tty=1"),
        (b"http://127.0.0.1:41393/portforward/CYZ7WbTt", "http://127.0.0.1:41393/portforward/REDACTED"),
        (b"/exec/default0/web/main?command=id", "/exec/default0/web/main?command=id"),
        (b"/exec/short", "/exec/short"),
    ],
)
def test_the_single_use_token_of_a_streaming_url_is_not_shown(target: bytes, shown: str) -> None:
    assert without_secrets(target) == shown
