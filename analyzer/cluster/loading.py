"""Cluster facts that the user hands over: every file recognised by what it holds, a note for what holds nothing known.

Sans-I/O: the command line reads the files. Secrets are dropped as soon as they are met; Secret objects are not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from analyzer.cluster.assembly import build_inventory
from analyzer.cluster.authorities import PEM_BEGIN, Authority, read_authorities, read_authority_data
from analyzer.cluster.called import read_api_service, read_conversion, read_webhooks
from analyzer.cluster.configuration import (
    kubeconfig_authorities,
    node_in_file_name,
    read_egress,
    read_kubeconfig,
    read_kubelet,
)
from analyzer.cluster.declared import (
    ApiServerDeclared,
    CalledDeclared,
    ControllerManagerDeclared,
    Declared,
    DeclaredSetting,
    EgressDeclared,
    EtcdDeclared,
    KonnectivityAgentDeclared,
    KonnectivityServerDeclared,
    KubeconfigDeclared,
    ProgramDeclared,
    SchedulerDeclared,
)
from analyzer.cluster.documents import Object, child, looks_like_document, mapping, read_documents, sequence, string
from analyzer.cluster.flags import read_arguments, read_programs
from analyzer.cluster.inventory import Inventory, Node, Pod, Service, ServiceEndpoint
from analyzer.cluster.objects import (
    is_static_manifest,
    read_endpoint_slice,
    read_endpoints,
    read_node,
    read_pod,
    read_service,
)

MAX_LIST_DEPTH: Final = 3
"""Lists inside lists that are opened; kubectl writes one."""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the files handed over say about the cluster.

    Attributes
    ----------
    inventory : Inventory
    declared : Declared
    authorities : tuple of Authority
        Distinct CA certificates.
    sources : tuple of str
        Files that something was taken from.
    notes : tuple of str
        What was passed over, file by file, and contradictions.
    """

    inventory: Inventory = field(default_factory=Inventory)
    declared: Declared = field(default_factory=Declared)
    authorities: tuple[Authority, ...] = ()
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_cluster_facts(files: Mapping[str, bytes]) -> ClusterFacts:
    """Read the files handed over with ``--cluster``.

    Parameters
    ----------
    files : mapping of str to bytes
        Content by file name; folders may be part of the name. The order does not matter.

    Raises
    ------
    ClusterFactsError
        A file that means to be JSON or YAML cannot be parsed, or is beyond the limits of `documents`.
    """
    collector = _Collector()
    for name in sorted(files):
        collector.read_file(name, files[name])
    return collector.finish()


