"""What was made of ledgers, remembered as long as they are the same ones: a snapshot never changes. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import is_
from typing import Generic, TypeVar

from metrics.ledger import Ledger


_Made = TypeVar("_Made")
_Key = TypeVar("_Key", bound=Hashable)

Ledgers = Sequence[Ledger]


def same(ours: Ledgers, theirs: Ledgers) -> bool:
    """Whether two runs hold the very same ledgers."""
    return len(ours) == len(theirs) and all(map(is_, ours, theirs))


class Remembered(Generic[_Key, _Made]):
    """What each run of ledgers was made into; forgets what was not asked for the last time."""

    def __init__(self, make: Callable[[Sequence[Ledgers]], Iterable[_Made]]) -> None:
        self._make = make
        self._known: dict[_Key, tuple[Ledgers, _Made]] = {}

    def of(self, runs: Mapping[_Key, Ledgers]) -> list[_Made]:
        """What `runs`, by name, are made into, in their order; only those that have changed are made anew."""
        known = self._known
        fresh = {
            at: run for at, run in runs.items() if at not in known or not same(known[at][0], run)
        }
        made = dict(zip(fresh, self._make(list(fresh.values())) if fresh else (), strict=True))
        found = {at: (run, made[at] if at in made else known[at][1]) for at, run in runs.items()}
        self._known = found
        return [each for _, each in found.values()]


class Newest(Generic[_Made]):
    """One thing a name, of the names that were asked for last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[str, _Made] = OrderedDict()

    def get(self, name: str) -> _Made | None:
        """What is kept under `name`."""
        return self._known.get(name)

    def keep(self, name: str, made: _Made) -> _Made:
        """Keep it, and let go of what was asked for longest ago if there are too many."""
        self._known[name] = made
        self._known.move_to_end(name)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return made
