"""TLS and SSL: what the handshakes show, with and without keys."""

from __future__ import annotations

from analyzer.protocols.tls.reading import read_tls, read_tls_with_keys, settled
from analyzer.protocols.tls.stacks import go_releases, kubernetes_releases
from analyzer.protocols.tls.suites import anonymous_cipher, null_cipher, suite_name

__all__ = [
    "anonymous_cipher",
    "go_releases",
    "kubernetes_releases",
    "null_cipher",
    "read_tls",
    "read_tls_with_keys",
    "settled",
    "suite_name",
]
