"""Live analysis: a session that takes frames for as long as they come and says at any time what is known."""

from analyzer.session.ageing import Ageing
from analyzer.session.live import LIMITS, LiveSession

__all__ = ["LIMITS", "Ageing", "LiveSession"]
