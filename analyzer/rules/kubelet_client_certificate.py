"""PW301: the API server calls kubelets without a client certificate."""

from __future__ import annotations

from analyzer.registries import Severity
from analyzer.rules.base import Rule
from analyzer.rules.client_certificate import without_client_certificate

CHANNELS = ("apiserver-to-kubelet",)

KUBELET_CLIENT_CERTIFICATE = Rule(
    code="PW301",
    name="kubelet-without-client-certificate",
    title="The API server calls kubelets without a client certificate",
    severity=Severity.MEDIUM,
    channels=CHANNELS,
    needs="a TLS handshake, or the API server flags where it was before the capture",
    seen="the API server completed handshakes with kubelets and presented no certificate",
    why="Without a certificate the API server is an anonymous caller to the kubelet. That logs, exec and port-forward "
    "still work can only mean that the kubelet lets anonymous callers in; otherwise they fail.",
    remediation="Give the API server its kubelet client certificate; on the kubelet switch anonymous authentication "
    "off, set the client CA and use webhook authorization.",
    flags=(
        "kube-apiserver: --kubelet-client-certificate, --kubelet-client-key",
        "KubeletConfiguration: authentication.anonymous.enabled: false, authentication.x509.clientCAFile, "
        "authorization.mode: Webhook",
    ),
    source="https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/",
    cis="CIS Kubernetes Benchmark 1.12: 1.2.4, 4.2.1, 4.2.3",
    limits="Whether the kubelet answered or refused is inside the encrypted connection. Other callers of kubelets "
    "authenticate with tokens, which cannot be seen: PW306 and PW305 speak of them.",
    filter="tls.handshake || tls.record.content_type == 23",
    check=without_client_certificate(*CHANNELS),
)
