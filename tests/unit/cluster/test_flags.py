from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.cluster.declared import (
    ApiServerDeclared,
    ControllerManagerDeclared,
    EtcdDeclared,
    KonnectivityAgentDeclared,
    KonnectivityServerDeclared,
    ProgramDeclared,
    SchedulerDeclared,
)
from analyzer.cluster.flags import PROGRAMS, read_programs


def pod(*command: str, args: tuple[str, ...] = (), name: str = "c") -> dict[str, Any]:
    return {"spec": {"containers": [{"name": name, "command": list(command), "args": list(args)}]}}


def apiserver(*flags: str) -> ApiServerDeclared:
    ((view, _),) = read_programs(pod("kube-apiserver", *flags), "f")
    assert isinstance(view, ApiServerDeclared)
    return view


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (pod("kube-apiserver"), ApiServerDeclared),
        (pod("/usr/local/bin/etcd", "--data-dir=/x"), EtcdDeclared),
        (pod(name="kube-controller-manager", args=("--kubeconfig=/x",)), ControllerManagerDeclared),
        (pod("kube-scheduler"), SchedulerDeclared),
        (pod("/proxy-server", args=("--mode=grpc",)), KonnectivityServerDeclared),
        (pod("/proxy-agent"), KonnectivityAgentDeclared),
        (pod("/bin/sh", "-c", "exec /usr/bin/kube-apiserver --secure-port=443 >>/log 2>&1"), ApiServerDeclared),
        (pod("nginx"), None),
        (pod("web", "--etcd"), None),
        ({"spec": {"containers": [{"name": "c", "command": "kube-apiserver"}]}}, None),
        ({}, None),
    ],
)
def test_programs_are_known_by_their_command(document: dict[str, Any], expected: type[ProgramDeclared] | None) -> None:
    assert [type(view) for view, _ in read_programs(document, "f")] == ([expected] if expected else [])


def test_types_of_flags() -> None:
    view = apiserver(
        "--secure-port=443",
        "--anonymous-auth=false",
        "--etcd-servers=https://10.0.0.20:2379, https://10.0.0.21:2379",
        "--kubelet-certificate-authority=/pki/ca.crt",
        "--service-cluster-ip-range=10.96.0.0/12,fd00:96::/112",
        "--authorization-mode=Node,RBAC",
        "--tls-min-version=VersionTLS13",
    )
    assert (view.secure_port, view.port, view.anonymous_auth) == (443, 443, False)
    assert view.etcd_servers == ("https://10.0.0.20:2379", "https://10.0.0.21:2379")
    assert view.kubelet_certificate_authority == "/pki/ca.crt"
    assert view.service_cluster_ip_range == ("10.96.0.0/12", "fd00:96::/112")
    assert (view.authorization_mode, view.tls_min_version) == (("Node", "RBAC"), "VersionTLS13")
    assert (view.kubelet_client_certificate, view.client_ca_file, view.egress_selector_config_file) == (None,) * 3


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), None),
        (("--anonymous-auth",), True),
        (("--anonymous-auth=True",), True),
        (("--anonymous-auth=0",), False),
        (("--anonymous-auth=maybe",), None),
        (("--anonymous-auth", "--secure-port=1"), True),
        (("--anonymous-auth=true", "--anonymous-auth=false"), False),
    ],
)
def test_booleans(flags: tuple[str, ...], expected: bool | None) -> None:
    assert apiserver(*flags).anonymous_auth is expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--client-ca-file", "/a"), "/a"),
        (("--client-ca-file=/a=b",), "/a=b"),
        (("--client_ca_file=/a",), "/a"),
        (("-client-ca-file=/a",), "/a"),
        (("--client-ca-file=",), None),
        (("--client-ca-file2=/a",), None),
        (("client-ca-file=/a",), None),
    ],
)
def test_ways_to_write_a_flag(flags: tuple[str, ...], expected: str | None) -> None:
    assert apiserver(*flags).client_ca_file == expected


@pytest.mark.parametrize("value", ["", "x", "-1", "65536", "9" * 5000, "\u0661"])
def test_ports_that_are_none(value: str) -> None:
    assert apiserver(f"--secure-port={value}").secure_port is None


def test_the_command_line_of_a_shell() -> None:
    line = "exec kube-apiserver --etcd-cafile='/my pki/ca.crt' --secure-port 6444 --bind-address=:: 2>&1"
    ((view, _),) = read_programs(pod("sh", "-c", line), "f")
    assert isinstance(view, ApiServerDeclared)
    assert (view.etcd_cafile, view.secure_port, view.bind_address) == ("/my pki/ca.crt", 6444, "::")
    ((view, _),) = read_programs(pod("sh", "-c", "kube-apiserver --etcd-cafile=/a --bind-address='unclosed"), "f")
    assert isinstance(view, ApiServerDeclared)
    assert view.etcd_cafile == "/a"


def test_settings_state_every_known_flag_and_no_other() -> None:
    flags = ("--secure-port=443", "--token-auth-file=/secret", "--cloud-token=s3cret")
    ((_, settings),) = read_programs(pod("kube-apiserver", *flags), "dir/f.yaml")
    values = {setting.setting: setting.value for setting in settings}
    assert values["--secure-port"] == "443"
    assert values["--kubelet-certificate-authority"] == "not set"
    assert {(s.component, s.source_file) for s in settings} == {("kube-apiserver", "dir/f.yaml")}
    assert len(values) == len(fields(ApiServerDeclared)) - 1
    assert not {"--token-auth-file", "--cloud-token"} & set(values)


def test_passwords_in_urls_are_not_taken_over() -> None:
    found = read_programs(pod("kube-apiserver", "--etcd-servers=https://root:s3cret@10.0.0.20:2379"), "f")
    assert "s3cret" not in repr(found)
    assert isinstance(found[0][0], ApiServerDeclared)
    assert found[0][0].etcd_servers == ("https://REDACTED@10.0.0.20:2379",)


@pytest.mark.parametrize(
    ("servers", "files", "expected"),
    [
        ("", (), None),
        ("https://a:1,https://b:1", (), True),
        ("http://a:1", ("--etcd-cafile=/ca",), False),
        ("https://a:1,http://b:1", (), False),
        ("a:1", (), False),
        ("a:1", ("--etcd-certfile=/c",), True),
    ],
)
def test_whether_etcd_is_dialled_with_tls(servers: str, files: tuple[str, ...], expected: bool | None) -> None:
    assert apiserver(f"--etcd-servers={servers}", *files).etcd_is_encrypted is expected


def test_names_of_programs_are_distinct() -> None:
    names = [name for program in PROGRAMS for name in program.names]
    assert len(set(names)) == len(names)
    assert len({program.declared for program in PROGRAMS}) == len(PROGRAMS)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["--secure-port", "--anonymous-auth=", "-", "--", " --x '"])))
def test_any_words_never_raise(words: list[str]) -> None:
    assert isinstance(apiserver(*words), ApiServerDeclared)
