"""The rules, in one ordered tuple: by code, and never by import side effect."""

from __future__ import annotations

from typing import Final

from analyzer.rules.anonymous_access import ANONYMOUS_ACCESS
from analyzer.rules.apiserver_public import APISERVER_PUBLIC
from analyzer.rules.apiserver_unverified import APISERVER_UNVERIFIED
from analyzer.rules.base import Audit, CaptureQuality, Finding, Rule, RuleCount, apply_rules
from analyzer.rules.called_unverified import CALLED_UNVERIFIED
from analyzer.rules.capture_quality import CAPTURE_TOO_POOR
from analyzer.rules.certificate_expiry import CERTIFICATE_EXPIRY
from analyzer.rules.cleartext_proxy import CLEARTEXT_PROXY
from analyzer.rules.contradiction import CONTRADICTION
from analyzer.rules.credential_cleartext import CREDENTIAL_CLEARTEXT
from analyzer.rules.dns_cleartext import DNS_CLEARTEXT
from analyzer.rules.etcd_cleartext import ETCD_CLEARTEXT
from analyzer.rules.etcd_client_certificate import ETCD_CLIENT_CERTIFICATE
from analyzer.rules.insecure_apiserver import INSECURE_APISERVER
from analyzer.rules.insecure_component_port import INSECURE_COMPONENT_PORT
from analyzer.rules.konnectivity_agents import KONNECTIVITY_AGENTS
from analyzer.rules.konnectivity_bypass import KONNECTIVITY_BYPASS
from analyzer.rules.konnectivity_client_certificate import KONNECTIVITY_CLIENT_CERTIFICATE
from analyzer.rules.kubectl_proxy import KUBECTL_PROXY
from analyzer.rules.kubelet_client_certificate import KUBELET_CLIENT_CERTIFICATE
from analyzer.rules.kubelet_exposed import KUBELET_EXPOSED
from analyzer.rules.kubelet_readonly import KUBELET_READONLY
from analyzer.rules.kubelet_unverified import KUBELET_UNVERIFIED
from analyzer.rules.metrics_cleartext import METRICS_CLEARTEXT
from analyzer.rules.name_mismatch import NAME_MISMATCH
from analyzer.rules.no_post_quantum import NO_POST_QUANTUM
from analyzer.rules.nodeport_cleartext import NODEPORT_CLEARTEXT
from analyzer.rules.null_or_anonymous import NULL_OR_ANONYMOUS
from analyzer.rules.overlay_cleartext import OVERLAY_CLEARTEXT
from analyzer.rules.proxy_unverified import PROXY_UNVERIFIED
from analyzer.rules.ssh_tunnel import SSH_TUNNEL
from analyzer.rules.ssh_weak import SSH_WEAK
from analyzer.rules.system_masters import SYSTEM_MASTERS
from analyzer.rules.tls_below_1_2 import TLS_BELOW_1_2
from analyzer.rules.unexpected_channel import UNEXPECTED_CHANNEL
from analyzer.rules.untrusted_certificate import UNTRUSTED_CERTIFICATE
from analyzer.rules.version_drift import VERSION_DRIFT
from analyzer.rules.weak_cipher import WEAK_CIPHER
from analyzer.rules.weak_group import WEAK_GROUP

__all__ = ["RULES", "Audit", "CaptureQuality", "Finding", "Rule", "RuleCount", "apply_rules"]

RULES: Final[tuple[Rule, ...]] = (
    CLEARTEXT_PROXY,
    KUBELET_READONLY,
    ETCD_CLEARTEXT,
    CREDENTIAL_CLEARTEXT,
    INSECURE_APISERVER,
    INSECURE_COMPONENT_PORT,
    KUBECTL_PROXY,
    METRICS_CLEARTEXT,
    OVERLAY_CLEARTEXT,
    DNS_CLEARTEXT,
    NODEPORT_CLEARTEXT,
    KUBELET_UNVERIFIED,
    PROXY_UNVERIFIED,
    UNTRUSTED_CERTIFICATE,
    CERTIFICATE_EXPIRY,
    NAME_MISMATCH,
    CALLED_UNVERIFIED,
    APISERVER_UNVERIFIED,
    KUBELET_CLIENT_CERTIFICATE,
    ETCD_CLIENT_CERTIFICATE,
    KONNECTIVITY_CLIENT_CERTIFICATE,
    SYSTEM_MASTERS,
    ANONYMOUS_ACCESS,
    KUBELET_EXPOSED,
    APISERVER_PUBLIC,
    TLS_BELOW_1_2,
    NULL_OR_ANONYMOUS,
    WEAK_CIPHER,
    WEAK_GROUP,
    NO_POST_QUANTUM,
    SSH_TUNNEL,
    KONNECTIVITY_BYPASS,
    SSH_WEAK,
    KONNECTIVITY_AGENTS,
    CONTRADICTION,
    UNEXPECTED_CHANNEL,
    VERSION_DRIFT,
    CAPTURE_TOO_POOR,
)
