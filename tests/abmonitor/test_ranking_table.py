import json
import math
from dataclasses import replace
from io import StringIO
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from support.candidates import Sample, sample

from abmonitor.ranking import columns, table
from abmonitor.ranking.assumed import assumed
from abmonitor.ranking.document import document
from abmonitor.ranking.plan import Plan
from abmonitor.ranking.ranking import NAMES, Ranking, rank
from abmonitor.ranking.tuning import rank_tuned


PLAN = Plan(assumed=assumed(q="3"), replicates=40)


def ranked(drawn: Sample, plan: Plan = PLAN) -> Ranking:
    return rank(drawn.candidates, plan)


def shown(ranking: Ranking, width: int | None = 100, **how: Any) -> list[str]:
    told = StringIO()
    console = Console(file=told, width=width or table.WIDTH, color_system=None, highlight=False)
    console.print(table.render(ranking, width=width, **how), crop=False)
    return told.getvalue().splitlines()


def row_of(lines: list[str], name: str) -> str:
    return next(line for line in lines if f" {name} " in f"{line} ")


def named(*names: str, rows: int = 200) -> Sample:
    drawn = sample(rows, len(names))
    drawn.models = names
    return drawn


def test_it_begins_with_which_model_and_ends_with_what_is_doubtful() -> None:
    lines = shown(ranked(sample()))
    assert lines[0].startswith("m3 earns ")
    assert any(line.startswith("! Fewer than 100 rows are positive") for line in lines[-2:])


def test_the_best_of_each_column_is_marked_without_colour() -> None:
    drawn = sample(models=6)
    drawn.scores[:, 0] = drawn.scores[:, 5]
    found = ranked(drawn)
    lines = shown(found, columns=["rap", "recall", "fp", "tp"])
    for place, name in enumerate(drawn.models):
        cells = row_of(lines, name).split()[2:]
        for cell, column in zip(cells, ("rap", "recall", "fp", "tp"), strict=True):
            numbers = found.column(column)[:6]  # type: ignore[arg-type]
            best = numbers.min() if column == "fp" else numbers.max()
            assert cell.endswith("*") == (numbers[place] == best)
    assert row_of(lines, "m0").count("*") == row_of(lines, "m5").count("*") > 0
    assert "*" not in row_of(lines, "always")


def test_who_is_best_beyond_the_rows_shown_is_named_below() -> None:
    found = ranked(sample(models=6))
    lines = shown(found, top=1, columns=["rap", "fp"])
    least = int(np.argmin(found.column("fp")[:6]))
    assert found.ranks[least] > 1
    expected = (
        f"* further down: FP {found.column('fp')[least]:.0f} m{least} (rank {found.ranks[least]})."
    )
    assert expected in lines


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 140, 250])
@pytest.mark.parametrize("q", ["3", "2..9"])
def test_it_fits_the_terminal_and_keeps_rap(width: int, q: str) -> None:
    found = rank_tuned(
        named("a" * 200, "b[bold]c[/bold]", "c", "d_depth=12_rate=0.05_leaves=31").candidates,
        replace(PLAN, assumed=assumed(q=q)),
    )
    lines = shown(found, width)
    assert max(len(line.rstrip()) for line in lines) <= width
    head = next(line for line in lines if line.lstrip().startswith("#"))
    assert "RAP %" in head
    if width == 250:
        assert "TN" in head


def test_more_room_shows_more_columns_and_the_others_are_named() -> None:
    found = ranked(sample())
    seen = []
    for width in (40, 70, 100, 200):
        lines = shown(found, width)
        head = next(line for line in lines if line.lstrip().startswith("#"))
        seen.append(len(head.split("  ")))
        text = " ".join(lines)
        assert ("More columns by --columns:" in text) == ("TN" not in head)
        assert "tn." in text or "TN" in head
    assert seen == sorted(seen)


def test_names_with_markup_or_control_characters_are_shown_as_they_are() -> None:
    lines = shown(ranked(named("[red]x[/red]", "\x1b[2J", "[/]", ":smile:")))
    for name in ("[red]x[/red]", "\\x1b[2J", "[/]", ":smile:"):
        assert row_of(lines, name)


