"""Distributions of numbers that are not known exactly: few shapes, which people can name. Pure."""

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import special


Floats = NDArray[np.float64]

Z95 = float(special.ndtri(0.95))
"""How many standard deviations above its middle a normal distribution has its p95."""

WIDEST = 1e6
"""More than that between p5 and p95 of a lognormal distribution is no estimate."""


@dataclass(frozen=True, slots=True)
class Point:
    """A number that is known."""

    value: float

    @property
    def likely(self) -> float:
        """The number itself."""
        return self.value

    @property
    def ends(self) -> tuple[float, float]:
        """Twice the number."""
        return self.value, self.value

    def quantiles(self, shares: Floats) -> Floats:
        """The number, as often as there are shares (n,)."""
        return np.full_like(shares, self.value)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything from low to high, all of it equally likely. Raises ValueError unless low < high."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(self)

    @property
    def likely(self) -> float:
        """The middle, for want of a better one."""
        return self.low / 2 + self.high / 2

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where it is."""
        return self.low, self.high

    def quantiles(self, shares: Floats) -> Floats:
        """The value below which that share (n,) of all draws is."""
        return self.low + shares * (self.high - self.low)


@dataclass(frozen=True, slots=True)
class _ThreePoint:
    """What lies between two ends, likeliest somewhere between them.

    Raises ValueError unless low < high and likely is between them.
    """

    low: float
    likely: float
    high: float

    def __post_init__(self) -> None:
        _check(self)

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where it is."""
        return self.low, self.high


class Triangular(_ThreePoint):
    """Rises in a line from low to likely, and falls in a line to high."""

    __slots__ = ()

    def quantiles(self, shares: Floats) -> Floats:
        """The value below which that share (n,) of all draws is."""
        width, rise, fall = self.high - self.low, self.likely - self.low, self.high - self.likely
        lower = self.low + np.sqrt(shares * width * rise)
        upper = self.high - np.sqrt((1 - shares) * width * fall)
        return np.where(shares * width < rise, lower, upper)


class Pert(_ThreePoint):
    """A beta distribution from low to high with mean (low + 4 likely + high)/6: a PERT estimate.

    Nearer to `likely` than a triangle. The formula is that of Malcolm et al., Operations Research 7
    (1959), with the shapes alpha = 1 + 4 (likely - low)/(high - low) and alpha + beta = 6.
    """

    __slots__ = ()

    def quantiles(self, shares: Floats) -> Floats:
        """The value below which that share (n,) of all draws is."""
        width = self.high - self.low
        alpha = 1 + 4 * (self.likely - self.low) / width
        unit: Floats = special.betaincinv(alpha, 6 - alpha, shares)
        return self.low + width * unit


@dataclass(frozen=True, slots=True)
class Normal:
    """The bell curve, without ends. Raises ValueError unless sd > 0."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not self.sd > 0:
            raise ValueError("expected sd above 0")

    @staticmethod
    def between(p5: float, p95: float) -> "Normal":
        """The one with 5 % of all draws below p5, and 5 % above p95. Raises ValueError unless p5 < p95."""
        if not p5 < p95:
            raise ValueError("expected p5 below p95")
        return Normal(p5 / 2 + p95 / 2, (p95 - p5) / (2 * Z95))

    @property
    def likely(self) -> float:
        """The mean."""
        return self.mean

    @property
    def ends(self) -> tuple[float, float]:
        """Its p5 and p95."""
        return self.mean - Z95 * self.sd, self.mean + Z95 * self.sd

    def quantiles(self, shares: Floats) -> Floats:
        """The value below which that share (n,) of all draws is."""
        units: Floats = special.ndtri(shares)
        return self.mean + self.sd * units

    def below(self, value: float) -> float:
        """The share of all draws below a value."""
        return float(special.ndtr((value - self.mean) / self.sd))


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Above 0, with a long tail upwards; 5 % of all draws are below p5, and 5 % above p95.

    Raises ValueError unless 0 < p5 < p95, and where they are more than a million times apart.
    """

    p5: float
    p95: float

    def __post_init__(self) -> None:
        if not 0 < self.p5 < self.p95:
            raise ValueError("expected p5 above 0 and below p95 (lognormal)")
        if self.p95 > WIDEST * self.p5:
            raise ValueError("expected p5 and p95 less than a million times apart")

    @property
    def likely(self) -> float:
        """The median, which is the geometric middle of p5 and p95."""
        return math.exp(self._log.mean)

    @property
    def ends(self) -> tuple[float, float]:
        """Its p5 and p95."""
        return self.p5, self.p95

    def quantiles(self, shares: Floats) -> Floats:
        """The value below which that share (n,) of all draws is."""
        return np.exp(self._log.quantiles(shares))

    def below(self, value: float) -> float:
        """The share of all draws below a value."""
        return self._log.below(math.log(value)) if value > 0 else 0.0

    @property
    def _log(self) -> Normal:
        return Normal.between(math.log(self.p5), math.log(self.p95))


Distribution = Point | Uniform | Triangular | Pert | Normal | Lognormal


def strata(draws: int, generator: np.random.Generator) -> Floats:
    """Shares (draws,) between 0 and 1: one in each of as many equal parts, in random order.

    Less noise than with shares that know nothing of each other (McKay, Beckman and Conover,
    Technometrics 21, 1979: Latin hypercube, when each input has an order of its own).
    """
    shares = (generator.permutation(draws) + generator.random(draws)) / draws
    return np.clip(shares, 1e-15, 1 - 1e-15)  # a bell curve has no end


def _check(shape: "Uniform | _ThreePoint") -> None:
    """Raise ValueError unless what the shape is made of stands in order."""
    if not shape.low < shape.high:
        raise ValueError("expected low below high")
    if not shape.low <= shape.likely <= shape.high:
        names = ", ".join(field.name for field in fields(shape))
        raise ValueError(f"expected {names} in rising order")
