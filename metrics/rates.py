"""Sequential tests of a share of events (failed, acted on, too slow) from counts at arrival.

A prediction goes to the treatment with probability rho, the known split, independently of all others.
Every number here is then an e-value: non-negative, and under the null at most 1 on average given all
earlier looks, so that it ever reaches 1/alpha with probability at most alpha, however often and whenever
somebody looks (Ville). Nothing is approximated: counts of 0 and 1 are as good as large ones. Where one
unit makes many dependent predictions, the evidence is overstated; count units there.

Relative margin, on theta = treatment's share / control's share. An event is the treatment's with
probability p(theta) = rho*theta / (rho*theta + 1 - rho), whatever the shares are and however they move
together (Lindon and Malek 2022, arXiv 2011.03567). A factor is a likelihood ratio of theta_g to the
margin m, (p_g/p_m)^x_T * ((1 - p_g)/(1 - p_m))^x_C. For theta_g > m its mean per event rises with p and
is 1 at p_m, so it is at most 1 for every theta <= m and not only at m.

Absolute margin, on the difference of shares d = s_T - s_C. A prediction with event y pays
g = (y - c) * (1[T]/rho - 1[C]/(1 - rho)), whose mean is d whatever the constant c; c near the shares
makes it vary least. A factor is 1 + lambda*(g - delta), lambda >= 0, whose mean is at most 1 for every
d <= delta (Waudby-Smith and Ramdas 2024, JRSS-B 86(1), Estimating means of bounded random variables by
betting). A prediction pays one of four amounts, so that the counts of a look say the whole product. c is
the pooled share of the looks before, and lambda a fixed fraction of the highest bet that cannot lose
everything, which c, rho and delta say: both are known before the look.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt


Harm = Literal["rising", "falling", "either"]
Floats = npt.NDArray[np.float64]

SIDES: dict[Harm, tuple[float, ...]] = {
    "rising": (1.0,),
    "falling": (-1.0,),
    "either": (1.0, -1.0),
}
STEPS: Floats = np.geomspace(math.log(1.05), math.log(30), 12)
"""Logarithms of how far beyond the margin a ratio is bet on: 1.05 to 30 times.

They grow by half each, so that between two of them nearly nothing is lost. Even weights on them are a
prior of density 1/log(r) over log(r), which is about what makes the harm done until the alarm least:
harm grows with r - 1, what an alarm takes falls with its square, so small excesses are worth more weight.
"""
FRACTIONS: Floats = np.geomspace(0.001, 0.95, 12)
"""Bets as fractions of the highest possible one: the best is about (d - delta)/variance of g."""
TINY = float(np.finfo(float).tiny)
FIRST_SHARE, FIRST_WEIGHT = 0.05, 20
"""What c is before anything was seen, and how many predictions that counts for."""
HALF_AT_EQUAL: Floats = np.log([0.5, *[0.5 / STEPS.size] * STEPS.size])
"""Weights when showing that there is no harm: half on what is hoped for, equal arms."""


class Tally(NamedTuple):
    """What arrived in one look: events x of predictions n by arm, and the treatment's share rho of traffic.

    All of one shape (...), float.
    """

    x_t: Floats
    n_t: Floats
    x_c: Floats
    n_c: Floats
    rho: Floats

    @classmethod
    def checked(cls, *values: npt.ArrayLike) -> "Tally":
        """Broadcast to one shape; raises ValueError for what cannot be a count or a share of traffic."""
        tally = cls(*np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in values)))
        for arm, x, n in (("treatment", tally.x_t, tally.n_t), ("control", tally.x_c, tally.n_c)):
            wrong = ~((x >= 0) & (x <= n) & np.isfinite(n))
            if wrong.any():
                raise ValueError(
                    f"expected events of the {arm} to be from 0 to the number of its predictions, "
                    f"got {x[wrong][0]:g} of {n[wrong][0]:g}"
                )
        wrong = ~((tally.rho > 0) & (tally.rho < 1))
        if wrong.any():
            raise ValueError(
                f"expected the treatment's share of traffic to be above 0 and below 1, "
                f"got {tally.rho[wrong][0]:g}"
            )
        return tally


def ratio_growth(tally: Tally, null: npt.ArrayLike, bet: npt.ArrayLike) -> Floats:
    """Log likelihood ratio of the events' arms, of log theta = `bet` (G,) to `null`; shape (..., G)."""
    x_t, x_c, rho = (count[..., None] for count in (tally.x_t, tally.x_c, tally.rho))
    null, bet = np.asarray(null, dtype=float), np.asarray(bet, dtype=float)
    ours, theirs = np.log(rho), np.log1p(-rho)
    total = np.logaddexp(ours + bet, theirs) - np.logaddexp(ours + null, theirs)
    return np.asarray(x_t * (bet - null - total) - x_c * total)


