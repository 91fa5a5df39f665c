"""How the page writes numbers, times and states: the only place where they are rounded. Pure."""

from datetime import UTC, datetime
from typing import Literal

from alerts.standing import SEVERITY, State
from metrics.catalogue import CATALOGUE
from metrics.duration import Duration


UNKNOWN = "\N{EN DASH}"
"""Stands for what cannot be known."""

Level = Literal["good", "watch", "bad", "unknown"]

SIGNS: dict[str, str] = {
    "good": "\N{CHECK MARK}",
    "watch": "\N{BLACK UP-POINTING TRIANGLE}",
    "bad": "\N{BALLOT X}",
    "unknown": "?",
}
"""Beside every colour, for those who do not see it."""

LEVELS: dict[str, Level] = {
    **dict.fromkeys((State.HEALTHY, State.PASSED), "good"),
    **dict.fromkeys((State.HOLD, State.SUSPECT), "watch"),
    **dict.fromkeys(
        (
            State.ROLLBACK_FAILED,
            State.ROLLING_BACK,
            State.VERIFYING,
            State.ROLLED_BACK,
            State.WOULD_ROLL_BACK,
        ),
        "bad",
    ),
}

PHASES: dict[str, Level] = {"pass": "good", "fail": "bad", "error": "watch"}
"""Of guardrails."""

METRICS = {"rap": "RAP", "roi": "ROI", "f_score": "F-score"}

SHARES = frozenset({"rap", "roi"}) | {
    name for name, metric in CATALOGUE.items() if metric.bounded or metric.share
}
"""Metrics that are told in per cent."""


def fixed(value: float | None, digits: int = 3) -> str:
    """A number with so many digits behind the point.

    >>> fixed(1.23456), fixed(-0.0), fixed(None) == UNKNOWN
    ('1.235', '0.000', True)
    """
    return UNKNOWN if value is None else _unsigned_zero(f"{value:,.{digits}f}")


def signed(value: float | None, digits: int = 3, unit: str = "") -> str:
    """A difference: with its sign, unless it is none.

    >>> signed(0.5, 1), signed(-0.5, 2, " %"), signed(0.0, 1)
    ('+0.5', '-0.50 %', '0.0')
    """
    return UNKNOWN if value is None else _unsigned_zero(f"{value:+,.{digits}f}") + unit


def percent(value: float | None) -> str:
    """A share in per cent.

    >>> percent(0.12345), percent(-0.0001)
    ('12.3%', '0.0%')
    """
    return UNKNOWN if value is None else f"{fixed(100 * value, 1)}%"


def milliseconds(value: float | None) -> str:
    """A latency.

    >>> milliseconds(158.0456)
    '158.0 ms'
    """
    return UNKNOWN if value is None else f"{fixed(value, 1)} ms"


def amount(value: float | None) -> str:
    """How many, or how much of money: no cents where there is a lot.

    >>> amount(1584), amount(44.789), amount(1234.5)
    ('1,584', '44.79', '1,234')
    """
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else fixed(value, 2)


def of_metric(metric: str, value: float | None) -> str:
    """A value of a metric, as people say it."""
    if metric in SHARES:
        return percent(value)
    return milliseconds(value) if metric.endswith("_ms") else fixed(value)


def difference_of(metric: str, value: float | None) -> str:
    """A difference of two values of a metric.

    >>> difference_of("rap", -0.0164), difference_of("latency_mean_ms", 20.55)
    ('-1.6%', '+20.6 ms')
    """
    if value is None:
        return UNKNOWN
    if metric in SHARES:
        return signed(100 * value, 1, "%")
    return signed(value, 1, " ms") if metric.endswith("_ms") else signed(value)


def points(value: float | None) -> str:
    """Net business value, or a part of it, which is in per cent already.

    >>> points(-4.0627)
    '-4.06 %'
    """
    return signed(value, 2, " %")


def metric_name(metric: str) -> str:
    """A metric in words.

    >>> metric_name("profit_per_prediction"), metric_name("latency_p99_ms")
    ('profit per prediction', 'latency p99')
    """
    return METRICS.get(metric) or metric.removesuffix("_ms").replace("_", " ")


def moment(at: int | None) -> str:
    """A time in UTC.

    >>> moment(1_767_281_400_000)
    '2026-01-01 15:30:00'
    """
    return UNKNOWN if at is None else _utc(at).strftime("%Y-%m-%d %H:%M:%S")


def day(at: int | None) -> str:
    """The day in UTC; nothing where it is not known.

    >>> day(1_767_281_400_000), day(None)
    ('2026-01-01', '')
    """
    return "" if at is None else _utc(at).strftime("%Y-%m-%d")


def clock(at: int | None) -> str:
    """The time of the day in UTC.

    >>> clock(1_767_281_400_000)
    '15:30:00'
    """
    return UNKNOWN if at is None else _utc(at).strftime("%H:%M:%S")


def machine_time(at: int) -> str:
    """For the attribute `datetime`."""
    return _utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(ms: int | None) -> str:
    """How long, in whole seconds.

    >>> span(7_300)
    '7s'
    """
    return UNKNOWN if ms is None else str(Duration(ms - ms % 1000))


def titled(text: str) -> str:
    """The text as it begins a heading.

    >>> titled("profit per prediction"), titled("RAP")
    ('Profit per prediction', 'RAP')
    """
    return text[:1].upper() + text[1:]


def state_name(state: str) -> str:
    """A state as people read it.

    >>> state_name("rolled_back")
    'rolled back'
    """
    return state.replace("_", " ")


def level_of(state: str) -> str:
    """The level of a state; of what is only collecting or over there is none.

    >>> level_of("suspect"), level_of("collecting")
    ('watch', 'unknown')
    """
    return LEVELS.get(state, "unknown")


def severity(state: str) -> int:
    """The place of a state among all, worst first; what is not known comes first.

    >>> severity("rollback_failed") < severity("healthy")
    True
    """
    return next((place for place, known in enumerate(SEVERITY) if known == state), -1)


def _utc(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def _unsigned_zero(text: str) -> str:
    """What is rounded to nothing has no sign."""
    return text[1:] if text[0] in "+-" and not text.strip("+-0.,") else text
