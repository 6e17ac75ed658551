"""Reports: one plain document, and its renderings as JSON, CSV, terminal text and a self-contained page."""
