import json
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from abmonitor.ranking.assumed import Assumed, assumed
from abmonitor.ranking.sensitivity import Sensitivity, sensitivity
from abmonitor.ranking.sensitivity_table import document, render, steps
from metrics.candidates import Counts


LINES = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 20)), min_size=1, max_size=9)


def counted(*lines: tuple[float, float], positives: float = 10, negatives: float = 40) -> Counts:
    tp, fp = np.array(lines, np.float64).reshape(-1, 2).T
    return Counts(tp, fp, positives, negatives, tuple(f"m{place}" for place in range(len(lines))))


def told(**options: str) -> Assumed:
    return assumed(**options)


def at_roi(p0: str = "20%", roi: str = "0", **more: str) -> Assumed:
    return told(reference_precision=p0, assumed_roi=roi, **more)


def text_of(found: Sensitivity, columns: int = 100) -> str:
    console = Console(width=columns, record=True, file=None, color_system=None, quiet=False)
    with console.capture() as captured:
        console.print(render(found))
    return captured.get()


BOLD_AND_SHY = counted((9, 16), (6, 4))
"""Cross at k = 3/12: q = 5, so that with a reference precision of 20 % the assumed ROI is 0."""


def test_a_crossing_is_exact() -> None:
    found = sensitivity(BOLD_AND_SHY, at_roi(roi="20%"))
    crossing = next(each.high for each in found.best if each.places == (1,))
    assert crossing is not None
    assert crossing.k == Fraction(1, 4)
    assert crossing.q == 5.0
    assert crossing.roi(0.2) == pytest.approx(0, abs=1e-16)
    written = document(found)["stretches"]
    shy = next(each for each in written if each["models"] == ["m1"])
    assert shy["to"]["k_exact"] == "1/4"
    assert shy["to"]["k"] == 0.25
    bold = next(each for each in written if each["models"] == ["m0"])
    assert bold["from"] == shy["to"]


def test_always_and_never_are_among_the_competitors() -> None:
    found = sensitivity(BOLD_AND_SHY, at_roi())
    assert found.counts.models == ("m0", "m1", "always", "never")
    assert found.models == 2
    names = [found.counts.models[each.places[0]] for each in found.best]
    assert names == ["never", "m1", "m0", "always"]
    assert found.best[0].low is None
    assert found.best[-1].high is None
    assert (found.raps[:, 3] == 0).all()
    # Against an assumed ROI h with prevalence p always-send scores 1 - (1 - p)/p / (q - 1).
    q = (1 + found.at) / 0.2
    assert found.raps[:, 2] == pytest.approx(1 - 4 / (q - 1))


def test_no_model_is_worth_it_where_never_is_best() -> None:
    found = sensitivity(counted((5, 30)), told(q="2"))
    assert [found.counts.models[each.places[0]] for each in found.at_assumed] == ["never"]
    assert "never is best at the assumed q of 2" in text_of(found)


@given(lines=LINES, p0=st.sampled_from([0.05, 0.2, 0.5, 0.8]))
@settings(deadline=None)
def test_inside_each_stretch_its_models_have_the_highest_rap(
    lines: list[tuple[int, int]], p0: float
) -> None:
    found = sensitivity(counted(*lines), at_roi(f"{p0}"))
    ends = [found.where(each.low) for each in found.best]
    assert ends[0] is None
    start, stop = found.ends
    for each in found.shown:
        low, high = found.where(each.low), found.where(each.high)
        low = max(start, p0 - 1 if low is None else low)
        high = stop if high is None else min(stop, high)
        raps = found.rap((low + high) / 2)
        top = np.nanmax(raps)
        assert set(np.flatnonzero(raps >= top - 1e-9).tolist()) >= set(each.places)
    for one, other in pairwise(found.best):
        assert one.high == other.low
        assert one.high is not None
        tp, fp = found.counts.tp.astype(int).tolist(), found.counts.fp.astype(int).tolist()
        a, b = one.places[0], other.places[0]
        assert tp[a] - fp[a] * one.high.k == tp[b] - fp[b] * one.high.k  # in fractions


def test_the_axis_is_the_usual_one_with_a_point_for_each_per_cent() -> None:
    found = sensitivity(BOLD_AND_SHY, at_roi())
    assert found.ends == (-0.3, 1.0)
    assert found.at.tolist() == [round(each / 100, 2) for each in range(-30, 101)]
    assert steps(found).tolist() == [round(each / 10, 1) for each in range(-3, 11)]


def test_the_axis_reaches_what_is_assumed() -> None:
    assert sensitivity(BOLD_AND_SHY, at_roi(roi="250%")).ends == (-0.3, 2.5)
    assert sensitivity(BOLD_AND_SHY, at_roi(roi="-60%..0%")).ends == (-0.6, 1.0)


def test_where_q_is_at_most_1_nothing_is_said_and_people_are_told() -> None:
    found = sensitivity(BOLD_AND_SHY, at_roi("80%", "50%"))
    assert found.clipped_below == pytest.approx(-0.2)
    assert np.isnan(found.raps[found.at <= -0.2]).all()
    assert np.isfinite(found.raps[found.at > -0.19]).all()
    assert steps(found)[0] == -0.1
    note = "Assumed ROI of -20 % and less is left out: q is at most 1 there, and no action can pay."
    assert found.notes == (note,)
    assert note in text_of(found)
    assert sensitivity(BOLD_AND_SHY, at_roi()).notes == ()


