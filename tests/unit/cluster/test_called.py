from __future__ import annotations

import pytest

from analyzer.cluster.called import read_api_service, read_conversion, read_webhooks
from analyzer.cluster.handover import declarations
from analyzer.cluster.inventory import mapped_octets, parse_address
from analyzer.cluster.loading import read_cluster_facts

SERVICE = {"name": "hook", "namespace": "kube-system"}
WEBHOOKS = {
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "policy"},
    "webhooks": [
        {"name": "by.service", "clientConfig": {"service": SERVICE, "caBundle": "x"}},
        {"name": "by.url", "clientConfig": {"url": "https://user:hunter2@10.0.0.12:9444/validate"}},
        {"name": "by.nothing", "clientConfig": {}},
        "none",
    ],
}


def test_webhooks_by_service_and_by_url() -> None:
    called, settings = read_webhooks(WEBHOOKS, "w.yaml")

    assert [(c.service, c.namespace, c.has_ca_bundle, c.verifies) for c in called] == [
        ("hook", "kube-system", True, True),
        ("", "", False, True),
    ]
    assert [s.value for s in settings] == ["given", "not set"]
    assert "hunter2" not in repr(called) + repr(settings)


def test_an_aggregated_api_may_switch_the_check_off() -> None:
    service = {"name": "metrics-server", "namespace": "kube-system"}
    document = {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"service": service}}
    [checked], _ = read_api_service(document, "a.yaml")
    document["spec"]["insecureSkipTLSVerify"] = True  # type: ignore[index]
    [skipped], [setting] = read_api_service(document, "a.yaml")

    assert (checked.verifies, skipped.verifies) == (True, False)
    assert (setting.component, setting.setting, setting.value) == (
        "APIService v1beta1.metrics.k8s.io", "insecureSkipTLSVerify", "true",
    )  # fmt: skip


def test_an_api_the_api_server_serves_itself_calls_nobody() -> None:
    assert read_api_service({"metadata": {"name": "v1."}, "spec": {"service": None}}, "a.yaml") == ([], [])


def test_conversion_webhooks() -> None:
    config = {"service": {"name": "convert", "namespace": "x"}}
    document = {"metadata": {"name": "d"}, "spec": {"conversion": {"webhook": {"clientConfig": config}}}}

    assert [c.service for c in read_conversion(document, "d.yaml")[0]] == ["convert"]
    assert read_conversion({"metadata": {"name": "d"}, "spec": {"conversion": {"strategy": "None"}}}, "d.yaml")[0] == []


@pytest.mark.parametrize("document", [{}, {"webhooks": None}, {"webhooks": [None, 1]}, {"spec": []}])
def test_what_is_none_gives_nothing(document: dict[str, object]) -> None:
    assert read_webhooks(document, "x")[0] == []
    assert read_api_service(document, "x")[0] == []
    assert read_conversion(document, "x")[0] == []


def test_they_are_known_by_name_and_by_the_addresses_behind_them() -> None:
    files = {
        "w.yaml": b"""
kind: ValidatingWebhookConfiguration
metadata: {name: policy}
webhooks:
- {name: a, clientConfig: {service: {name: hook, namespace: default}}}
- {name: b, clientConfig: {url: "https://10.0.0.12:9444/x"}}
- {name: c, clientConfig: {url: "https://hooks.example.com/x"}}
- {name: d, clientConfig: {url: "https://node1:8443/x"}}
""",
        "s.yaml": b"""
kind: List
items:
- kind: Node
  metadata: {name: node1}
  status: {addresses: [{address: 10.0.0.11}]}
- kind: Service
  metadata: {name: hook, namespace: default}
  spec: {clusterIP: 10.96.0.7, ports: [{port: 443}]}
- kind: Endpoints
  metadata: {name: hook, namespace: default}
  subsets: [{addresses: [{ip: 10.244.1.5}], ports: [{port: 8443}]}]
""",
    }

    called = declarations(read_cluster_facts(files)).called

    def end(text: str, port: int) -> tuple[bytes, int]:
        address = parse_address(text)
        assert address is not None
        return mapped_octets(address).tobytes(), port

    assert [(c.name, c.endpoints) for c in called] == [
        ("hook.default.svc", {end("10.96.0.7", 443), end("10.244.1.5", 8443)}),
        ("", {end("10.0.0.12", 9444)}),
        ("hooks.example.com", frozenset()),
        ("node1", {end("10.0.0.11", 8443)}),
    ]
