"""The inventory put together: objects of the API beside what flags and configuration say about the same hosts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from analyzer.cluster.declared import Declared, split_url
from analyzer.cluster.inventory import Address, Endpoint, Inventory, Node, Pod, Service, ServiceEndpoint, parse_address
from analyzer.cluster.objects import networks_of

ETCD_CLIENT_PORT: Final = 2379  # etcd --listen-client-urls
KONNECTIVITY_AGENT_PORT: Final = 8091  # apiserver-network-proxy cmd/agent/app/options/options.go, ProxyServerPort
HTTPS_PORT: Final = 443

_Row = TypeVar("_Row")

_KUBERNETES: Final = ("default", "kubernetes")
"""The Service of the API server (pkg/controlplane/controller/kubernetesservice)."""


def build_inventory(
    declared: Declared,
    *,
    nodes: Sequence[Node],
    pods: Sequence[Pod],
    services: Sequence[Service],
    endpoints: Sequence[ServiceEndpoint],
    pod_cidrs: Iterable[object],
    service_cidrs: Iterable[object],
) -> tuple[Inventory, list[str]]:
    """Put the inventory together.

    Parameters
    ----------
    declared : Declared
        Flags and configuration: they name API servers, etcd, konnectivity servers and networks.
    nodes, pods, services, endpoints
        Rows read of the API's objects; repeated ones count once.
    pod_cidrs, service_cidrs : iterable of text
        Networks stated elsewhere; what is no network is left out.

    Returns
    -------
    inventory : Inventory
    notes : list of str
        Hosts named by configuration that are neither addresses nor known nodes.
    """
    hosts = _Hosts(nodes)
    listening = [
        Endpoint(address, server.port)
        for server in declared.apiservers
        for address in hosts.addresses(server.advertise_address or server.bind_address or "", server.source_file)
    ]
    behind = [Endpoint(e.address, e.port) for e in endpoints if (e.namespace, e.service) == _KUBERNETES]
    vips = [
        Endpoint(address, port.port)
        for service in services
        if (service.namespace, service.name) == _KUBERNETES
        for address in service.cluster_ips
        for port in service.ports
    ]
    etcd_urls = [(url, server.source_file) for server in declared.apiservers for url in server.etcd_servers]
    for etcd in declared.etcds:
        etcd_urls += [(url, etcd.source_file) for url in (*etcd.advertise_client_urls, *etcd.listen_client_urls)]
    frontends = [(entry.url, entry.source_file) for entry in declared.egress if entry.transport == "tcp"]
    agents = [
        Endpoint(address, agent.proxy_server_port or KONNECTIVITY_AGENT_PORT)
        for agent in declared.konnectivity_agents
        for address in hosts.addresses(agent.proxy_server_host or "", agent.source_file)
    ]
    ranges = [server.service_cluster_ip_range for server in declared.apiservers]
    ranges += [manager.service_cluster_ip_range for manager in declared.controller_managers]
    service_cidrs = [*service_cidrs, *(cidr for cidrs in ranges for cidr in cidrs)]
    pod_cidrs = [*pod_cidrs, *(cidr for manager in declared.controller_managers for cidr in manager.cluster_cidr)]
    inventory = Inventory(
        nodes=_distinct(nodes),
        pods=_distinct(pods),
        services=_distinct(services),
        endpoints=_distinct(endpoints),
        apiservers=_distinct(behind + listening),
        apiserver_vips=_distinct(vips),
        etcds=_distinct(hosts.endpoints(etcd_urls, ETCD_CLIENT_PORT)),
        konnectivity_servers=_distinct(hosts.endpoints(frontends, HTTPS_PORT)),
        konnectivity_agent_endpoints=_distinct(agents),
        pod_cidrs=networks_of(pod_cidrs),
        service_cidrs=networks_of(service_cidrs),
    )
    return inventory, list(dict.fromkeys(hosts.notes))


def _distinct(rows: Iterable[_Row]) -> tuple[_Row, ...]:
    return tuple(dict.fromkeys(rows))


class _Hosts:
    """Hosts as configuration names them: addresses, or names of nodes."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = {node.name: node.addresses for node in nodes}
        self.notes: list[str] = []

    def addresses(self, host: str, source_file: str) -> list[Address]:
        """Addresses of a host; none for an unspecified address, which says nothing about who listens there."""
        address = parse_address(host)
        if address is not None:
            return [] if address.is_unspecified else [address]
        if host and host not in self._nodes:
            self.notes.append(f"{source_file}: host {host} is a name that no node has; its address is not known")
        return list(self._nodes.get(host, ()))

    def endpoints(self, urls: Iterable[tuple[str, str]], default_port: int) -> list[Endpoint]:
        """Endpoints of (URL, file) pairs."""
        found: list[Endpoint] = []
        for url, source_file in urls:
            parts = split_url(url, default_port)
            if parts is not None:
                found += [Endpoint(address, parts[1]) for address in self.addresses(parts[0], source_file)]
        return found
