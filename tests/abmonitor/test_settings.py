from pathlib import Path
from typing import Protocol

import pytest

from abmonitor.secret import Secret
from abmonitor.settings import SettingsError, load, reload
from alerts.guardrails import Guardrail
from metrics.duration import Duration


class Write(Protocol):
    def __call__(self, text: str | bytes, name: str = ...) -> Path: ...


# An experiment with one thing to fill in at every place where something can be wrong.
EXPERIMENT = """\
experiments:
  - name: {name}
    control: {control}
    variants: {variants}
    labels: {labels}
    profitability: {profitability}
    windows: {windows}
    guardrails: {guardrails}
    on_breach: {on_breach}
"""
GOOD = {
    "name": "a",
    "control": "old",
    "variants": "{old: 1, new: 1}",
    "labels": "{horizon: 1h}",
    "profitability": "{q: 2}",
    "windows": "[5m]",
    "guardrails": "[]",
    "on_breach": "{action: log}",
}


def experiment(**different: str) -> str:
    return EXPERIMENT.format(**(GOOD | different))


def mistakes(path: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(path)
    return [
        line.removeprefix(f"{path}:").removeprefix(f"{path}/")
        for line in str(caught.value).splitlines()
    ]


def test_the_sample_of_the_design_loads(write: Write, sample: str) -> None:
    loaded = load(write(sample))
    (offers,) = loaded.experiments
    assert offers.treatments == ("ranker-v2",)
    assert offers.labels.horizon == 3_600_000
    assert offers.q == pytest.approx(35.89893874, rel=1e-4)
    assert [guardrail.name for guardrail in offers.guardrails] == [
        "rap:sequential",
        "latency_p99_ms:threshold:5m",
        "error_rate:sequential",
    ]
    assert offers.on_breach.action == "webhook"
    assert offers.on_breach.url == Secret(env="ROLLBACK_URL")


def test_what_is_not_said_has_a_default(write: Write) -> None:
    loaded = load(write(experiment()))
    assert loaded.deployment == "default"
    assert loaded.early_for == 600_000
    assert loaded.redis == Secret(env="ABMONITOR_REDIS")
    assert loaded.kafka.servers == Secret(env="ABMONITOR_KAFKA")
    assert loaded.sources == {}
    assert loaded.brake.rollbacks == 3
    assert loaded.brake.within == 3_600_000
    assert not loaded.experiments[0].on_breach.dry_run


def test_everything_can_be_said(write: Write) -> None:
    loaded = load(
        write(
            "deployment: shop\n"
            "early_for: 1m\n"
            "redis: {file: /run/secrets/redis}\n"
            "brake: {rollbacks: 1, within: 10m}\n"
            "sources:\n"
            "  scores:\n"
            "    type: prediction\n"
            "    fields: {prediction_id: id, latency_ms: {path: timing.seconds, unit: s}}\n"
            + experiment(guardrails="[{metric: roi, window: 1h, min: 0}]")
        )
    )
    assert loaded.deployment == "shop"
    assert loaded.early_for == 60_000
    assert loaded.redis == Secret(file="/run/secrets/redis")
    assert loaded.brake.within == 600_000
    assert loaded.sources["scores"].fields["prediction_id"] == "id"
    assert loaded.experiments[0].guardrails == (
        Guardrail(metric="roi", window=Duration.parse("1h"), min=0.0),
    )


def test_three_mistakes_are_told_at_once_with_line_and_column(write: Write) -> None:
    path = write("""\
        experiments:
          - name: offers
            control: rules
            variants: {rules: 0.5, ranker: 0.5}
            labels: {horizon: 1h, observd: all}
            profitability: {q: 0.9}
            guardrails:
              - {metric: error_rate, test: sequential}
              - metric: rapp
        """)
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert str(caught.value).splitlines() == [
        (
            f"{path}:5:27: experiments[0].labels.observd: unknown key 'observd';"
            " did you mean 'observed'?"
        ),
        (
            f"{path}:6:20: experiments[0].profitability: unit profitability q must be above 1"
            " (an action must be able to pay), got 0.9"
        ),
        (
            f"{path}:9:17: experiments[0].guardrails[1].metric: unknown metric 'rapp';"
            " did you mean 'rap'?"
        ),
    ]
    first = caught.value.mistakes[0]
    assert (first.file, first.line, first.column) == (str(path), 5, 27)
    assert first.path == ("experiments", 0, "labels", "observd")


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ({"name": "no"}, "2:11: experiments[0].name: expected text, got false (yes, no, on"),
        ({"name": "1"}, "2:11: experiments[0].name: expected text, got 1 (quote it)"),
        ({"name": "a b"}, "2:11: experiments[0].name: expected text matching"),
        ({"name": '"a\\n"'}, "2:11: experiments[0].name: expected one line, got 'a\\n'"),
        ({"control": "older"}, "3:14: experiments[0].control: 'older' is not one of the variants:"),
        ({"variants": "{old: 1}"}, "4:15: experiments[0].variants: expected a treatment beside"),
        ({"variants": "{old: 0, new: 1}"}, "4:21: experiments[0].variants.old: expected a share"),
        ({"variants": "{old: 1, new: -1}"}, "4:29: experiments[0].variants.new: expected a number"),
        ({"variants": "{old: 1, new: 1e308, b: 1e308}"}, "4:15: experiments[0].variants: expected"),
        ({"variants": "{old: 1, old: 2, new: 1}"}, "4:24: experiments[0].variants.old: duplicate"),
        ({"variants": "{old: 1, no: 2}"}, "4:24: experiments[0].variants.no: expected text as a"),
        ({"labels": "{}"}, "5:13: experiments[0].labels: 'horizon' is missing"),
        ({"labels": "{horizon: 0s}"}, "5:23: experiments[0].labels.horizon: expected a time above"),
        ({"labels": "{horizon: 60}"}, "5:23: experiments[0].labels.horizon: expected a duration"),
        (
            {"labels": "{horizon: 5000w}"},
            "5:23: experiments[0].labels.horizon: expected a duration",
        ),
        (
            {"labels": f"{{horizon: {'9' * 400}d}}"},
            "5:23: experiments[0].labels.horizon: expected a duration such as",
        ),
        (
            {"labels": "{horizon: 1h, cohort: 15s}"},
            "5:35: experiments[0].labels.cohort: expected a",
        ),
        ({"labels": "{horizon: 1h, cohort: 0s}"}, "5:35: experiments[0].labels.cohort: expected a"),
        (
            {"labels": "{horizon: 1h, observed: al}"},
            "5:37: experiments[0].labels.observed: expected",
        ),
        ({"profitability": "{q: 1}"}, "6:20: experiments[0].profitability: unit profitability q"),
        ({"profitability": "{q: .nan}"}, "6:24: experiments[0].profitability.q: expected a finite"),
        ({"profitability": "{}"}, "6:20: experiments[0].profitability: expected exactly one of"),
        ({"profitability": "{q: 2, unit_cost: 1}"}, "6:20: experiments[0].profitability: expected"),
        ({"windows": "[5s]"}, "7:15: experiments[0].windows[0]: expected a multiple of 10s"),
        ({"windows": "[0s]"}, "7:15: experiments[0].windows[0]: expected a multiple of 10s"),
        ({"windows": "[1m, 9d]"}, "7:19: experiments[0].windows[1]: expected a multiple of 10s"),
        ({"windows": "[1m, 60s]"}, "7:19: experiments[0].windows[1]: the window 1m is listed"),
        ({"guardrails": "{}"}, "8:17: experiments[0].guardrails: expected a list, got a mapping"),
        (
            {"guardrails": "[{metric: rapp}]"},
            "8:27: experiments[0].guardrails[0].metric: unknown metric 'rapp'",
        ),
        (
            {"guardrails": "[{metric: rap, test: sequential, margin: -0.1}]"},
            "8:58: experiments[0].guardrails[0].margin: expected a number >= 0.0, got -0.1",
        ),
        (
            {"guardrails": "[{metric: error_rate, window: 7s, max: 1}]"},
            "8:47: experiments[0].guardrails[0].window: expected a multiple of 10s",
        ),
        (
            {"guardrails": "[{metric: error_rate, window: 1m}]"},
            "8:27: experiments[0].guardrails[0].metric: a threshold needs one of min, max,",
        ),
        (
            {
                "labels": "{horizon: 1h, observed: acted}",
                "guardrails": "[{metric: rap, test: sequential}]",
            },
            "8:27: experiments[0].guardrails[0].metric: rap cannot be known where labels are",
        ),
        (
            {"profitability": "~", "guardrails": "[{metric: rap, test: sequential}]"},
            "8:27: experiments[0].guardrails[0].metric: rap needs `profitability`",
        ),
        (
            {"guardrails": "[&g {metric: rap, test: sequential}, {metric: rap, test: sequential}]"},
            "8:63: experiments[0].guardrails[1].metric: 'rap:sequential' is there already, in",
        ),
        (
            {"on_breach": "{action: webhook}"},
            "9:16: experiments[0].on_breach: action: webhook needs url, such as url: {env: ROLLBACK_URL}",
        ),
        (
            {"on_breach": "{url: {env: A}}"},
            "9:22: experiments[0].on_breach.url: action: log has no use for url",
        ),
        (
            {"on_breach": "{action: webhook, url: 'https://a:hush@b'}"},
            "9:39: experiments[0].on_breach.url: expected {env: NAME} or {file: path}",
        ),
        (
            {"on_breach": "{action: webhook, url: {env: A}, secret: hush}"},
            "9:57: experiments[0].on_breach.secret: expected {env: NAME} or {file: path}",
        ),
        (
            {"on_breach": "{action: webhook, url: {env: A, file: B}}"},
            "9:39: experiments[0].on_breach.url: expected {env: NAME} or {file: path}",
        ),
        ({"on_breach": "{action: mail}"}, "9:25: experiments[0].on_breach.action: expected one of"),
    ],
)
def test_a_bad_value_is_told_once_where_it_stands(
    write: Write, different: dict[str, str], expected: str
) -> None:
    (found,) = mistakes(write(experiment(**different)))
    assert found.startswith(expected)
    assert "hush" not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing yet\n", "1:1: the file is empty"),
        ("- a\n", "1:1: expected a mapping with `experiments`"),
        ("hello", "1:1: expected a mapping with `experiments`"),
        ("{}", "1:1: 'experiments' is missing"),
        ("experiments: []", "1:14: experiments: expected a list of length >= 1, got a list"),
        ("experiments:\n", "1:13: experiments: expected a list, got nothing"),
        ("experiments:\n\t- name: a", "2:1: no valid YAML: a tab cannot indent YAML; use spaces"),
        (experiment() + "experiments: []", "10:1: experiments: duplicate key 'experiments'"),
        (experiment() + "deployment: a/b", "10:13: deployment: expected text matching regex"),
        (experiment() + "deploymnt: a", "10:1: deploymnt: unknown key 'deploymnt'; did you mean"),
        (experiment() + "redis: redis://:hush@b", "10:8: redis: expected {env: NAME} or {file:"),
        (experiment() + "early_for: soon", "10:12: early_for: expected a duration such as '30s'"),
        (
            experiment() + "brake: {rollbacks: -1}",
            "10:20: brake.rollbacks: expected a whole number",
        ),
        (experiment() + "brake: {within: 0s}", "10:17: brake.within: expected a time above 0, got"),
        (
            experiment() + "sources: {t: {fields: {a: b}}}",
            "10:23: sources.t.fields: a mapping needs",
        ),
        (
            experiment() + "sources: {t: {type: outcome, fields: {truth: b}}}",
            "10:46: sources.t.fields.truth: unknown field; the fields of outcome events",
        ),
        (b"deployment: \xe9", "1:13: expected UTF-8, got byte 0xe9"),
    ],
)
def test_a_bad_file_is_told_once_where_it_is_bad(
    write: Write, text: str | bytes, expected: str
) -> None:
    (found,) = mistakes(write(text))
    assert found.startswith(expected)
    assert "hush" not in found


