"""Requests that carried no credential and were answered with success."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from analyzer.protocols.evidence import Evidence
from analyzer.schema import HttpMessage, Mask

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
    asked = evidence.asked
    # What refers to a header table from before the capture may be the credential (RFC 7541 2.3.2).
    read = asked() & evidence.answered() & ~asked(lambda r: r.undecoded)
    # Answers are not paired with requests: all of them must be to requests that tell something.
    telling = ~asked(lambda r: _path(r).startswith(_OPEN))
    success = evidence.answered(lambda answer: answer.status == 101 or 200 <= answer.status < 300)
    served = read & absent & ~asked(lambda r: r.credential) & telling & success
    http, flows = evidence.http, np.flatnonzero(served)
    rows = evidence.first_asked(lambda _: True)[flows]
    lines = [f"{message.method} {_path(message)}" for message in http.contents]
    said = zip(http.frame[rows].tolist(), [lines[row] for row in http.content[rows].tolist()], strict=True)
    return AnonymousAnswers(served, read, dict(zip(flows.tolist(), said, strict=True)))


def _path(request: HttpMessage) -> str:
    return request.target.split("?", 1)[0]
