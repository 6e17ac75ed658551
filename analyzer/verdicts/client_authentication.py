"""Second question: did the client present a certificate?"""

from __future__ import annotations

import numpy as np

from analyzer.cluster.channels import ChannelColumns, of_channel
from analyzer.cluster.declarations import Declarations
from analyzer.flows import TLS_DATA
from analyzer.protocols.evidence import Evidence
from analyzer.registries import ClientCertificate, Grade, Protocol, Ternary
from analyzer.verdicts.columns import Answer


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
    # Record lengths tell messages apart where each has a record of its own, as Go writes them; others may not.
    client_go = (evidence.tls_column("lower_confidence") & 1) == 0
    server_go = (evidence.tls_column("lower_confidence") & 2) == 0
    lower = "; {} is not shown to be Go: lower confidence"
    flight = "record lengths: the client's flight holds a Certificate"
    answer.settle(yes & client_go, presented, grade, f"{flight} and a CertificateVerify")
    answer.settle(yes, presented, grade, flight + lower.format("the client"))
    refused = evidence.tls_is("refused", Ternary.YES)
    answer.settle(no & refused, absent, grade, "the client ended the handshake before presenting one")
    answer.settle(no & not_asked & clear, absent, Grade.OBSERVED, "the server did not ask for one")
    unasked = "record lengths: the server did not ask for one"
    answer.settle(no & not_asked & server_go, absent, grade, unasked)
    answer.settle(no & not_asked, absent, grade, unasked + lower.format("the server"))
    answer.settle(no & asked & clear, absent, Grade.OBSERVED, "the server asked; the client's Certificate is empty")
    empty = "record lengths: the server asked; the client's Certificate is empty"
    answer.settle(no & asked & client_go, absent, grade, empty)
    answer.settle(no & asked, absent, grade, empty + lower.format("the client"))
    answer.settle(no, absent, grade, "the client sent none")

    http = np.isin(protocol, (Protocol.HTTP1, Protocol.HTTP2))
    answer.settle(http, absent, Grade.OBSERVED, "cleartext HTTP has no certificates")
    tls = protocol == Protocol.TLS
    unfinished = tls & evidence.tls_is("established", Ternary.NO)
    answer.doubt(unfinished, "the handshake ended before the client's turn to present one")
    # What the API server's configuration says, where the handshake was not captured or cut.
    middle = tls & evidence.mid_connection
    data = evidence.flows.signature[:, :, TLS_DATA] > 0
    cut = tls & ~evidence.mid_connection & evidence.tls_is("established", Ternary.UNKNOWN) & data[:, 0] & data[:, 1]
    for channel, flag, name in (
        ("apiserver-to-kubelet", declared.kubelet_certificate, "--kubelet-client-certificate"),
        ("apiserver-to-etcd", declared.etcd_certificate, "--etcd-certfile"),
        ("apiserver-to-konnectivity-server", declared.konnectivity_certificate, "the egress selector's clientCert"),
    ):
        here = of_channel(columns, channel) & evidence.client_may_be_go
        if flag is None:
            continue
        value, said = (presented, "is set") if flag else (absent, "is not set")
        answer.settle(middle & here, value, Grade.DECLARED, f"{name} {said}; the handshake was before the capture")
        answer.settle(cut & here, value, Grade.DECLARED, f"{name} {said}; the handshake was not captured whole")
    answer.doubt(middle, "the handshake was before the capture")
    answer.doubt(tls, "the part of the handshake that shows it was not captured or not understood")
    other = ~tls & ~http
    answer.doubt(other, "this protocol does not use X.509 client certificates, or was not recognised")
    return answer