RAMP = """\
    ramp:
      - {at: 2026-01-02T00:00:00Z, variants: {old: 9, new: 1}}
      - {at: 2026-01-03T00:00:00Z, variants: {old: 1, new: 1}}
"""
RAP = "[{metric: rap, test: sequential}]"


@pytest.mark.parametrize(
    ("different", "more", "expected"),
    [
        ({}, "testing: {alpha: 0}", "10:22: experiments[0].testing.alpha: expected a number > 0"),
        ({}, "testing: {alpha: 1}", "10:22: experiments[0].testing.alpha: expected a number < 1"),
        ({}, "testing: {alpha_pass: 1.5}", "10:27: experiments[0].testing.alpha_pass: expected a"),
        ({}, "testing: {planned: 0}", "10:24: experiments[0].testing.planned: expected a number"),
        (
            {"guardrails": RAP},
            "testing: {blind_budget: 0}",
            "10:29: experiments[0].testing.blind_budget: expected a whole number >= 1",
        ),
        (
            {"guardrails": "[{metric: error_rate, test: sequential}]"},
            "testing: {blind_budget: 9}",
            "10:29: experiments[0].testing.blind_budget: expected a sequential guardrail on labels",
        ),
        (
            {"guardrails": "[{metric: precision, window: 1h, min: 0}]"},
            "testing: {blind_budget: 9}",
            "10:29: experiments[0].testing.blind_budget: expected a sequential guardrail on labels",
        ),
        ({}, "slo_ms: 0", "10:13: experiments[0].slo_ms: expected a number > 0"),
        ({}, "money: {}", "10:12: experiments[0].money: 'cap' is missing"),
        ({}, "money: {cap: 0}", "10:18: experiments[0].money.cap: expected a number > 0"),
        (
            {"guardrails": "[{metric: slow_rate, window: 1m, max: 1}]"},
            "",
            "8:27: experiments[0].guardrails[0].metric: slow_rate needs `slo_ms`",
        ),
        (
            {"guardrails": "[{metric: money_per_prediction, test: sequential}]"},
            "",
            "8:27: experiments[0].guardrails[0].metric: money_per_prediction needs `money`",
        ),
        (
            {"guardrails": "[{metric: latency_p99_ms, test: sequential}]"},
            "",
            "8:49: experiments[0].guardrails[0].test: there is no sequential test of latency_p99_ms",
        ),
        (
            {"guardrails": "[{metric: rap, test: sequential, window: 1h}]"},
            "",
            "8:58: experiments[0].guardrails[0].window: a sequential test sees everything since",
        ),
        (
            {"guardrails": "[{metric: rap, test: sequential, relative_margin: 0.1}]"},
            "",
            "8:67: experiments[0].guardrails[0].relative_margin: rap may be 0 or below",
        ),
        (
            {"guardrails": "[{metric: rap, test: sequential, warm_up: 1m}]"},
            "",
            "8:59: experiments[0].guardrails[0].warm_up: rap is judged by cohorts",
        ),
        (
            {"guardrails": "[{metric: rap, test: sequential, weight: 0}]"},
            "",
            "8:58: experiments[0].guardrails[0].weight: expected a number >= 0.001",
        ),
        (
            {"guardrails": "[{metric: selection_rate, test: sequential, margin: 0.1}]"},
            "randomised_by: unit",
            "8:49: experiments[0].guardrails[0].test: the sequential test of selection_rate takes",
        ),
    ],
)
def test_what_sequential_guardrails_cannot_do_is_told_once_where_it_stands(
    write: Write, different: dict[str, str], more: str, expected: str
) -> None:
    (found,) = mistakes(write(experiment(**different) + f"    {more}\n"))
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("2026-01-03", "2026-01-02", "12:14: experiments[0].ramp[1].at: expected a time after the"),
        ("2026-01-03", "2026-01-01", "12:14: experiments[0].ramp[1].at: expected a time after the"),
        ("00Z, variants: {old: 9", "00, variants: {old: 9", "11:14: experiments[0].ramp[0].at: "),
        ("new: 1}}", "newer: 1}}", "11:62: experiments[0].ramp[0].variants.newer: 'newer' is not"),
        (
            "{old: 9, new: 1}",
            "{new: 1}",
            "11:46: experiments[0].ramp[0].variants: expected a share",
        ),
        ("old: 9", "old: 0", "11:46: experiments[0].ramp[0].variants: expected a share of the"),
        ("old: 9", "old: -1", "11:52: experiments[0].ramp[0].variants.old: expected a number >= 0"),
    ],
)
def test_a_bad_ramp_is_told_once_where_it_is_bad(
    write: Write, old: str, new: str, expected: str
) -> None:
    assert load(write(experiment() + RAMP)).experiments[0].ramp
    (found,) = mistakes(write(experiment() + RAMP.replace(old, new, 1)))
    assert found.startswith(expected)


