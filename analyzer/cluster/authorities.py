"""Certificate authorities that the cluster trusts, from PEM and DER files and from kubeconfigs."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from analyzer.schema import Certificate

MAX_CERTIFICATES: Final = 1024
"""Certificates read of one file; the largest public root bundles have some 150."""
MAX_PEM: Final = 1 << 16
"""Octets of one certificate, in base64 or not; clusters' are below 4 KiB."""

OMITTED: Final = "DATA+OMITTED"
"""What kubectl config view prints in place of embedded data (client-go tools/clientcmd/api/helpers.go)."""
PEM_BEGIN: Final = b"-----BEGIN "
_CERTIFICATE_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_CERTIFICATE_END: Final = b"-----END CERTIFICATE-----"

# Default CNs and file names: https://kubernetes.io/docs/setup/best-practices/certificates/; kubeadm's CN: kubernetes.
_ROLES_BY_NAME: Final = (
    ("kubernetes", re.compile(r"kubernetes|kubernetes-ca|k3s-(?:client|server)-ca@\d+|rke2-(?:client|server)-ca@\d+")),
    ("etcd-ca", re.compile(r"etcd-ca|etcd/ca|etcd-(?:server|peer)-ca|(?:k3s|rke2)-etcd-(?:server|peer)-ca@\d+")),
    (
        "front-proxy-ca",
        re.compile(r"(?:kubernetes-)?front-proxy-ca|requestheader-client-ca-file|(?:k3s|rke2)-request-header-ca@\d+"),
    ),
    ("kubelet", re.compile(r"kubelet(?:-serving)?(?:-ca)?|kubelet-ca@\d+")),
    ("konnectivity", re.compile(r"konnectivity(?:-server|-agent)?(?:-ca)?")),
)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate that was handed over.

    ``role`` is ``kubernetes``, ``etcd-ca``, ``front-proxy-ca``, ``kubelet``, ``konnectivity``, or empty where neither
    its common name nor the file's name tells.
    """

    role: str
    source_file: str
    certificate: Certificate


def role_of_authority(common_name: str, source_file: str) -> str:
    """Role of a CA: by its common name, else by the file's name (``ca.crt`` alone is the cluster's)."""
    stem = re.sub(r"\.(?:crt|pem|cer|cert|der|ca)$", "", source_file)
    in_folder, base = "/".join(stem.split("/")[-2:]), stem.rsplit("/", 1)[-1]
    for name in (common_name, in_folder, base):
        for role, pattern in _ROLES_BY_NAME:
            if pattern.fullmatch(name):
                return role
    return "kubernetes" if base in ("ca", "cluster-ca") else ""


def read_authorities(
    content: bytes, source_file: str, *, named: str | None = None
) -> tuple[list[Authority], list[str]]:
    """Read the CA certificates of a PEM or DER file.

    Parameters
    ----------
    content : bytes
        PEM with any text around it (RFC 7468 2), or one DER certificate.
    source_file : str
    named : str, optional
        File name that may tell the role, where it is not `source_file`.

    Returns
    -------
    authorities : list of Authority
    notes : list of str
        What was passed over, and why. Private keys are not looked at.
    """
    from analyzer.protocols.tls.certificates import parse_certificate

    found: list[Authority] = []
    notes: list[str] = []
    for number, der in enumerate(_certificates(content), 1):
        if number > MAX_CERTIFICATES:
            notes.append(f"{source_file}: only the first {MAX_CERTIFICATES} certificates were read")
            break
        certificate = parse_certificate(der) if der is not None else None
        if certificate is None or certificate.problem:
            notes.append(f"{source_file}: certificate {number} cannot be read")
        elif not certificate.is_ca:
            notes.append(f"{source_file}: certificate {number} ({certificate.subject}) is not a CA's, not used")
        else:
            role = role_of_authority(certificate.common_name, source_file if named is None else named)
            found.append(Authority(role, source_file, certificate))
    if b"PRIVATE KEY-----" in content:
        notes.append(f"{source_file}: holds a private key, which is not needed and was not read; do not hand it over")
    return found, notes


def read_authority_data(data: str, source_file: str) -> tuple[list[Authority], list[str]]:
    """Read ``certificate-authority-data`` of a kubeconfig: base64 of PEM."""
    if data == OMITTED:
        return [], []
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return [], [f"{source_file}: certificate-authority-data is not base64"]
    # What a kubeconfig trusts for the API server is the cluster's CA, whatever it calls itself.
    return read_authorities(content, source_file, named="ca.crt")


def _certificates(content: bytes) -> Iterator[bytes | None]:
    """DER of each certificate; None for one whose base64 cannot be decoded."""
    if _CERTIFICATE_BEGIN not in content:
        if PEM_BEGIN not in content:
            yield content if len(content) <= MAX_PEM else None
        return
    at = 0
    while (begin := content.find(_CERTIFICATE_BEGIN, at)) >= 0:
        begin += len(_CERTIFICATE_BEGIN)
        stop = content.find(_CERTIFICATE_END, begin, begin + MAX_PEM)
        try:
            yield base64.b64decode(b"".join(content[begin:stop].split()), validate=True) if stop >= 0 else None
        except binascii.Error:
            yield None
        at = begin
