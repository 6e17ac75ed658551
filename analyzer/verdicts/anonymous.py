"""Requests that carried no credential and were answered with success."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from analyzer.protocols.evidence import Evidence
from analyzer.schema import Mask

_OPEN: Final = ("/healthz", "/livez", "/readyz", "/version")
"""Paths that everyone may read by default: ClusterRole system:public-info-viewer (rbac/bootstrappolicy/policy.go)."""


class AnonymousAnswers(NamedTuple):
    """Connections on which requests without any credential were answered with success.

    Attributes
    ----------
    served, read : (F,) bool
        Served anonymously; requests and their answers are readable, in clear or decrypted, in all their fields.
    shown : dict of int to (int, str)
        Frame and request line by connection.
    """

    served: Mask
    read: Mask
    shown: dict[int, tuple[int, str]]


def anonymous_answers(evidence: Evidence, absent: Mask) -> AnonymousAnswers:
    """Find them among the readable requests.

    Parameters
    ----------
    evidence : Evidence
    absent : (F,) bool
        Connections whose client presented no certificate.
    """
    n = len(evidence)
    served, read = np.zeros(n, bool), np.zeros(n, bool)
    shown: dict[int, tuple[int, str]] = {}
    for flow, requests in evidence.requests.items():
        answers = [m.status for m in evidence.responses.get(flow, ())]
        if not answers:
            continue
        if any(r.undecoded for r in requests):
            continue  # what refers to a header table from before the capture may be the credential (RFC 7541 2.3.2)
        read[flow] = True
        if not absent[flow] or any(r.credential for r in requests):
            continue
        # Answers are not paired with requests: all of them must be to requests that tell something.
        telling = [r for r in requests if not r.target.split("?", 1)[0].startswith(_OPEN)]
        if len(telling) == len(requests) and any(status == 101 or 200 <= status < 300 for status in answers):
            served[flow] = True
            shown[flow] = (telling[0].frame, f"{telling[0].method} {telling[0].target.split('?', 1)[0]}")
    return AnonymousAnswers(served, read, shown)