def test_without_one_reference_precision_the_axis_is_q() -> None:
    found = sensitivity(BOLD_AND_SHY, told(q="10"))
    assert (found.axis, found.reference_precision) == ("q", None)
    assert found.ends == (7.0, 20.0)
    written = document(found)
    assert written["stretches"][1]["to"] == {
        "assumed_roi": None,
        "q": 5.0,
        "k": 0.25,
        "k_exact": "1/4",
    }
    ranged = sensitivity(BOLD_AND_SHY, at_roi("10%..20%"))
    assert ranged.axis == "q"
    assert "reference precision is a range" in ranged.notes[0]


@pytest.mark.parametrize(
    ("q", "ends"),
    [(">=10", (7.0, 100.0)), ("<=4", (1.0, 8.0)), (">=0.5", (1.0, 10.0)), ("5..6", (3.5, 12.0))],
)
def test_open_ranges_of_q_have_an_axis_with_ends(q: str, ends: tuple[float, float]) -> None:
    found = sensitivity(BOLD_AND_SHY, told(q=q))
    assert found.ends == ends
    assert found.shown
    assert ("no upper end" in " ".join(found.notes)) == q.startswith(">=")


def test_who_is_best_within_an_assumed_range_is_told() -> None:
    one = sensitivity(BOLD_AND_SHY, at_roi(roi="10%..20%"))
    assert "m0 is best for all of the assumed ROI from +10 % to +20 %" in text_of(one)
    both = sensitivity(BOLD_AND_SHY, at_roi(roi="-10%..20%"))
    assert "m1 and m0 are best somewhere in the assumed ROI from -10 % to +20 %." in text_of(both)
    assert document(both)["best_at_assumed"] == ["m1", "m0"]


def test_two_that_cross_at_the_assumed_point_are_both_best() -> None:
    found = sensitivity(BOLD_AND_SHY, told(q="5"))
    assert [each.places for each in found.at_assumed] == [(1,), (0,)]
    assert "m1 and m0 are best at the assumed q of 5." in text_of(found)


def test_equal_models_share_a_stretch() -> None:
    found = sensitivity(counted((9, 16), (6, 4), (6, 4), (6, 4), (6, 4)), at_roi(roi="-20%"))
    assert [each.places for each in found.at_assumed] == [(1, 2, 3, 4)]
    assert "m1 = m2 = m3 and 1 more is best" in text_of(found)


def test_a_model_that_is_called_always_is_told_from_the_baseline() -> None:
    counts = Counts(np.array([9.0]), np.array([16.0]), 10.0, 40.0, ("always",))
    found = sensitivity(counts, at_roi())
    text = text_of(found)
    assert "always (baseline)" in text
    models = document(found)["models"]
    assert [(each["model"], each["baseline"]) for each in models] == [
        ("always", False),
        ("always", True),
        ("never", True),
    ]


def test_names_with_markup_or_control_characters_do_nothing_to_the_terminal() -> None:
    names = ("[red]bold[/red]\x1b[2J", "shy\u202e\n")
    counts = Counts(np.array([9.0, 6.0]), np.array([16.0, 4.0]), 10.0, 40.0, names)
    for roi in ("20%", "0"):
        text = text_of(sensitivity(counts, at_roi(roi=roi, unit_revenue="9")))
        assert "[red]bold[/red]\\x1b[2J is best" in text or "\\u202e\\n and [red]" in text
        assert not {"\x1b", "\u202e"} & set(text)
        # Each in a row of its own: who is best where, and what an action may cost.
        assert sum("shy\\u202e\\n  " in line for line in text.splitlines()) >= 2


def test_rap_is_in_per_cent_as_in_the_ranking() -> None:
    text = text_of(sensitivity(counted((5, 3), (10, 40)), told(q="3")))
    assert "RAP % at q" in text
    row = next(line for line in text.splitlines() if line.startswith("3 "))
    # (5 - 3/2)/10, (10 - 40/2)/10 and never, whose zero has no minus.
    assert row.split() == ["3", "35.0*", "-100.0", "0.0"]


def test_a_narrow_stretch_gets_the_digits_that_tell_its_ends_apart() -> None:
    # Both neighbours cross the middle one close to k = 1/4, a thousandth apart in k.
    n = 4_000_000
    counts = counted(
        (n + 1000 + 249, n + 8000),
        (n + 1000, n + 7000),
        (n, n + 3000),
        positives=2 * n,
        negatives=n * 20,
    )
    found = sensitivity(counts, at_roi(roi="20%"))
    middle = next(each for each in found.best if each.places == (1,))
    low, high = found.where(middle.low), found.where(middle.high)
    assert low is not None
    assert high is not None
    row = next(line for line in text_of(found).splitlines() if " m1 " in line)
    shown = [float(part) for part in row.replace("%", "").split()[2:4]]
    assert shown[0] < shown[1]
    assert shown == pytest.approx([low * 100, high * 100], abs=(high - low) * 50)


