"""The words of notifications: headlines, times, links, and text that cannot break what it stands in. Pure."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from yarl import URL

from alerts.book import Decision


HEADLINES = {
    "rollback": "is being rolled back",
    "would_roll_back": "would be rolled back now (dry run: nothing was done)",
    "rolled_back": "was rolled back",
    "rollback_failed": "could not be rolled back yet, it is tried again",
    "escalated": "could still not be rolled back: somebody has to take its traffic away by hand",
    "traffic_returned": "gets traffic again, although it was rolled back",
    "accepted": "the order to roll it back was accepted",
    "hold": "holds: nothing can be concluded at the moment",
    "hold_overdue": "holds for too long",
    "release": "goes on",
    "pass": "has passed every test",
    "pause": "was paused",
    "resume": "goes on after a pause",
    "harm_while_paused": "does harm while it is paused: nothing is done about it",
    "braked": "would be rolled back, but for too many rollbacks lately: somebody has to decide",
    "rearm": "was re-armed",
    "end": "was ended",
}
"""By action, what it says of the treatment."""

QUIET = frozenset({"accepted", "release"})
"""Actions that people are not told of unless they ask for them."""

PLACEHOLDERS = ("experiment", "treatment", "decision")
"""What a link may have in braces."""

_RUNBOOK = ("alert",)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 253_402_300_799_999
"""The last millisecond that a date can hold."""
# White space, and what moves or hides the text beside it: C0 and C1 controls, direction marks.
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_BRACES = re.compile(r"\{([^{}]*)\}")


def plain(text: str, longest: int) -> str:
    r"""`text` on one line, of at most `longest` characters, that every encoder can write.

    >>> plain("two\nlines ", 20), plain("too long", 4)
    ('two lines', 'too…')
    """
    short = _BLANK.sub(" ", text[: 4 * longest]).strip()
    short = short.encode("utf-8", "replace").decode()  # lone surrogates
    return short if len(short) <= longest else short[: longest - 1].rstrip() + "…"


def rfc3339(at: int) -> str:
    """`at` (epoch ms) as RFC 3339 in UTC; times that a date cannot hold become the nearest that it can.

    >>> rfc3339(1_772_366_399_250)
    '2026-03-01T11:59:59.250Z'
    """
    moment = _EPOCH + timedelta(milliseconds=min(max(at, 0), _LAST))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def headline(decision: Decision) -> str:
    """What the decision says of its treatment; the bare action where that is not known here."""
    return HEADLINES.get(decision.action, plain(decision.action.replace("_", " "), 64))


def unsigned(decision: Decision) -> tuple[str, ...]:
    """Its reasons, for where the actor stands beside them: without the name that a person's word begins with."""
    return tuple(reason.removeprefix(f"{decision.actor}: ") for reason in decision.reasons)


def filled(link: str, experiment: str, treatment: str, decision: str) -> str:
    """The address `link` with its placeholders filled.

    >>> filled("https://a.example/d?var-experiment={experiment}", "offers", "new", "offers:new:1:1")
    'https://a.example/d?var-experiment=offers'
    """
    return _filled(link, PLACEHOLDERS, (experiment, treatment, decision))


def filled_runbook(pattern: str, alert: str) -> str:
    """The address `pattern` with the name of an alert filled in.

    >>> filled_runbook("https://a.example/runbooks/{alert}", "AbmonitorHold")
    'https://a.example/runbooks/AbmonitorHold'
    """
    return _filled(pattern, _RUNBOOK, (alert,))


def _filled(pattern: str, names: tuple[str, ...], values: tuple[str, ...]) -> str:
    for name, value in zip(names, values, strict=True):
        pattern = pattern.replace(f"{{{name}}}", quote(value.encode("utf-8", "replace"), safe=""))
    return pattern


def link_problems(link: str) -> Iterator[str]:
    """What is wrong with an address that has placeholders."""
    yield from _problems(link, PLACEHOLDERS)


def runbook_problems(pattern: str) -> Iterator[str]:
    """What is wrong with an address in which the name of an alert is filled in."""
    yield from _problems(pattern, _RUNBOOK)


def _problems(link: str, names: tuple[str, ...]) -> Iterator[str]:
    verb = "is" if len(names) == 1 else "are"
    known = ", ".join(f"{{{name}}}" for name in names)
    expected = f"expected an http:// or https:// address, in which {known} {verb} filled in"
    for name in _BRACES.findall(link):
        if name not in names:
            yield f"{expected}; got {{{name}}}"
    try:
        url = URL(_filled(link, names, names))
    except (ValueError, TypeError):
        yield expected
        return
    # These end a link in a chat message.
    if url.scheme not in ("http", "https") or not url.host or re.search(r"[\s<>|]", link):
        yield expected
