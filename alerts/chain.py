"""The chain of decisions: each names the hash of the one before it, so that none can be changed or taken out. Pure."""

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from alerts.book import Decision


def seal(decision: Decision, previous: str) -> Decision:
    """The decision as the successor of the one with the hash `previous` ("" for the first)."""
    linked = msgspec.structs.replace(decision, previous=previous, hash="")
    return msgspec.structs.replace(linked, hash=_digest(linked))


def is_whole(decision: Decision) -> bool:
    """Whether nothing in the decision was changed since it was sealed."""
    return decision.hash == _digest(msgspec.structs.replace(decision, hash=""))


def broken(decisions: Iterable[Decision]) -> str | None:
    """What is wrong with the decisions of one experiment, oldest first; None where the chain holds.

    The first one given may have a predecessor that is not among them.
    """
    before: Decision | None = None
    for decision in decisions:
        if not is_whole(decision):
            return f"{decision.id} was changed after it was written down"
        if before is not None and decision.previous != before.hash:
            return f"between {before.id} and {decision.id} something is missing or was put in"
        before = decision
    return None


def _digest(decision: Decision) -> str:
    # As it will be read: a whole number in the place of a float is written as 0, and comes back as 0.0.
    read = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    return sha256(msgspec.json.encode(read, order="deterministic")).hexdigest()
