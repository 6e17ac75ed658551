"""Prometheus metrics of a live run, and the small server that they are scraped from.

Names follow Prometheus' conventions: base units (seconds; bytes, which elsewhere are called octets), ``_total`` for
what only grows. Labels come from the catalogue of channels and from the rules, never from the network, so that nobody
on the wire can multiply the series.
"""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from analyzer import __version__
from analyzer.errors import PlanewireError
from analyzer.report.live_view import Moment
from analyzer.report.schema_document import CHANNEL_VERDICTS, QUESTIONS

HEALTHY_S: Final = 30.0
"""Seconds within which the loop must have come round for ``/healthz`` to say that the program is alive."""
_SLOW_CLIENT_S: Final = 10.0


class ListenError(PlanewireError):
    """The metrics cannot be served where they should be."""

    exit_code = 2


class LiveCollector(Collector):
    """Turns the latest moment into metrics; what is a counter never goes down, whatever the verdicts do.

    A channel's connections, packets and octets are counted under the verdict that the channel had when they were
    counted: the sum over verdicts is what the channel carried.
    """

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._moment: Moment | None = None
        self._started: Final = time.time()
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._grown: dict[tuple[str, str], list[int]] = {}
        self._findings: dict[tuple[str, str], int] = {}
        self._known: set[str] = set()
        self._peaks = {"packets": 0, "octets": 0, "received": 0, "dropped": 0, "aged": 0}

    def take(self, moment: Moment) -> None:
        """Take the present moment."""
        view, health = moment.view, moment.health
        with self._lock:
            self._moment = moment
            for channel in view.channels:
                now = (channel.connections, channel.packets, channel.octets)
                before = self._seen.get(channel.id, (0, 0, 0))
                grown = self._grown.setdefault((channel.id, channel.verdict), [0, 0, 0])
                for place in range(3):
                    grown[place] += max(0, now[place] - before[place])
                # What moved to another channel was counted here already: only what comes on top counts again.
                self._seen[channel.id] = tuple(map(max, now, before))  # type: ignore[assignment]
            current = {finding.identity for finding in view.findings}
            for finding in view.findings:
                if finding.identity not in self._known:
                    key = (finding.code, finding.severity)
                    self._findings[key] = self._findings.get(key, 0) + 1
            self._known = current
            values = (view.frames, view.octets, health.received or 0, health.dropped or 0, view.aged_out)
            for name, value in zip(self._peaks, values, strict=True):
                self._peaks[name] = max(self._peaks[name], value)

    def describe(self) -> list[Metric]:
        """Nothing is known before the first moment."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        with self._lock:
            metrics = self._collected()
        yield from metrics

    def _collected(self) -> list[Metric]:
        build = InfoMetricFamily("planewire_build", "The program.", value={"version": __version__})
        started = GaugeMetricFamily("planewire_start_time_seconds", "When the run began, Unix time.", self._started)
        if self._moment is None:
            return [build, started]
        return [build, started, *self._capture(), *self._channels(), *self._rules()]

    def _capture(self) -> list[Metric]:
        assert self._moment is not None
        view, health, peaks = self._moment.view, self._moment.health, self._peaks
        age_s = max(0.0, (view.time_ns - view.concluded_ns) / 1e9) if view.concluded_ns else 0.0
        metrics: list[Metric] = [
            CounterMetricFamily("planewire_packets_total", "Packets taken.", peaks["packets"]),
            CounterMetricFamily("planewire_bytes_total", "Bytes of them, on the wire.", peaks["octets"]),
            GaugeMetricFamily(
                "planewire_capture_lag_seconds", "From a packet's own time to when it was counted.", health.lag_s
            ),
            GaugeMetricFamily("planewire_open_connections", "Connections that are open.", view.open_connections),
            GaugeMetricFamily(
                "planewire_retained_connections", "Connections held in memory.", view.retained_connections
            ),
            CounterMetricFamily(
                "planewire_aged_out_connections_total", "Connections let go after their end.", peaks["aged"]
            ),
            GaugeMetricFamily("planewire_verdict_age_seconds", "Since verdicts were last concluded.", age_s),
        ]
        # Nought is not said of what nobody counts.
        if health.dropped is not None:
            metrics.append(
                CounterMetricFamily(
                    "planewire_capture_dropped_packets_total", "Packets that the kernel dropped.", peaks["dropped"]
                )
            )
        if health.received is not None:
            metrics.append(
                CounterMetricFamily(
                    "planewire_capture_received_packets_total",
                    "Packets that the kernel saw, taken or dropped.",
                    peaks["received"],
                )
            )
        return metrics

    def _channels(self) -> list[Metric]:
        assert self._moment is not None
        families = [
            CounterMetricFamily(f"planewire_channel_{what}_total", f"{said}, by the verdict then.", labels=_BY_VERDICT)
            for what, said in (
                ("connections", "Connections of a channel"),
                ("packets", "Packets of a channel"),
                ("bytes", "Bytes of a channel on the wire"),
            )
        ]
        for key, grown in sorted(self._grown.items()):
            for family, value in zip(families, grown, strict=True):
                family.add_metric(key, value)
        is_open = GaugeMetricFamily("planewire_channel_open_connections", "Open now.", labels=["channel"])
        verdict = GaugeMetricFamily("planewire_channel_verdict", "1 for the verdict now, else 0.", labels=_BY_VERDICT)
        answers = GaugeMetricFamily(
            "planewire_channel_answers",
            "Connections of a channel by what they answer to a question.",
            labels=["channel", "question", "answer"],
        )
        for channel in self._moment.view.channels:
            is_open.add_metric([channel.id], channel.open)
            for word in CHANNEL_VERDICTS:
                verdict.add_metric([channel.id, word], float(word == channel.verdict))
            for question, labels in QUESTIONS.items():
                for label in labels:
                    answers.add_metric([channel.id, question, label], channel.answers[question][label])
        return [*families, is_open, verdict, answers]

    def _rules(self) -> list[Metric]:
        assert self._moment is not None
        present = GaugeMetricFamily(
            "planewire_findings",
            "Findings that hold now and that nobody accepted: channels that violate a rule.",
            labels=["code", "severity"],
        )
        counts: dict[tuple[str, str], int] = dict.fromkeys(self._findings, 0)
        for finding in self._moment.view.findings:
            key = (finding.code, finding.severity)
            counts[key] = counts.get(key, 0) + (not finding.suppressed)
        for key, count in sorted(counts.items()):
            present.add_metric(key, count)
        appeared = CounterMetricFamily(
            "planewire_findings_appeared_total", "Findings that appeared.", labels=["code", "severity"]
        )
        for key, count in sorted(self._findings.items()):
            appeared.add_metric(key, count)
        return [present, appeared]


_BY_VERDICT: Final = ("channel", "verdict")


class MetricsServer:
    """Listens at once, and serves ``/metrics`` and ``/healthz`` from `start` until it is closed.

    Raises
    ------
    ListenError
        Nothing can listen there.
    """

    def __init__(self, host: str, port: int) -> None:
        self.collector: Final = LiveCollector()
        registry = CollectorRegistry()
        registry.register(self.collector)
        ProcessCollector(registry=registry)
        self._beaten = time.monotonic()
        try:
            self._server = _server(host, port, registry, self)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ListenError(f"--metrics {host}:{port}: cannot listen there: {reason}") from None
        shown = f"[{host}]" if ":" in host else host
        self.url: Final = f"http://{shown}:{self._server.server_address[1]}/metrics"
        self._thread: Final = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def beat(self) -> None:
        """Say that the loop has come round."""
        self._beaten = time.monotonic()

    @property
    def healthy(self) -> bool:
        """The loop came round lately."""
        return time.monotonic() - self._beaten < HEALTHY_S

    def close(self) -> None:
        """Stop serving."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(1.0)
        self._server.server_close()


def _server(host: str, port: int, registry: CollectorRegistry, health: MetricsServer) -> ThreadingHTTPServer:
    import socket

    class Handler(MetricsHandler.factory(registry)):  # type: ignore[misc]
        timeout = _SLOW_CLIENT_S

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/metrics":
                super().do_GET()
                return
            status, said = (200, b"ok\n") if health.healthy else (503, b"the loop stands still\n")
            if path != "/healthz":
                status, said = 404, b"/metrics and /healthz are here\n"
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            """Keep quiet: standard error is the user's."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]

        def server_bind(self) -> None:
            # The base class asks a name server who we are, and waits for the answer.
            socketserver.TCPServer.server_bind(self)
            self.server_name, self.server_port = host, self.server_address[1]

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away in the middle is nobody's business."""

    return Server((host, port), Handler)
