"""Exposition: `/metrics` of many experiments, written piece by piece. Asks a clock how long that takes.

Numbers and text of one experiment take some milliseconds. So its text is kept as long as its view is the same
object, and what is stale is written anew by scrapes and after ticks, those that waited longest first, as
far as their time goes. Few experiments are always written anew; in a large fleet the series of an experiment may
be some seconds older than the tick, each experiment's all of one moment.
"""

import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from abmonitor.http import encoder
from abmonitor.telemetry import describe_experiments, of_experiments, own, registry
from abmonitor.view import ExperimentView, View
from abmonitor.viewing import Turns


BUDGET_S = 0.05
"""Of a scrape, and of a tick."""
LABELS_KEPT = 10_000
"""The same few labels are written again and again."""
EOF = b"# EOF\n"
_SAME_NAMES = {None, "underscores", "allow-utf-8"}
"""Ways of escaping that leave names such as ours as they are."""
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Exposition:
    """Writes what prometheus_client would write of the same view."""

    def __init__(
        self, view: Callable[[], View], seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        self._view, self._turns = view, Turns(seconds)
        self._pieces: dict[str, tuple[ExperimentView, list[bytes]]] = {}
        """By experiment: what was written, and its lines family by family."""
        self._behind = False
        """Whether the latest scrape had no time for all."""
        self._whole = registry(view)
        self._rest = CollectorRegistry(auto_describe=False)
        self._rest.register(_Own(view))

    def register(self, collector: Collector) -> None:
        """Expose the families of `collector`, too, written anew at every scrape."""
        self._whole.register(collector)
        self._rest.register(collector)

    def document(self, accept: str) -> tuple[bytes, str]:
        """What a client with this `Accept` header gets, and its content type."""
        encode, content_type = encoder(accept)
        if isinstance(encode, partial) and encode.keywords.get("escaping") not in _SAME_NAMES:
            return encode(self._whole), content_type
        view = self._view()
        for name in self._missing(view):  # no series may be left out
            self._write(view.experiments[name])
        self._renew(view, view.experiments)
        self._behind = not all(map(self._is_fresh, view.experiments.values()))
        written = [self._pieces[name][1] for name in view.experiments]
        parts: list[bytes] = []
        for at, family in enumerate(describe_experiments()):
            parts.append(encode(_Only([family])).removesuffix(EOF))
            parts += [lines[at] for lines in written]
        return b"".join([*parts, encode(self._rest)]), content_type

    async def follow(self, view: View) -> None:
        """Write what scrapes had no time for; to be called after every tick."""
        missing = self._missing(view)
        if self._behind or missing:
            self._renew(view, view.experiments if self._behind else missing)

    def _missing(self, view: View) -> list[str]:
        """Experiments that were never written."""
        return [name for name in view.experiments if name not in self._pieces]

    def _renew(self, view: View, names: Iterable[str]) -> None:
        """Write which of `names` are stale, as far as time goes."""
        for gone in self._pieces.keys() - view.experiments.keys():
            del self._pieces[gone]
        stale = [name for name in names if not self._is_fresh(view.experiments[name])]
        for name in self._turns.take(stale, BUDGET_S):
            self._write(view.experiments[name])

    def _is_fresh(self, one: ExperimentView) -> bool:
        written = self._pieces.get(one.experiment.name)
        return written is not None and written[0] is one

    def _write(self, one: ExperimentView) -> None:
        self._pieces[one.experiment.name] = one, [*map(_lines, of_experiments([one]))]


class _Own(Collector):
    """What is of no experiment."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        """All families without series."""
        return own(View())

    def collect(self) -> Iterable[Metric]:
        """All families as of the latest tick."""
        return own(self._view())


class _Only(Collector):
    """Families as they are."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


def _lines(family: Metric) -> bytes:
    """The series of a counter, gauge or histogram: the same in both formats."""
    lines = []
    for sample in family.samples:
        labels = ",".join(map(_label, sorted(sample.labels.items())))
        where = f"{sample.name}{{{labels}}}" if labels else sample.name
        value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
        lines.append(f"{where} {value}\n")
    return "".join(lines).encode()


@lru_cache(maxsize=LABELS_KEPT)
def _label(pair: tuple[str, str]) -> str:
    """One label as it is written."""
    name, value = pair
    return f'{name}="{value.translate(_ESCAPED)}"'
