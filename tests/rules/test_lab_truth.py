"""Over every recording: each rule fires where the recorded truth says so, and nowhere else.

What is expected follows from the truth files, which were measured by decrypting the recordings and from the
configuration in force; nothing of it comes from the program. ``expected`` is whether a rule must fire; where only part
of what the truth knows is visible in the packets (TLS 1.3 without keys), it says what may be seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.rules import RULES
from analyzer.user_files import load_cluster, load_keys
from tests.conftest import LAB, SHARED, all_lab_captures
from tests.rules.cases import codes, recorded

Group = dict[str, Any]
Expected = Callable[["Truth"], bool]

PROXIES = ("apiserver->node-proxy", "apiserver->pod-proxy", "apiserver->service-proxy")
CORE = (
    *PROXIES, "apiserver->kubelet", "apiserver->etcd", "node->apiserver", "pod->apiserver", "user->apiserver",
    "controlplane->apiserver", "konnectivity-agent->server", "apiserver->konnectivity-server",
)  # fmt: skip
REFORMATTED = re.compile(r"2[0-9]b?-fmt|30-fmt")
"""Recordings cut, thinned or rewritten: what is left of them may show less than their truth knows."""


class Truth:
    """One truth file."""

    def __init__(self, path: Path, *, keys: bool = False) -> None:
        self.name = path.name
        self.whole = json.loads(path.read_text())
        self.groups: list[Group] = self.whole["channels"]
        self.keys_inside = keys or "dsb" in path.name

    def any(self, *channels: str, **wanted: object) -> bool:
        """Whether a group of one of `channels` (of any, where none is named) has all the values `wanted`."""
        return any(
            (not channels or group["channel"] in channels) and all(group.get(k) == v for k, v in wanted.items())
            for group in self.groups
        )

    @property
    def user(self) -> str:
        roles = self.whole.get("roles") or {}
        return str(roles.get("user_host", ""))

    def readable(self, group: Group) -> bool:
        """Certificates cross in clear below TLS 1.3; with the keys inside the file they can be read as well."""
        return group["tls_version"] in ("TLS1.0", "TLS1.1", "TLS1.2") or (
            self.keys_inside and group["tls_version"] == "TLS1.3"
        )

    def carried(self, group: Group) -> bool:
        return group["encrypted"] is not None

    def activity(self, group: Group) -> str:
        return " ".join(group.get("activity") or ())


def _readonly(truth: Truth) -> bool:
    return any(g["server_port"] == 10255 and g["protocol"].startswith("HTTP") for g in truth.groups)


def _credential(truth: Truth) -> bool:
    return any(g["encrypted"] is False and re.search(r"token (?:leak|over)", truth.activity(g)) for g in truth.groups)


def _clear_on(port: int) -> Expected:
    return lambda truth: truth.any(server_port=port, encrypted=False)


def _in_cleartext_overlay(truth: Truth) -> bool:
    return any(g["channel"] in CORE and g.get("encapsulated_between") and g["encrypted"] is False for g in truth.groups)


def _component_accepts(truth: Truth) -> bool:
    """A client inside the cluster took a self-made certificate on a channel that has no rule of its own."""
    return any(
        g["server_identity_verified_by_client"] is False
        and g["server_cert_self_signed"] is True
        and g["channel"] == "other"
        and not g.get("subchannel")
        and g["server_port"] == 10250
        and g["client"] != truth.user
        for g in truth.groups
    )


def _no_certificate(*channels: str) -> Expected:
    return lambda truth: truth.any(*channels, client_cert_presented=False, encrypted=True, handshake_complete=True)


def _masters(truth: Truth) -> bool:
    return any(
        "O=system:masters" in (g.get("client_cert_subject") or "")
        and truth.readable(g)
        and g["server_port"] in (10250, 6443)
        for g in truth.groups
    )


def _anonymous(truth: Truth) -> bool:
    anonymous = any(
        isinstance(value, dict) and value.get("anon") for value in (truth.whole.get("config") or {}).values()
    )
    return anonymous and truth.keys_inside


def _stranger_at_kubelet(truth: Truth) -> bool:
    return any(g["server_port"] == 10250 and g["client"] == truth.user and truth.carried(g) for g in truth.groups)


def _activity(pattern: str) -> Expected:
    return lambda truth: any(re.search(pattern, truth.activity(g)) and truth.carried(g) for g in truth.groups)


def _classical(truth: Truth) -> bool:
    """The lab's Go programs agree on ML-KEM; curl, OpenSSL and everything below TLS 1.3 do not."""
    return any(
        g["channel"] in CORE
        and g["tls_version"] is not None
        and (g["tls_version"] != "TLS1.3" or any(a.startswith("curl") for a in g["user_agents"]))
        for g in truth.groups
    )


