"""``planewire facts``: the script it prints only reads, gathers no secrets, and gathers what ``--cluster`` takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analyzer.cli import cli
from analyzer.cli.facts import PLATFORMS, script
from analyzer.cluster.loading import read_cluster_facts

SECRETS = ("hunter2", "c2VjcmV0LWtleQ==", "eyJhbGciOi.secret.token", "abcdef.0123456789abcdef")
KUBECONFIG = """apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    certificate-authority-data: AAAA
    server: https://10.0.0.10:6443
contexts:
- name: lab
  context:
    cluster: lab
    user: system:node:node1
users:
- name: system:node:node1
  user:
    client-certificate-data: c2VjcmV0LWtleQ==
    client-key-data: c2VjcmV0LWtleQ==
    token: eyJhbGciOi.secret.token
    exec:
      command: login
      args: ["--password", "hunter2"]
      env:
      - name: TOKEN
        value: hunter2
    auth-provider:
      config:
        refresh-token: eyJhbGciOi.secret.token
"""
POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "web", "namespace": "default", "uid": "u1", "labels": {"app": "web"}},
    "spec": {
        "nodeName": "node1",
        "containers": [
            {
                "name": "c",
                "command": ["run", "--password=hunter2"],
                "env": [{"name": "TOKEN", "value": "hunter2"}],
                "ports": [{"containerPort": 8080}],
            }
        ],
    },
    "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.5"}]},
}
APISERVER = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "kube-apiserver-cp", "namespace": "kube-system", "uid": "u2"},
    "spec": {
        "nodeName": "cp",
        "hostNetwork": True,
        "containers": [
            {
                "name": "kube-apiserver",
                "command": ["kube-apiserver", "--advertise-address=10.0.0.10", "--anonymous-auth=false"],
            }
        ],
    },
    "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.10"}]},
}
NODE = {
    "kind": "Node",
    "apiVersion": "v1",
    "metadata": {"name": "node1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.11"}]},
}
WEBHOOK = {
    "kind": "ValidatingWebhookConfiguration",
    "apiVersion": "admissionregistration.k8s.io/v1",
    "metadata": {"name": "lab"},
    "webhooks": [{"name": "a.b.c", "clientConfig": {"url": "https://10.0.0.12:9444/x", "caBundle": "AAAA"}}],
}
CONFIGZ = {
    "kubeletconfig": {
        "readOnlyPort": 0,
        "authentication": {"anonymous": {"enabled": False}},
        "staticPodURLHeader": {"Authorization": ["Bearer eyJhbGciOi.secret.token"]},
    }
}
RESOURCES: dict[str, list[tuple[str, str, bool, list[dict[str, Any]]]]] = {
    "v1": [
        ("nodes", "Node", False, [NODE]),
        ("pods", "Pod", True, [POD, APISERVER]),
        ("services", "Service", True, []),
        ("configmaps", "ConfigMap", True, []),
        ("secrets", "Secret", True, [{"kind": "Secret", "metadata": {"name": "s"}, "data": {"k": SECRETS[1]}}]),
    ],
    "discovery.k8s.io/v1": [("endpointslices", "EndpointSlice", True, [])],
    "admissionregistration.k8s.io/v1": [
        ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False, [WEBHOOK]),
        ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False, []),
    ],
    "apiregistration.k8s.io/v1": [("apiservices", "APIService", False, [])],
}


def answers() -> dict[str, Any]:
    """What an API server would answer, by path: discovery, and the objects above."""
    groups = [group for group in RESOURCES if "/" in group]
    found: dict[str, Any] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "groups": [
                {"name": g.split("/")[0], "versions": [v], "preferredVersion": v}
                for g in groups
                for v in [{"groupVersion": g, "version": g.split("/")[1]}]
            ],
        },
        "/api/v1/nodes/node1/proxy/configz": CONFIGZ,
    }
    for group, resources in RESOURCES.items():
        root = f"/apis/{group}" if "/" in group else "/api/v1"
        found[root] = {
            "kind": "APIResourceList",
            "groupVersion": group,
            "resources": [
                {"name": n, "singularName": "", "namespaced": ns, "kind": kind, "verbs": ["get", "list", "delete"]}
                for n, kind, ns, _ in resources
            ],
        }
        for name, kind, _, items in resources:
            found[f"{root}/{name}"] = {"kind": f"{kind}List", "apiVersion": group, "metadata": {}, "items": items}
    return found


@pytest.fixture
def apiserver() -> Iterator[tuple[str, list[str]]]:
    """An API server on loopback that answers reads, and a list of what it was asked."""
    asked: list[str] = []
    known = answers()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path = self.path.split("?")[0]
            asked.append(f"{self.command} {path}")
            body = json.dumps(known.get(path, {"kind": "Status", "status": "Failure", "code": 404})).encode()
            self.send_response(200 if path in known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def programs(folder: Path, **scripts: str) -> str:
    """A PATH in which these names run these shell scripts."""
    folder.mkdir()
    for name, text in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def gather(tmp_path: Path, platform: str, path: str, **environment: str) -> tuple[Path, str]:
    folder = tmp_path / "gathered"
    done = subprocess.run(
        ["sh", "-s", str(folder)],
        input=script(platform),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": path, "HOME": str(tmp_path), **environment},
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
def test_it_prints_one_whole_script(platform: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["facts", "--platform", platform])

    assert result.exit_code == 0
    assert result.output == script(platform)
    path = tmp_path / "gather.sh"
    path.write_text(result.output)
    for shell in filter(shutil.which, ("sh", "dash", "bash")):
        assert subprocess.run([shell, "-n", path], capture_output=True, check=False).returncode == 0
    assert ("oc" if platform == "openshift" else "kubectl") in result.output
    assert "@KUBECTL@" not in result.output


@pytest.mark.parametrize("platform", PLATFORMS)
def test_it_runs_no_command_that_changes_a_cluster(platform: str, tmp_path: Path) -> None:
    """Every kubectl and ssh command that it gives is recorded, and answered with little or an error."""
    log = tmp_path / "log"
    record = f'printf "%s\\n" "$*" >> {log}; case "$*" in *jsonpath*) echo node1;; *) exit 1;; esac'
    path = programs(tmp_path / "bin", kubectl=record, oc=record, ssh=f'printf "ssh %s\\n" "$*" >> {log}; exit 1')

    gather(tmp_path, platform, path)

    lines = re.sub(r"go-template=.*?\]}'?$", "", log.read_text(), flags=re.S | re.M).splitlines()
    said = [line for line in log.read_text().splitlines() if line.startswith(("get ", "ssh ", "commatrix ", "config "))]
    assert said
    assert lines
    for line in said:
        assert line.startswith(("get ", "commatrix --help", "commatrix generate")) or (
            line.startswith("ssh ") and "sudo" in line
        ), line
        assert not re.search(r"\bsecrets?\b|\.key\b|admin\.conf|--raw[= ](?!/api/v1/nodes/)", line), line


def test_it_names_what_must_not_be_copied() -> None:
    for platform in PLATFORMS:
        text = script(platform)
        for name in ("*.key", "sa.key", "admin.conf", "super-admin.conf", "kubelet.conf", "Secret objects"):
            assert name in text


def test_kubeconfigs_lose_their_credentials_on_their_host(tmp_path: Path) -> None:
    """The command for ssh is run here, on a kubeconfig with every kind of credential."""
    conf = tmp_path / "kubelet.conf"
    conf.write_text(KUBECONFIG + "- name: inline\n  user: {token: eyJhbGciOi.secret.token}\n")
    answer = 'case "$*" in *jsonpath*) echo node1;; *) exit 1;; esac'
    # The remote shell runs the command it is given, as sshd would, with the file in another place.
    remote = f"shift; command=$(printf '%s' \"$1\" | sed 's#/etc/kubernetes/[a-z-]*.conf#{conf}#'); sh -c \"$command\""
    path = programs(tmp_path / "bin", kubectl=answer, ssh=remote, sudo='exec "$@"')

    folder, _ = gather(tmp_path, "kubeadm", path)

    written = {file.name: file.read_text() for file in folder.iterdir()}
    assert {"kubelet-node1.conf", "scheduler.conf", "controller-manager.conf"} <= set(written)
    for text in written.values():
        for secret in SECRETS:
            assert secret not in text
    read = read_cluster_facts({"kubelet-node1.conf": written["kubelet-node1.conf"].encode()})
    [config] = read.declared.kubeconfigs
    assert (config.component, config.server, config.authority) == ("kubelet", "https://10.0.0.10:6443", "data")
    assert config.verifies_server
    assert "client certificate" in config.credentials


@pytest.mark.kubectl
def test_what_kubectl_gathers_is_what_is_read(tmp_path: Path, apiserver: tuple[str, list[str]]) -> None:
    server, asked = apiserver

    folder, errors = gather(
        tmp_path, "managed", os.environ["PATH"], KUBECTL=f"kubectl --server {server} --cache-dir {tmp_path}/cache"
    )

    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {"cluster.json", "pods.json", "called.json", "kubelet-config-node1.json"} <= set(files), errors
    assert all(line.startswith("GET ") for line in asked)
    assert not any("secret" in line for line in asked)
    for name, content in files.items():
        for secret in SECRETS:
            assert secret.encode() not in content, name
    read = read_cluster_facts(files)
    assert [n.name for n in read.inventory.nodes] == ["node1"]
    assert {(p.name, p.node, p.container_ports) for p in read.inventory.pods} >= {("web", "node1", (8080,))}
    assert [s.anonymous_auth for s in read.declared.apiservers] == [False]
    assert [k.node for k in read.declared.kubelets] == ["node1"]
    assert [c.what for c in read.declared.called] == ["ValidatingWebhookConfiguration lab: a.b.c"]