def test_a_ramp_is_read_with_its_times(write: Write) -> None:
    (found,) = load(write(experiment() + RAMP)).experiments
    assert [str(step.at) for step in found.ramp] == ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]
    assert found.split_at(found.ramp[0].at) == {"old": 9, "new": 1}
    assert found.split_at(found.ramp[1].at) == {"old": 1, "new": 1}


# --- what begins a new epoch ------------------------------------------------------------------------


def fingerprint(write: Write, *more: str, **different: str) -> str:
    text = experiment(**different) + "".join(f"    {line}\n" for line in more)
    (found,) = load(write(text)).experiments
    return found.fingerprint


def test_another_split_and_what_is_only_shown_or_planned_begin_no_epoch(write: Write) -> None:
    before = fingerprint(write)
    assert fingerprint(write) == before
    assert fingerprint(write, variants="{old: 9, new: 1}") == before
    assert fingerprint(write, variants="{new: 1, old: 1}") == before
    assert fingerprint(write, "testing: {max_duration: 7d}") == before
    assert fingerprint(write, RAMP.strip()) == before
    assert fingerprint(write, windows="[1m, 1h]") == before
    assert fingerprint(write, "predictions_per_second: 7") == before
    assert fingerprint(write, "expected: {positive_rate: 0.1}") == before


