"""What terminals say of sequential guardrails."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from abmonitor.progress import about, bar, effect_text, nearest, progress_table, share_of
from alerts.judge import Effect, Evidence, Judgement, Missing, Phase


UNKNOWN, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
EVIDENCE = Evidence(harm=1.5, harm_needed=3.0, safe=0.5, safe_needed=3.0)
EFFECT = Effect(kind="difference", estimate=-0.123, lower=-0.35, upper=0.104)


def judged(name: str = "rap:sequential", **fields: Any) -> dict[str, Any]:
    """A guardrail as the document has it."""
    told: dict[str, Any] = {
        "phase": Phase.INCONCLUSIVE,
        "at": 1,
        "reason": "",
        "evidence": EVIDENCE,
    }
    metric, test, *_ = name.split(":")
    judgement = Judgement(guardrail=name, metric=metric, **told | fields)
    return {"test": test, "alpha": 0.05, **msgspec.to_builtins(judgement)}


def lines(*guardrails: dict[str, Any], width: int = 76) -> list[str]:
    table = progress_table({each["guardrail"]: each for each in guardrails})
    assert table is not None
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_guardrail_is_one_line_with_all_there_is_to_know() -> None:
    missing = Missing(predictions=1_234, ms=1)
    head, line = lines(judged(effect=EFFECT, missing=missing))
    assert " ".join(head.split()) == "guardrail phase 100 % decides difference [bounds] to go"
    assert line == "rap        inconclusive  ▮▮▯▯▯ rollback 50 %  -0.12 [-0.35, +0.10]  ~1,200"
    assert line.index("-0.12") == head.index("difference")
    assert line.index("~1,200") == head.index("to go")


def test_a_landmark_tells_guardrails_of_one_metric_apart() -> None:
    _, early, final = lines(judged("rap:sequential:1d", effect=EFFECT), judged(effect=EFFECT))
    assert early.startswith("rap:1d ")
    assert final.startswith("rap ")


def test_only_sequential_guardrails_have_progress() -> None:
    threshold = judged("error_rate:threshold:5m", evidence=None)
    assert progress_table({"error_rate:threshold:5m": threshold}) is None
    assert progress_table({}) is None
    assert len(lines(threshold, judged(effect=EFFECT))) == 2


@pytest.mark.parametrize("width", [40, 60, 76, 120])
def test_nothing_is_cut_off_however_narrow_the_terminal(width: int) -> None:
    effect = Effect(kind="difference", estimate=-0.00123, lower=-0.0035, upper=0.00104)
    missing = Missing(predictions=7_000_000, ms=1)
    shown = lines(
        judged("profit_per_prediction:sequential", effect=effect, missing=missing), width=width
    )
    text = "".join("".join(shown).split())
    assert max(map(len, shown)) <= width
    for part in ("inconclusive", "50%", "[-0.0035,+0.0010]", "~7M"):
        assert part in text
    assert "…" not in text


def test_where_nothing_can_be_compared_the_line_says_why() -> None:
    nothing = Evidence(harm=None, harm_needed=3.0, safe=None, safe_needed=3.0)
    few = "12 positives (effective) are too few"
    split = "error_rate: not counted, because of the split"
    _, first, second, third = lines(
        judged(reason=few, evidence=nothing, value=0.1, control=0.2),
        judged("error_rate:sequential", reason=split, evidence=nothing),
        judged("roi:sequential", reason="not looked at yet", evidence=None),
    )
    assert first.endswith(f"inconclusive  {few}")
    assert second.endswith("inconclusive  not counted, because of the split")
    assert third.endswith("inconclusive  not looked at yet")


def test_two_shares_without_any_event_are_shown_as_they_are() -> None:
    _, line = lines(judged("error_rate:sequential", value=0.0, control=0.0))
    assert line.endswith("rollback 50 %  0 against 0")
    _, line = lines(judged("error_rate:sequential", value=None, control=0.0, reason="nothing came"))
    assert line.endswith("nothing came")


@pytest.mark.parametrize(
    ("phase", "harm", "safe", "expected"),
    [
        (Phase.INCONCLUSIVE, 1.5, 0.5, ("rollback", 0.5)),
        (Phase.INCONCLUSIVE, 0.5, 1.5, ("pass", 0.5)),
        (Phase.INCONCLUSIVE, None, None, ("rollback", 0.0)),
        (Phase.INCONCLUSIVE, -4.0, -2.0, ("rollback", 0.0)),
        (Phase.PASS, 2.9, 3.1, ("pass", 3.1 / 3)),
        (Phase.FAIL, 3.0, 9.0, ("rollback", 1.0)),
    ],
)
def test_the_verdict_that_was_reached_or_is_nearest_is_shown(
    phase: Phase, harm: float | None, safe: float | None, expected: tuple[str, float]
) -> None:
    evidence = Evidence(harm=harm, harm_needed=3.0, safe=safe, safe_needed=3.0)
    verdict, share = nearest(judged(phase=phase, evidence=evidence))
    assert verdict == expected[0]
    assert share == pytest.approx(expected[1])


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "▯▯▯▯▯ pass 0 %"),
        (0.999, "▮▮▮▮▯ pass 99 %"),
        (1.0, "▮▮▮▮▮ pass 100 %"),
        (2.047, "▮▮▮▮▮ pass 204 %"),
    ],
)
def test_a_bar_is_full_only_when_the_evidence_decides(share: float, shown: str) -> None:
    assert bar("pass", share).plain == shown


def test_evidence_is_never_less_than_none() -> None:
    assert share_of(None, 3) == share_of(-2, 3) == 0
    assert share_of(6, 3) == 2


@pytest.mark.parametrize(
    ("kind", "estimate", "lower", "upper", "shown"),
    [
        ("difference", -0.25, -0.4712, -0.0656, "-0.25 [-0.47, -0.07]"),
        ("difference", 0.00312, -0.00071, 0.0069, "+0.0031 [-0.0007, +0.0069]"),
        ("difference", -11.47, -23.4, 1.2, "-11 [-23, +1]"),
        ("difference", 0.0083, None, 0.1178, f"+0.01 [{UNKNOWN}, +0.12]"),
        ("difference", 0.0083, -0.1178, None, f"+0.01 [-0.12, {UNKNOWN}]"),
        ("difference", -0.1234, None, None, "-0.123"),
        ("difference", 0.5, 0.5, 0.5, "+0.5 [+0.5, +0.5]"),
        ("ratio", 1.234, 0.4, 3.9, f"{TIMES} 1.2 [0.4, 3.9]"),
        ("ratio", 1.234, None, None, f"{TIMES} 1.2"),
        ("ratio", 2.0, 1.5, None, f"{TIMES} 2 [1.5, {UNKNOWN}]"),
    ],
)
def test_an_effect_is_as_exact_as_its_bounds(
    kind: str, estimate: float, lower: float | None, upper: float | None, shown: str
) -> None:
    effect = {"kind": kind, "estimate": estimate, "lower": lower, "upper": upper}
    assert effect_text(effect) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "~0"), (7, "~7"), (1_234, "~1,200"), (987_654, "~990,000"), (12_345_678, "~12 M")],
)
def test_a_guess_has_two_digits(count: int, shown: str) -> None:
    assert about(count) == shown
