"""The three questions, answered for every connection, each with value, grade and reason."""

from __future__ import annotations

from analyzer.cluster.channels import ChannelColumns
from analyzer.cluster.declarations import Declarations
from analyzer.cluster.roles import Roles
from analyzer.protocols.evidence import Evidence
from analyzer.verdicts.client_authentication import judge_client_certificate
from analyzer.verdicts.columns import Answer, Verdicts
from analyzer.verdicts.encryption import judge_encryption
from analyzer.verdicts.server_verification import judge_server_verification

__all__ = ["Answer", "Declarations", "Verdicts", "judge"]


def judge(evidence: Evidence, columns: ChannelColumns, roles: Roles, declared: Declarations) -> Verdicts:
    """Answer the three questions for every flow of `evidence`."""
    return Verdicts(
        judge_encryption(evidence),
        judge_client_certificate(evidence, columns, declared),
        judge_server_verification(evidence, columns, roles, declared),
    )
