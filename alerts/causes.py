"""Causes to hold: as sentences for people, and each as one of few words for those who count. Pure.

All sentences are made here, so that none is without its word. They are kept in books, and decisions that
were made with them are checked again: their text is part of the format.
"""

import re
from collections.abc import Iterable
from typing import Literal

from metrics.duration import Duration
from metrics.moment import Moment


Word = Literal[
    "no_data",
    "silent",
    "stale",
    "labels_stalled",
    "state_incomplete",
    "state_unknown",
    "sample_ratio",
    "units_mixed",
    "units_missing",
    "blind",
    "max_duration",
    "quarantined",
    "braked",
    "other",
]

STATE_INCOMPLETE = "state incomplete: the log no longer reached back to the start"
MISMATCHED = "sample ratio mismatch: the split is not the intended one"
MIXED = "units mixed: too many were seen in two variants"
UNNAMED = "units missing: predictions come without unit_id"
BRAKED = "too many rollbacks lately: roll back by hand, or it is judged again when the brake is off"
"""Why a treatment holds that would have been rolled back, but for the brake."""

LOST = "its state is not in Redis, and not to be had elsewhere: "
UNREADABLE = "its book in Redis cannot be read: "

_OF_SILENCE = re.compile(r"\S+ is silent while \S+ flows")
"""Names of variants have no spaces in them, and come first: one may be called as others begin."""
_BEGINS: tuple[tuple[str, Word], ...] = (
    ("no data: ", "no_data"),
    ("stale: ", "stale"),
    ("labels stalled: ", "labels_stalled"),
    (STATE_INCOMPLETE, "state_incomplete"),
    (LOST, "state_unknown"),
    (UNREADABLE, "state_unknown"),
    (MISMATCHED, "sample_ratio"),
    (MIXED, "units_mixed"),
    (UNNAMED, "units_missing"),
    ("blind: ", "blind"),
    ("testing.max_duration, ", "max_duration"),
    ("version ", "quarantined"),
    (BRAKED, "braked"),
)
"""How all other sentences begin, and their words."""


def no_data(silence: Duration) -> str:
    """Neither variant got predictions for `silence`."""
    return f"no data: no predictions for {silence}"


def silent(treatment: str, control: str) -> str:
    """The treatment gets no predictions, and the control does."""
    return f"{treatment} is silent while {control} flows"


def stale(after: int) -> str:
    """The newest data is older than `after` (ms)."""
    return f"stale: no data is newer than {Duration(after)}"


def labels_stalled(wait: int) -> str:
    """Predictions come, and no outcomes for them for `wait` (ms)."""
    return f"labels stalled: no outcome has met a prediction for {Duration(wait)}"


def blind(budget: int) -> str:
    """More than `budget` predictions, and no verdict on labels."""
    return f"blind: {budget:,} predictions were made before the first verdict on labels"


def too_long(longest: Duration) -> str:
    """The experiment took `longest`, and reached no verdict."""
    return f"testing.max_duration, {longest}, is over: end it, or extend max_duration"


def in_quarantine(version: str, since: int) -> str:
    """Traffic comes from a version that was rolled back at `since` (epoch ms)."""
    return (
        f"version {version} was rolled back on {Moment(since)}; re-arm with force to try it again"
    )


def word_of(cause: str) -> Word:
    """The word for one cause; `other` for a text that was not made here.

    >>> word_of("no data: no predictions for 15m"), word_of("ranker is silent while rules flows")
    ('no_data', 'silent')
    """
    if _OF_SILENCE.fullmatch(cause):
        return "silent"
    return next((word for beginning, word in _BEGINS if cause.startswith(beginning)), "other")


def words_of(causes: Iterable[str]) -> tuple[Word, ...]:
    """The words for all causes of one hold, each once: behind the brake stands the harm that it kept back."""
    found = tuple(dict.fromkeys(map(word_of, causes)))
    return ("braked",) if "braked" in found else found
