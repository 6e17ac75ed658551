"""PW104: a bearer token or password crosses the wire readable."""

from __future__ import annotations

import numpy as np

from analyzer.registries import Encryption, Grade, Severity
from analyzer.rules.base import Audit, Outcome, Rule, outcome
from analyzer.schema import HttpMessage

_SECRETS = ("bearer", "basic", "digest", "negotiate", "token")


def _check(audit: Audit) -> Outcome:
    evidence, http = audit.evidence, audit.evidence.http
    first = evidence.first_asked(lambda r: r.credential.startswith(_SECRETS) and not r.decrypted)
    violation = first >= 0
    # A field that refers to a header table from before the capture may be the credential (RFC 7541 2.3.2).
    hidden = evidence.asked(lambda r: r.undecoded)
    flows, said = np.flatnonzero(violation), [_told(message) for message in http.contents]
    detail = dict(zip(flows.tolist(), [said[row] for row in http.content[first[flows]].tolist()], strict=True))
    answer = audit.verdicts.encryption
    clear = (answer.value == Encryption.CLEARTEXT) & (answer.grade == Grade.OBSERVED)
    # An encrypted connection complies; one whose protocol is unknown may hide a token: not decidable.
    return outcome(
        scope=(audit.connections | violation) & (clear | (answer.value == Encryption.UNDECIDABLE)),
        decidable=clear & (violation | ~hidden),
        violation=violation,
        grade=Grade.OBSERVED,
        frames=[np.append(http.frame, 0)[first]],
        detail=detail,
    )


def _told(request: HttpMessage) -> str:
    facts = dict(request.credential_facts)
    return request.credential + (f", subject {facts['sub']}" if "sub" in facts else "")


CREDENTIAL_CLEARTEXT = Rule(
    code="PW104",
    name="credential-in-cleartext",
    title="A token or password crosses the wire in cleartext",
    severity=Severity.CRITICAL,
    channels=(),
    needs="HTTP requests in clear",
    seen="an Authorization header is readable",
    why="Whoever saw these packets can act as its owner until the token expires or is revoked. The capture file itself "
    "now holds the credential.",
    remediation="Treat the credential as leaked: delete or rotate it (for a service account token, delete the pod or "
    "the token Secret). Then move the endpoint to TLS.",
    flags=("kubectl delete secret NAME", "kubectl delete pod NAME (projected tokens expire with their pod)"),
    source="https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/",
    cis="",
    limits="Behind the first 16 KiB of a direction 64 distinct requests are read; of HTTP/1 only those that begin a "
    "segment. The capture notes say where there were more. Where HTTP/2 was joined in its middle, fields may refer to "
    "what was sent before; the question stays open then.",
    filter="http.authorization || http2.headers.authorization",
    check=_check,
)
