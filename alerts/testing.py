"""How an experiment decides: its error rates, its plan, and how long it may take. Pure."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from alerts.guardrails import Guardrail
from metrics.duration import Duration
from metrics.experiment import DAY
from metrics.sequential import PLANNED


Probability = Annotated[float, Meta(gt=0, lt=1)]


class Testing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What sequential guardrails share."""

    __test__ = False  # pytest takes it for tests otherwise

    alpha: Probability = 0.05
    """The probability that a treatment whose harm is within all margins is ever rolled back, in an
    epoch; split over its sequential guardrails by their weights."""
    alpha_pass: Probability = 0.05
    """The probability that a treatment passes whose harm is beyond some margin."""
    planned: Annotated[float, Meta(gt=0)] = PLANNED
    """Predictions an arm after which a decision is expected; tests are sharpest there."""
    min_duration: Duration = Duration(DAY)
    """Nothing passes earlier."""
    max_duration: Duration | None = None
    """How long the experiment is meant to run at most; `check` says which tests would take longer."""
    blind_budget: Annotated[int, Meta(ge=1)] | None = None
    """Predictions a treatment may make before the first verdict on labels; then it is held."""


DEFAULTS = Testing()


def alphas(testing: Testing, guardrails: Iterable[Guardrail]) -> dict[str, float]:
    """Each sequential guardrail's part of alpha, by name."""
    weights = {found.name: found.weight for found in guardrails if found.test == "sequential"}
    whole = sum(weights.values())
    return {name: testing.alpha * weight / whole for name, weight in weights.items()}
