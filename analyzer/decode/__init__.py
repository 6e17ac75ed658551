"""Frames to packets: link layer, tags, IP, transport, and the same again inside each tunnel."""

from analyzer.decode.packets import Decoder

__all__ = ["Decoder"]
