import builtins
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer
from pyarrow import parquet
from support.candidates import Sample, sample
from typer.testing import CliRunner

from abmonitor.cli import main, rank
from metrics.candidates import count


SETTINGS = """\
experiments:
  - name: offers  # the only one
    control: old
    variants: {old: 0.5, new: 0.5}
    labels: {horizon: 1h}
    profitability: {q: 2}
"""


def abmonitor(*arguments: object, width: str = "100") -> Any:
    app = typer.Typer()
    rank.register(app)
    app.command("other")(lambda: None)  # so that there are several commands, as in the real one
    return CliRunner().invoke(
        app, ["rank", *map(str, arguments)], env={"COLUMNS": width, "TERM": "dumb"}
    )


def write(path: Path, drawn: Sample, **more: Any) -> Path:
    columns = dict(zip(drawn.models, drawn.scores.T, strict=True))
    table = pa.table({"label": drawn.labels, **columns, **more})
    parquet.write_table(table, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "candidates.parquet", sample(rows=400))


def test_a_file_is_ranked_and_told(file: Path) -> None:
    found = abmonitor(file, "--q", "3")
    assert found.exit_code == 0
    assert found.stdout.startswith("m3 earns ")
    assert found.stderr == ""  # no progress where nobody looks at it
    drawn = sample(rows=400)
    counts = count(drawn.models, drawn.labels, drawn.scores >= np.float32(0.5))
    document = json.loads(abmonitor(file, "--q", "3", "--json").stdout)
    assert document["file"] == str(file)
    assert {each["model"]: each["rap"] for each in document["models"]} == pytest.approx(
        dict(zip(drawn.models, counts.rap(3.0).tolist(), strict=True))
    )


def test_csv_and_json_lines_give_what_parquet_gives(file: Path, tmp_path: Path) -> None:
    rows = parquet.read_table(file).to_pylist()
    text = tmp_path / "candidates.csv"
    head = ",".join(rows[0])
    text.write_text("\n".join([head, *(",".join(str(v) for v in row.values()) for row in rows)]))
    lines = tmp_path / "candidates.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    told = [
        json.loads(abmonitor(path, "--q", "3", "--json").stdout) for path in (file, text, lines)
    ]
    for each in told:
        del each["file"]
    assert told[0] == told[1] == told[2]


def test_money_columns_decide_and_say_so(tmp_path: Path) -> None:
    drawn = sample(rows=300)
    rng = np.random.default_rng(4)
    values, costs = rng.random(300) * 9, rng.random(300)
    path = write(tmp_path / "money.parquet", drawn, worth=values, price=costs)
    document = json.loads(abmonitor(path, "--value", "worth", "--cost", "price", "--json").stdout)
    assert document["basis"] == "rows"
    assert document["q"] is None
    for each in document["models"]:
        acts = drawn.scores[:, drawn.models.index(each["model"])] >= np.float32(0.5)
        gain = (values * (acts & drawn.labels)).sum() - (costs * acts).sum()
        assert each["profit"] == pytest.approx(gain)
        assert each["roi"] == pytest.approx(gain / (costs * acts).sum())
    one = abmonitor(path, "--value", "worth", "--unit-cost", "0.5", "--models", "m*", "--json")
    assert json.loads(one.stdout)["unit_cost"] == 0.5
    other = abmonitor(path, "--cost", "price", "--unit-revenue", "4", "--models", "m*", "--json")
    assert other.exit_code == 0
    both = abmonitor(path, "--value", "worth", "--cost", "price", "--q", "3", "--sensitivity")
    assert both.exit_code == 0


def test_profit_is_in_money_where_the_cost_is_known(file: Path) -> None:
    def profit(*assumptions: str) -> float:
        found = json.loads(abmonitor(file, *assumptions, "--json").stdout)
        return float(found["models"][0]["profit"])

    in_costs = profit("--q", "3")
    assert profit("--unit-revenue", "60", "--unit-cost", "20") == pytest.approx(20 * in_costs)
    assert profit("--q", "3", "--unit-revenue", "60") == pytest.approx(20 * in_costs)
    assert profit("--reference-precision", "50%", "--assumed-roi", "0.5") == pytest.approx(in_costs)


def test_thresholds_can_be_optimised(file: Path) -> None:
    document = json.loads(abmonitor(file, "--q", "3", "--optimise-threshold", "--json").stdout)
    for each in document["models"]:
        assert each["rap_in_sample"] >= each["rap"] - 1e-12
        assert each["rap_in_sample"] >= max(each["rap_untuned"], 0) - 1e-12


def test_ranges_give_what_is_certain(file: Path) -> None:
    found = abmonitor(
        file, "--q", "2.5..3.5", "--columns", "rap_range, ranks", "--columns", "first"
    )
    assert found.exit_code == 0
    assert "certain" in found.stdout


