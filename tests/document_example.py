"""A made-up audit of a kubeadm-like cluster, of any size, with hostile text where a capture could carry it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple, cast

from analyzer.report.schema_document import CONNECTION_COLUMNS, GRADES, QUESTIONS, Document

HOSTILE: Final = (
    "<script>alert(1)</script>",
    "=cmd|'/C calc'!A0",
    "\x1b[2J\x1b]0;owned\x07red\x1b[31m",
    "evil\u202egnp.exe",
    "\"><img src=x onerror=alert(1)>'`",
    "[bold red]markup[/bold red]",
    "@SUM(1+1)*\r\nX-Injected: 1",
    "</script><!--{{7*7}}${7*7}",
    "lone \ud800 surrogate \u2028 line",
    "javascript:alert(1)",
)
"""Text an attacker can put into a ClientHello, a header or an interface name."""

CONTROL_PLANE: Final = "10.0.0.10"
ETCD: Final = "10.0.0.20"
VIP: Final = "10.96.0.1"
KUBERNETES_DOCS: Final = "https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/"
START_S: Final = 1_795_428_000  # 2026-11-23T10:00:00Z


class Kind(NamedTuple):
    """What connections of one channel look like."""

    channel: str
    title: str
    direction: str
    client_role: str
    server_role: str
    server_port: int
    encryption: tuple[str, str]
    certificate: tuple[str, str]
    verification: tuple[str, str]
    verdict: str
    octets: int
    alpn: str
    cipher: str
    codes: tuple[str, ...]
    sentence: str


KINDS: Final = (
    Kind("apiserver-to-kubelet", "API server to kubelet", "control-plane-to-node", "kube-apiserver", "kubelet", 10250,
         ("encrypted", "observed"), ("presented", "inferred"), ("unverified", "inferred"), "at-risk", 48_210, "h2",
         "TLS_AES_128_GCM_SHA256", ("PW102",),
         "The API server accepts the kubelet's self-made certificate, so anyone on the path can pose as the node."),
    Kind("node-to-apiserver", "Node to API server", "node-to-control-plane", "node", "kube-apiserver", 6443,
         ("encrypted", "observed"), ("presented", "inferred"), ("verified", "declared"), "sound", 182_044, "h2",
         "TLS_AES_128_GCM_SHA256", (), "Encrypted, with client certificates, and the kubelets hold the cluster's CA."),
    Kind("apiserver-to-pod-proxy", "API server proxy to pods", "control-plane-to-node", "kube-apiserver", "pod", 8080,
         ("cleartext", "observed"), ("absent", "observed"), ("unverified", "observed"), "at-risk", 9_120, "",
         "", ("PW201", "PW203"), "The API server proxies to pods in plain HTTP: anyone on the path reads it."),
    Kind("pod-to-apiserver", "Pod to API server", "node-to-control-plane", "pod", "kube-apiserver", 443,
         ("encrypted", "observed"), ("absent", "inferred"), ("undecidable", "default"), "undecidable", 22_803, "h2",
         "TLS_AES_128_GCM_SHA256", (), "Encrypted; whether pods check the server cannot be seen in this capture."),
    Kind("apiserver-to-etcd", "API server to etcd", "control-plane", "kube-apiserver", "etcd", 2379,
         ("encrypted", "observed"), ("presented", "observed"), ("verified", "declared"), "sound", 640_555, "h2",
         "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", (), "Encrypted, mutually authenticated, with a CA file declared."),
    Kind("user-to-apiserver", "User to API server", "user", "user", "kube-apiserver", 6443,
         ("encrypted", "observed"), ("presented", "inferred"), ("undecidable", "default"), "undecidable", 14_090, "h2",
         "TLS_AES_128_GCM_SHA256", (), "Encrypted; whether users check the server cannot be seen in this capture."),
    Kind("kubelet-readonly", "Kubelet read-only port", "cluster", "any", "kubelet", 10255,
         ("cleartext", "observed"), ("absent", "observed"), ("unverified", "observed"), "at-risk", 70_331, "",
         "", ("PW202",), "Node and pod details are served to anyone, unencrypted and unauthenticated."),
    Kind("konnectivity-agent-to-server", "Konnectivity agent to server", "node-to-control-plane", "konnectivity-agent",
         "konnectivity-server", 8132, ("undecidable", "none"), ("undecidable", "default"), ("undecidable", "default"),
         "undecidable", 230_775, "", "", (), "The capture begins in the middle of these connections."),
    Kind("dns", "Cluster DNS", "cluster", "pod", "dns", 53,
         ("cleartext", "observed"), ("absent", "observed"), ("unverified", "observed"), "informational", 640, "",
         "", (), "DNS in the cluster is cleartext by default."),
)  # fmt: skip


def _findings() -> list[dict[str, Any]]:
    base = {"cis": "", "limits": "", "source": KUBERNETES_DOCS + "#apiserver-to-kubelet"}
    return [
        base
        | {
            "code": "PW201",
            "name": "proxy-in-cleartext",
            "title": "The API server proxies to pods in cleartext",
            "severity": "critical",
            "grade": "observed",
            "channel": "apiserver-to-pod-proxy",
            "message": f"HTTP requests carry X-Forwarded-Uri in clear; one named its agent {HOSTILE[0]}.",
            "why": "These connections are neither authenticated nor encrypted by default: whoever is on the path "
            "between control plane and node reads and changes them.",
            "remediation": "Use the https: prefix in proxy URLs, or carry this traffic through Konnectivity.",
            "flags": ["--egress-selector-config-file"],
        },
        base
        | {
            "code": "PW102",
            "name": "kubelet-not-verified",
            "title": "The API server does not verify kubelets",
            "severity": "high",
            "grade": "inferred",
            "channel": "apiserver-to-kubelet",
            "message": "Handshakes complete although the kubelet's certificate is one it made itself.",
            "why": "Without a CA for kubelets the API server accepts any certificate, so exec, attach and logs are "
            "open to a man in the middle.",
            "remediation": "Sign kubelet serving certificates with the cluster CA and give that CA to the API server.",
            "flags": ["--kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt", "serverTLSBootstrap: true"],
            "cis": "CIS Kubernetes Benchmark 1.2.5",
            "limits": "Inferred from the length of the encrypted Certificate record; needs a Go server.",
        },
        base
        | {
            "code": "PW202",
            "name": "kubelet-read-only-port",
            "title": "A kubelet serves its read-only port",
            "severity": "high",
            "grade": "observed",
            "channel": "kubelet-readonly",
            "message": "GET /pods was answered on port 10255 without authentication.",
            "why": "The read-only port tells anyone every pod, its environment and its address.",
            "remediation": "Set readOnlyPort to 0 in the kubelet configuration.",
            "flags": ["readOnlyPort: 0"],
            "cis": "CIS Kubernetes Benchmark 4.2.4",
        },
        base
        | {
            "code": "PW203",
            "name": "hostile-host-header",
            "title": "A request names another cluster's host",
            "severity": "low",
            "grade": "observed",
            "channel": "apiserver-to-pod-proxy",
            "message": f"The Host header was {HOSTILE[1]}.",
            "why": "Names in requests are chosen by the caller.",
            "remediation": "Do not trust the Host header behind the proxy.",
            "flags": [],
        },
    ]


def _address(network: str, index: int) -> str:
    return f"{network}.{index // 250}.{index % 250 + 1}"


def _time(seconds: float) -> str:
    whole = int(seconds) - START_S
    return f"2026-11-23T{10 + whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{int(seconds % 1 * 1e9):09d}Z"


def _row(index: int, nodes: int) -> dict[str, Any]:
    """One connection, every column of it."""
    kind = KINDS[index % len(KINDS)]
    turn = index // len(KINDS)
    node, pod = turn % nodes, turn % (nodes * 4)
    places = {
        "kube-apiserver": (VIP if kind.server_port == 443 else CONTROL_PLANE, "kube-apiserver"),
        "konnectivity-server": (CONTROL_PLANE, "konnectivity-server"),
        "etcd": (ETCD, "etcd"),
        "node": (_address("10.1", node), f"node-{node + 1}"),
        "kubelet": (_address("10.1", node), f"node-{node + 1}"),
        "konnectivity-agent": (_address("10.1", node), f"node-{node + 1}"),
        "any": ("10.244.9.9", "monitoring/prometheus-0"),
        "pod": (_address("10.244", pod), f"default/web-{pod + 1}"),
        "dns": ("10.96.0.10", "kube-system/kube-dns"),
        "user": ("203.0.113.5" if turn % 2 else "2001:db8::5", ""),
    }
    client, server = places[kind.client_role], places[kind.server_role]
    tls = kind.cipher != ""
    octets = kind.octets + 13 * turn
    packets = octets // 300 + 6
    row: dict[str, Any] = dict.fromkeys(CONNECTION_COLUMNS, "")
    row |= {
        "client_ip": client[0],
        "client_port": 32768 + index * 7 % 28000,
        "server_ip": server[0],
        "server_port": kind.server_port,
        "transport": "udp" if kind.channel == "dns" else "tcp",
        "encapsulation": "vxlan:1" if kind.client_role == "pod" and turn % 3 == 2 else "",
        "channel": kind.channel,
        "protocol": "tls" if tls else {53: "dns", 8132: "unknown"}.get(kind.server_port, "http/1"),
        "tls_version": ("1.2" if "ECDHE" in kind.cipher else "1.3") if tls else "",
        "tls_version_grade": "observed" if tls else "none",
        "sni": HOSTILE[turn % len(HOSTILE)] if kind.client_role == "user" else "",
        "alpn": kind.alpn,
        "encryption": kind.encryption[0],
        "encryption_grade": kind.encryption[1],
        "client_certificate": kind.certificate[0],
        "client_certificate_grade": kind.certificate[1],
        "server_verification": kind.verification[0],
        "server_verification_grade": kind.verification[1],
        "first_frame": 1 + index * 9,
        "last_frame": 8 + index * 9,
        "packets": packets,
        "octets": octets,
        "client_role": {"node": "node, kubelet", "any": "pod"}.get(kind.client_role, kind.client_role),
        "server_role": kind.server_role,
        "client_name": client[1],
        "server_name": server[1],
        "channel_grade": "inferred",
        "channel_reason": f"port {kind.server_port} and the roles of both ends",
        "encryption_reason": "records after ServerHello" if tls else "payload is readable",
        "client_certificate_reason": "length of the client's second flight" if tls else "no handshake",
        "server_verification_reason": kind.sentence,
        "initiator": "syn",
        "mid_connection": kind.channel == "konnectivity-agent-to-server",
        "interactive": False,
        "handshake": "complete" if tls else "none",
        "cipher_suite": kind.cipher,
        "group": "X25519MLKEM768" if tls else "",
        "alpn_offered": "h2,http/1.1" if tls else "",
        "client_stack": "Go 1.27" if tls else "",
        "ja3": "60828da5b42313d165aae2938e651b72" if tls else "",
        "ja4": "t13i1311h2_f57a46bbacb6_f50d94e863eb" if tls else "",
        "ja3s": "f4febc55ea12b31ae17cfb7e614afda8" if tls else "",
        "server_certificate": "CN=etcd" if kind.server_role == "etcd" else "",
        "user_agent": HOSTILE[(turn + 2) % len(HOSTILE)] if kind.channel == "apiserver-to-pod-proxy" else "",
        "activity": "GET /pods" if kind.channel == "kubelet-readonly" else "",
        "http_statuses": "200" if kind.channel == "kubelet-readonly" else "",
        "credentials": "",
        "leg_of": index - len(KINDS) if kind.channel == "pod-to-apiserver" and turn % 2 else -1,
        "carried_by": -1,
        "client_packets": packets // 2,
        "server_packets": packets - packets // 2,
        "client_octets": octets // 3,
        "server_octets": octets - octets // 3,
        "first_time": _time(START_S + index * 0.25),
        "last_time": _time(START_S + index * 0.25 + 2.5),
        "duration_s": 2.5,
        "evidence_frames": f"{1 + index * 9} {4 + index * 9}",
        "vantage": "",
        "capture": "",
        "last_capture": "",
        "comment": HOSTILE[turn % len(HOSTILE)] if kind.channel == "dns" else "",
    }
    return row


def _channel(kind: Kind, rows: list[dict[str, Any]]) -> dict[str, Any]:
    counted = [row for row in rows if row["leg_of"] < 0]
    values = {
        question: {value: sum(row[question] == value for row in counted) for value in labels}
        for question, labels in QUESTIONS.items()
    }
    grades = {
        question: {grade: sum(row[f"{question}_grade"] == grade for row in counted) for grade in GRADES}
        for question in QUESTIONS
    }
    return {
        "id": kind.channel,
        "title": kind.title,
        "direction": kind.direction,
        "client_role": kind.client_role,
        "server_role": kind.server_role,
        "expects": "mutual-tls",
        "default": "TLS, and the server's certificate is not verified unless a CA is configured.",
        "source": KUBERNETES_DOCS,
        "core": kind.channel != "dns",
        "connections": len(counted),
        "silent": 0,
        "legs": len(rows) - len(counted),
        "packets": sum(row["packets"] for row in rows),
        "octets": sum(row["octets"] for row in rows),
        **values,
        "grades": grades,
        "verdict": kind.verdict,
        "sentence": kind.sentence,
        "clients": list(dict.fromkeys(row["client_ip"] for row in rows))[:50],
        "servers": list(dict.fromkeys(row["server_ip"] for row in rows))[:50],
        "findings": list(kind.codes),
    }


def _endpoints(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[str, dict[str, Any]] = {}
    for row in rows:
        for side in ("client", "server"):
            entry = seen.setdefault(
                row[f"{side}_ip"], {"address": row[f"{side}_ip"], "names": [], "capture_names": [], "roles": []}
            )
            name, role = row[f"{side}_name"], row[f"{side}_role"]
            if name and name not in entry["names"]:
                entry["names"].append(name)
            if role not in [known["role"] for known in entry["roles"]]:
                reason = f"{'offers' if side == 'server' else 'dials'} port {row['server_port']}"
                entry["roles"].append(
                    {"role": role, "grade": "inferred", "reason": reason, "frame": row["first_frame"], "capture": 0}
                )
    return [seen[address] for address in sorted(seen)]


SUPPRESSION: Final = {
    "reason": f"Known and harmless {HOSTILE[4]} {HOSTILE[2]}",
    "author": "jane@example.org",
    "expires": "2027-01-31",
    "channel": "apiserver-to-pod-proxy",
    "server": "",
    "client": "",
    "source": "accepted.yaml, line 2",
}


BINS: Final = 96


def _timeline(rows: list[dict[str, Any]], kinds: list[Kind]) -> dict[str, Any]:
    """Every connection's packets in the bin of its begin; an event for each handshake and each request."""
    counted = [(index, row) for index, row in enumerate(rows) if row["leg_of"] < 0]
    bins = BINS if rows else 0

    def bin_of(index: int) -> int:
        return index * bins // max(len(rows), 1)

    traffic = []
    for kind in kinds if rows else []:
        sums = {"packets": [0] * bins, "octets": [0] * bins}
        for index, row in counted:
            if row["channel"] == kind.channel:
                for name, column in sums.items():
                    column[bin_of(index)] += row[name]
        traffic.append({"id": kind.channel, **sums})
    events = []
    for index, row in counted:
        of = "handshake" if row["handshake"] else "cleartext-request" if row["protocol"] == "http/1" else ""
        if of:
            text = "TLS handshake: completed" if of == "handshake" else f"GET /{HOSTILE[index % len(HOSTILE)]}"
            events.append(
                {
                    "kind": of,
                    "time": row["first_time"],
                    "frame": row["first_frame"],
                    "capture": 0,
                    "connection": index,
                    "channel": row["channel"],
                    "text": text,
                }
            )
    names = ("credential", "session", "refusal", "cleartext-request", "handshake")
    of_kind = {name: [event for event in events if event["kind"] == name] for name in names}
    return {
        "start_time": rows[0]["first_time"] if rows else None,
        "bin_ns": 1 << 34,
        "bins": bins,
        "frame_stride": 1,
        "channels": traffic,
        "event_counts": {name: len(found) for name, found in of_kind.items()},
        "event_bins": {
            name: [sum(bin_of(event["connection"]) == b for event in found) for b in range(bins)]
            for name, found in of_kind.items()
        },
        "events": [event for event in events if event in of_kind[event["kind"]][:40]],
    }  # fmt: skip


