"""Numbers of a case file as people write them: points and ranges, each with its unit. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Self

import numpy as np

from abmonitor.business.distributions import (
    Distribution,
    Floats,
    Lognormal,
    Normal,
    Pert,
    Point,
    Triangular,
    Uniform,
)
from abmonitor.convert import shown
from abmonitor.yaml_source import BROKEN


MOST = 1e15
"""No number of a case is larger, so that no product of them overflows."""

OUTSIDE = 0.00135
"""How much of a normal or lognormal distribution may be where no value is: what is three sd away."""

_NUMBER = re.compile(r"\s*([-+]?(?:\d[\d_]*)(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*(%?)\s*")
_FORMS: dict[frozenset[str], dict[str, Callable[..., Distribution]]] = {
    frozenset({"low", "high"}): {"uniform": Uniform},
    frozenset({"low", "likely", "high"}): {"triangular": Triangular, "pert": Pert},
    frozenset({"mean", "sd"}): {"normal": Normal},
    frozenset({"p5", "p95"}): {"lognormal": Lognormal, "normal": Normal.between},
}
"""Which distributions can be given by which numbers; the first where nothing is said."""
FORMS = "{low, high}, {low, likely, high}, {mean, sd} or {p5, p95}"
_SHAPES = sorted({name for shapes in _FORMS.values() for name in shapes})
_KEYS = sorted({key for keys in _FORMS for key in keys} | {"distribution"})


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a case in its own unit, with what is known of it; any number may stand here."""

    shape: Distribution

    lowest: ClassVar[float] = -MOST
    highest: ClassVar[float] = MOST
    percent: ClassVar[bool] = False
    """Whether it is a share, which is always written with %."""
    expected: ClassVar[str] = "a number such as 19, or a range such as 15..25"

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read a number, `low..high`, or a mapping; raises ValueError with what was expected."""
        if isinstance(data, dict):
            if BROKEN in data.values():  # has been reported; whatever stands here is not used
                return cls(Point(max(cls.lowest, 0.0)))
            return cls(cls._of_mapping(data))
        if isinstance(data, str) and ".." in data:
            low, _, high = data.partition("..")
            return cls(cls._made(Uniform, {"low": low, "high": high}, data))
        return cls(cls._inside(Point(cls._number(data)), data))

    @property
    def exact(self) -> bool:
        """Whether it is known."""
        return isinstance(self.shape, Point)

    def values(self, shares: Floats) -> Floats:
        """The values below which those shares (n,) of all draws are, none of them impossible."""
        return np.clip(self.shape.quantiles(shares), self.lowest, self.highest)

    def ends(self) -> tuple[float, float]:
        """From where to where it is: low and high, or else p5 and p95; none of them impossible."""
        low, high = self.shape.ends
        return max(low, self.lowest), min(high, self.highest)

    @classmethod
    def _of_mapping(cls, data: Mapping[str, object]) -> Distribution:
        numbers = {key: value for key, value in data.items() if key != "distribution"}
        for key in data:
            if key not in _KEYS:
                raise ValueError(f"unknown key {key!r}; expected {FORMS}")
        shapes = _FORMS.get(frozenset(numbers))
        if shapes is None:
            raise ValueError(f"expected {FORMS}; got {_written(data)}")
        name = data.get("distribution", next(iter(shapes)))
        if name not in shapes:
            wanted = " or ".join(shapes) if name in _SHAPES else "one of " + ", ".join(_SHAPES)
            given = ", ".join(numbers)
            raise ValueError(
                f"distribution: expected {wanted} with {given}, got {shown(data['distribution'])}"
            )
        return cls._made(shapes[str(name)], numbers, _written(data))

    @classmethod
    def _made(
        cls, shape: Callable[..., Distribution], numbers: Mapping[str, object], written: str
    ) -> Distribution:
        found, wrong = {}, []
        for key, value in numbers.items():
            try:
                found[key] = cls._number(value)
            except ValueError as error:
                wrong.append(f"{key}: {error}")
        if wrong:
            raise ValueError("; ".join(wrong))
        try:
            made = shape(**found)
        except ValueError as error:
            raise ValueError(f"{error}, got {written}") from None
        return cls._inside(made, written)

    @classmethod
    def _number(cls, data: object) -> float:
        """Read one number of this unit, written as YAML has it or with a per cent sign."""
        match = None
        if isinstance(data, int | float | str) and not isinstance(data, bool):
            match = _NUMBER.fullmatch(str(data))
        if match is None or cls.percent != (match[2] == "%"):
            raise ValueError(f"expected {cls.expected}; got {shown(data)}{cls._hint(match)}")
        number = Decimal(match[1].replace("_", ""))
        if abs(number) > MOST:
            raise ValueError(f"expected a number of at most {MOST:g}, got {shown(data)}")
        return float(number / 100 if cls.percent else number)

    @classmethod
    def _hint(cls, match: re.Match[str] | None) -> str:
        if match is None or not cls.percent:
            return ""
        number = Decimal(match[1].replace("_", ""))
        return f" (write {match[1]}%, or {(number * 100).normalize():f}% if it is a share of 1)"

    @classmethod
    def _inside(cls, shape: Distribution, data: object) -> Distribution:
        """Pass a shape on; raises ValueError where too much of it cannot be."""
        written = data if isinstance(data, str) else shown(data)
        if isinstance(shape, Normal | Lognormal):
            outside = max(shape.below(cls.lowest), 1 - shape.below(cls.highest))
            if outside > OUTSIDE:
                raise ValueError(
                    f"expected {cls.bounds()}, got {written}, of which {outside:.1%} is outside;"
                    " expected at most 0.1 %: a narrower one, or another distribution"
                )
        elif shape.ends[0] < cls.lowest or shape.ends[1] > cls.highest:
            raise ValueError(f"expected {cls.bounds()}, got {written}")
        return shape

    @classmethod
    def bounds(cls) -> str:
        """What values there can be, for people."""
        if cls.percent:
            return f"{cls.lowest:.0%} to {cls.highest:.0%}"
        if cls.highest == MOST:
            return "at least 0" if cls.lowest == 0 else f"at most {MOST:g} in size"
        return f"{cls.lowest:g} to {cls.highest:g}"


class Amount(Quantity):
    """Money, or a count: not below 0."""

    __slots__ = ()
    lowest: ClassVar[float] = 0.0
    expected: ClassVar[str] = "a number such as 100, or a range such as 90..110"


class Change(Quantity):
    """A difference or an effect, which may be a loss."""

    __slots__ = ()


class Points(Quantity):
    """A difference of shares in percentage points: 36 % is 3.6 points more than 32.4 %."""

    __slots__ = ()
    lowest: ClassVar[float] = -100.0
    highest: ClassVar[float] = 100.0
    expected: ClassVar[str] = "percentage points as a number without %, such as 3.6 or 3..4"


class Share(Quantity):
    """A share, from 0 % to 100 %."""

    __slots__ = ()
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0
    percent: ClassVar[bool] = True
    expected: ClassVar[str] = "a share written with %, such as 0.5% or 10%..20%"


@dataclass(frozen=True, slots=True)
class Printed:
    """A number that somebody printed, with how far rounding may have moved it."""

    value: float
    half: float
    """Half of a unit of its last digit."""

    percent: ClassVar[bool] = False
    expected: ClassVar[str] = "a number as it was printed, such as 1800 or 95.5"

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read a number; raises ValueError with what was expected."""
        match = None
        if isinstance(data, int | float | str) and not isinstance(data, bool):
            match = _NUMBER.fullmatch(str(data))
        if match is None or cls.percent != (match[2] == "%"):
            raise ValueError(f"expected {cls.expected}; got {shown(data)}")
        number = Decimal(match[1].replace("_", ""))
        if abs(number) > MOST:
            raise ValueError(f"expected a number of at most {MOST:g}, got {shown(data)}")
        half = Decimal(1).scaleb(_exponent(number)) / 2
        unit = 100 if cls.percent else 1
        return cls(float(number / unit), float(half / unit))


class PrintedShare(Printed):
    """A printed return or share, in per cent."""

    __slots__ = ()
    percent: ClassVar[bool] = True
    expected: ClassVar[str] = "per cent as they were printed, such as 575%"


def _exponent(number: Decimal) -> int:
    """The power of ten of the last digit."""
    found = number.as_tuple().exponent
    return found if isinstance(found, int) else 0


def _written(data: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in data.items()) + "}"


PARSERS: dict[type, Callable[[object], object]] = {
    kind: kind.parse for kind in (Amount, Change, Points, Share, Printed, PrintedShare)
}