def test_anything_that_is_tested_begins_a_new_epoch(write: Write) -> None:
    rap = "[{metric: rap, test: sequential, margin: 0.1}]"
    changed = [
        fingerprint(write),
        fingerprint(write, variants="{old: 1, new: 1, newer: 1}"),
        fingerprint(write, control="new"),
        fingerprint(write, profitability="{q: 3}"),
        fingerprint(write, labels="{horizon: 2h}"),
        fingerprint(write, labels="{horizon: 1h, cohort: 1h}"),
        fingerprint(write, labels="{horizon: 1h, when_missing: exclude}"),
        fingerprint(write, guardrails=rap),
        fingerprint(write, guardrails=rap.replace("0.1", "0.2")),
        fingerprint(write, guardrails=rap.replace("0.1", "0.1, weight: 2")),
        fingerprint(write, guardrails=rap.replace("0.1", "0.1, detect: 0.2")),
        fingerprint(write, "testing: {alpha: 0.01}"),
        fingerprint(write, "testing: {alpha_pass: 0.01}"),
        fingerprint(write, "testing: {planned: 7}"),
        fingerprint(write, "testing: {min_duration: 1h}"),
        fingerprint(write, "randomised_by: unit"),
        fingerprint(write, "unit_share: 0.5"),
        fingerprint(write, "slo_ms: 100"),
        fingerprint(write, "money: {cap: 10}"),
    ]
    assert len(set(changed)) == len(changed)


