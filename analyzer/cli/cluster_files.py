"""Where `load_cluster` was before the Python interface needed it too."""

from analyzer.user_files import load_cluster

__all__ = ["load_cluster"]
