"""Protocols that are read in clear: HTTP/1, HTTP/2, SSH identification."""

from analyzer.protocols.cleartext.http1 import read_http1
from analyzer.protocols.cleartext.http2 import read_http2
from analyzer.protocols.cleartext.ssh import read_ssh

__all__ = ["read_http1", "read_http2", "read_ssh"]