def example_document(connections: int = 12, nodes: int = 3) -> Document:
    """Return a document of the given size; the same arguments give the same document."""
    rows = [_row(index, nodes) for index in range(connections)]
    kinds = [kind for kind in KINDS if any(row["channel"] == kind.channel for row in rows)]
    channels = [_channel(kind, [row for row in rows if row["channel"] == kind.channel]) for kind in kinds]
    findings = [finding for finding in _findings() if finding["channel"] in {kind.channel for kind in kinds}]
    for finding in findings:
        index = [i for i, row in enumerate(rows) if row["channel"] == finding["channel"]]
        finding["hosts"] = sorted({rows[i]["server_name"] or rows[i]["server_ip"] for i in index})
        finding["connections"] = index
        finding["frames"] = [rows[i]["first_frame"] + 3 for i in index]
        finding["evidence"] = [{"capture": 0, "frames": finding["frames"]}]
        last = rows[index[-1]]["last_frame"]
        finding["filter"] = f"tcp.port == {rows[index[0]]['server_port']} && frame.number <= {last}"
        finding["fingerprint"] = f"{finding['code']}-{finding['channel']}"
        finding["id"] = f"{finding['code']}/{finding['channel']}"
        finding["suppression"] = SUPPRESSION if finding["code"] == "PW203" else None
    suppressed = [len(finding["connections"]) for finding in findings if finding["suppression"]]
    counted = [row for row in rows if row["leg_of"] < 0]
    encryption = Counter(row["encryption"] for row in counted)
    frames = connections * 9 + 3
    at_risk = sum(channel["verdict"] == "at-risk" for channel in channels)
    document = {
        "schema_version": "1",
        "tool": {"name": "planewire", "version": "0.1.0"},
        "captures": [
            {
                "name": "node-1 any.pcapng",
                "format": "pcapng",
                "octets": 512 + sum(row["octets"] for row in rows),
                "frames": frames,
                "first_time": _time(START_S),
                "last_time": _time(START_S + connections * 0.25 + 2.5),
                "duration_s": connections * 0.25 + 2.5,
                "interfaces": [
                    {"name": HOSTILE[2], "link_type": "LINUX_SLL2", "snaplen": 96, "received": frames, "dropped": 0,
                     "description": HOSTILE[3], "hardware": "", "system": HOSTILE[0], "filter": HOSTILE[1]},
                    {"name": HOSTILE[4], "link_type": "ETHERNET", "snaplen": 0, "received": None, "dropped": None,
                     "description": "", "hardware": "", "system": "", "filter": ""},
                ],
                "vantage": "",
                "comment_count": 2,
                "comments": [{"number": 0, "text": HOSTILE[1]}, {"number": 4, "text": HOSTILE[2]}],
                "ledger": None,
                "damage": [],
            }
        ],
        "vantage_points": [
            {"name": "", "captures": [0], "given": False, "assumed": "", "flows": len(rows),
             "connections": len(counted), "seen_elsewhere": 0}
        ],
        "clock_skews": [],
        "skipped": {"count": 1, "files": [{"name": HOSTILE[3], "reason": "it is empty", "named": False}]},
        "cluster": {
            "given": True,
            "sources": ["kube-apiserver.yaml", "nodes.json"],
            "nodes": nodes,
            "pods": nodes * 4,
            "services": 3,
            "declared": [
                {"component": "kube-apiserver", "setting": "--etcd-cafile", "value": "/etc/kubernetes/pki/etcd/ca.crt",
                 "source": "kube-apiserver.yaml"},
                {"component": "kube-apiserver", "setting": "--kubelet-certificate-authority", "value": "",
                 "source": "kube-apiserver.yaml"},
            ],
            "notes": ["nodes.json lists a node that the capture does not show: node-9."],
        },
        "quality": {
            "notes": ["1 in 9 connections began before the capture: their handshakes cannot be seen."],
            "connections": len(counted),
            "handshake_seen": sum(row["handshake"] == "complete" for row in counted),
            "mid_connection": sum(row["mid_connection"] for row in counted),
            "one_sided": 0,
            "cut_by_snaplen": 0,
            "with_gaps": 1,
            "dropped": 0,
            "shares": [
                {"name": "connections", "connections": len(counted), "packets": sum(row["packets"] for row in counted),
                 "octets": sum(row["octets"] for row in counted), "meaning": "TCP connections that carried payload",
                 "undecidable": {"encryption": 0, "client_certificate": 0, "server_verification": 0}}
            ],
        },
        "ledger": {
            "frames": frames,
            "decoded": frames - 3,
            "not_decoded": {"not IP": 3},
            "inner_packets": 0,
            "packets_in_flows": frames - 3,
            "packets_outside_flows": {},
            "duplicates": 0,
            "flows": len(rows),
            "legs": len(rows) - len(counted),
            "left_out": {"flows": 0, "packets": 0, "octets": 0, "limit": 1_000_000},
            "balanced": True,
            "lines": [["frames read", frames], ["decoded", frames - 3], ["not decoded: not IP", 3]],
        },
        "endpoints": _endpoints(rows),
        "connections": {
            "columns": list(CONNECTION_COLUMNS),
            "data": {name: [row[name] for row in rows] for name in CONNECTION_COLUMNS},
        },
        "channels": channels,
        "findings": findings,
        "suppressions": {
            "as_of": "2026-11-25",
            "entries": [
                {"code": "PW203", **SUPPRESSION, "status": "applied", "connections": sum(suppressed)},
                {"code": "PW102", **SUPPRESSION, "expires": "2026-01-31", "status": "expired", "connections": 0},
            ],
        },
        "rules": [
            {
                "code": finding["code"],
                "name": finding["name"],
                "title": finding["title"],
                "severity": finding["severity"],
                "channels": [finding["channel"]],
                "needs": "a TLS handshake",
                "why": finding["why"],
                "remediation": finding["remediation"],
                "flags": finding["flags"],
                "source": finding["source"],
                "cis": finding["cis"],
                "limits": finding["limits"],
                "status": "stable",
                "counts": {
                    "violation": len(finding["connections"]),
                    "compliant": connections - len(finding["connections"]),
                    "undecidable": 0,
                    "not_observed": 0,
                },
            }
            for finding in findings
        ],
        "certificates": [
            {
                "subject": f"CN=etcd,O={HOSTILE[0]}",
                "issuer": "CN=etcd-ca",
                "names": ["etcd", ETCD, HOSTILE[3]],
                "not_before": "2026-11-01T00:00:00.000000000Z",
                "not_after": "2027-11-01T00:00:00.000000000Z",
                "key": "rsa-2048",
                "self_signed": False,
                "kubelet_self_made": False,
                "sha256": "6f" * 32,
                "seen_as": "server",
                "channels": ["apiserver-to-etcd"],
                "connections": sum(row["channel"] == "apiserver-to-etcd" for row in rows),
            }
        ],
        "fingerprints": [
            {
                "ja4": "t13i1311h2_f57a46bbacb6_f50d94e863eb",
                "ja3": "60828da5b42313d165aae2938e651b72",
                "stack": "Go 1.27",
                "go": ["1.27"],
                "kubernetes": [],
                "connections": sum(row["ja4"] != "" for row in counted),
                "channels": sorted({row["channel"] for row in counted if row["ja4"]}),
                "clients": sorted({row["client_ip"] for row in counted if row["ja4"]})[:50],
            }
        ],
        "konnectivity": {
            "agents": [
                {
                    "address": "10.0.0.11",
                    "name": "node1",
                    "server": "10.0.0.10",
                    "port": 8132,
                    "connections": 1,
                    "refused": 0,
                    "reconnects": 0,
                    "open_at_end": 1,
                    "octets_to_agent": 13182,
                    "octets_from_agent": 46455,
                    "in_use": True,
                    "carried": 0,
                    "first_frame": 7,
                }
            ],
            "agent_count": 1,
            "nodes_without_agent": [],
            "through_tunnel": 0,
            "around_tunnel": 2,
        },
        "timeline": _timeline(rows, kinds),
        "summary": {
            "answer": f"{at_risk} of {len(channels)} channels are at risk: the API server does not verify kubelets, "
            "and traffic to pods and to the kubelet read-only port is cleartext.",
            "channels": {
                verdict: sum(channel["verdict"] == verdict for channel in channels)
                for verdict in ("at-risk", "sound", "undecidable", "informational")
            },
            "findings": {
                severity: sum(finding["severity"] == severity and not finding["suppression"] for finding in findings)
                for severity in ("critical", "high", "medium", "low", "info")
            },
            "suppressed": len(suppressed),
            "not_judged": [
                "Whether pods and users verify the API server: TLS 1.3 hides it, and no kubeconfig was handed over.",
                "Konnectivity connections began before the capture; their handshakes were not recorded.",
            ],
            "connections": len(counted),
            "encrypted": encryption["encrypted"],
            "cleartext": encryption["cleartext"],
            "undecidable": encryption["undecidable"],
        },
        "outcome": {"fail_on": "high", "exit_status": int(bool(findings))},
    }  # fmt: skip
    return cast(Document, document)


