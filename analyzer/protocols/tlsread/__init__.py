"""TLS, SSL 3.0 to 1.3: what hellos, certificates, alerts and record lengths show, for all connections together."""

from analyzer.protocols.tlsread.reading import read_tls, settled
from analyzer.protocols.tlsread.suites import anonymous_cipher, null_cipher, suite_name

__all__ = ["anonymous_cipher", "null_cipher", "read_tls", "settled", "suite_name"]
