"""PW107: a kubectl proxy serves the API to other hosts."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from analyzer.registries import Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome

_API_PATH: Final = re.compile(r"/(?:api|apis|version|openapi/v[23]|healthz|livez|readyz)(?:[/?]|$)")


def _check(audit: Audit) -> Outcome:
    evidence = audit.evidence
    first = evidence.first_asked(lambda r: _API_PATH.match(r.target) and not r.forwarded_uri)
    return outcome(
        scope=audit.on("kubectl-proxy") & audit.off_host,
        decidable=audit.recognised & (evidence.asked() | ~audit.http),
        violation=(first >= 0) & audit.http,
        grade=Grade.OBSERVED,
        frames=[np.append(evidence.http.frame, 0)[first], evidence.flows.first_frame],
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
