"""PW303: konnectivity is used without a client certificate."""

from __future__ import annotations

from analyzer.registries import Severity
from analyzer.rules.base import Rule
from analyzer.rules.client_certificate import without_client_certificate

CHANNELS = ("konnectivity-agent-to-server", "apiserver-to-konnectivity-server")

KONNECTIVITY_CLIENT_CERTIFICATE = Rule(
    code="PW303",
    name="konnectivity-without-client-certificate",
    title="Konnectivity is used without a client certificate",
    severity=Severity.LOW,
    channels=CHANNELS,
    needs="a TLS handshake, or the API server flags where it was before the capture",
    seen="a completed handshake with the konnectivity server in which the client presented no certificate",
    why="The konnectivity server hands out connections into the node network. Agents may authenticate with a service "
    "account token inside the connection instead; the API server's side must not be open.",
    remediation="Give agents and the API server client certificates, or make sure that the server checks tokens.",
    flags=(
        "konnectivity-server: --cluster-ca-cert, --authentication-audience",
        "konnectivity-agent: --agent-cert, --agent-key or --service-account-token-path",
        "EgressSelectorConfiguration: tlsConfig.clientCert, clientKey",
    ),
    source="https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/",
    cis="",
    limits="A token in gRPC metadata cannot be seen through TLS.",
    filter="tls.handshake",
    check=without_client_certificate(*CHANNELS),
)
