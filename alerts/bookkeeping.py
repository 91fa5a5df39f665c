"""Bookkeeping: how a book changes when a treatment stands elsewhere, and when something was decided. Pure."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from alerts.book import Book, Decision, Phase
from alerts.phases import ended
from alerts.standing import WATCHED, Standing, State, renewed


ROLLBACKS_KEPT = 100

_T = TypeVar("_T")


def stands(book: Book, treatment: str, standing: Standing, at: int) -> Book:
    """The book with another standing of `treatment`, without what belongs to an epoch that is over."""
    before = book.standings.get(treatment, Standing())
    book = msgspec.structs.replace(book, standings={**book.standings, treatment: standing})
    return book if standing.epoch == before.epoch else _forgotten(book, treatment, at)


def decided(book: Book, decision: Decision) -> Book:
    """The book with one more decision, the newest link of their chain."""
    mine = book.actions.get(decision.treatment, {})
    counted = {**mine, decision.action: mine.get(decision.action, 0) + 1}
    ordered = (decision.at,) if decision.action == "rollback" else ()
    return msgspec.structs.replace(
        book,
        decisions=book.decisions + 1,
        actions={**book.actions, decision.treatment: counted},
        rollbacks=(*book.rollbacks, *ordered)[-ROLLBACKS_KEPT:],
        head=decision.hash,
    )


def begun_anew(book: Book, settings: str, at: int) -> Book:
    """The book of a new epoch, as something else is tested; what was rolled back stays so."""
    over = WATCHED | {State.WOULD_ROLL_BACK}
    standings = {
        treatment: renewed(standing, at) if standing.state in over else standing
        for treatment, standing in book.standings.items()
    }
    return msgspec.structs.replace(
        book,
        settings=settings,
        standings=standings,
        judgements={},
        evidence={},
        seen={},
        holds={},
        phase=_anew(book.phase, at),
        past=(),
        mismatched=(),
    )


def _forgotten(book: Book, treatment: str, at: int) -> Book:
    """The book without what was found about a treatment that begins anew."""

    def rest(known: Mapping[str, _T]) -> dict[str, _T]:
        return {name: found for name, found in known.items() if name != treatment}

    return msgspec.structs.replace(
        book,
        judgements=rest(book.judgements),
        evidence=rest(book.evidence),
        seen=rest(book.seen),
        holds=rest(book.holds),
        mismatched=tuple(name for name in book.mismatched if name != treatment),
        phase=_anew(book.phase, at),
        past=ended(book, at),
    )


def _anew(phase: Phase | None, at: int) -> Phase | None:
    """The phase with nothing counted yet; units that were seen before are not new for that."""
    return None if phase is None else phase.after(phase.split, at)
