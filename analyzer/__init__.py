"""planewire: which channels of a Kubernetes control plane are encrypted, authenticated and verified, from packets.

>>> import analyzer
>>> report = analyzer.analyze("node.pcap", cluster="facts/")  # doctest: +SKIP
>>> report.findings[["id", "severity", "grade", "hosts"]]  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analyzer.api import Report, analyze

__version__ = "0.1.0"
__all__ = ["Report", "__version__", "analyze"]


def __getattr__(name: str) -> object:
    """Import the interface when it is asked for: ``import analyzer`` itself costs nothing."""
    if name in ("Report", "analyze"):
        return getattr(import_module("analyzer.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
