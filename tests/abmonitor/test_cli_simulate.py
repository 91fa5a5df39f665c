import gzip
import json
import re
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from abmonitor import simulation
from abmonitor.cli import analyse, simulate
from abmonitor.settings import load


SPEC = """\
experiments:
  - name: offers
    prevalence: 0.3
    horizon: 2m
    variants:
      old: {tpr: 0.7, fpr: 0.2, error_rate: 0.05, latency: {median_ms: 40}}
      new: {tpr: 0.8, fpr: 0.2, missing: 0.1, late: 0.05, duplicates: 0.05, score: {threshold: 0.4}}
    change: {at: 0.5, variant: new, tpr: 0.2}
"""


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABMONITOR_CONFIG", raising=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the events go."""
    return tmp_path / "events.ndjson"


def abmonitor(*arguments: object, env: dict[str, str] | None = None) -> Any:
    """Run the command line."""
    app = typer.Typer()
    simulate.register(app)
    analyse.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def written(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


def spec(tmp_path: Path, text: str = SPEC) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(textwrap.dedent(text))
    return path


SETTINGS = """\
experiments:
  - name: offers
    control: old
    variants: {{old: 1, new: 3}}
    randomised_by: {unit}
    labels: {{horizon: 2m, observed: {observed}}}
    profitability: {{reference_precision: 0.25, assumed_roi: 0}}
"""


def settings(tmp_path: Path, *, unit: str = "request", observed: str = "all") -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS.format(unit=unit, observed=observed))
    return path


def test_the_file_has_what_the_truth_says(out: Path, tmp_path: Path) -> None:
    found = abmonitor(
        "simulate", "--file", out, "--spec", spec(tmp_path), "--predictions", 2000, "--json"
    )
    assert found.exit_code == 0
    assert found.stderr == ""
    truth, events = json.loads(found.stdout), written(out)
    assert truth["events"]["written"] == len(events)
    kinds = Counter(event["type"] for event in events)
    assert truth["events"]["predictions"] == 2000 < kinds["prediction"]
    failed = sum("error" in event for event in events if event.get("variant") == "old")
    assert truth["experiments"]["offers"]["variants"]["old"]["errors"] == failed > 0


def test_without_anything_said_an_example_is_simulated(out: Path) -> None:
    found = abmonitor("simulate", "--file", out, "--predictions", 300)
    assert found.exit_code == 0
    assert found.stdout.startswith("example")
    assert "treatment" in found.stdout
    assert {e["variant"] for e in written(out) if "variant" in e} == {"control", "treatment"}


