"""Capture inputs: every source of frames hands out the same `schema.CaptureChunk`."""
