"""Which decisions have not been told yet, and up to which one all has been done. Pure: `now` is an argument."""

from collections.abc import Sequence

from alerts.book import Decision


RECENT_MS = 60_000
"""Without anything stored, what was decided so shortly before may not have been told by whoever did it."""

KEPT = 300
"""Decisions remembered for each experiment; at most 100 are shown at once."""


class Fresh:
    """Which decisions of one experiment are new.

    Those that were there at the start are not, except those behind the cursor, the newest that is known to
    have been told, or without one the latest minute's: they may be told twice, but none is lost.
    """

    def __init__(self) -> None:
        self._noticed: dict[str, int] = {}
        """By id, when it was first seen (epoch ms); `at` of those that were there at the start."""
        self._told: set[str] = set()
        self._looked = self._mine = False
        self._cursor: str | None = None

    def look(
        self,
        decisions: Sequence[Decision],
        now: int,
        *,
        mine: bool = True,
        cursor: str | None = None,
    ) -> list[Decision]:
        """Those of `decisions`, oldest first, that are to be told now (`now`: epoch ms).

        `mine`: it is this monitor that tells; while another one does, all is only noted.
        """
        known = set(self._noticed)
        for decision in decisions:
            self._noticed.setdefault(decision.id, now if self._looked else decision.at)
        taking_over = mine and not self._mine
        self._looked, self._mine = True, mine
        if not mine:
            found = []
        elif taking_over:
            self._cursor = cursor
            found = self._behind(decisions, now)
        else:
            found = [decision for decision in decisions if decision.id not in known]
            found = self._after_cursor(decisions, found)
        self._told |= {decision.id for decision in found}
        self._forget()
        return found

    def _behind(self, decisions: Sequence[Decision], now: int) -> list[Decision]:
        if any(decision.id == self._cursor for decision in decisions):
            found = self._after_cursor(decisions, decisions)
        else:
            found = [one for one in decisions if self._noticed[one.id] >= now - RECENT_MS]
        return [decision for decision in found if decision.id not in self._told]

    def _after_cursor(
        self, decisions: Sequence[Decision], found: Sequence[Decision]
    ) -> list[Decision]:
        """Without what was told before: it may have been lost at the start, and come back since."""
        names = [decision.id for decision in decisions]
        told = names[: names.index(self._cursor) + 1] if self._cursor in names else []
        return [decision for decision in found if decision.id not in told]

    def _forget(self) -> None:
        for name in list(self._noticed)[:-KEPT]:
            del self._noticed[name]
            self._told.discard(name)


class Progress:
    """Up to which decision of one experiment every notifier has done what it can."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self.cursor: str | None = None
        """Id of the newest decision that, like all before it, nobody has to be told of any more."""

    def add(self, name: str, notifiers: int) -> None:
        """Note that the decision `name` was handed to so many notifiers."""
        self._open[name] = notifiers
        self._advance()

    def settle(self, name: str) -> None:
        """Note that one of them has passed it on, or given it up."""
        if name in self._open:
            self._open[name] -= 1
            self._advance()

    def _advance(self) -> None:
        for name in list(self._open):
            if self._open[name] > 0:
                return
            del self._open[name]
            self.cursor = name
