"""What the configuration handed over says about the components that dial."""

from __future__ import annotations

from dataclasses import dataclass


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
