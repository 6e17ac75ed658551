"""The three questions, answered for every connection, each with value, grade and reason."""

from __future__ import annotations

from analyzer.cluster.channels import ChannelColumns
from analyzer.cluster.declarations import Declarations
from analyzer.cluster.roles import Roles
from analyzer.protocols.evidence import Evidence
from analyzer.registries import ClientCertificate
from analyzer.verdicts.anonymous import anonymous_answers
from analyzer.verdicts.client_authentication import judge_client_certificate
from analyzer.verdicts.columns import Answer, Verdicts
from analyzer.verdicts.encryption import judge_encryption
from analyzer.verdicts.names import compare_names
from analyzer.verdicts.server_verification import judge_server_verification

__all__ = ["Answer", "Declarations", "Verdicts", "judge"]


def judge(evidence: Evidence, columns: ChannelColumns, roles: Roles, declared: Declarations) -> Verdicts:
    """Answer the three questions for every flow of `evidence`."""
    names = compare_names(evidence, roles)
    client_certificate = judge_client_certificate(evidence, columns, declared)
    return Verdicts(
        judge_encryption(evidence),
        client_certificate,
        judge_server_verification(evidence, columns, roles, declared, names),
        names,
        anonymous_answers(evidence, client_certificate.value == ClientCertificate.ABSENT),
    )
