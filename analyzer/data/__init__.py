"""Catalogues: what is known about channels, ports, cipher suites and fingerprints, each row with its source."""
