"""PW301 to PW303: kubelet, etcd and konnectivity reached without a client certificate."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.registries import ClientCertificate, Encryption, Severity, Ternary
from analyzer.rules.base import Audit, Outcome, Rule, outcome


def _check(*channels: str) -> Callable[[Audit], Outcome]:
    def check(audit: Audit) -> Outcome:
        answer = audit.verdicts.client_certificate
        encrypted = audit.verdicts.encryption.value == Encryption.ENCRYPTED
        # A handshake that the client broke off says nothing about what it would have presented.
        refused = audit.evidence.tls_is("refused", Ternary.YES)
        finished = audit.evidence.tls_is("established", Ternary.YES) | audit.evidence.mid_connection
        return outcome(
            scope=audit.on(*channels) & encrypted & ~refused,
            decidable=(answer.value != ClientCertificate.UNDECIDABLE) & finished,
            violation=answer.value == ClientCertificate.ABSENT,
            grade=answer.grade,
            frames=[
                audit.evidence.tls_column("client_flight_frame"),
                audit.evidence.tls_column("server_hello_frame"),
                audit.evidence.flows.first_frame,
            ],
        )

    return check


KUBELET_CLIENT_CERTIFICATE = Rule(
    code="PW301",
    name="kubelet-without-client-certificate",
    title="Someone calls a kubelet without a client certificate",
    severity=Severity.MEDIUM,
    seen="a completed handshake with a kubelet in which the client presented no certificate",
    why="A caller without a certificate is anonymous unless it brings a token inside: with anonymous authentication "
    "left on, the kubelet answers it. For the API server it means that --kubelet-client-certificate is not set.",
    remediation="Set the API server's kubelet client certificate; on the kubelet switch anonymous authentication off, "
    "set the client CA and use webhook authorization.",
    flags=(
        "kube-apiserver: --kubelet-client-certificate, --kubelet-client-key",
        "KubeletConfiguration: authentication.anonymous.enabled: false, authentication.x509.clientCAFile, "
        "authorization.mode: Webhook",
    ),
    source="https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/",
    cis="CIS Kubernetes Benchmark 1.10: 1.2.4, 4.2.1, 4.2.3",
    limits="A bearer token inside the encrypted connection cannot be seen: metrics collectors authenticate that way.",
    filter="tls.handshake || tls.record.content_type == 23",
    check=_check("apiserver-to-kubelet", "user-to-kubelet"),
)

ETCD_CLIENT_CERTIFICATE = Rule(
    code="PW302",
    name="etcd-without-client-certificate",
    title="etcd is reached over TLS without a client certificate",
    severity=Severity.HIGH,
    seen="a completed handshake with etcd in which the client presented no certificate",
    why="etcd authorizes by client certificate. Without one, whoever reaches the port reads and writes the cluster's "
    "state.",
    remediation="Start etcd with client certificate authentication and give the API server its certificate and key.",
    flags=("etcd: --client-cert-auth=true, --trusted-ca-file", "kube-apiserver: --etcd-certfile, --etcd-keyfile"),
    source="https://kubernetes.io/docs/tasks/administer-cluster/configure-upgrade-etcd/#securing-etcd-clusters",
    cis="CIS Kubernetes Benchmark 1.10: 1.2.23, 2.2",
    limits="",
    filter="tls.handshake",
    check=_check("apiserver-to-etcd", "etcd-peer"),
)

KONNECTIVITY_CLIENT_CERTIFICATE = Rule(
    code="PW303",
    name="konnectivity-without-client-certificate",
    title="Konnectivity is used without a client certificate",
    severity=Severity.LOW,
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
    check=_check("konnectivity-agent-to-server", "apiserver-to-konnectivity-server"),
)
