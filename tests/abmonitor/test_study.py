"""What docs/study finds on real offers: its file is what it says, and the findings hold on it, with their limits."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from abmonitor.demo import train as demo
from abmonitor.ranking.reading import Roles, open_candidates
from metrics.assumptions import QRange
from metrics.candidates import BoolArray, Counts, FloatArray, baselines, count, decide
from metrics.envelope import Stretch, break_even_unit_cost, envelope
from metrics.resampling import Replicates, resample, tied_with_best
from metrics.thresholds import halves, margins, tune


ROOT = Path(__file__).parents[2]
STORED = ROOT / "docs" / "study" / "bank_candidates.parquet"
Q = demo.UNIT_REVENUE / demo.UNIT_COST
OUT_OF_THE_BOX, BREAK_EVEN = 0.5, 1 / Q
LABEL, ID, INCUMBENT = "accepted", "customer", "rule"


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    models: tuple[str, ...]
    labels: BoolArray
    scores: FloatArray

    def decided(self, threshold: float) -> Counts:
        return count(self.models, self.labels, decide(self.scores, threshold))

    def replicated(self, threshold: float) -> Replicates:
        return resample(self.models, self.labels, decide(self.scores, threshold), 0)

    def tuned(self, q: float) -> tuple[Counts, Counts]:
        """With thresholds chosen on the same rows, and on the other half of them."""
        first_half = halves(self.labels)
        found = tune(self.scores, margins(self.labels, q), first_half)
        same = decide(self.scores, found.thresholds)
        crosswise = found.crosswise(self.scores, first_half)
        return (
            count(self.models, self.labels, same),
            count(self.models, self.labels, crosswise),
        )

    @property
    def auc(self) -> FloatArray:
        return np.array([roc_auc_score(self.labels, column) for column in self.scores.T])


@pytest.fixture(scope="module")
def study() -> Study:
    candidates = open_candidates(STORED, Roles(label=LABEL, id=ID))
    chunks = list(candidates.chunks())
    return Study(
        candidates.models,
        np.concatenate([chunk.labels for chunk in chunks]),
        np.concatenate([chunk.scores for chunk in chunks]),
    )


def best(models: tuple[str, ...], column: FloatArray) -> set[str]:
    """All that have the highest value, which are the same model where several decide alike."""
    return {models[place] for place in np.flatnonzero(column == np.nanmax(column))}


def winner(counts: Counts, q: float = Q) -> Stretch:
    """The stretch of the envelope, baselines among the competitors, that has q inside."""
    among = envelope(counts.beside(baselines(counts)))
    (found,) = (s for s in among if s.q_low < q and (s.q_high is None or q < s.q_high))
    return found


def incumbents_precision(counts: Counts) -> float:
    return float(counts.precision[counts.models.index(INCUMBENT)])


# --- the file ---------------------------------------------------------------------------------------


def test_the_file_holds_out_a_third_of_the_offers_with_their_true_labels() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(STORED)
    rows = demo.read_rows(demo.DATA / "bank_marketing.csv.gz")
    places = table[ID].to_numpy() - 1
    labels = table[LABEL].to_numpy().astype(bool)
    accepted = np.array([row["y"] == "yes" for row in rows])
    assert np.array_equal(labels, accepted[places])
    assert np.array_equal(
        table[INCUMBENT].to_numpy(), demo.control_scores([rows[place] for place in places])
    )
    assert (np.diff(places) > 0).all()
    assert len(places) == -(-len(rows) // 3)
    assert abs(labels.sum() - accepted.mean() * len(labels)) < 1


def test_scores_have_three_decimals_and_the_file_is_small(study: Study) -> None:
    thousandths = np.round(study.scores.astype(np.float64) * 1000)
    assert np.array_equal((thousandths / 1000).astype(np.float32), study.scores)
    assert len(study.models) >= 40
    assert STORED.stat().st_size < 1_500_000


# --- the best cognitive score is not the most profitable --------------------------------------------


def test_the_model_with_the_best_f_score_loses_money(study: Study) -> None:
    counts, replicates = (
        study.decided(OUT_OF_THE_BOX),
        study.replicated(OUT_OF_THE_BOX),
    )
    (named,) = best(counts.models, counts.f_score)
    place = counts.models.index(named)
    assert counts.profit(Q)[place] < 0 < counts.profit(Q).max()
    assert not tied_with_best(counts.net(Q), replicates.net(Q))[place]


@pytest.mark.parametrize("threshold", [OUT_OF_THE_BOX, BREAK_EVEN])
def test_the_model_with_the_best_auc_is_not_the_most_profitable(
    study: Study, threshold: float
) -> None:
    counts = study.decided(threshold)
    assert best(counts.models, study.auc).isdisjoint(best(counts.models, counts.rap(Q)))


def test_at_the_break_even_threshold_no_cognitive_score_names_the_most_profitable_model(
    study: Study,
) -> None:
    counts = study.decided(BREAK_EVEN)
    most_profitable = best(counts.models, counts.rap(Q))
    for column in (counts.accuracy, counts.f_score, counts.precision, counts.recall, study.auc):
        assert best(counts.models, column).isdisjoint(most_profitable)


@pytest.mark.parametrize("threshold", [OUT_OF_THE_BOX, BREAK_EVEN])
def test_accuracy_is_profit_at_a_q_of_two(study: Study, threshold: float) -> None:
    counts = study.decided(threshold)
    assert best(counts.models, counts.accuracy) == best(counts.models, counts.rap(2.0))
    (stretch,) = envelope(counts, QRange(2.0, 2.0))
    assert set(stretch.models) == best(counts.models, counts.accuracy)


def test_out_of_the_box_the_most_accurate_is_most_profitable_as_its_stretch_has_both_q_in_it(
    study: Study,
) -> None:
    counts = study.decided(OUT_OF_THE_BOX)
    (accurate,) = best(counts.models, counts.accuracy)
    assert winner(counts, 2.0).models == winner(counts, Q).models == (accurate,)
    end = winner(counts, Q).q_high
    assert end is not None
    assert winner(counts, end + 1).models != (accurate,)


# --- the winner is stable ---------------------------------------------------------------------------


def test_out_of_the_box_the_winner_stays_best_over_a_hundred_points_of_assumed_roi(
    study: Study,
) -> None:
    counts = study.decided(OUT_OF_THE_BOX)
    reference = incumbents_precision(counts)
    low, high = winner(counts).roi(reference)
    assert high is not None
    assert low < Q * reference - 1 < high
    assert high - low > 1


def test_the_winner_may_be_the_best_wherever_the_incumbent_does_not_lose_money(
    study: Study,
) -> None:
    for threshold in (OUT_OF_THE_BOX, BREAK_EVEN):
        counts, replicates = study.decided(threshold), study.replicated(threshold)
        place = int(np.argmax(counts.rap(Q)))
        for roi in np.linspace(0, 1, 11):
            q = float((1 + roi) / incumbents_precision(counts))
            assert tied_with_best(counts.net(q), replicates.net(q))[place]


def test_at_the_break_even_threshold_the_winner_is_less_stable(study: Study) -> None:
    widths = []
    for threshold in (OUT_OF_THE_BOX, BREAK_EVEN):
        counts = study.decided(threshold)
        low, high = winner(counts).roi(incumbents_precision(counts))
        assert high is not None
        widths.append(high - low)
    assert widths[0] > widths[1] > 0.25


# --- always sending wins where the cost is negligible -----------------------------------------------


@pytest.mark.parametrize("threshold", [OUT_OF_THE_BOX, BREAK_EVEN])
def test_always_sending_wins_once_the_cost_is_small_enough_and_is_worst_as_it_is(
    study: Study, threshold: float
) -> None:
    counts = study.decided(threshold)
    all_of_them = counts.beside(baselines(counts))
    first = envelope(all_of_them)[0]
    assert first.models == ("always",)
    assert first.k_low == 0
    assert first.q_low > Q
    assert best(all_of_them.models, -all_of_them.rap(Q)) == {"always"}
    dearest = demo.UNIT_REVENUE / first.q_low
    always = all_of_them.models.index("always")
    assert 0 < dearest < break_even_unit_cost(all_of_them, demo.UNIT_REVENUE)[always]
    for cost, wins in ((dearest * 0.99, True), (dearest * 1.01, False)):
        raps = all_of_them.rap(demo.UNIT_REVENUE / cost)
        assert (best(all_of_them.models, raps) == {"always"}) is wins


def test_with_thresholds_chosen_for_the_cost_a_model_stays_ahead_of_always_by_less_and_less(
    study: Study,
) -> None:
    counts = study.decided(OUT_OF_THE_BOX)
    first = envelope(counts.beside(baselines(counts)))[0]
    ahead = []
    for q in (Q, first.q_low, 2 * first.q_low):
        _, judged = study.tuned(q)
        always = baselines(judged).rap(q)[0]
        ahead.append(float(judged.rap(q).max() - always))
    assert ahead == sorted(ahead, reverse=True)
    assert ahead[-1] > 0


# --- thresholds -------------------------------------------------------------------------------------


def test_the_break_even_threshold_earns_more_except_where_scores_are_no_probabilities(
    study: Study,
) -> None:
    before, after = study.decided(OUT_OF_THE_BOX).rap(Q), study.decided(BREAK_EVEN).rap(Q)
    weighted = np.array(["balanced" in name for name in study.models])
    assert after.max() > before.max()
    assert np.median((after - before)[~weighted]) > 0
    assert ((after - before)[weighted] < 0).all()


def test_thresholds_chosen_on_other_rows_make_every_weighted_model_earn_money(study: Study) -> None:
    in_sample, held_out = study.tuned(Q)
    weighted = np.array(["balanced" in name for name in study.models])
    assert (held_out.rap(Q)[weighted] > 0).all()
    assert (study.decided(OUT_OF_THE_BOX).rap(Q)[weighted] < 0).all()
    assert held_out.rap(Q).mean() < in_sample.rap(Q).mean()


# --- the document -----------------------------------------------------------------------------------


def test_the_readme_says_what_is_found(study: Study) -> None:
    counts = study.decided(OUT_OF_THE_BOX)
    raps, stretch = counts.rap(Q), winner(counts)
    low, high = stretch.roi(incumbents_precision(counts))
    always = envelope(counts.beside(baselines(counts)))[0]
    rows = {
        "highest RAP": (raps, "{rap:.3f}"),
        "best F-score": (counts.f_score, "{rank}th, {rap:.3f}"),
        "best AUC": (study.auc, "{rank}th, {rap:.3f}"),
    }
    said = STORED.with_name("README.md").read_text()
    for title, (column, form) in rows.items():
        (named,) = best(counts.models, column)
        rap = raps[counts.models.index(named)]
        text = form.format(rank=1 + int((raps > rap).sum()), rap=rap).replace("-", "\N{MINUS SIGN}")
        assert re.search(rf"\| {title} \| `{re.escape(named)}`[,:] {re.escape(text)}", said)
    assert high is not None
    assert f"| {stretch.q_low:.3f} to {stretch.q_high:.3f} |" in said
    assert f"| {low:+.1%} to {high:+.1%} |".replace("%", " %") in said
    assert f"| above q = {always.q_low:.2f} |" in said
    assert f"| {demo.UNIT_REVENUE / always.q_low:.2f} \N{EURO SIGN} |" in said
    assert f"its precision {incumbents_precision(counts):.1%}".replace("%", " %") in said
    assert f"{len(study.labels):,} real offers" in said
    assert f"{study.labels.mean():.1%} accepted".replace("%", " %") in said
    assert f"What {len(study.models)} candidates" in said
