"""Which field of a record is which field of an event: guesses from names, types and values. Pure."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from abmonitor.init.columns import Column, Scalar
from abmonitor.init.vocabulary import FAILED, FINE, NAMES, NO, UNIT_WORDS, YES
from stream.events import Time
from stream.sources import FieldOptions, Kind


FIELDS: dict[Kind, tuple[str, ...]] = {
    "prediction": (
        "prediction_id",
        "experiment",
        "variant",
        "predicted",
        "acted",
        "score",
        "latency_ms",
        "time",
        "error",
        "weight",
        "unit_id",
        "version",
        "segment",
        "cost",
    ),
    "outcome": ("prediction_id", "actual", "time", "value", "experiment"),
}
EXACT = 10.0
"""What a name is worth that says it all."""
CLEAR = 4.0
"""What is worth less is doubtful."""
LINK = 20.0
"""What it is worth that predictions and outcomes have the same values."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_EPOCHS: tuple[tuple[float, Literal["s", "ms", "us"]], ...] = (
    (1e9, "s"),
    (1e12, "ms"),
    (1e15, "us"),
)

Unit = Literal["us", "ms", "s"]


@dataclass(frozen=True, slots=True)
class Guess:
    """Where a field probably is."""

    column: Column
    score: float
    unit: Unit | None = None
    true_when: tuple[Scalar, ...] | None = None
    doubt: str | None = None
    """What a person should look at."""

    def options(self) -> FieldOptions:
        """As `sources` have it."""
        path, header = (
            (None, self.column.place) if self.column.header else (self.column.place, None)
        )
        return FieldOptions(path=path, header=header, unit=self.unit, true_when=self.true_when)


@dataclass(frozen=True, slots=True)
class _Fit:
    """That values can be those of a field, and how much they look like it by themselves."""

    bonus: float = 0.0
    unit: Unit | None = None
    true_when: tuple[Scalar, ...] | None = None
    doubt: str | None = None


def guessed(
    kind: Kind, columns: Iterable[Column], links: Mapping[str, float] | None = None
) -> dict[str, Guess]:
    """The likeliest column for each field of such events; each column is taken once.

    `links`: by place, for which share of the other kind's records this column has the same value.
    """
    links = links or {}
    candidates = [
        (found.score, -order, field, found)
        for column in columns
        if column.scalar
        for order, field in enumerate(FIELDS[kind])
        if (found := _candidate(field, column, links.get(column.place, 0.0))) is not None
    ]
    candidates.sort(key=lambda each: each[:2], reverse=True)
    taken: dict[str, Guess] = {}
    places: set[tuple[str, bool]] = set()
    for _, _, field, found in candidates:
        place = found.column.place, found.column.header
        if field not in taken and place not in places:
            taken[field] = found
            places.add(place)
    return {field: taken[field] for field in FIELDS[kind] if field in taken}


def _candidate(field: str, column: Column, link: float) -> Guess | None:
    fit = _FITS[field](column)
    if fit is None:
        return None
    score = _named(field, column) + fit.bonus
    if field == "prediction_id":
        score += LINK * link
    if score <= 0:
        return None
    doubt = fit.doubt
    if doubt is None and score < CLEAR:
        doubt = "is this it? Its name does not say so"
    return Guess(column, score, fit.unit, fit.true_when, doubt)


