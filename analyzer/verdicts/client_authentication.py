"""Second question: did the client present a certificate?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzer.cluster.catalogue import channels
from analyzer.cluster.channels import ChannelColumns
from analyzer.protocols.evidence import Evidence
from analyzer.registries import ClientCertificate, Grade, Protocol, Ternary
from analyzer.schema import Mask
from analyzer.verdicts.columns import Answer


@dataclass(frozen=True, slots=True)
class Declarations:
    """What the configuration handed over says about the components that dial; None = it does not say.

    Attributes
    ----------
    apiserver : bool
        An API-server manifest was given: what it leaves out has its documented default.
    kubelet_ca, etcd_ca, konnectivity_ca : bool or None
        The API server verifies kubelets, etcd, the konnectivity server.
    kubelet_certificate, etcd_certificate, konnectivity_certificate : bool or None
        It has a client certificate for each.
    """

    apiserver: bool = False
    kubelet_ca: bool | None = None
    kubelet_certificate: bool | None = None
    etcd_ca: bool | None = None
    etcd_certificate: bool | None = None
    konnectivity_ca: bool | None = None
    konnectivity_certificate: bool | None = None
    node_kubeconfig_ca: bool | None = None  #: a kubelet kubeconfig was given and names a CA (False: skips the check)


def of_channel(columns: ChannelColumns, name: str) -> Mask:
    """Flows of one channel: (F,) bool."""
    rows = {channel.id: row for row, channel in enumerate(channels())}
    chosen: Mask = columns.channel == rows[name]
    return chosen


def judge_client_certificate(evidence: Evidence, columns: ChannelColumns, declared: Declarations) -> Answer:
    """Answer for every flow. What else the client authenticates with is a fact beside this answer."""
    protocol = evidence.identification.protocol
    answer = Answer.undecided(len(evidence))
    presented, absent = ClientCertificate.PRESENTED, ClientCertificate.ABSENT
    answer.doubt(protocol == Protocol.NO_DATA, "no payload was exchanged")

    grade = evidence.tls_grade("client_certificate_grade")
    asked = evidence.tls_is("certificate_requested", Ternary.YES)
    not_asked = evidence.tls_is("certificate_requested", Ternary.NO)
    yes, no = evidence.tls_is("client_certificate", Ternary.YES), evidence.tls_is("client_certificate", Ternary.NO)
    clear = grade == Grade.OBSERVED
    answer.settle(yes & clear, presented, Grade.OBSERVED, "the client's Certificate message is readable and not empty")
    answer.settle(
        yes, presented, grade, "record lengths: the client's flight holds a Certificate and a CertificateVerify"
    )
    refused = evidence.tls_is("refused", Ternary.YES)
    answer.settle(no & refused, absent, grade, "the client ended the handshake before presenting one")
    answer.settle(no & not_asked & clear, absent, Grade.OBSERVED, "the server did not ask for one")
    answer.settle(no & not_asked, absent, grade, "record lengths: the server did not ask for one")
    answer.settle(no & asked & clear, absent, Grade.OBSERVED, "the server asked; the client's Certificate is empty")
    answer.settle(no & asked, absent, grade, "record lengths: the server asked; the client's Certificate is empty")
    answer.settle(no, absent, grade, "the client sent none")

    http = np.isin(protocol, (Protocol.HTTP1, Protocol.HTTP2))
    answer.settle(http, absent, Grade.OBSERVED, "cleartext HTTP has no certificates")
    tls = protocol == Protocol.TLS
    unfinished = tls & evidence.tls_is("established", Ternary.NO)
    answer.doubt(unfinished, "the handshake ended before the client's turn to present one")
    # What the API server's configuration says, where the handshake was not captured.
    middle = tls & evidence.mid_connection
    for channel, flag, name in (
        ("apiserver-to-kubelet", declared.kubelet_certificate, "--kubelet-client-certificate"),
        ("apiserver-to-etcd", declared.etcd_certificate, "--etcd-certfile"),
        ("apiserver-to-konnectivity-server", declared.konnectivity_certificate, "the egress selector's clientCert"),
    ):
        rows = middle & of_channel(columns, channel)
        if flag:
            answer.settle(
                rows, presented, Grade.DECLARED, f"{name} is set; the handshake itself was before the capture"
            )
    answer.doubt(middle, "the handshake was before the capture")
    answer.doubt(tls, "the part of the handshake that shows it was not captured or not understood")
    other = ~tls & ~http
    answer.doubt(other, "this protocol does not use X.509 client certificates, or was not recognised")
    return answer