def test_long_names_are_cut_in_the_middle_but_whole_in_a_pipe() -> None:
    long = "boost_" + "x" * 190 + "_d=8"
    found = ranked(named("a", "b", "c", long))
    cut = next(line for line in shown(found) if "boost_" in line and "…" in line and " 1 " in line)
    assert "_d=8" in cut
    assert len(cut.rstrip()) <= 100
    assert row_of(shown(found, None), long)
    table_of_pipe = next(line for line in shown(found, None) if line.lstrip().startswith("#"))
    assert "RAP %" in table_of_pipe


def test_wide_characters_break_no_line() -> None:
    drawn = named("\N{CJK UNIFIED IDEOGRAPH-6A21}" * 60, "\N{ROCKET}" * 9, "c", "d")
    for width in (40, 100):
        assert max(cell_len(line.rstrip()) for line in shown(ranked(drawn), width)) <= width


def test_the_width_of_a_name_is_that_of_its_characters_on_the_screen() -> None:
    wide = "\N{CJK UNIFIED IDEOGRAPH-6A21}"
    found = ranked(named(wide * 60, "b", "c", "d" + wide * 60))
    for width in (60, 61, 100):
        lines = shown(found, width, columns=["rap", "fp"])
        assert next(line for line in lines if line.lstrip().startswith("#")).split()[-1] == "FP"
        rows = [line.split() for line in lines if wide in line and line.split()[0].isdigit()]
        names = [row[1] for row in rows]
        for name in names:
            head, tail = name.removeprefix("d").split("…")
            assert set(head + tail) == {wide}
            assert 0 <= cell_len(tail) - cell_len(head) <= 2
        assert len(names) == 2


def test_top_0_leaves_the_sentences_and_the_baselines() -> None:
    lines = shown(ranked(sample()), top=0)
    assert lines[0].startswith("m3 earns ")
    assert row_of(lines, "always")
    assert not any(line.lstrip().startswith("1  m3") for line in lines)
    assert "4 more models: --top N, --all or --json." in lines


def test_all_models_are_shown_if_asked_for() -> None:
    lines = shown(ranked(sample(rows=100, models=60)), top=None)
    assert all(row_of(lines, f"m{place}") for place in range(60))


def test_what_cannot_be_known_is_a_dash() -> None:
    drawn = sample()
    drawn.scores[:, 2] = 0
    lines = shown(ranked(drawn), columns=["rap", "precision", "roi", "interval"])
    assert row_of(lines, "m2").split()[2:] == ["0.0", *[columns.UNKNOWN] * 3]


def test_a_range_shows_ranks_and_what_is_certain() -> None:
    found = ranked(sample(), replace(PLAN, assumed=assumed(q="1.1..50")))
    assert found.within is not None
    lines = shown(found, columns=["ranks", "first", "rap_range"])
    for place, name in enumerate(found.models):
        best, worst = found.within.ranks.best[place], found.within.ranks.worst[place]
        told = f"{best} to {worst}" if best < worst else f"{best}"
        assert told in row_of(lines, name)
        assert found.within.ranks.certainty(1)[place] in row_of(lines, name)


def test_a_loss_without_bound_is_said_to_be_one() -> None:
    found = ranked(sample(), replace(PLAN, assumed=assumed(q="<=3")))
    assert "-∞ to " in row_of(shown(found, columns=["rap_range"]), "m3")
    assert document(found)["models"][0]["rap_low"] is None


def test_a_threshold_of_a_model_that_should_never_act_says_so() -> None:
    drawn = sample()
    drawn.scores[:, 0] = 0.5
    lines = shown(rank_tuned(drawn.candidates, PLAN), columns=["threshold"])
    assert "never acts" in row_of(lines, "m0")


def test_values_of_rows_are_said_to_decide_above_the_table() -> None:
    drawn = sample()
    drawn.values, drawn.costs = np.full(200, 5.0), np.ones(200)
    lines = shown(ranked(drawn, replace(PLAN, assumed=None)))
    head = next(i for i, line in enumerate(lines) if line.lstrip().startswith("#"))
    told = " ".join(" ".join(lines[:head]).split())
    assert "Profit, RAP and ROI are those of the value and the cost of each row." in told


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["rapp"], "unknown column 'rapp'; did you mean rap"),
        (["zzz"], "unknown column 'zzz'; expected some of tied, rap, interval,"),
        (["ranks"], "ranks is there only with a range of assumptions"),
        (["threshold"], "threshold is there only with --optimise-threshold"),
    ],
)
def test_a_column_that_there_is_not_is_named(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table.render(ranked(sample()), columns=names)
    with pytest.raises(ValueError, match="interval is there only with --replicates"):
        table.render(ranked(sample(), replace(PLAN, replicates=0)), columns=["interval"])


def test_every_column_of_numbers_can_be_shown() -> None:
    assert {*NAMES} < {column.name for column in columns.COLUMNS}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.4123, "41.2"),
        (-1e-9, "0.0"),
        (math.nan, columns.UNKNOWN),
        (-math.inf, "-∞"),
        (-12.5, "-1,250.0"),
    ],
)
def test_shares_are_per_cent_with_one_digit(number: float, text: str) -> None:
    assert columns.share(number) == text