def _named(field: str, column: Column) -> float:
    """How much the name of a column speaks for a field: 0 to EXACT."""
    known = NAMES[field].split()
    names = column.names
    if field in {"latency_ms", "time"}:
        names = tuple(_without_unit(name) for name in names)
    ranks = [known.index(name) for name in names if name in known]
    if ranks:
        return EXACT - 4 * min(ranks) / len(known)
    # Of a longer name the surest words still count, such as the model in `chosen_model`.
    sure = {name for name in known[: max(len(known) // 2, 1)] if "_" not in name}
    return CLEAR if sure & set("_".join(names).split("_")) else 0.0


def _without_unit(name: str) -> str:
    kept = [word for word in name.split("_") if word not in UNIT_WORDS]
    return "_".join(kept) or name


# --- what values can be ---------------------------------------------------------------------------


def _id(column: Column) -> _Fit | None:
    if not column.kinds <= {str, int} or column.share < 0.95:
        return None
    if len(column.present) >= 10 and column.distinct < 0.9 * len(column.present):
        return None
    if any(not 1 <= len(str(value).encode()) <= 128 for value in column.present):
        return None
    texts = [value for value in column.present if isinstance(value, str)]
    return _Fit(2.0 if texts and all(map(_UUID.fullmatch, texts)) else 0.5 if texts else 0.0)


def _text(column: Column) -> _Fit | None:
    fits = column.kinds <= {str, int} and all(len(str(value)) <= 128 for value in column.present)
    return _Fit() if fits else None


def _name(most: int, bonus: float) -> Callable[[Column], _Fit | None]:
    def fits(column: Column) -> _Fit | None:
        if not column.kinds <= {str, int} or not 1 <= column.distinct <= most:
            return None
        texts = [str(value) for value in column.counts]
        if not all(map(_NAME.fullmatch, texts)):
            return None
        says_truth = {text.lower() for text in texts} & (YES | NO)
        told = str in column.kinds and 2 <= column.distinct <= 5 and not says_truth
        return _Fit(bonus if told and column.share > 0.9 else 0.0)

    return fits


def _truth(column: Column) -> _Fit | None:
    """What is true or false, or a few words or numbers of which some mean true."""
    if column.kinds == {bool}:
        return _Fit(1.0)
    if not column.kinds <= {str, int} or not 1 <= column.distinct <= 8:
        return None
    if any(isinstance(value, int) and abs(value) >= 1 << 63 for value in column.counts):
        return None  # settings cannot name it
    return _meaning(column)


def _meaning(column: Column) -> _Fit:
    """Which of a few values probably mean true."""
    values = list(column.counts)
    yes = [value for value in values if str(value).lower() in YES]
    rest = [value for value in values if str(value).lower() not in NO]
    if yes:
        clear = len(rest) == len(yes)
        return _Fit(1.0, true_when=_sorted(yes), doubt=None if clear else _which(values))
    if len(rest) == 1 and len(values) > 1:
        return _Fit(0.5, true_when=_sorted(rest), doubt=_which(values))
    if set(values) == {0}:
        return _Fit(0.5, true_when=(1,), doubt=_which(values))
    rarest = min(values, key=lambda value: column.counts[value])
    return _Fit(-2.0, true_when=(rarest,), doubt=_which(values))


def _which(values: list[Scalar]) -> str:
    return f"which values mean true? Seen were {', '.join(map(str, _sorted(values)))}"


def _sorted(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    return tuple(sorted(values, key=str))


def _failed(column: Column) -> _Fit | None:
    if column.kinds == {bool}:
        return _Fit(1.0)
    if column.kinds == {int}:
        if not all(100 <= number < 600 for number in column.numbers):
            return None
        seen = {int(number) for number in column.numbers if number >= 500}
        return _Fit(true_when=_sorted(seen | {500, 502, 503, 504}))
    words = [value for value in column.counts if isinstance(value, str)]
    failures: list[Scalar] = [value for value in words if value.lower() in FAILED]
    if column.kinds != {str} or column.distinct > 8 or not failures:
        return None
    clear = {value.lower() for value in words} <= FAILED | FINE
    return _Fit(true_when=_sorted(failures), doubt=None if clear else _which(list(column.counts)))


def _score(column: Column) -> _Fit | None:
    if not column.numeric or column.numbers[0] < 0 or column.numbers[-1] > 1:
        return None
    return _Fit(1.0) if any(number not in {0, 1} for number in column.numbers) else None


def _latency(column: Column) -> _Fit | None:
    if not column.numeric or column.numbers[0] < 0 or not _named("latency_ms", column):
        return None
    said = [UNIT_WORDS[word] for word in column.names[0].split("_") if word in UNIT_WORDS]
    if not said:
        said = [UNIT_WORDS[word] for word in sorted(column.words) if word in UNIT_WORDS]
    if column.median >= 1e9 or (_without_unit(column.names[0]) == "time" and not said):
        return None  # a moment, and no time that something took
    unit = said[0] if said else _by_size(column.median)
    if column.place == "latency_ms" and unit == "ms":
        return _Fit(2.0)
    doubt = None if said else f"the unit is guessed: half of the values are below {column.median:g}"
    return _Fit(2.0 if said else 0.0, unit=_UNITS[unit], doubt=doubt)


def _by_size(median: float) -> str:
    """The unit in which a service would take so long."""
    return "s" if median < 2 else "ms" if median < 20_000 else "us"


_UNITS: dict[str, Unit] = {"s": "s", "ms": "ms", "us": "us"}


def _time(column: Column) -> _Fit | None:
    if column.kinds == {str}:
        try:
            for value in column.present[:100]:
                msgspec.convert(value, Time)
        except msgspec.ValidationError:
            return None
        return _Fit(5.0)
    if not column.numeric:
        return None
    for least, unit in _EPOCHS:
        if least <= column.numbers[0] and column.numbers[-1] < 10 * least:
            return _Fit(4.0, unit=unit)
    return None


def _amount(column: Column) -> _Fit | None:
    return _Fit() if column.numeric and all(map(math.isfinite, column.numbers)) else None


def _positive(column: Column) -> _Fit | None:
    return _Fit() if column.numeric and column.numbers[0] > 0 else None


def _if_named(fits: Callable[[Column], _Fit | None]) -> Callable[[Column], _Fit | None]:
    """A fit that by itself says nothing: the name has to."""

    def plain(column: Column) -> _Fit | None:
        found = fits(column)
        return None if found is None else _Fit(0.0, found.unit, found.true_when, found.doubt)

    return plain


_FITS: dict[str, Callable[[Column], Any]] = {
    "prediction_id": _id,
    "experiment": _name(20, 0.0),
    "variant": _name(12, 0.5),
    "predicted": _truth,
    "acted": _if_named(_truth),
    "score": _score,
    "latency_ms": _latency,
    "time": _time,
    "error": _if_named(_failed),
    "weight": _positive,
    "unit_id": _text,
    "version": _text,
    "segment": _text,
    "cost": _amount,
    "actual": _truth,
    "value": _amount,
}
