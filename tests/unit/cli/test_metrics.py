"""Metrics scraped over the loopback address and read by Prometheus' own parser."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from analyzer import __version__
from analyzer.cli import metrics
from analyzer.cli.metrics import ListenError, LiveCollector, MetricsServer
from analyzer.report.schema_document import CHANNEL_VERDICTS
from tests.live_example import START_NS, channel, finding, moment

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    made = MetricsServer("127.0.0.1", 0)
    made.start()
    yield made
    made.close()


def get(server: MetricsServer, path: str = "/metrics", accept: str = "text/plain") -> tuple[int, str]:
    host, port = server.url.removeprefix("http://").removesuffix("/metrics").rsplit(":", 1)
    with contextlib.closing(http.client.HTTPConnection(host.strip("[]"), int(port), timeout=5)) as connection:
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_everything_that_was_promised_is_there(server: MetricsServer) -> None:
    server.collector.take(
        moment(
            channel(), finding(), finding("PW901", severity="info", suppressed="known"),
            health={"received": 1203}, concluded_ns=START_NS + 58 * 10**9,
        )
    )  # fmt: skip
    status, text = get(server)
    found = samples(text)
    assert status == 200
    here = {"channel": "apiserver-to-kubelet"}
    assert value(found, "planewire_build_info", version=__version__) == 1
    assert value(found, "planewire_packets_total") == 1200
    assert value(found, "planewire_bytes_total") == 480_000
    assert value(found, "planewire_capture_received_packets_total") == 1203
    assert value(found, "planewire_capture_dropped_packets_total") == 3
    assert value(found, "planewire_capture_lag_seconds") == 0.012
    assert value(found, "planewire_verdict_age_seconds") == 2
    assert value(found, "planewire_open_connections") == 3
    assert value(found, "planewire_retained_connections") == 8
    assert value(found, "planewire_aged_out_connections_total") == 1
    assert value(found, "planewire_channel_connections_total", verdict="at-risk", **here) == 8
    assert value(found, "planewire_channel_packets_total", verdict="at-risk", **here) == 1200
    assert value(found, "planewire_channel_bytes_total", verdict="at-risk", **here) == 480_000
    assert value(found, "planewire_channel_open_connections", **here) == 3
    verdicts = {v: value(found, "planewire_channel_verdict", verdict=v, **here) for v in CHANNEL_VERDICTS}
    assert verdicts == {"at-risk": 1, "sound": 0, "undecidable": 0, "informational": 0}
    assert value(found, "planewire_channel_answers", question="client_certificate", answer="presented", **here) == 6
    assert value(found, "planewire_findings", code="PW201", severity="high") == 1
    assert value(found, "planewire_findings", code="PW901", severity="info") == 0
    assert value(found, "planewire_findings_appeared_total", code="PW901", severity="info") == 1
    assert ("process_resident_memory_bytes", ()) in found
    assert list(open_metrics(get(server, accept="application/openmetrics-text; version=1.0.0")[1]))  # type: ignore[no-untyped-call]


def test_before_the_first_moment(server: MetricsServer) -> None:
    names = {name for name, _ in samples(get(server)[1])}
    assert {"planewire_build_info", "planewire_start_time_seconds"} <= names
    assert "planewire_packets_total" not in names


def test_names_keep_to_the_conventions(server: MetricsServer) -> None:
    server.collector.take(moment(channel(), finding()))
    for family in text_string_to_metric_families(get(server)[1]):
        assert family.documentation
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


channels = st.lists(
    st.builds(
        channel,
        st.sampled_from(["a", "b", "c"]),
        verdict=st.sampled_from(CHANNEL_VERDICTS),
        connections=st.integers(0, 9),
        packets=st.integers(0, 9),
        octets=st.integers(0, 9),
    ),
    max_size=3,
    unique_by=lambda c: c.id,
)
findings = st.lists(st.builds(finding, st.sampled_from(["PW201", "PW101"])), max_size=2, unique_by=lambda f: f.identity)


@given(st.lists(st.tuples(channels, findings, st.integers(0, 9)), min_size=1, max_size=6))
def test_counters_never_go_down_whatever_verdicts_do(steps: list[tuple[list[object], list[object], int]]) -> None:
    collector = LiveCollector()
    before: Samples = {}
    for some, found, count in steps:
        now = moment(*some, *found, frames=count, octets=count, aged_out=count, health={"dropped": count})  # type: ignore[arg-type]
        collector.take(now)
        after = {
            (s.name, tuple(sorted(s.labels.items()))): s.value
            for family in collector.collect()
            if family.type == "counter"
            for s in family.samples
        }
        assert before.keys() <= after.keys()
        assert all(after[key] >= value for key, value in before.items())
        before = after


def test_labels_never_come_from_the_network() -> None:
    collector = LiveCollector()
    hostile = "\x1b[2J'\"\n"
    collector.take(
        moment(
            channel(title=hostile, sentence=hostile, clients=(hostile,), servers=(hostile,)),
            finding(title=hostile, sentence=hostile, hosts=(hostile,), filter=hostile),
            health={"name": hostile, "problem": hostile},
        )
    )
    labels = {v for family in collector.collect() for s in family.samples for v in s.labels.values()}
    assert not any(hostile in label for label in labels)


def test_liveness_is_that_of_the_loop(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.beat()
    assert get(server, "/healthz") == (200, "ok\n")
    monkeypatch.setattr(metrics, "HEALTHY_S", 0.0)
    assert get(server, "/healthz")[0] == 503
    server.beat()
    assert get(server, "/")[0] == 404


def test_an_address_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^--metrics 127\.0\.0\.1:{port}: cannot listen there: Address already"):
            MetricsServer("127.0.0.1", port)


def test_an_unknown_host_is_one_line() -> None:
    with pytest.raises(ListenError, match="cannot listen there"):
        MetricsServer("no.such.host.invalid", 0)


def test_ipv6() -> None:
    made = MetricsServer("::1", 0)
    made.start()
    try:
        assert made.url.startswith("http://[::1]:")
        assert get(made)[0] == 200
    finally:
        made.close()