@pytest.mark.parametrize("name", ["one.ndjson", "one.ndjson.gz"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    files = [tmp_path / folder / name for folder in "abc"]
    for file, seed in zip(files, (3, 3, 4), strict=True):
        file.parent.mkdir()
        assert (
            abmonitor("simulate", "--file", file, "--seed", seed, "--predictions", 500).exit_code
            == 0
        )
    contents = [file.read_bytes() for file in files]
    assert contents[0] == contents[1] != contents[2]
    assert contents[0].startswith(b"\x1f\x8b") == name.endswith(".gz")


@pytest.mark.parametrize(
    "start", ["2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00", "1772323200000"]
)
def test_the_start_is_rfc_3339_or_epoch_milliseconds(out: Path, start: str) -> None:
    result = abmonitor(
        "simulate", "--file", out, "--start", start, "--predictions", 50, "--rate", 10
    )
    assert result.exit_code == 0
    times = [event["time"] - 1_772_323_200_000 for event in written(out) if "variant" in event]
    assert times[0] in range(100)
    assert times[-1] in range(4_900, 5_000)


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_replay_under_the_printed_settings_finds_the_truth(tmp_path: Path, suffix: str) -> None:
    file, config, given = tmp_path / f"x.ndjson{suffix}", tmp_path / "s.yaml", spec(tmp_path)
    common = ("simulate", "--file", file, "--spec", given, "--predictions", 4000)
    printed = abmonitor(*common, "--print-settings")
    assert printed.exit_code == 0
    config.write_text(printed.stdout)
    truth = json.loads(abmonitor(*common, "--force", "--json").stdout)
    replayed = abmonitor("replay", file, "-c", config, "--json")
    assert replayed.exit_code == 0, replayed.output
    found = json.loads(replayed.stdout)
    for name, said in truth["experiments"]["offers"]["variants"].items():
        told = found["experiments"]["offers"]["variants"][name]
        assert {key: told[key] for key in said if key != "latency_ms"} == {
            key: said[key] for key in said if key != "latency_ms"
        }
        assert told["latency_ms"]["mean"] == pytest.approx(said["latency_ms"]["mean"])
    assert found["events"].items() >= {
        (key, n) for key, n in truth["events"].items() if key != "written"
    }
    assert not any(found["events"][key] for key in ("rejected", "ignored", "unmatched"))


def test_printed_settings_hold_for_names_that_look_like_something_else(
    out: Path, tmp_path: Path
) -> None:
    text = """\
        experiments:
          - name: "010"
            prevalence: 0
            horizon: 90m
            predictions_per_unit: 2
            control: "yes"
            variants: {"1e-3": {tpr: 1, fpr: 0}, "yes": {tpr: 1, fpr: 0, weight: 2}}
        """
    given = spec(tmp_path, text)
    printed = abmonitor(
        "simulate", "--file", out, "--spec", given, "--predictions", 9, "--print-settings"
    )
    (tmp_path / "s.yaml").write_text(printed.stdout)
    (experiment,) = load(tmp_path / "s.yaml").experiments
    assert (experiment.name, experiment.control) == ("010", "yes")
    assert experiment.variants == pytest.approx({"1e-3": 1 / 3, "yes": 2 / 3}, abs=1e-5)
    assert experiment.randomised_by == "unit"
    assert experiment.labels.horizon == 90 * 60_000
    assert experiment.profitability is None
    assert [guardrail.metric for guardrail in experiment.guardrails] == ["error_rate"]


def test_printed_settings_of_the_example_watch_errors_latency_and_profit() -> None:
    text = simulation.settings_for(simulation.EXAMPLE)
    metrics = ("error_rate", "latency_p95_ms", "rap")
    assert all(f"metric: {metric}" in text for metric in metrics)


def test_settings_are_simulated_with_variants_that_do_not_differ(out: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, unit="unit")
    result = abmonitor("simulate", "--file", out, "-c", config, "--predictions", 9000, "--json")
    truth = json.loads(result.stdout)["experiments"]["offers"]
    old, new = truth["variants"]["old"], truth["variants"]["new"]
    assert truth["control"] == "old"
    assert new["predictions"] / 9000 == pytest.approx(0.75, abs=0.03)
    for cell in ("tp", "fp", "tn", "fn"):
        rate = old["counts"][cell] / old["predictions"]
        assert new["counts"][cell] / new["predictions"] == pytest.approx(rate, abs=0.05)
    units = Counter(event["unit_id"] for event in written(out) if "variant" in event)
    assert 2.5 < units.total() / len(units) < 3.5


def test_settings_with_exploration_cannot_be_simulated(out: Path, tmp_path: Path) -> None:
    result = abmonitor("simulate", "--file", out, "-c", settings(tmp_path, observed="explored"))
    assert result.exit_code == 2
    assert "offers: labels.observed: explored cannot be simulated" in result.stderr


def test_settings_of_the_environment_give_way_to_a_spec(out: Path, tmp_path: Path) -> None:
    env = {"ABMONITOR_CONFIG": str(settings(tmp_path))}
    common = ("simulate", "--file", out, "--force", "--predictions", 20)
    result = abmonitor(*common, env=env)
    assert result.exit_code == 0
    assert not any("score" in event for event in written(out))
    result = abmonitor(*common, "--spec", spec(tmp_path), env=env)
    assert result.exit_code == 0
    assert any("score" in event for event in written(out))


# --- what can be wrong --------------------------------------------------------------------------


def test_all_mistakes_of_a_spec_are_told_at_once_with_their_places(
    out: Path, tmp_path: Path
) -> None:
    text = """\
        experiments:
          - name: offers
            prevalence: 1.5
            horizon: 0s
            labels_stop: soon
            control: older
            variants:
              old: {tpr: 0.7, fpr: "0.2", wait: 3}
              new: {tpr: 0.7}
            change:
              - {at: 2, variant: newer, tpr: 0.2}
              - {at: 10m, variant: new}
          - name: offers
            prevalence: 0.1
            horizon: 1m
            variants: {old: {tpr: 0.5, fpr: 0.5, weight: 0}, new: {tpr: 0.5, fpr: 0.5}}
            change: {at: 20y, variant: newer, fpr: 0}
          - name: single
            prevalence: 0.1
            horizon: 1m
            control: b
            variants: {a: {tpr: 0.5, fpr: 0.5}, c: {tpr: 1, fpr: 1}}
            change: {at: 0.1, variant: newer, fpr: 0}
          - {name: lonely, prevalence: 0.1, horizon: 1m, variants: {a: {tpr: 0.5, fpr: 0.5}}}
        """
    given = spec(tmp_path, text)
    result = abmonitor("simulate", "--file", out, "--spec", given)
    assert result.exit_code == 2
    assert not out.exists()
    lines = [line.removeprefix(f"{given}:") for line in result.stderr.splitlines()]
    moment = (
        "expected a duration of at most 10 years, such as '10m',"
        " or a fraction of the whole from 0 to 1; got"
    )
    assert lines == [
        "3:17: experiments[0].prevalence: expected a number <= 1.0, got 1.5",
        "4:14: experiments[0].horizon: expected a time above 0, got 0s",
        f"5:18: experiments[0].labels_stop: {moment} 'soon'",
        "6:14: experiments[0].control: 'older' is not one of the variants: old, new",
        "8:28: experiments[0].variants.old.fpr: expected a number, got '0.2'",
        "8:35: experiments[0].variants.old.wait: unknown key 'wait'; did you mean 'weight'?",
        "9:12: experiments[0].variants.new: 'fpr' is missing",
        f"11:14: experiments[0].change[0].at: {moment} 2",
        "11:26: experiments[0].change[0].variant: 'newer' is not one of the variants: old, new",
        (
            "12:9: experiments[0].change[1]:"
            " expected a new value for one of tpr, fpr, error_rate and latency"
        ),
        f"13:11: experiments[1].name: 'offers' is there already, in {given}:2:11",
        "16:21: experiments[1].variants.old: expected a weight above 0 for the control, got 0",
        f"17:18: experiments[1].change.at: {moment} '20y'",
        "17:32: experiments[1].change.variant: 'newer' is not one of the variants: old, new",
        "21:14: experiments[2].control: 'b' is not one of the variants: a, c",
        "23:32: experiments[2].change.variant: 'newer' is not one of the variants: a, c",
        "24:60: experiments[3].variants: expected at least two variants, got 1",
    ]


def test_a_spec_that_is_not_there_is_wrong_usage(out: Path, tmp_path: Path) -> None:
    result = abmonitor("simulate", "--file", out, "--spec", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "none.yaml:1:1: cannot read the file" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--file"),
        (["--predictions", "0"], "--predictions"),
        (["--seed", "-1"], "--seed"),
        (["--rate", "0"], "--rate: expected a number above 0, got 0.0"),
        (["--rate", "nan"], "--rate: expected a number above 0, got nan"),
        (["--rate", "1e-9"], "--rate: 100,000 predictions at 1e-09 a second take too long"),
        (["--start", "yesterday"], "--start: expected RFC 3339 with a zone, or epoch milliseconds"),
        (["--start", "2026-01-01T00:00:00"], "--start: expected RFC 3339 with a zone"),
        (["--start", "1960-01-01T00:00:00Z"], "--start: expected RFC 3339 with a zone"),
        (["--json", "--print-settings"], "expected one of --json and --print-settings"),
        (["--spec", "a", "--config", "b"], "expected one of --spec and --config, got both"),
        (["--print-settings", "--config", "b"], "--print-settings: the settings b fit already"),
    ],
)
def test_wrong_arguments_end_with_status_2(out: Path, arguments: list[str], message: str) -> None:
    file = ["--file", str(out)] if arguments else []
    result = abmonitor("simulate", *file, *arguments, env={"TERM": "dumb", "COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.stderr
    assert not out.exists()


def test_a_file_is_overwritten_only_when_asked_to(out: Path) -> None:
    out.write_text("precious")
    result = abmonitor("simulate", "--file", out, "--predictions", 10)
    assert result.exit_code == 2
    assert f"{out} exists already; --force overwrites it" in result.stderr
    assert out.read_text() == "precious"
    assert abmonitor("simulate", "--file", out, "--predictions", 10, "--force").exit_code == 0
    assert len(written(out)) == 20


def test_a_file_that_cannot_be_written_ends_with_status_1(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "folder.ndjson", tmp_path):
        result = abmonitor("simulate", "--file", path, "--predictions", 10)
        assert result.exit_code == 1
        assert f"simulate: cannot write {path}: " in result.stderr
        assert result.stdout == ""


def test_a_file_is_there_when_it_is_whole_or_not_at_all(out: Path) -> None:
    def failing() -> Any:
        yield b"{}\n"
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        simulation.write(out, failing())
    assert list(out.parent.iterdir()) == []


def test_what_happens_after_the_last_prediction_is_pointed_out(out: Path, tmp_path: Path) -> None:
    given = spec(tmp_path, SPEC.replace("at: 0.5", "at: 10m"))
    result = abmonitor("simulate", "--file", out, "--spec", given, "--predictions", 100)
    assert result.exit_code == 0
    expected = "simulate: offers: the change at 10m comes after the last prediction, at 2s\n"
    assert result.stderr == expected


def test_what_the_guide_shows_can_be_simulated(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text()
    blocks = re.findall(r"```yaml\n(experiments:.*?)```", guide, re.DOTALL)
    found = [simulation.load(spec(tmp_path, block)).experiments[0] for block in blocks]
    assert [[str(change.at) for change in each.changes] for each in found] == [
        ["0.5", "0.75"],
        ["3m", "30m"],
    ]
    assert found[1].predictions_per_unit is not None
