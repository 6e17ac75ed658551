"""The same recording in another cluster: all addresses, and ports that a cluster may choose, consistently replaced."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field, replace

import numpy as np

from analyzer.cluster.roles import DeclaredRoles, Network
from analyzer.decode import Decoder
from analyzer.schema import U8, U16, CaptureChunk, PacketTable

_MAPPED = bytes(10) + b"\xff\xff"
_EPHEMERAL = 32768


@dataclass(eq=False)
class Move:
    """A renumbering that keeps which addresses share a network, whatever the length of its prefix.

    Attributes
    ----------
    seed : str
        Another seed, another cluster.
    ports : dict of int to int
        Server ports to replace; every other port stays.
    """

    seed: str
    ports: dict[int, int] = field(default_factory=dict)
    scattered: bool = False
    _known: dict[bytes, bytes] = field(default_factory=dict)

    def address(self, octets: bytes) -> bytes:
        """New octets of an address of 16; loopback, multicast and unspecified ones stay what they are."""
        if octets not in self._known:
            self._known[octets] = self._moved(octets)
        return self._known[octets]

    def _moved(self, octets: bytes) -> bytes:
        address = ipaddress.IPv6Address(octets)
        real = address.ipv4_mapped or address
        if real.is_loopback or real.is_multicast or real.is_unspecified or real.is_link_local:
            return octets
        # The first bits say what kind of address it is (private, unique local) and are left alone.
        bits, fixed = (32, 8) if real.version == 4 else (128, 16)
        if self.scattered:
            packed = hashlib.blake2b(self.seed.encode() + octets, digest_size=16).digest()
            return _MAPPED + real.packed[:1] + packed[:3] if bits == 32 else real.packed[:2] + packed[:14]
        value, moved = int(real), int(real)
        for bit in range(fixed, bits):
            prefix = f"{self.seed}/{real.version}/{bit}/{value >> (bits - bit)}"
            moved ^= (hashlib.blake2b(prefix.encode(), digest_size=1).digest()[0] & 1) << (bits - 1 - bit)
        packed = moved.to_bytes(bits // 8)
        return _MAPPED + packed if bits == 32 else packed

    def endpoint(self, endpoint: tuple[bytes, int]) -> tuple[bytes, int]:
        """New address and port."""
        return self.address(endpoint[0]), self.ports.get(endpoint[1], endpoint[1])

    def network(self, network: Network) -> Network:
        """The network all moved addresses of `network` lie in."""
        packed = network.network_address.packed
        moved = self.address(packed if len(packed) == 16 else _MAPPED + packed)
        return ipaddress.ip_network((moved[-len(packed) :], network.prefixlen), strict=False)

    def addresses(self, octets: U8) -> U8:
        """(N, 16) uint8 likewise."""
        distinct, index = np.unique(octets, axis=0, return_inverse=True)
        moved = b"".join(self.address(row.tobytes()) for row in distinct)
        return np.frombuffer(moved, np.uint8).reshape(-1, 16)[index.reshape(-1)]

    def port_column(self, ports: U16) -> U16:
        """(N,) uint16 likewise."""
        moved = ports.copy()
        for old, new in self.ports.items():
            moved[ports == old] = new
        return moved

    def declared(self, roles: DeclaredRoles) -> DeclaredRoles:
        """What an inventory of the moved cluster would say."""
        return replace(
            roles,
            roles={self.address(octets): stated for octets, stated in roles.roles.items()},
            apiservers=frozenset(map(self.endpoint, roles.apiservers)),
            etcds=frozenset(map(self.endpoint, roles.etcds)),
            kubelet_ports=frozenset(map(self.endpoint, roles.kubelet_ports)),
            readonly_ports=frozenset(map(self.endpoint, roles.readonly_ports)),
            konnectivity_frontends=frozenset(map(self.endpoint, roles.konnectivity_frontends)),
            konnectivity_agents=frozenset(map(self.endpoint, roles.konnectivity_agents)),
            pod_networks=tuple(map(self.network, roles.pod_networks)),
            service_networks=tuple(map(self.network, roles.service_networks)),
        )


class MovedDecoder(Decoder):
    """Decode as always, then move."""

    def __init__(self, move: Move) -> None:
        super().__init__()
        self._move = move

    def decode(self, chunk: CaptureChunk) -> PacketTable:
        packets = super().decode(chunk)
        return replace(
            packets,
            src=self._move.addresses(packets.src),
            dst=self._move.addresses(packets.dst),
            src_port=self._move.port_column(packets.src_port),
            dst_port=self._move.port_column(packets.dst_port),
        )