def test_sensitivity_is_printed_drawn_and_in_the_document(file: Path, tmp_path: Path) -> None:
    how = ("--reference-precision", "30%", "--assumed-roi", "0", "--sensitivity")
    figures = [tmp_path / "rap.png", tmp_path / "rap.svg"]
    found = abmonitor(file, *how, *(part for each in figures for part in ("--figure", each)))
    assert found.exit_code == 0
    assert found.stdout.startswith("m3 earns ")
    assert figures[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in figures[1].read_bytes()
    document = json.loads(abmonitor(file, *how, "--json").stdout)
    assert document["sensitivity"]
    assert len(document["models"]) == 4


def test_what_is_doubtful_is_told_beside_the_sensitivity_too(tmp_path: Path) -> None:
    path = tmp_path / "doubtful.csv"
    path.write_text("label,a,age\n1,0.9,40\n,0.5,41\n0,0.1,42\n")
    how = ("--q", "0.5..3", "--drop-unlabelled", "--sensitivity")
    lines = " ".join(abmonitor(path, *how, width="200").stdout.splitlines())
    assert "! 1 row is left out for lack of a label." in lines
    assert "! 1 model is not ranked: age (40 in line 2" in lines
    assert "! Fewer than 100 rows are positive (1)" in lines


def test_what_is_assumed_is_written_into_settings(file: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS)
    how = ("--reference-precision", "0.25", "--assumed-roi", "0", "--write-settings", settings)
    found = abmonitor(file, *how, "--json")
    assert found.exit_code == 0
    json.loads(found.stdout)  # one document, and nothing else
    assert "offers" in found.stderr
    assert "reference_precision: 0.25" in settings.read_text()
    assert "# the only one" in settings.read_text()
    for wrong, message in (
        (("--experiment", "other"), "other"),
        (("--q", "2..3"), "--write-settings: q: expected one number"),
    ):
        refused = abmonitor(file, "--q", "3", "--write-settings", settings, *wrong)
        assert refused.exit_code == 2
        assert message in refused.stderr
    missing = abmonitor(file, "--q", "3", "--write-settings", tmp_path / "no.yaml")
    assert missing.exit_code == 2


def test_contents_that_cannot_be_used_end_with_status_1(tmp_path: Path) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text("label,a\n1,0.5\nmaybe,0.5\n")
    found = abmonitor(path, "--q", "3")
    assert found.exit_code == 1
    assert "maybe" in found.stderr
    path.write_text("label,worth,price,a\n1,5,1,0.5\n0,5,-1,0.5\n")
    found = abmonitor(path, "--value", "worth", "--cost", "price")
    assert found.exit_code == 1
    assert "-1" in found.stderr


def test_rows_without_labels_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    path.write_text("label,a\n1,0.9\n,0.5\n0,0.1\n")
    assert abmonitor(path, "--q", "3").exit_code == 1
    found = json.loads(abmonitor(path, "--q", "3", "--drop-unlabelled", "--json").stdout)
    assert (found["rows"], found["dropped_rows"]) == (2, 1)
    assert any("1 row is left out" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected exactly one of: --q"),
        (("--q", "0.5"), "must be above 1"),
        (("--q", "3", "--columns", "rapp"), "unknown column 'rapp'; did you mean rap?"),
        (("--q", "3", "--columns", "ranks"), "ranks is there only with a range"),
        (("--q", "3", "--replicates", "10"), "--replicates: expected 0 for no intervals, or 40"),
        (("--q", "3", "--figure", "a.png"), "--figure: draws what --sensitivity finds"),
        (("--q", "3", "--sensitivity", "--figure", "a.gif"), "ends in .png or .svg, got a.gif"),
        (("--q", "3", "--sensitivity", "--figure", "no/a.png"), "a folder that is there, got no/a"),
        (("--q", "3", "--write-settings", "no.yaml"), "--write-settings: there is no no.yaml"),
        (("--q", "3", "--experiment", "a"), "--experiment: says where --write-settings writes"),
        (("--q", "3", "--top", "3", "--all"), "expected --top or --all, not both"),
        (("--q", "3", "--label", "zzz"), "zzz"),
        (("--q", "3", "--models", "zzz*"), "zzz"),
        (("--value", "m0"), "--value: expected --cost or --unit-cost beside it"),
        (("--cost", "m0", "--q", "3"), "expected --value or --unit-revenue beside it"),
        (("--value", "m0", "--unit-cost", "1..2"), "--unit-cost: expected one number"),
        (("--value", "m0", "--cost", "m1", "--sensitivity"), "need one q for all rows"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_what_to_do(
    file: Path, arguments: tuple[str, ...], message: str
) -> None:
    found = abmonitor(file, *arguments)
    assert found.exit_code == 2
    assert message in found.stderr
    assert found.stdout == ""


def test_a_missing_file_ends_with_status_2(tmp_path: Path) -> None:
    found = abmonitor(tmp_path / "no.csv", "--q", "3")
    assert found.exit_code == 2
    assert "no.csv" in found.stderr
    piped = abmonitor("-", "--q", "3")
    assert piped.exit_code == 2
    assert "-: is no file on disk; it is read several times" in piped.stderr


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [("pyarrow", ()), ("matplotlib", ("--sensitivity", "--figure", "a.png"))],
)
def test_without_the_extra_it_says_what_to_install(
    missing: str, arguments: tuple[str, ...], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = builtins.__import__

    def refusing(name: str, *others: Any, **more: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *others, **more)

    for module in [*sys.modules]:
        if module.startswith(("abmonitor.ranking.", "abmonitor.cli.ranking")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", refusing)
    found = abmonitor(file, "--q", "3", *arguments)
    assert found.exit_code == 2
    assert f"needs {missing}, which is not installed: pip install 'abmonitor[rank]'" in found.stderr


def test_a_pipe_that_says_nothing_gets_whole_names(file: Path, tmp_path: Path) -> None:
    drawn = sample(rows=60)
    drawn.models = ("x" * 150, "b", "c", "d")
    path = write(tmp_path / "long.parquet", drawn)
    assert "x" * 150 in abmonitor(path, "--q", "3", width="").stdout
    narrow = abmonitor(path, "--q", "3", width="60").stdout
    assert "x" * 150 not in narrow
    assert max(map(len, narrow.splitlines())) <= 60
    assert abmonitor(file, "--q", "3", width="").exit_code == 0


def test_the_command_is_one_of_the_program() -> None:
    assert "rank" in CliRunner().invoke(main.app, ["--help"], env={"COLUMNS": "80"}).stdout
