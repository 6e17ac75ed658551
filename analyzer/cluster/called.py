"""Whom the API server calls besides kubelets: admission and conversion webhooks, aggregated APIs.

Only whom it dials and whether it checks are read; a caBundle is public, and is looked at no further than that it is
there.
"""

from __future__ import annotations

from typing import Final

from analyzer.cluster.declared import CalledDeclared, DeclaredSetting
from analyzer.cluster.documents import Object, boolean, mapping, sequence, string
from analyzer.protocols.credentials import redact

MAX_CALLED: Final = 4096
"""Webhooks read of one object; clusters have some tens."""


def read_webhooks(document: Object, source_file: str) -> tuple[list[CalledDeclared], list[DeclaredSetting]]:
    """Read a ValidatingWebhookConfiguration or MutatingWebhookConfiguration (admissionregistration.k8s.io/v1)."""
    called: list[CalledDeclared] = []
    for webhook in sequence(document, "webhooks")[:MAX_CALLED]:
        what = f"{string(document, 'kind')} {string(document, 'metadata', 'name')}: {string(webhook, 'name')}"
        called += _client_config(mapping(webhook, "clientConfig"), what, source_file)
    return called, [_setting(entry) for entry in called]


def read_conversion(document: Object, source_file: str) -> tuple[list[CalledDeclared], list[DeclaredSetting]]:
    """Read the conversion webhook of a CustomResourceDefinition (apiextensions.k8s.io/v1), where it has one."""
    config = mapping(document, "spec", "conversion", "webhook", "clientConfig")
    called = _client_config(
        config, f"CustomResourceDefinition {string(document, 'metadata', 'name')}: conversion", source_file
    )
    return called, [_setting(entry) for entry in called]


def read_api_service(document: Object, source_file: str) -> tuple[list[CalledDeclared], list[DeclaredSetting]]:
    """Read an APIService (apiregistration.k8s.io/v1); one without a service is served by the API server itself."""
    service = string(document, "spec", "service", "name")
    if not service:
        return [], []
    entry = CalledDeclared(
        source_file=source_file,
        what=f"APIService {string(document, 'metadata', 'name')}",
        namespace=string(document, "spec", "service", "namespace"),
        service=service,
        has_ca_bundle=bool(string(document, "spec", "caBundle")),
        insecure_skip_tls_verify=boolean(document, "spec", "insecureSkipTLSVerify") or False,
    )
    return [entry], [_setting(entry)]


def _client_config(config: Object, what: str, source_file: str) -> list[CalledDeclared]:
    service, url = string(config, "service", "name"), string(config, "url")
    if not (service or url):
        return []
    return [
        CalledDeclared(
            source_file=source_file,
            what=what,
            namespace=string(config, "service", "namespace"),
            service=service,
            url=redact(url.encode("utf-8", "replace")).decode(),
            has_ca_bundle=bool(string(config, "caBundle")),
        )
    ]


def _setting(entry: CalledDeclared) -> DeclaredSetting:
    if entry.insecure_skip_tls_verify:
        return DeclaredSetting(entry.what, "insecureSkipTLSVerify", "true", entry.source_file)
    return DeclaredSetting(entry.what, "caBundle", "given" if entry.has_ca_bundle else "not set", entry.source_file)