class _Collector:
    """Facts in the making; `finish` resolves what needs all files."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.pods: list[Pod] = []
        self.services: list[Service] = []
        self.endpoints: list[ServiceEndpoint] = []
        self.pod_cidrs: list[object] = []
        self.service_cidrs: list[object] = []
        self.programs: list[tuple[ProgramDeclared, list[DeclaredSetting]]] = []
        self.kubelets: list[tuple[str, Object]] = []
        self.egress: list[EgressDeclared] = []
        self.kubeconfigs: list[KubeconfigDeclared] = []
        self.called: list[CalledDeclared] = []
        self.settings: list[DeclaredSetting] = []
        self.authorities: list[Authority] = []
        self.sources: list[str] = []
        self.notes: list[str] = []

    # ------------------------------------------------------------------------------------------- files

    def read_file(self, name: str, content: bytes) -> None:
        """Take what one file holds."""
        if content[:4096].lstrip().startswith(PEM_BEGIN) or name.endswith((".crt", ".pem", ".cer", ".der")):
            found, notes = read_authorities(content, name)
            self.authorities += found
            self.notes += notes
            if found:
                self.sources.append(name)
        elif looks_like_document(name, content):
            unknown: Counter[str] = Counter()
            taken = [self._take(name, document, unknown, 0) for document in read_documents(name, content)]
            if any(taken):
                self.sources.append(name)
            elif not unknown:
                self.notes.append(f"{name}: holds no objects")
            self.notes += [f"{name}: {n} of kind {kind} not used" for kind, n in sorted(unknown.items())]
        else:
            self.notes.append(f"{name}: not recognised, not used")

    def _take(self, name: str, document: Object, unknown: Counter[str], depth: int) -> bool:
        """Take one document; False where nothing in it is known."""
        kind = string(document, "kind")
        items = child(document, "items")
        if isinstance(items, list) and depth < MAX_LIST_DEPTH and (kind.endswith("List") or not kind):
            # The items of a typed list (NodeList, from the API itself) do not repeat their kind.
            of_kind = {"kind": kind.removesuffix("List")} if kind not in ("", "List") else {}
            taken = [self._take(name, {**of_kind, **i}, unknown, depth + 1) for i in items if isinstance(i, dict)]
            return any(taken)
        taker = _TAKERS.get("KubeletConfigz" if not kind and "kubeletconfig" in document else kind)
        if kind == "ConfigMap" and depth >= MAX_LIST_DEPTH:
            taker = None  # a ConfigMap inside a ConfigMap
        if taker is None or not taker(self, name, document):
            unknown[kind or "(none)"] += 1
            return False
        return True

    # ----------------------------------------------------------------------------------------- objects

    def take_node(self, _name: str, document: Object) -> bool:
        """Node."""
        node = read_node(document)
        self.nodes.append(node)
        self.pod_cidrs += [str(network) for network in node.pod_cidrs]
        return bool(node.name)

    def take_pod(self, name: str, document: Object) -> bool:
        """Pod: of the API, or a static manifest; either may run a program whose flags are read."""
        programs = read_programs(document, name)
        self.programs += programs
        if is_static_manifest(document):
            return bool(programs)
        self.pods.append(read_pod(document))
        return True

    def take_workload(self, name: str, document: Object) -> bool:
        """DaemonSet, Deployment, StatefulSet: only for the programs their template runs."""
        programs = read_programs(mapping(document, "spec", "template"), name)
        self.programs += programs
        return bool(programs)

    def take_service(self, _name: str, document: Object) -> bool:
        """Service."""
        self.services.append(read_service(document))
        return True

    def take_endpoints(self, _name: str, document: Object) -> bool:
        """Endpoints."""
        self.endpoints += read_endpoints(document)
        return True

    def take_endpoint_slice(self, _name: str, document: Object) -> bool:
        """EndpointSlice."""
        self.endpoints += read_endpoint_slice(document)
        return True

    def take_service_cidr(self, _name: str, document: Object) -> bool:
        """ServiceCIDR (networking.k8s.io/v1)."""
        self.service_cidrs += sequence(document, "spec", "cidrs")
        return True

    # ----------------------------------------------------------------------------------- configuration

    def take_kubelet(self, name: str, document: Object) -> bool:
        """KubeletConfiguration; whose it is can be told once all nodes are known."""
        self.kubelets.append((name, document))
        return True

    def take_configz(self, name: str, document: Object) -> bool:
        """What a kubelet answers at /configz."""
        return self.take_kubelet(name, mapping(document, "kubeletconfig"))

    def take_egress(self, name: str, document: Object) -> bool:
        """EgressSelectorConfiguration."""
        declared, settings = read_egress(document, name)
        self.egress += declared
        self.settings += settings
        return bool(declared)

    def take_kubeconfig(self, name: str, document: Object) -> bool:
        """Kubeconfig."""
        declared, settings = read_kubeconfig(document, name)
        self.kubeconfigs += declared
        self.settings += settings
        for data in kubeconfig_authorities(document):
            found, notes = read_authority_data(data, name)
            self.authorities += found
            self.notes += notes
        return bool(declared)

    def take_webhooks(self, name: str, document: Object) -> bool:
        """ValidatingWebhookConfiguration, MutatingWebhookConfiguration."""
        return self._take_called(*read_webhooks(document, name))

    def take_api_service(self, name: str, document: Object) -> bool:
        """APIService; the ones that the API server serves itself say nothing and are known all the same."""
        self._take_called(*read_api_service(document, name))
        return True

    def take_definition(self, name: str, document: Object) -> bool:
        """CustomResourceDefinition: only for a conversion webhook."""
        self._take_called(*read_conversion(document, name))
        return True

    def _take_called(self, called: list[CalledDeclared], settings: list[DeclaredSetting]) -> bool:
        self.called += called
        self.settings += settings
        return bool(called)

    def take_kubeadm(self, _name: str, document: Object) -> bool:
        """ClusterConfiguration of kubeadm: the networks."""
        self.pod_cidrs += string(document, "networking", "podSubnet").split(",")
        self.service_cidrs += string(document, "networking", "serviceSubnet").split(",")
        return True

    def take_openshift_apiserver(self, name: str, document: Object) -> bool:
        """KubeAPIServerConfig of OpenShift (kubecontrolplane.config.openshift.io/v1): the flags by name."""
        self.programs.append(read_arguments(mapping(document, "apiServerArguments"), "kube-apiserver", name))
        return True

    def take_kube_proxy(self, _name: str, document: Object) -> bool:
        """KubeProxyConfiguration: clusterCIDR is the pod network."""
        self.pod_cidrs += string(document, "clusterCIDR").split(",")
        return True

    def take_config_map(self, name: str, document: Object) -> bool:
        """ConfigMap: configuration and CA certificates that kubeadm and the API server keep in one."""
        where = f"{name} (ConfigMap {string(document, 'metadata', 'name')})"
        taken = False
        for key, text in mapping(document, "data").items():
            if key not in _CONFIG_MAP_KEYS or not isinstance(text, str):
                continue
            content = text.encode("utf-8", "replace")
            if content.lstrip().startswith(PEM_BEGIN):
                found, notes = read_authorities(content, f"{where}/{key}")
                self.authorities += found
                self.notes += notes
                taken = taken or bool(found)
            elif looks_like_document(key, content):
                for inner in read_documents(where, content):
                    taken = self._take(where, inner, Counter(), MAX_LIST_DEPTH) or taken
        return taken

    # ------------------------------------------------------------------------------------------ result

    def finish(self) -> ClusterFacts:
        """Put everything together."""
        declared = self._declared()
        if declared.apiserver_disagreements:
            differing = ", ".join(name.replace("_", "-") for name in declared.apiserver_disagreements)
            self.notes.append(f"several API server manifests differ in {differing}: which one was in force is not told")
        inventory, notes = build_inventory(
            declared,
            nodes=self.nodes,
            pods=self.pods,
            services=self.services,
            endpoints=self.endpoints,
            pod_cidrs=self.pod_cidrs,
            service_cidrs=self.service_cidrs,
        )
        self.notes += notes
        distinct = {(a.certificate.sha256, a.role): a for a in reversed(self.authorities)}
        return ClusterFacts(
            inventory=inventory,
            declared=declared,
            authorities=tuple(sorted(distinct.values(), key=lambda a: (a.role, a.source_file, a.certificate.sha256))),
            sources=tuple(self.sources),
            notes=tuple(self.notes),
        )

    def _declared(self) -> Declared:
        names = [node.name for node in self.nodes]
        read = [read_kubelet(document, node_in_file_name(name, names), name) for name, document in self.kubelets]
        views = [view for view, _ in self.programs]
        settings = [s for _, of_one in self.programs for s in of_one] + [s for _, of_one in read for s in of_one]
        return Declared(
            settings=tuple(settings + self.settings),
            apiservers=_of(ApiServerDeclared, views),
            kubelets=tuple(kubelet for kubelet, _ in read),
            egress=tuple(self.egress),
            etcds=_of(EtcdDeclared, views),
            controller_managers=_of(ControllerManagerDeclared, views),
            schedulers=_of(SchedulerDeclared, views),
            konnectivity_servers=_of(KonnectivityServerDeclared, views),
            konnectivity_agents=_of(KonnectivityAgentDeclared, views),
            kubeconfigs=tuple(self.kubeconfigs),
            called=tuple(self.called),
        )


_View = TypeVar("_View", bound=ProgramDeclared)


def _of(kind: type[_View], views: Iterable[ProgramDeclared]) -> tuple[_View, ...]:
    return tuple(view for view in views if isinstance(view, kind))


_TAKERS: Final[Mapping[str, Callable[[_Collector, str, Object], bool]]] = {
    "Node": _Collector.take_node,
    "Pod": _Collector.take_pod,
    "DaemonSet": _Collector.take_workload,
    "Deployment": _Collector.take_workload,
    "StatefulSet": _Collector.take_workload,
    "Service": _Collector.take_service,
    "Endpoints": _Collector.take_endpoints,
    "EndpointSlice": _Collector.take_endpoint_slice,
    "ServiceCIDR": _Collector.take_service_cidr,
    "ConfigMap": _Collector.take_config_map,
    "KubeletConfiguration": _Collector.take_kubelet,
    "KubeletConfigz": _Collector.take_configz,
    "EgressSelectorConfiguration": _Collector.take_egress,
    "Config": _Collector.take_kubeconfig,
    "ClusterConfiguration": _Collector.take_kubeadm,
    "KubeProxyConfiguration": _Collector.take_kube_proxy,
    "KubeAPIServerConfig": _Collector.take_openshift_apiserver,
    "ValidatingWebhookConfiguration": _Collector.take_webhooks,
    "MutatingWebhookConfiguration": _Collector.take_webhooks,
    "APIService": _Collector.take_api_service,
    "CustomResourceDefinition": _Collector.take_definition,
}
"""What is taken of each kind; `KubeletConfigz` is our name for the answer of /configz, which states none."""

_CONFIG_MAP_KEYS: Final = frozenset(
    {"kubelet", "ClusterConfiguration", "config.conf", "kubeconfig.conf", "kubeconfig"}  # kubeadm's ConfigMaps
    | {
        "config.yaml",  # OpenShift's configuration of the API server
        "ca-bundle.crt",  # OpenShift's CA bundles
        "ca.crt",
        "client-ca-file",
        "requestheader-client-ca-file",
    }  # kube-root-ca.crt, extension-apiserver-authentication
)
