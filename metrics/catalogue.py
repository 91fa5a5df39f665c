"""The metrics a guardrail can watch: what each needs and in which direction it hurts."""

from dataclasses import dataclass
from typing import Literal


Harm = Literal["rising", "falling", "either"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: which direction is harm, and what has to be known to compute it."""

    name: str
    harm: Harm
    labelled: bool = False
    """Needs labels, so it is computed from mature cohorts only."""
    every_label: bool = False
    """Needs the truth of predictions that were not acted on, too."""
    priced: bool = False
    """Needs unit profitability."""
    relative_only: bool = False
    """Compares a treatment with the control; has no value of its own."""
    share: bool = False
    """The share of predictions to which something happened, as it is known when they arrive."""
    needs: Literal["", "slo_ms", "money"] = ""
    """What the experiment has to declare beside."""

    @property
    def may_be_negative(self) -> bool:
        """Whether it is money or worth, which has no natural 0 below which it cannot fall."""
        return self.priced or self.relative_only or self.needs == "money"

    @property
    def bounded(self) -> bool:
        """Whether it is a share, from 0 to 1."""
        return self.share or (self.labelled and not self.may_be_negative)

    @property
    def sequential(self) -> bool:
        """Whether there is a sequential test of it: of quantiles and means of latency there is none."""
        return self.labelled or self.share


_ALL = (
    Metric("error_rate", "rising", share=True),
    Metric("selection_rate", "either", share=True),
    Metric("slow_rate", "rising", share=True, needs="slo_ms"),
    Metric("latency_mean_ms", "rising"),
    Metric("latency_p50_ms", "rising"),
    Metric("latency_p95_ms", "rising"),
    Metric("latency_p99_ms", "rising"),
    Metric("precision", "falling", labelled=True),
    Metric("recall", "falling", labelled=True, every_label=True),
    Metric("specificity", "falling", labelled=True, every_label=True),
    Metric("false_alarm_rate", "rising", labelled=True, every_label=True),
    Metric("accuracy", "falling", labelled=True, every_label=True),
    Metric("f_score", "falling", labelled=True, every_label=True),
    Metric("rap", "falling", labelled=True, every_label=True, priced=True),
    Metric("roi", "falling", labelled=True, priced=True),
    Metric("profit_per_prediction", "falling", labelled=True, priced=True),
    Metric("money_per_prediction", "falling", labelled=True, needs="money"),
    Metric("net_business_value", "falling", labelled=True, every_label=True, relative_only=True),
)

CATALOGUE = {metric.name: metric for metric in _ALL}
