"""planewire: which channels of a Kubernetes control plane are encrypted, authenticated and verified, from packets."""

__version__ = "0.1.0"