def test_a_name_given_twice_is_a_mistake(write: Write) -> None:
    twice = experiment() + experiment().removeprefix("experiments:\n")
    path = write(twice)
    (found,) = mistakes(path)
    assert found == f"10:11: experiments[1].name: 'a' is there already, in {path}:2:11"


def test_a_mistake_does_not_hide_those_around_it_nor_cause_others(write: Write) -> None:
    found = mistakes(
        write(
            experiment(
                control="[]",
                profitability="{q: high}",
                labels="{horizon: soon, cohort: 1s}",
                windows="[1s, 1m]",
                guardrails="[3, {metric: rap, test: sequential, margin: x}, {metric: nope}]",
            )
            + "brake: {within: never}\n"
        )
    )
    assert [line.split(": ")[1] for line in found] == [
        "experiments[0].control",
        "experiments[0].labels.horizon",
        "experiments[0].labels.cohort",
        "experiments[0].profitability.q",
        "experiments[0].windows[0]",
        "experiments[0].guardrails[0]",
        "experiments[0].guardrails[1].margin",
        "experiments[0].guardrails[2].metric",
        "brake.within",
    ]


def test_what_an_alias_repeats_is_told_once(write: Write) -> None:
    labels = "&l {horizon: 0s}"
    again = experiment(name="b", labels="*l").removeprefix("experiments:\n")
    (found,) = mistakes(write(experiment(labels=labels) + again))
    assert found.startswith("5:26: experiments[0].labels.horizon: expected a time above 0")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:1:1: cannot read the file: No such file or directory"


