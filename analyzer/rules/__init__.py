"""The rules, in one ordered tuple: by code, and never by import side effect."""

from __future__ import annotations

from typing import Final

from analyzer.rules.base import Audit, CaptureQuality, Finding, Rule, RuleCount, apply_rules
from analyzer.rules.capture_quality import CAPTURE_TOO_POOR
from analyzer.rules.cleartext_proxy import CLEARTEXT_PROXY
from analyzer.rules.client_certificate import (
    ETCD_CLIENT_CERTIFICATE,
    KONNECTIVITY_CLIENT_CERTIFICATE,
    KUBELET_CLIENT_CERTIFICATE,
)
from analyzer.rules.credential_cleartext import CREDENTIAL_CLEARTEXT
from analyzer.rules.etcd_cleartext import ETCD_CLEARTEXT
from analyzer.rules.konnectivity_bypass import KONNECTIVITY_BYPASS
from analyzer.rules.kubelet_readonly import KUBELET_READONLY
from analyzer.rules.kubelet_unverified import KUBELET_UNVERIFIED
from analyzer.rules.proxy_unverified import PROXY_UNVERIFIED
from analyzer.rules.ssh_tunnel import SSH_TUNNEL
from analyzer.rules.untrusted_certificate import UNTRUSTED_CERTIFICATE
from analyzer.rules.weak_tls import NULL_OR_ANONYMOUS, TLS_BELOW_1_2

__all__ = ["RULES", "Audit", "CaptureQuality", "Finding", "Rule", "RuleCount", "apply_rules"]

RULES: Final[tuple[Rule, ...]] = (
    CLEARTEXT_PROXY,
    KUBELET_READONLY,
    ETCD_CLEARTEXT,
    CREDENTIAL_CLEARTEXT,
    KUBELET_UNVERIFIED,
    PROXY_UNVERIFIED,
    UNTRUSTED_CERTIFICATE,
    KUBELET_CLIENT_CERTIFICATE,
    ETCD_CLIENT_CERTIFICATE,
    KONNECTIVITY_CLIENT_CERTIFICATE,
    TLS_BELOW_1_2,
    NULL_OR_ANONYMOUS,
    SSH_TUNNEL,
    KONNECTIVITY_BYPASS,
    CAPTURE_TOO_POOR,
)
