"""Servers as a cluster has them, in a network namespace: TLS with and without client certificates, HTTP, SSH."""

from __future__ import annotations

import http.client
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.netns import Namespace, inside, run, wait_until
from tests.unit.protocols.tls.ssl_pairs import client_context, identity, server_context

APISERVER, KUBELET, READONLY, SSH = 6443, 10250, 10255, 22
SSHD = "/usr/sbin/sshd"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"kind":"PodList","apiVersion":"v1","items":[]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def servers(space: Namespace, address: str) -> Iterator[None]:
    """Serve TLS 1.3 on 6443, TLS 1.2 with client certificates on 10250 and HTTP on 10255."""
    authority = identity("kubernetes")
    wrapped: dict[int, ssl.SSLContext | None] = {
        APISERVER: server_context(identity("apiserver", issuer="kubernetes"), ssl.TLSVersion.TLSv1_3, ask=authority),
        KUBELET: server_context(
            identity("node1", issuer="kubernetes"), ssl.TLSVersion.TLSv1_2, ask=authority, require=True
        ),
        READONLY: None,
    }
    listening, threads = [], []
    with inside(space):
        for port, context in wrapped.items():
            server = ThreadingHTTPServer((address, port), _Answers)
            if context is not None:
                context.set_alpn_protocols(["http/1.1"])
                server.socket = context.wrap_socket(server.socket, server_side=True)
            listening.append(server)
            threads.append(threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server, thread in zip(listening, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def requests(space: Namespace, address: str) -> None:
    """Call each server: with a token, with a client certificate, without either."""
    authority = identity("kubernetes")
    trusting = client_context(trust=authority)
    known = client_context(identity("kube-apiserver-kubelet-client", issuer="kubernetes"), trust=authority)
    with inside(space):
        for _ in range(3):
            _get(http.client.HTTPSConnection(address, APISERVER, context=trusting, timeout=5), "/api/v1/pods")
            _get(http.client.HTTPSConnection(address, KUBELET, context=known, timeout=5), "/pods")
            _get(http.client.HTTPConnection(address, READONLY, timeout=5), "/pods")


def _get(connection: http.client.HTTPConnection, path: str) -> None:
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer not-a-token"})
        assert connection.getresponse().read().startswith(b"{")
    finally:
        connection.close()


@contextmanager
def ssh_server(space: Namespace, address: str, folder: Path) -> Iterator[list[str]]:
    """OpenSSH's server; gives the options with which its client gets in."""
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    (folder / "config").write_text(
        f"ListenAddress {address}\nPort {SSH}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "PermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # where the server confines its child that speaks to strangers
    process = space.start(SSHD, "-D", "-e", "-f", folder / "config", stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert b"listening" in process.stderr.readline()
    settings = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes")
    options = [part for setting in settings for part in ("-o", setting)]
    yield ["-F", "none", "-i", str(folder / "user"), *options, f"{os.environ.get('USER', 'root')}@{address}"]


__all__ = ["APISERVER", "KUBELET", "READONLY", "SSH", "requests", "servers", "ssh_server", "wait_until"]