def test_a_folder_is_read_in_the_order_of_file_names(write: Write) -> None:
    write(experiment(name="z"), "d/10-first.yaml")
    write(experiment(name="a") + "early_for: 1m\n", "d/20-second.yml")
    write("deployment: shop\n", "d/30-third.yaml")
    write("not: settings", "d/README.md")
    write("not: settings", "d/.hidden.yaml")
    loaded = load(write("", "d/empty").parent)
    assert [each.name for each in loaded.experiments] == ["z", "a"]
    assert loaded.deployment == "shop"
    assert loaded.early_for == 60_000


def test_mistakes_in_a_folder_name_their_files(write: Write) -> None:
    write(experiment(name="x") + "deployment: one\n", "d/1.yaml")
    write(experiment(name="x", windows="[1s]") + "deployment: two\n", "d/2.yaml")
    write("", "d/3.yaml")
    write("a: [", "d/4.yaml")
    write("- list", "d/5.yaml")
    folder = write(experiment(name="y", control="none"), "d/6.yaml").parent
    assert mistakes(folder) == [
        f"2.yaml:2:11: experiments[1].name: 'x' is there already, in {folder}/1.yaml:2:11",
        (
            "2.yaml:7:15: experiments[1].windows[0]: expected a multiple of 10s, above 0 and at most"
            " 8d, got 1s"
        ),
        f"2.yaml:10:1: deployment: 'deployment' was given already in {folder}/1.yaml:10:1",
        "3.yaml:1:1: the file is empty",
        (
            "4.yaml:1:5: no valid YAML: expected the node content, but found '<stream end>'"
            " (while parsing a flow node)"
        ),
        "5.yaml:1:1: expected a mapping with `experiments`",
        "6.yaml:3:14: experiments[2].control: 'none' is not one of the variants: old, new",
    ]


def test_in_a_folder_a_broken_file_does_not_make_its_experiments_missing(write: Write) -> None:
    write("deployment: a", "d/1.yaml")
    (found,) = mistakes(write("experiments: [", "d/2.yaml").parent)
    assert found.startswith("2.yaml:1:15: no valid YAML")


def test_in_a_folder_experiments_must_be_lists(write: Write) -> None:
    write(experiment(), "d/1.yaml")
    folder = write("experiments: {name: b}", "d/2.yaml").parent
    assert mistakes(folder) == [
        f"2.yaml:1:1: experiments: expected lists here and in {folder}/1.yaml:1:1"
    ]


def test_a_folder_without_settings_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}:1:1: no *.yaml or *.yml file in this folder"


def test_bad_settings_keep_the_old_ones_and_say_so(write: Write, tmp_path: Path) -> None:
    before = load(write(experiment()))
    kept, error = reload(before, write(experiment(windows="[1s]")))
    assert kept is before
    assert isinstance(error, SettingsError)
    kept, error = reload(before, tmp_path / "gone.yaml")
    assert kept is before
    assert error is not None


def test_good_settings_replace_the_old_ones(write: Write) -> None:
    before = load(write(experiment()))
    after, error = reload(before, write(experiment(windows="[10m]")))
    assert error is None
    assert after.experiments[0].windows == (600_000,)


def test_unchanged_settings_stay_the_same_object(write: Write) -> None:
    before = load(write(experiment()))
    after, error = reload(before, write("# a comment\n" + experiment()))
    assert after is before
    assert error is None
