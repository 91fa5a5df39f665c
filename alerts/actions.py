"""What decisions do: the actions that books, settings, the API and the command line know. Pure."""

from typing import Literal, get_args


Action = Literal[
    "rollback",
    "would_roll_back",
    "rolled_back",
    "rollback_failed",
    "escalated",
    "traffic_returned",
    "accepted",
    "hold",
    "hold_overdue",
    "release",
    "pass",
    "pause",
    "resume",
    "harm_while_paused",
    "braked",
    "rearm",
    "end",
]
"""As `Decision.action` has it."""

ACTIONS: tuple[str, ...] = get_args(Action)


def unknown_action(given: str) -> str:
    """Say that there is no such action."""
    return f"expected one of {', '.join(ACTIONS)}, got {given!r}"
