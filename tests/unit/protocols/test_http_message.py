"""What is kept of HTTP messages."""

from __future__ import annotations

from analyzer.protocols.http_message import make_request, make_response
from analyzer.schema import HttpHead, HttpMessage


def test_all_that_a_head_says_is_read_through_the_message() -> None:
    head = HttpHead(*range(len(HttpHead._fields)))
    message = HttpMessage(1, 2, head)
    assert [getattr(message, name) for name in HttpHead._fields] == [*head]


def test_messages_of_the_same_head_differ_in_where_they_stand_alone() -> None:
    head = [(b"host", b"node"), (b"upgrade", b"SPDY/3.1"), (b"authorization", b"Basic Zm9vOmJhcg==")]
    one = make_request(1, 10, version="1.1", method=b"POST", target=b"/exec", fields=head)
    other = make_request(2, 20, version="1.0", method=b"POST", target=b"/exec", fields=head)
    assert (one.flow, one.frame, one.version, one.from_client) == (1, 10, "1.1", True)
    assert (other.flow, other.frame, other.version, other.from_client) == (2, 20, "1.0", True)
    assert (one.method, one.target, one.host, one.upgrade) == ("POST", "/exec", "node", "SPDY/3.1")
    assert one.credential == other.credential == "basic"
    assert make_request(3, 30, version="1.1", method=b"POST", target=b"/exec", fields=head).head is one.head
    answer = make_response(1, 11, version="1.1", status=101, fields=head)
    assert (answer.status, answer.upgrade, answer.host, answer.from_client) == (101, "SPDY/3.1", "", False)
