"""The manifests: what the schemas of Kubernetes accept, and the privileges they ask for, with every component."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from analyzer.cli import cli
from tests.conftest import ROOT

BASE = ROOT / "deploy" / "kubernetes"
COMPONENTS = sorted(path.name for path in (BASE / "components").iterdir())
ALL = tuple(COMPONENTS)


def built(tmp_path: Path, components: tuple[str, ...] = ()) -> str:
    """What `kubectl kustomize` makes of the base with `components`, as a user's own kustomization asks for them."""
    lines = [
        "apiVersion: kustomize.config.k8s.io/v1beta1",
        "kind: Kustomization",
        "resources:",
        f"  - {os.path.relpath(BASE, tmp_path.resolve())}",
    ]
    if components:
        lines += ["components:"]
        lines += [f"  - {os.path.relpath(BASE / 'components' / name, tmp_path.resolve())}" for name in components]
    (tmp_path / "kustomization.yaml").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pod(text: str) -> Any:
    (daemon_set,) = [one for one in yaml.safe_load_all(text) if one["kind"] == "DaemonSet"]
    return daemon_set["spec"]["template"]["spec"]


@pytest.mark.kubectl
@pytest.mark.parametrize(
    "components", [(), *((name,) for name in ALL), ALL], ids=lambda names: "+".join(names) or "base"
)
def test_the_schemas_of_kubernetes_accept_every_combination(tmp_path: Path, components: tuple[str, ...]) -> None:
    import kubernetes_validate

    for resource in yaml.safe_load_all(built(tmp_path, components)):
        for version in ("1.30", "1.36"):
            kubernetes_validate.validate(resource, version, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**resource, "specs": {}}, "1.36", strict=True)


@pytest.mark.kubectl
@pytest.mark.parametrize(
    "components", list(itertools.chain.from_iterable(itertools.combinations(ALL, n) for n in (0, 1, len(ALL))))
)
def test_only_what_capturing_needs_is_asked_for(tmp_path: Path, components: tuple[str, ...]) -> None:
    spec = pod(built(tmp_path, components))
    assert spec["hostNetwork"] is True
    assert {"hostPID", "hostIPC", "serviceAccountName"}.isdisjoint(spec)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {next(key for key in volume if key != "name") for volume in spec["volumes"]} <= {"emptyDir", "configMap"}
    (container,) = spec["containers"]
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_RAW"]}
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert "privileged" not in context
    as_root = "as-root" in components
    assert spec["securityContext"]["runAsNonRoot"] is not as_root
    assert (spec["securityContext"]["runAsUser"] == 0) is as_root
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    (reports,) = [volume for volume in spec["volumes"] if volume["name"] == "reports"]
    assert reports["emptyDir"]["sizeLimit"]


@pytest.mark.kubectl
def test_metrics_and_probes_meet_at_the_same_address(tmp_path: Path) -> None:
    for components, address, probed in (((), "127.0.0.1", "127.0.0.1"), (("metrics-on-node",), "[$(HOST_IP)]", None)):
        (container,) = pod(built(tmp_path, components))["containers"]
        (metrics,) = [word for word in container["args"] if word.startswith("--metrics=")]
        assert metrics == f"--metrics={address}:9464"
        for probe in ("livenessProbe", "startupProbe"):
            # Without a host the kubelet asks the pod's address, which on the node's network is the node's.
            assert container[probe]["httpGet"].get("host") == probed
            assert container[probe]["httpGet"]["port"] == 9464
        assert any(one["name"] == "HOST_IP" for one in container["env"]) is (probed is None)


def test_tags_name_the_version_of_the_package() -> None:
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert f"newTag: {version[1]}\n" in (BASE / "kustomization.yaml").read_text()
    container_file = (ROOT / "deploy" / "Containerfile").read_text()
    assert f"ARG VERSION={version[1]}\n" in container_file
    assert f"/planewire:{version[1]} " in container_file


def test_the_namespace_says_which_level_its_pods_need() -> None:
    (namespace,) = yaml.safe_load_all((BASE / "namespace.yaml").read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def _lint(*command: str) -> str:
    program = Path(sys.executable).with_name(command[0])
    if not program.exists():
        pytest.skip(f"{command[0]} has no build for this platform")
    done = subprocess.run([str(program), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def test_linters_are_content() -> None:
    assert _lint("hadolint", "--failure-threshold", "style", "deploy/Containerfile") == ""
    assert _lint("shellcheck", "--shell", "sh", "deploy/kubectl-planewire") == ""


@pytest.mark.kubectl
@pytest.mark.parametrize("address", ["10.0.0.11", "2001:db8::11"])
@pytest.mark.parametrize(
    "components", [(), *((name,) for name in ALL), ALL], ids=lambda names: "+".join(names) or "base"
)
def test_the_command_understands_what_the_manifest_asks_for(
    tmp_path: Path, components: tuple[str, ...], address: str
) -> None:
    (container,) = pod(built(tmp_path, components))["containers"]
    words = [word.replace("$(HOST_IP)", address) for word in container["args"]]
    group = click.Context(cli)
    command = cli.get_command(group, words[0])
    assert command is not None
    with command.make_context("live", words[1:], parent=group) as understood:
        assert understood.params["interface"] == ("any",)
        host, port = understood.params["metrics"]
        assert (host, port) == (address if "metrics-on-node" in components else "127.0.0.1", 9464)
        assert (understood.params["keep"] or 1) * (understood.params["rotate"] or 0) <= 1_000_000_000
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    for word in words:
        if (path := word.partition("=")[2]).startswith("/"):
            assert path in mounted or os.path.dirname(path) == "/reports", "only what is mounted is read and written"
