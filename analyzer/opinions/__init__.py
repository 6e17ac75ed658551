"""Second opinions: what other readers of packets make of the same capture."""