def difference_growth(
    tally: Tally, centre: npt.ArrayLike, side: float, bound: float, fractions: Floats | None = None
) -> Floats:
    """Log of the product of 1 + lambda * side * (g - bound): evidence that side * (d - bound) > 0.

    `centre` is c, shape (...). lambda is each of `fractions` (G,) of the highest bet; without them it is
    the one that grows fastest, to the second order, if the arms are equal. Shape (..., G) or (..., 1).
    """
    c, rho = np.asarray(centre, dtype=float), tally.rho
    # All payoffs times rho * (1 - rho), which cancels: no division by the share of a tiny arm.
    scale = rho * (1 - rho)
    payoffs = side * np.stack(
        np.broadcast_arrays((1 - c) * (1 - rho), -c * (1 - rho), -(1 - c) * rho, c * rho), axis=-1
    )
    # g goes below -1 and above 1, so only a bound next to those needs the floor. A higher one bets less.
    floor = 1e-9 * scale + TINY
    worst = np.maximum(side * bound * scale - payoffs.min(axis=-1), floor)
    if fractions is None:
        gain = np.maximum(-side * bound, 0)
        best = gain * worst / np.maximum(c * (1 - c) + gain**2 * scale, TINY)
        bets = np.minimum(best, FRACTIONS[-1])[..., None]
    else:
        bets = fractions
    gains = (payoffs - (side * bound * scale)[..., None]) / worst[..., None]
    counts = np.stack([tally.x_t, tally.n_t - tally.x_t, tally.x_c, tally.n_c - tally.x_c], axis=-1)
    return np.asarray((counts[..., None] * np.log1p(gains[..., None] * bets[..., None, :])).sum(-2))


@dataclass(frozen=True, slots=True, eq=False)
class RateState:
    """What a test remembers between looks, of experiments of shape (...).

    `stakes` (..., sides, G): log of what each bet on harm has at stake at the next look. `safe`
    (..., sides, H): log of what each bet on no harm has become. `looks` that said something, `events` and
    `predictions` of both arms so far, and `peak`, the highest log evidence of harm at any look: (...).
    """

    stakes: Floats
    safe: Floats
    looks: Floats
    events: Floats
    predictions: Floats
    peak: Floats

    @property
    def centre(self) -> Floats:
        """The pooled share of events so far, drawn to `FIRST_SHARE`; shape (...)."""
        known = FIRST_SHARE * FIRST_WEIGHT + self.events
        return np.asarray(known / (FIRST_WEIGHT + self.predictions))

    def packed(self) -> tuple[float, ...]:
        """All numbers of one experiment, finite. Raises ValueError for states of several."""
        if self.looks.shape:
            raise ValueError(f"expected the state of one experiment, got shape {self.looks.shape}")
        singles = (self.looks, self.events, self.predictions, self.peak)
        return (*map(float, singles), *self.stakes.ravel().tolist(), *self.safe.ravel().tolist())

    @classmethod
    def unpacked(cls, test: "RateTest", values: tuple[float, ...]) -> "RateState":
        """Read what `packed` wrote; raises ValueError if it cannot be a state of `test`."""
        sides = len(SIDES[test.harm])
        middle, length = 4 + sides * STEPS.size, 4 + sides * (2 * STEPS.size + 1)
        numbers = np.array(values, dtype=float)
        if numbers.shape != (length,) or not np.isfinite(numbers).all():
            raise ValueError(
                f"expected {length} finite numbers as the state of a test of {test.harm} harm, "
                f"got {len(values)}: {values}"
            )
        looks, events, predictions, peak = (np.asarray(number) for number in numbers[:4])
        stakes, safe = numbers[4:middle].reshape(sides, -1), numbers[middle:].reshape(sides, -1)
        return cls(stakes, safe, looks, events, predictions, peak)


def log_harm(state: RateState) -> Floats:
    """Log evidence of harm beyond the margin as of the last look; shape (...).

    It falls again when a deviation ends; an alarm goes by `state.peak`.
    """
    stakes = state.stakes.reshape(*state.looks.shape, -1)
    mean = np.logaddexp.reduce(stakes, axis=-1) - math.log(stakes.shape[-1])
    return np.asarray(np.logaddexp(mean, -np.log(state.looks + 2)))


def log_safe(state: RateState) -> Floats:
    """Log evidence, as of the last look, that harm stays within the margin; shape (...).

    With both directions, the lower of two: each of them has to be shown.
    """
    return np.asarray(np.logaddexp.reduce(state.safe + HALF_AT_EQUAL, axis=-1).min(axis=-1))


