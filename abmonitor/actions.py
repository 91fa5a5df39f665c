"""Actions as people write them: what decisions do, and what to say where there is no such action."""

from alerts.actions import ACTIONS, Action


__all__ = ["ACTIONS", "Action", "unknown_action"]


def unknown_action(given: str) -> str:
    """Say that there is no such action."""
    return f"expected one of {', '.join(ACTIONS)}, got {given!r}"
