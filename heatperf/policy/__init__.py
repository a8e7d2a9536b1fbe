"""Who may do what: default rules in code (defaults), operators' files on top of them, and one question (enforcer)."""

from heatperf.policy.enforcer import Policy

__all__ = ["Policy"]
