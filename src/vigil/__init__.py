"""Vigil's core: from a radiograph's file to a triage decision.

No torch, no web framework and no database are imported here. Research use, not a medical device.
"""

__version__ = "0.1.0"

RESEARCH_USE = "Research use only, not a medical device"
