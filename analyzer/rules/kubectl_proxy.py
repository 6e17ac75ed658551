"""PW107: a kubectl proxy serves the API to other hosts."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

_API_PATH: Final = re.compile(r"/(?:api|apis|version|openapi/v[23]|healthz|livez|readyz)(?:[/?]|$)")


def _check(audit: Audit) -> Outcome:
    n = len(audit.evidence)
    read, serves, frames = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, np.int64)
    for flow, requests in audit.evidence.requests.items():
        read[flow] = True
        found = next((r for r in requests if _API_PATH.match(r.target) and not r.forwarded_uri), None)
        if found is not None:
            serves[flow], frames[flow] = True, found.frame
    return outcome(
        scope=audit.on("kubectl-proxy") & audit.off_host,
        decidable=audit.recognised & (read | ~audit.http),
        violation=serves & audit.http,
        grade=Grade.OBSERVED,
        frames=[frames, audit.evidence.flows.first_frame],
    )


KUBECTL_PROXY = Rule(
    code="PW107",
    name="kubectl-proxy-exposed",
    title="A kubectl proxy serves the API to other hosts in cleartext",
    severity=Severity.HIGH,
    channels=("kubectl-proxy",),
    needs="HTTP requests in clear",
    seen="API requests over plain HTTP to a kubectl proxy on another host",
    why="kubectl proxy answers with the rights of whoever started it and asks nobody else who they are: whoever "
    "reaches the port has those rights, and whoever is on the path reads the answers.",
    remediation="Stop the proxy, or bind it to loopback as it does by default; reach it through SSH or kubectl "
    "port-forward.",
    flags=("kubectl proxy: --address=127.0.0.1, without --accept-hosts",),
    source="https://kubernetes.io/docs/reference/kubectl/generated/kubectl_proxy/",
    cis="",
    limits="Recognised by API paths on port 8001; a proxy on another port is seen as other HTTP.",
    filter="http",
    check=_check,
)
