import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.eventfiles import (
    GRACE,
    HORIZON,
    MINUTE,
    SETTINGS,
    START,
    Event,
    by_time,
    lines,
    outcome,
    prediction,
    traffic,
    written,
)
from typer.testing import CliRunner, Result

from abmonitor import __version__
from abmonitor.cli.main import app


Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("ABMONITOR_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def given(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return given


def document_of(result: Result) -> dict[str, Any]:
    """The one document on standard output."""
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# --- replay ---------------------------------------------------------------------------------------


def test_replay_prints_one_document_and_tells_people_on_the_other_stream(
    run: Run, config: Path, tmp_path: Path
) -> None:
    path = written(tmp_path / "events.jsonl.gz", traffic(1_200), zipped=True)
    result = run("replay", path, "-c", config, "--json")
    document = document_of(result)
    assert document["events"]["accepted"] == 2_400
    assert document["experiments"]["offers"]["variants"].keys() == {"old", "new"}
    assert result.stderr == "join rate: 100.0% of the outcomes met their prediction in time\n"


def test_replay_tells_people_the_same_in_a_table(run: Run, config: Path, tmp_path: Path) -> None:
    result = run("replay", written(tmp_path / "events", traffic(300)), "-c", config)
    assert result.exit_code == 0
    assert "events: 600 accepted, 0 duplicate" in result.stdout
    assert "…" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_settings_may_be_named_by_the_environment(
    run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABMONITOR_CONFIG", str(config))
    path = written(tmp_path / "events", traffic(5))
    assert document_of(run("replay", path, "--json"))["events"]["accepted"] == 10


def test_several_files_are_merged_and_sources_found_by_the_name_of_a_file(
    run: Run, config: Path, tmp_path: Path
) -> None:
    config.write_text(
        SETTINGS
        + "sources:\n"
        + "  sales:\n"
        + "    type: outcome\n"
        + "    fields: {prediction_id: order.id, actual: {path: state, true_when: [sold]},\n"
        + "             time: {path: at, unit: s}}\n"
    )
    asked = [prediction(f"p{n}", START + n * 1_000) for n in range(10)]
    sales = [
        {
            "order": {"id": f"p{n}"},
            "state": "sold" if n < 4 else "lost",
            "at": START / 1000 + 20 + n,
        }
        for n in range(10)
    ]
    scored = written(tmp_path / "scored.jsonl", asked)
    named = written(tmp_path / "sales.2024-01-01.jsonl", [lines([sale], b"") for sale in sales])
    other = written(tmp_path / "export", [lines([sale], b"") for sale in sales])
    for given in (named, f"sales={other}"):
        document = document_of(run("replay", scored, given, "-c", config, "--json"))
        counts = document["experiments"]["offers"]["variants"]["old"]["counts"]
        assert counts == {"tp": 4, "fp": 6, "tn": 0, "fn": 0}


def test_all_missing_files_are_told_at_once(run: Run, config: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "there", traffic(1))
    missing, folder = tmp_path / "missing", tmp_path / "folder"
    folder.mkdir()
    result = run("replay", missing, path, folder, "-c", config, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"{missing}: no such file\n{folder}: is a folder\n"


@pytest.mark.parametrize("arguments", [["replay"], ["replay", "--jason", "x"], ["replai"]])
def test_wrong_usage_ends_with_status_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_settings_are_asked_for(run: Run, tmp_path: Path) -> None:
    result = run("replay", written(tmp_path / "events", []), "--json")
    assert result.exit_code == 2
    assert result.stderr == "no settings given: pass -c FILE, or set ABMONITOR_CONFIG\n"


def test_a_file_that_cannot_be_read_to_its_end_ends_with_status_1(
    run: Run, config: Path, tmp_path: Path
) -> None:
    path = written(tmp_path / "events.gz", traffic(500), zipped=True)
    path.write_bytes(path.read_bytes()[:-50])
    result = run("replay", path, "-c", config, "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"replay: {path}: cannot be read to its end: ")


def test_dead_letters_that_cannot_be_kept_end_with_status_1(
    run: Run, config: Path, tmp_path: Path
) -> None:
    path = written(tmp_path / "events", [b"{"])
    result = run("replay", path, "-c", config, "--dead-letters", tmp_path / "no" / "such")
    assert result.exit_code == 1
    assert "No such file" in result.stderr


def test_dead_letters_are_not_written_to_what_is_read(
    run: Run, config: Path, tmp_path: Path
) -> None:
    path = written(tmp_path / "events", [b"{"])
    result = run("replay", path, "-c", config, "--dead-letters", path)
    assert result.exit_code == 2
    assert path.read_bytes() == b"{\n"


def test_what_is_wrong_with_the_events_is_told_with_places(
    run: Run, config: Path, tmp_path: Path
) -> None:
    events: list[Event | bytes] = [*traffic(20), b"[]", b"{"]
    events.insert(40, prediction("x", START + 30 * MINUTE, "newer"))
    path = written(tmp_path / "events", events)
    result = run("replay", path, "-c", config, "--json")
    assert document_of(result)["events"]["rejected"] == 3
    assert f"{path}:43: Input data was truncated" in result.stderr
    assert f"{path}:41: variant 'newer'; expected one of old, new" in result.stderr


def test_a_low_join_rate_says_what_to_check(run: Run, config: Path, tmp_path: Path) -> None:
    events = traffic(50)
    events += [outcome(f"strange-{n}", START + n) for n in range(30)]
    late = [prediction(f"late-{n}", START) for n in range(20)]
    late += [outcome(f"late-{n}", START + HORIZON + 2 * GRACE) for n in range(20)]
    path = written(tmp_path / "events", by_time(events + late))
    result = run("replay", path, "-c", config, "--json")
    assert document_of(result)["events"]["unmatched"] == 30
    assert "join rate: 50.0% of the outcomes" in result.stderr
    assert "outcomes that found no prediction: 30; check that both carry" in result.stderr
    assert "prediction_id" in result.stderr
    assert "outcomes that came too late: 20; check horizon and grace (offers: 10m + 5m)" in (
        result.stderr
    )


def test_the_document_is_utf_8_wherever_it_goes(config: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "events", [prediction("x", START, "größer")])
    config.write_text(SETTINGS.replace("old", "alt"))
    for environment in ({"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "utf-8"}):
        for form in ([], ["--json"]):
            done = _program(["replay", str(path), "-c", str(config), *form], environment)
            assert done.returncode == 0
            assert b"variant 'gr" in done.stderr
            assert not form or json.loads(done.stdout)["events"]["rejected"] == 1


def test_a_program_can_read_the_document_from_a_pipe(config: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "events", traffic(100), zipped=True)
    command = [
        sys.executable,
        "-m",
        "abmonitor",
        "replay",
        "/dev/stdin",
        "-c",
        str(config),
        "--json",
    ]
    done = subprocess.run(command, input=path.read_bytes(), capture_output=True, check=True)
    assert json.loads(done.stdout)["events"]["accepted"] == 200


def _program(
    arguments: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "abmonitor", *arguments]
    return subprocess.run(command, capture_output=True, check=False, env=environment)


# --- check ----------------------------------------------------------------------------------------

WRONG = """\
experiments:
  - name: offers
    control: old
    variants: {old: 0.5, new: 0.5}
    labels: {observed: all, horizon: ten minutes}
    profitability: {q: 0.5}
    guardrails:
      - {metric: latency_p99_ms, max: 250, window: 5s}
"""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_three_mistakes_are_told_at_once_with_line_and_column(
    run: Run, config: Path, form: list[str]
) -> None:
    config.write_text(WRONG)
    for command in (["check"], ["replay", __file__]):
        result = run(*command, "-c", config, *form)
        assert result.exit_code == 2
        assert result.stdout == ""
        told = result.stderr.splitlines()
        assert [line.removeprefix(f"{config}:").split(": ")[0] for line in told] == [
            "5:38",
            "6:20",
            "8:52",
        ]
        assert all(line.startswith(f"{config}:") for line in told)


def test_settings_that_are_not_there_end_with_status_2(run: Run, tmp_path: Path) -> None:
    result = run("check", "-c", tmp_path / "missing.yaml")
    assert result.exit_code == 2
    assert "cannot read the file" in result.stderr


def test_good_settings_are_told_what_they_need(run: Run, config: Path) -> None:
    config.write_text(SETTINGS.replace("    guard", "    predictions_per_second: 100\n    guard"))
    report = document_of(run("check", "-c", config, "--json"))
    offers = report["experiments"]["offers"]
    assert offers["label_final_after"] == "15m"
    assert offers["predictions_remembered"] == 100 * 75 * 60
    assert offers["redis_bytes_join_state"] > 28 * offers["predictions_remembered"]
    assert offers["redis_bytes_ledgers_90_days"] > 90 * 1440
    assert offers["warnings"] == []
    shown = run("check", "-c", config)
    assert shown.exit_code == 0
    assert "offers: settings are good" in shown.stdout
    assert "…" not in shown.stdout
    assert re.search(r"redis bytes join state +51\.5 MiB", shown.stdout)


def test_what_a_monitor_would_not_find_here_is_told_and_is_no_mistake(
    run: Run, config: Path
) -> None:
    config.write_text("redis: {env: NO_SUCH_REDIS}\n" + SETTINGS)
    shown = run("check", "-c", config)
    assert shown.exit_code == 0
    assert "What `monitor` will look up, and is not here:" in shown.stdout
    assert "not set here: NO_SUCH_REDIS (redis)" in shown.stdout
    (told, *_) = document_of(run("check", "-c", config, "--json"))["not_here"]
    assert told.startswith("not set here: NO_SUCH_REDIS (redis)")


def test_the_schema_describes_settings_and_needs_none(run: Run, config: Path) -> None:
    schema = document_of(run("check", "--schema"))
    assert schema["$defs"]["Settings"]["properties"].keys() >= {"experiments", "sources"}
    assert document_of(run("check", "--schema", "-c", config)) == schema


# --- the program ----------------------------------------------------------------------------------


def test_help_names_the_commands(run: Run) -> None:
    shown = run("--help").stdout
    assert all(command in shown for command in ("replay", "check", "demo"))


def test_a_taken_port_is_told_before_the_demo_begins(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("demo", "--fast", "--json", "--port", port)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"port {port} on 127.0.0.1 cannot be used: Address already in use" in result.stderr
    assert "--port 0" in result.stderr


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_wrong_usage(run: Run, port: str) -> None:
    assert run("demo", "--port", port).exit_code == 2


def test_the_version_is_that_of_the_package(run: Run) -> None:
    told = run("--version")
    assert (told.exit_code, told.stdout.strip()) == (0, f"abmonitor {__version__}")