@dataclass(frozen=True, slots=True)
class RateTest:
    """What change of a share is harm: which direction, and beyond which margin.

    `relative_margin` tolerates a ratio of shares up to m = 1 + relative_margin when rising is harm, down
    to 1/m when falling is, and between the two when either is. `margin` tolerates a difference of shares
    up to margin, down to -margin, or between. Exactly one is given; raises ValueError otherwise, or for
    a margin that is negative, not finite, or a difference that no two shares can have.

    Evidence of harm is a mixture over the look from which on something is wrong, sum over j of
    w_j * E^(j) with w_j = 1/(j*(j + 1)), so that a change after a long time of health need not make up
    for it; bets on both directions have half the weight each. Evidence of no harm starts at the first
    look only: it is about the whole life of the experiment.

    A look says something, and counts as one, when it has events (relative margin) or predictions
    (absolute). Which looks do is known without knowing whose they are, so it may decide about weights.
    """

    harm: Harm
    relative_margin: float | None = None
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.harm not in SIDES:
            raise ValueError(f"expected harm to be one of {', '.join(SIDES)}, got {self.harm!r}")
        relative, absolute = self.relative_margin, self.margin
        if (relative is None) == (absolute is None):
            raise ValueError(
                "expected exactly one of relative_margin and margin, "
                f"got relative_margin {relative} and margin {absolute}"
            )
        if relative is not None and not (math.isfinite(relative) and relative >= 0):
            raise ValueError(
                f"expected relative_margin to be finite and at least 0, got {relative:g}"
            )
        if absolute is not None and not 0 <= absolute < 1:
            raise ValueError(
                "expected margin to be at least 0 and below 1, as a difference of two shares "
                f"(0.01 is one point), got {absolute:g}"
            )

    def start(self, shape: tuple[int, ...] = ()) -> RateState:
        """Begin with no evidence at all, for experiments of `shape`."""
        sides = len(SIDES[self.harm])
        nothing = np.zeros(shape)
        return RateState(
            stakes=np.full((*shape, sides, STEPS.size), -math.log(2)),
            safe=np.zeros((*shape, sides, STEPS.size + 1)),
            looks=nothing,
            events=nothing,
            predictions=nothing,
            peak=nothing,
        )

    def look(
        self,
        state: RateState,
        x_t: npt.ArrayLike,
        n_t: npt.ArrayLike,
        x_c: npt.ArrayLike,
        n_c: npt.ArrayLike,
        rho: npt.ArrayLike,
    ) -> RateState:
        """Take in what arrived since the last look: events x among predictions n of each arm.

        `rho` in (0, 1) is the treatment's share of the traffic of the two. All are of the shape of
        `state`, or broadcast to it. Raises ValueError for impossible counts or shares of traffic.
        """
        tally = Tally.checked(x_t, n_t, x_c, n_c, rho)
        events, predictions = tally.x_t + tally.x_c, tally.n_t + tally.n_c
        speaks = (predictions if self.relative_margin is None else events) > 0
        looks = state.looks + speaks
        # Sum of w_j * E^(j) by recursion: those who start at the next look lay down their weight now,
        # w = 1/((t + 1)*(t + 2)), which leaves 1/(t + 2) to later ones and every logarithm finite.
        fresh = -np.log((looks + 1) * (looks + 2))[..., None, None]
        stakes = np.logaddexp(state.stakes + self.harm_growth(tally, state.centre), fresh)
        after = RateState(
            stakes=np.where(speaks[..., None, None], stakes, state.stakes),
            safe=state.safe + self.safe_growth(tally, state.centre),
            looks=looks,
            events=state.events + events,
            predictions=state.predictions + predictions,
            peak=state.peak,
        )
        peak = np.maximum(state.peak, log_harm(after))
        return RateState(after.stakes, after.safe, looks, after.events, after.predictions, peak)

    def harm_growth(self, tally: Tally, centre: npt.ArrayLike) -> Floats:
        """Log factor of each bet that the margin is passed; shape (..., sides, G)."""
        if self.relative_margin is None:
            bound = self.margin or 0.0
            sides = [
                difference_growth(tally, centre, side, side * bound, FRACTIONS)
                for side in SIDES[self.harm]
            ]
        else:
            edge = math.log1p(self.relative_margin)
            sides = [
                ratio_growth(tally, side * edge, side * (edge + STEPS)) for side in SIDES[self.harm]
            ]
        return np.stack(sides, axis=-2)

    def safe_growth(self, tally: Tally, centre: npt.ArrayLike) -> Floats:
        """Log factor of each bet that the margin is kept, equal arms first; shape (..., sides, H)."""
        sides = []
        for side in SIDES[self.harm]:
            if self.relative_margin is None:
                bound = side * (self.margin or 0.0)
                equal = difference_growth(tally, centre, -side, bound)
                rest = difference_growth(tally, centre, -side, bound, FRACTIONS)
                sides.append(np.concatenate([equal, rest], axis=-1))
            else:
                edge = math.log1p(self.relative_margin)
                within = side * np.concatenate([[0.0], edge - STEPS])
                sides.append(ratio_growth(tally, side * edge, within))
        return np.stack(sides, axis=-2)