@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9
    ),
    how=st.sampled_from(["1.5", "36", "1.5..9", ">=3", "0.5..9", "rows"]),
    tuned=st.booleans(),
    replicates=st.sampled_from([0, 40]),
    width=st.integers(30, 160),
)
@settings(max_examples=150)
def test_the_smallest_files_are_told_too(
    rows: list[tuple[bool, int, int]], how: str, tuned: bool, replicates: int, width: int
) -> None:
    labels = np.array([label for label, *_ in rows])
    scores = np.array([scores for _, *scores in rows]).astype(np.float32) / np.float32(3)
    drawn = Sample(labels, scores, ("a", "b"), step=4)
    drawn.values, drawn.costs = np.full(len(rows), 3.0), np.ones(len(rows))
    plan = Plan(assumed=None if how == "rows" else assumed(q=how), replicates=replicates)
    ranking = (rank_tuned if tuned else rank)(drawn.candidates, plan)
    lines = shown(ranking, width)
    assert max(len(line.rstrip()) for line in lines) <= width
    assert row_of(lines, "a")
    assert row_of(lines, "b")
    told = through_json(ranking)
    for each in told["models"] + told["baselines"]:
        if any(labels):
            assert each["rap"] <= 1
        else:
            assert each["rap"] is None
        assert each["tp"] + each["fn"] == pytest.approx(sum(labels))
        assert each["fp"] + each["tn"] == pytest.approx(len(rows) - sum(labels))


def through_json(ranking: Ranking) -> Any:
    return json.loads(msgspec.json.encode(document(ranking)))


def test_the_document_has_all_models_in_full_precision() -> None:
    drawn = sample(rows=120, models=3_000)
    found = ranked(drawn)
    told = through_json(found)
    assert len(told["models"]) == 3_000
    assert [each["rank"] for each in told["models"]] == sorted(found.ranks.tolist())
    places = {name: place for place, name in enumerate(drawn.models)}
    for each in told["models"][:40]:
        place = places[each["model"]]
        for name in NAMES:
            assert each[name] == pytest.approx(
                found.column(name)[place].item(), rel=1e-15, nan_ok=True
            )
        rap = found.interval("rap")
        assert rap is not None
        assert each["intervals"]["rap"] == [rap[0][place], rap[1][place]]
    assert [each["model"] for each in told["baselines"]][:2] == ["always", "never"]
    assert told["best"] == [each["model"] for each in told["models"] if each["rank"] == 1]
    assert found.tied is not None
    assert len(told["tied"]) == found.tied[:3_000].sum()


def test_what_is_not_known_is_null_in_the_document() -> None:
    drawn = sample()
    drawn.scores[:, 2] = 0
    found = through_json(ranked(drawn, replace(PLAN, replicates=0)))
    lazy = next(each for each in found["models"] if each["model"] == "m2")
    assert lazy["precision"] is lazy["roi"] is lazy["rap_joint_interval"] is lazy["tied"] is None
    assert lazy["rap"] == 0
    assert found["tied"] is None


def test_the_document_tells_ranges_and_thresholds() -> None:
    drawn = sample()
    ranking = rank_tuned(drawn.candidates, replace(PLAN, assumed=assumed(q="0.5..9")))
    found = through_json(ranking)
    assert found["q_range"] == {"low": None, "high": 9.0, "clipped": True}
    assert found["threshold"] is None
    assert ranking.tuning is not None
    for each in found["models"]:
        place = drawn.models.index(each["model"])
        assert each["threshold"] == ranking.tuning.thresholds[place]
        assert each["threshold_halves"] == ranking.tuning.halves[:, place].tolist()
        assert each["first"] in {"certain", "possible", "impossible"}
    assert found["baselines"][0]["threshold"] is None
