"""Asking each distinct message once says what asking every message says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.http_table import HttpTable
from analyzer.schema import HttpHead, HttpMessage

requests = st.builds(
    HttpHead,
    from_client=st.just(True),
    version=st.sampled_from(["1.1", "2"]),
    method=st.sampled_from(["GET", "POST"]),
    target=st.sampled_from(["/a", "/b", "/metrics"]),
    credential_facts=st.sampled_from([(), (("sub", "a"),)]),
)
responses = st.builds(
    HttpHead,
    from_client=st.just(False),
    version=st.just("1.1"),
    status=st.sampled_from([0, 101, 200, 404]),
)
shared = [HttpHead(True, "1.1", "GET", "/a"), HttpHead(True, "1.1", "GET", "/a"), HttpHead(False, "1.1", status=200)]
messages = st.lists(
    st.builds(
        HttpMessage,
        flow=st.integers(0, 6),
        frame=st.integers(1, 9),
        head=st.one_of(requests, responses, st.sampled_from(shared)),
        decrypted=st.booleans(),
    ),
    max_size=40,
)


def _content(message: HttpMessage) -> tuple[object, ...]:
    return message.head, message.decrypted


@given(messages)
def test_rows_are_messages_by_flow_in_their_order(said: list[HttpMessage]) -> None:
    table = HttpTable.of(said)
    ordered = sorted(said, key=lambda message: message.flow)
    assert table.flow.tolist() == [message.flow for message in ordered]
    assert table.frame.tolist() == [message.frame for message in ordered]
    assert [_content(table.contents[row]) for row in table.content] == [_content(message) for message in ordered]
    assert len({_content(message) for message in table.contents}) == len(table.contents)


@given(messages, st.sampled_from(["/a", "/metrics"]))
def test_questions_are_answered_for_every_message(said: list[HttpMessage], target: str) -> None:
    table = HttpTable.of(said)
    asked: list[int] = []

    def test(message: HttpMessage) -> bool:
        asked.append(id(message))
        return message.target == target

    ordered = sorted(said, key=lambda message: message.flow)
    wanted = [row for row, m in enumerate(ordered) if m.method and m.target == target]
    assert table.requests(test).tolist() == wanted
    assert len(asked) == len(set(asked)) == len(table.contents)
    assert table.responses(lambda m: m.status == 200).tolist() == [
        row for row, m in enumerate(ordered) if not m.method and m.status == 200
    ]
    assert np.sort(np.concatenate([table.requests(), table.responses()])).tolist() == list(range(len(said)))


@given(messages)
def test_sequences_are_those_of_the_flows(said: list[HttpMessage]) -> None:
    table = HttpTable.of(said)
    sequences, flows, which = table.sequences(table.requests())
    expected = {
        flow: [_content(m) for m in said if m.flow == flow and m.method] for flow in {m.flow for m in said if m.method}
    }
    found = {
        flow: [_content(m) for m in sequences[row]] for flow, row in zip(flows.tolist(), which.tolist(), strict=True)
    }
    assert found == expected
    assert len({tuple(map(_content, sequence)) for sequence in sequences}) == len(sequences)