def test_what_somebody_typed_is_shown_as_it_was_typed() -> None:
    found = sensitivity(BOLD_AND_SHY, at_roi(roi="0.0004%"))
    assert "assumed ROI of +0.0004 %" in text_of(found)


def test_break_even_costs_are_precision_times_revenue() -> None:
    found = sensitivity(BOLD_AND_SHY, at_roi(unit_revenue="50"))
    models = {each["model"]: each for each in document(found)["models"]}
    assert models["m1"]["break_even_unit_cost"] == {
        "at_lowest_revenue": 30.0,
        "at_highest_revenue": 30.0,
    }
    assert models["m1"]["break_even_q"] == pytest.approx(10 / 6)
    assert models["m1"]["earns_above"] == pytest.approx(0.2 / 0.6 - 1)
    assert models["never"]["break_even_unit_cost"]["at_lowest_revenue"] is None
    assert models["never"]["earns_above"] is None
    text = text_of(found)
    assert "break-even unit cost" in text
    assert text.index("m1     ") < text.index("30.00")
    place = found.counts.models.index("m1")
    assert found.rap(models["m1"]["earns_above"])[place] == pytest.approx(0)


def test_break_even_costs_of_a_range_of_revenues_have_two_ends() -> None:
    found = sensitivity(BOLD_AND_SHY, told(unit_revenue="40..50", unit_cost="5"))
    costs = {each["model"]: each["break_even_unit_cost"] for each in document(found)["models"]}
    assert costs["m1"] == {"at_lowest_revenue": 24.0, "at_highest_revenue": 30.0}
    text = text_of(found)
    assert "24.00" in text
    assert "30.00" in text
    opened = sensitivity(BOLD_AND_SHY, told(unit_revenue=">=40", unit_cost="5"))
    ends = document(opened)["models"][1]["break_even_unit_cost"]
    assert ends == {"at_lowest_revenue": 24.0, "at_highest_revenue": None}


def test_who_is_best_is_among_the_costs_however_little_it_may_pay() -> None:
    precise = [(1 + place / 50, 0.0) for place in range(30)]
    found = sensitivity(counted(*precise, (9, 9)), at_roi(unit_revenue="50"))
    text = text_of(found)
    costs = text[text.index("break-even") :].splitlines()
    assert costs[1].split() == ["m30", "25.00"]
    assert costs[-6].split()[:2] == ["always", "10.00"]
    assert "and 11 more: --json" in text


def test_without_a_unit_revenue_no_cost_is_told() -> None:
    found = sensitivity(BOLD_AND_SHY, at_roi())
    assert "break-even" not in text_of(found)
    assert document(found)["models"][0]["break_even_unit_cost"]["at_lowest_revenue"] is None


def test_the_document_holds_rap_of_every_model_and_is_json() -> None:
    found = sensitivity(BOLD_AND_SHY, at_roi("80%", "50%"))
    written: dict[str, Any] = json.loads(json.dumps(document(found), allow_nan=False))
    for place, model in enumerate(written["models"]):
        expected = [found.rap(at)[place] for at in written["at"]]
        assert model["rap"] == expected
    q = 1.5 / 0.8
    at = written["at"].index(0.5)
    assert written["models"][0]["rap"][at] == pytest.approx((9 - 16 / (q - 1)) / 10)


def test_the_highest_rap_of_each_step_is_marked() -> None:
    lines = text_of(sensitivity(BOLD_AND_SHY, at_roi(roi="20%"))).splitlines()
    rows = [line for line in lines if " % " in line and line.count(".") >= 4 and line[0] in "-+0"]
    assert len(rows) == 14
    assert all("*" in row for row in rows)
    tied = next(row for row in rows if row.startswith("0 %"))
    assert tied.count("*") == 2
    # q = 6 at +20 %: (9 - 16/5)/10 beside (6 - 4/5)/10.
    assert "52.0  58.0*" in next(row for row in rows if row.startswith("+20 %"))


def test_tables_fit_a_hundred_columns_whatever_the_names() -> None:
    generator = np.random.default_rng(1)
    fp = np.sort(generator.integers(0, 4000, 300))
    tp = np.round(900 * (fp / 4000) ** 0.3)
    names = tuple(f"[bold]{'x' * 56}{place}" for place in range(300))
    found = sensitivity(
        Counts(tp, fp.astype(float), 1000.0, 5000.0, names), at_roi(unit_revenue="9")
    )
    assert len(found.shown) > 8
    text = text_of(found)
    assert max(map(len, text.splitlines())) <= 100
    assert "[bold]x" in text
    assert "and 280 more: --json" in text


def test_what_cannot_be_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected positive labels, got none"):
        sensitivity(counted((0, 4), positives=0), at_roi())


def test_one_class_of_positives_only_is_no_error() -> None:
    found = sensitivity(counted((9, 0), positives=10, negatives=0), at_roi())
    assert [each.places for each in found.best] == [(1,)]
    assert "always is best at the assumed ROI of 0 %, and stays so whatever is assumed." in text_of(
        found
    )