def _bypassed(truth: Truth) -> bool:
    agents = any(g["channel"] == "konnectivity-agent->server" and g["encrypted"] for g in truth.groups)
    control_plane = (truth.whole.get("roles") or {}).get("control_plane")
    return agents and any(
        g["channel"] in ("apiserver->kubelet", *PROXIES) and g["client"] == control_plane and truth.carried(g)
        for g in truth.groups
    )


def _agentless(truth: Truth) -> bool:
    def of(channel: str) -> set[str]:
        return {g["client"] for g in truth.groups if g["channel"] == channel}

    used = any(g["channel"] == "konnectivity-agent->server" and g["encrypted"] for g in truth.groups)
    return used and bool(of("node->apiserver") - of("konnectivity-agent->server"))


def _kubelet_asks_not(truth: Truth) -> bool:
    """Every kubelet configuration of the lab has a clientCAFile; who asks for no certificate is another program."""
    return truth.any("apiserver->kubelet", client_cert_requested_by_server=False, encrypted=True)


def never(_truth: Truth) -> bool:
    return False


EXPECTED: dict[str, Expected] = {
    "PW101": lambda t: t.any(*PROXIES, encrypted=False),
    "PW102": _readonly,
    "PW103": lambda t: t.any("apiserver->etcd", encrypted=False),
    "PW104": _credential,
    "PW105": never,  # no API server of the lab has an insecure port
    "PW106": lambda t: _clear_on(10251)(t) or _clear_on(10252)(t),
    "PW107": _clear_on(8001),
    "PW108": _clear_on(10249),
    "PW109": _in_cleartext_overlay,
    "PW110": never,
    "PW111": never,
    "PW201": lambda t: t.any("apiserver->kubelet", server_identity_verified_by_client=False),
    "PW202": lambda t: any(g["channel"] in PROXIES and g["protocol"].startswith("TLS") for g in t.groups),
    "PW203": _component_accepts,
    "PW204": never,
    "PW205": never,
    "PW206": never,
    "PW207": never,
    "PW301": _no_certificate("apiserver->kubelet"),
    "PW302": _no_certificate("apiserver->etcd"),
    "PW303": _no_certificate("konnectivity-agent->server", "apiserver->konnectivity-server"),
    "PW304": _masters,
    "PW305": _anonymous,
    "PW306": _stranger_at_kubelet,
    "PW307": never,  # the lab's users come from a documentation network (RFC 5737), which is not public
    "PW401": lambda t: any(g["tls_version"] in ("TLS1.0", "TLS1.1") for g in t.groups),
    "PW402": _activity(r"NULL|anonymous DH"),
    "PW403": _activity(r"static RSA"),
    "PW404": never,
    "PW405": _classical,
    "PW501": lambda t: t.any("ssh-tunnel"),
    "PW502": _bypassed,
    "PW503": never,  # OpenSSH 9 and Go's x/crypto/ssh settle on nothing weak
    "PW504": _agentless,
    "PW601": _kubelet_asks_not,
    "PW602": never,
    "PW603": never,
}
"""Whether each rule fires on a recording, by its truth. PW901 speaks of the capture, on which the truth is silent."""