def hostile_document(connections: int, nodes: int) -> Document:
    """Every text that a capture or the cluster's files could have written is hostile."""
    document: Any = example_document(connections, nodes)
    turn = iter(range(10**6))

    def text() -> str:
        return HOSTILE[next(turn) % len(HOSTILE)]

    data = document["connections"]["data"]
    for name in ("client_name", "server_name", "sni", "user_agent", "activity", "server_certificate", "encapsulation"):
        data[name] = [text() for _ in data[name]]
    for entry in document["endpoints"]:
        entry["names"] = [text()]
        for role in entry["roles"]:
            role["reason"] = text()
    for finding in document["findings"]:
        finding |= {"message": text(), "hosts": [text()] * 3, "filter": text(), "limits": text(), "source": HOSTILE[9]}
    for channel in document["channels"]:
        channel |= {"sentence": text(), "clients": [text()], "servers": [text()], "source": HOSTILE[9]}
    for event in document["timeline"]["events"]:
        event["text"] = text()
    for capture in document["captures"]:
        capture["name"] = text()
        capture["damage"] = [{"offset": 7, "reason": text()}]
    for entry in document["cluster"]["declared"]:
        entry |= {"setting": text(), "value": text(), "source": text()}
    document["cluster"]["notes"] = [text()]
    document["summary"] |= {"answer": text(), "not_judged": [text(), text()]}
    document["fingerprints"][0] |= {"ja4": text(), "stack": text()}
    return document  # type: ignore[no-any-return]
