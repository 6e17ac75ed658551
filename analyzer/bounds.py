"""Bounds that options name, apart from what keeps them: ``--help`` needs no numpy."""

from __future__ import annotations

from typing import Final

MAX_FLOWS: Final = 1_000_000
"""Flows kept of one recording, which is read in memory that follows them and so is bounded (see `FlowBuilder`)."""
MAX_EXPANSION: Final = 256
"""Octets that one compressed octet may stand for, past the first `compressed.FREE_EXPANSION`. Captures of real traffic
shrink two to twenty times; a decompression bomb reaches a thousand and, with zstd, xz and bzip2, any number."""