def _shown_by_keys(truth: Truth) -> set[str]:
    """What only the keys show: names and issuers of the certificates of TLS 1.3, and what is inside of tunnels."""
    other_name = "othername" in json.dumps(truth.whole.get("config"))
    accepts = {
        group["server_port"]
        for group in truth.groups
        if group["server_identity_verified_by_client"] is False and group["server_cert_self_signed"]
    }
    aggregated = any(
        g.get("subchannel") == "apiserver->aggregated-api" and g["server_identity_verified_by_client"] is False
        for g in truth.groups
    )
    # Inside a tunnel: the API server asks for a kubelet, and is configured to check none.
    inside = any(re.search(r"CONNECT \S+:10250", truth.activity(g)) for g in truth.groups)
    checks = ((truth.whole.get("config") or {}).get("api") or {}).get("kubelet_ca")
    return {
        code
        for code, holds in (
            ("PW201", inside and not checks),
            ("PW205", other_name and truth.any("apiserver->kubelet")),
            ("PW203", bool(accepts & {10257, 10259})),
            ("PW206", aggregated),
        )
        if holds
    }


def truths() -> list[Path]:
    folder = SHARED / "k8s" if (SHARED / "k8s").is_dir() else LAB
    return sorted(folder.glob("*.truth.json"))


@cache
def found(capture: str) -> frozenset[str]:
    return frozenset(codes(recorded(capture)))


@pytest.mark.parametrize("path", truths(), ids=lambda p: p.name.split(".")[0])
def test_rules_fire_where_the_truth_says(path: Path) -> None:
    truth = Truth(path)
    fired = found(truth.whole["capture"])
    expected = {code for code, says in EXPECTED.items() if says(truth)}

    assert fired - expected - {"PW901"} == set(), "fired, and the truth does not say so"
    if not REFORMATTED.match(path.name):
        assert expected - fired == set(), "the truth says so, and did not fire"


@pytest.mark.parametrize("path", truths(), ids=lambda p: p.name.split(".")[0])
def test_without_cluster_facts_nothing_more_fires(path: Path) -> None:
    truth = Truth(path)
    fired = codes(recorded(truth.whole["capture"], own_facts=False))
    expected = {code for code, says in EXPECTED.items() if says(truth)}

    assert fired - expected - {"PW901"} == set()
    if not REFORMATTED.match(path.name):
        # An expired certificate inside TLS 1.3 and a contradiction need the configuration.
        assert expected - fired <= {"PW201", "PW601"}


def with_keys() -> list[tuple[Path, Path | None]]:
    """Truth files with the key logs that lie beside the whole set; of the repository, the one with keys inside."""
    logs = ((path, SHARED / "k8s" / "keylogs" / f"{path.name.split('.')[0]}.keys.log") for path in truths())
    found: list[tuple[Path, Path | None]] = [(path, log) for path, log in logs if log.is_file()]
    return found or [(path, None) for path in truths() if "dsb" in path.name]


@pytest.mark.parametrize(("path", "log"), with_keys(), ids=lambda p: p.name.split(".")[0] if p else "keys inside")
def test_with_the_keys_rules_fire_where_the_truth_says(path: Path, log: Path | None) -> None:
    truth = Truth(path, keys=True)
    folder = path.parent / (truth.whole.get("cluster") or "none")
    keys, _ = load_keys((str(log),) if log else ())
    with open_capture(str(path.parent / truth.whole["capture"])) as reader:
        result = run(reader, load_cluster((str(folder),) if folder.is_dir() else ()), keys=keys)
    fired = codes(result) - {"PW901"}
    expected = {code for code, says in EXPECTED.items() if says(truth)} | _shown_by_keys(truth)

    assert fired - expected == set()
    if not REFORMATTED.match(path.name):
        assert expected - fired == set()


def test_every_rule_is_expected_or_not() -> None:
    assert [*EXPECTED, "PW901"] == [rule.code for rule in RULES]


def test_the_truth_lets_most_rules_fire_somewhere() -> None:
    """A table that expects nothing would agree with a program that finds nothing."""
    fires = {code for code, says in EXPECTED.items() if any(says(Truth(path)) for path in truths())}

    assert len(fires) >= 20
    assert {"PW101", "PW201", "PW304", "PW306", "PW601"} <= fires


def test_the_lab_is_here() -> None:
    assert len(all_lab_captures()) >= 40
