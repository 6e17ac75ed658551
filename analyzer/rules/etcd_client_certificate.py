"""PW302: etcd is reached over TLS without a client certificate."""

from __future__ import annotations

from analyzer.registries import Severity
from analyzer.rules.base import Rule
from analyzer.rules.client_certificate import without_client_certificate

CHANNELS = ("apiserver-to-etcd", "etcd-peer")

ETCD_CLIENT_CERTIFICATE = Rule(
    code="PW302",
    name="etcd-without-client-certificate",
    title="etcd is reached over TLS without a client certificate",
    severity=Severity.HIGH,
    channels=CHANNELS,
    needs="a TLS handshake, or the API server flags where it was before the capture",
    seen="a completed handshake with etcd in which the client presented no certificate",
    why="etcd authorizes by client certificate. Without one, whoever reaches the port reads and writes the cluster's "
    "state.",
    remediation="Start etcd with client certificate authentication and give the API server its certificate and key.",
    flags=("etcd: --client-cert-auth=true, --trusted-ca-file", "kube-apiserver: --etcd-certfile, --etcd-keyfile"),
    source="https://kubernetes.io/docs/tasks/administer-cluster/configure-upgrade-etcd/#securing-etcd-clusters",
    cis="CIS Kubernetes Benchmark 1.12: 1.2.23, 2.2, 2.5",
    limits="",
    filter="tls.handshake",
    check=without_client_certificate(*CHANNELS),
)
