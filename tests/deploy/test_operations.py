"""The operations guide: its table is what the product computes, its commands exist, its queries can be asked."""

import re
import shlex
import subprocess
from math import ceil
from pathlib import Path

import yaml
from support.servers.base import or_skip
from support.servers.prometheus import program
from typer.testing import CliRunner

from abmonitor.checks import BYTES_PER_PENDING, check
from abmonitor.cli.main import app
from abmonitor.operate.topics import usual_retention
from abmonitor.settings import ExperimentSettings, Settings, load
from abmonitor.ticks import Ticks
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, Labels


ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operations.md").read_text()
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text()
EVENTS_A_SECOND = 144_000
"""Of one worker; the benchmarks' median."""
BYTES_A_PAIR = 225 + 190
"""A prediction and its outcome in Kafka."""
UNITS = (("MB", 1e6), ("GB", 1e9), ("TB", 1e12))
ONE_NODE = 64 * 2**30
"""More in one Redis is worth another thought."""


def settings_of(rate: float, horizon: int) -> Settings:
    experiment = ExperimentSettings(
        name="offers",
        control="old",
        variants={"old": 1.0, "new": 1.0},
        labels=Labels(horizon=Duration(horizon)),
        predictions_per_second=rate,
    )
    return Settings(experiments=(experiment,))


def row(rate: int, horizon: int) -> str:
    """A row of the table of sizes."""
    settings = settings_of(rate, horizon)
    told = check(settings)["experiments"]["offers"]
    kept, events = usual_retention(settings), 2 * rate
    workers = max(2, ceil(events / (EVENTS_A_SECOND / 2)))
    anew = events * kept / 1000 / (workers * EVENTS_A_SECOND / 2)
    ids = told["redis_bytes_join_state"]
    cells = [
        f"{rate:,}",
        str(Duration(horizon)),
        f"{told['predictions_remembered']:,}",
        f"**{size(ids)}**" if ids > ONE_NODE else size(ids),
        size(told["redis_bytes_ledgers_90_days"]),
        f"{kept / DAY:.0f} days",
        size(rate * kept / 1000 * BYTES_A_PAIR),
        str(workers),
        f"{anew / 3600:.1f} h",
    ]
    return f"| {' | '.join(cells)} |"


def size(count: float) -> str:
    """Bytes as people read them, in three digits."""
    unit, scale = next(each for each in UNITS if count < 1000 * each[1])
    whole = str(int(count / scale))
    return f"{count / scale:.{3 - len(whole)}f} {unit}"


TABLE = [row(rate, horizon) for rate in (100, 1_000, 10_000) for horizon in (HOUR, DAY, 7 * DAY)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_table_of_sizes_is_what_check_computes() -> None:
    found = re.findall(r"^\| [\d,]+ \| (?:1h|1d|7d) \|.*$", GUIDE, re.MULTILINE)
    assert found == TABLE


def test_the_formula_gives_what_check_does() -> None:
    wait = HOUR + 5 * 60_000
    told = check(settings_of(1_000, HOUR))["experiments"]["offers"]
    assert told["predictions_remembered"] == 1_000 * (wait + wait) / 1000
    assert told["redis_bytes_join_state"] == told["predictions_remembered"] * BYTES_PER_PENDING
    cohorts = 90 * DAY / (10 * 60_000)
    assert told["redis_bytes_ledgers_90_days"] == 2 * (1_872 * 2_500 + cohorts * 1_100)
    assert f"x {BYTES_PER_PENDING} bytes" in GUIDE
    assert "1,872 panes x 2,500 bytes" in GUIDE


def test_what_is_planned_with_is_what_the_benchmarks_say() -> None:
    for told in (
        f"the median {EVENTS_A_SECOND:,}",
        "225 bytes with their key",
        "its outcome (190 bytes)",
        "| 171,092 (165,989 to 176,195) | 5.47 (5.36 to 5.59) | 0.25 | 1.53 |",
        "with looks at all experiments, at 1,000 a second / everything changes | 507 / 702",
        "has 7.3 MB instead of",
    ):
        assert told in BENCHMARKS
    assert f"one counts {EVENTS_A_SECOND:,} events a second" in GUIDE
    assert f"{BYTES_A_PAIR} bytes a prediction" in GUIDE


def test_every_command_in_the_guide_exists_with_its_options() -> None:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`(abmonitor [^`]*)`", GUIDE)
    said = [shlex.split(line)[1:] for line in lines if line.startswith("abmonitor ")]
    assert len(said) > 5
    for words in said:
        path = [word for word in words[:2] if re.fullmatch("[a-z-]+", word) and word[0] != "-"]
        while (done := CliRunner().invoke(app, [*path, "--help"])).exit_code and len(path) > 1:
            path.pop()  # an argument, and no command
        assert done.exit_code == 0, words
        for option in (word for word in words if word.startswith("--")):
            assert option in done.output, words


def test_settings_in_the_guide_can_be_read(tmp_path: Path) -> None:
    for number, block in enumerate(blocks("yaml")):
        (tmp_path / f"{number}.yaml").write_text(block)
        load(tmp_path / f"{number}.yaml")


def promtool() -> str:
    """Its path; without one the test is left out, but not in continuous integration."""
    with or_skip():
        return program("promtool")


def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    queries = [
        query
        for block in blocks("promql")
        for query in re.split(r"^#.*\n", block, flags=re.MULTILINE)
        if query.strip()
    ]
    assert len(queries) > 10
    rules = [{"record": f"guide:{n}", "expr": query} for n, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "guide", "rules": rules}]}))
    told = subprocess.run(
        [promtool(), "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert f"{len(queries)} rules found" in told.stdout


def test_every_service_level_has_its_query() -> None:
    wanted = re.findall(r"^\| .* \| `([a-z]+)` \|$", GUIDE, re.MULTILINE)
    comments = re.findall(r"^# ([a-z]+)", blocks("promql")[0], re.MULTILINE)
    assert wanted == comments


def test_alerts_in_the_guide_have_rules() -> None:
    rules = "".join(each.read_text() for each in (ROOT / "deploy/prometheus/rules").glob("*.yml"))
    named = set(re.findall(r"`(Abmonitor[A-Za-z]+)`", GUIDE))
    assert named
    assert named <= set(re.findall(r"alert: (\w+)", rules))


def test_buckets_that_are_asked_for_are_exposed() -> None:
    asked = re.findall(r'abmonitor_tick_seconds_bucket\{le="([^"]+)"', GUIDE)
    ticks = Ticks()
    ticks.note(0.1)
    exposed = {sample.labels.get("le") for each in ticks.families() for sample in each.samples}
    assert asked
    assert set(asked) <= exposed
