"""`decisions` and `explain`: the same from a monitor, from the store and from a file."""

import asyncio
import base64
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from support.eventfiles import MINUTE, SECOND, START, Event, by_time, traffic
from support.reasons import gathered
from support.views import settings_of, view_of
from typer.testing import CliRunner, Result

from abmonitor.cli import decisions as commands
from abmonitor.explain import (
    ApiSource,
    FileSource,
    Found,
    Source,
    SourceError,
    StoreSource,
    Wanted,
    export,
    verify,
)
from abmonitor.settings import load
from alerts.book import Book, Decision
from alerts.reasoning import packed
from alerts.store import AlertStore
from metrics.moment import Moment
from stream.store import Store


SETTINGS = """\
experiments:
  - name: offers
    control: old
    variants: {old: 0.5, new: 0.5}
    labels: {observed: all, horizon: 10m, grace: 5m, cohort: 1m}
    profitability: {unit_revenue: 60, unit_cost: 20}
    guardrails:
      - {metric: rap, test: sequential, margin: 0.05, detect: 0.3}
      - {metric: error_rate, test: sequential, relative_margin: 0.5}
      - {metric: latency_p99_ms, window: 5m, max: 5000}
"""


def events() -> list[Event]:
    """An outage of labels; then a treatment decides the wrong way round."""
    lost, begins = range(START + 15 * MINUTE, START + 40 * MINUTE), START + 50 * MINUTE
    made = [
        event | {"predicted": not event["predicted"]}
        if event.get("variant") == "new" and event["time"] > begins
        else event
        for event in traffic(1_400, seed=4, gap=6 * SECOND)
        if event["type"] == "prediction" or event["time"] not in lost
    ]
    return by_time(made)


@cache
def found() -> tuple[Found, ...]:
    """What a replay decided, as a store holds it: in a chain, and with what it rests on."""
    with gathered() as reasons:
        view_of(events(), settings_of(SETTINGS))
    made = []
    for decision in reasons.decisions:
        reasoning = reasons.found.get(decision.id)
        made.append(Found.of(decision, None if reasoning is None else packed(reasoning)))
    return tuple(made)


def rollback() -> Found:
    return next(each for each in found() if each.decision.action == "rollback")


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A file of all decisions."""
    path = tmp_path / "decisions.ndjson"
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in found()))
    return path


@pytest.fixture
def config(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a deployment whose store holds all decisions."""
    monkeypatch.setenv("ABMONITOR_REDIS", redis_url)
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)

    async def fill() -> None:
        store = Store.at(redis_url, load(path).deployment)
        evidence = {
            each.decision.id: base64.b64decode(each.reasoning) for each in found() if each.reasoning
        }
        last = found()[-1].decision
        await AlertStore(store.client, load(path).deployment).save(
            "offers",
            Book(head=last.hash, decisions=len(found())),
            decisions=[each.decision for each in found()],
            evidence=evidence,
        )
        await store.close()

    asyncio.run(fill())
    return path


class Monitor(BaseHTTPRequestHandler):
    """Answers as the API does."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:  # as http.server has it
        self.asked.append((self.path, self.headers.get("Authorization")))
        path, _, query = self.path.partition("?")
        name = urllib.parse.unquote(path.rpartition("/")[2])
        if path == "/api/v1/decisions":
            wanted = msgspec.convert(dict(urllib.parse.parse_qsl(query)), Wanted, strict=False)
            if wanted.experiment == "nowhere":
                self._answer(404, {"error": "unknown experiment 'nowhere'; there is: offers"})
                return
            self._answer(200, {"decisions": wanted.among(each.decision for each in found())})
            return
        one = next((each for each in found() if each.decision.id == name), None)
        self._answer(*((404, {"error": f"no decision {name!r}"}) if one is None else (200, one)))

    def _answer(self, status: int, body: Any) -> None:
        packed = msgspec.json.encode(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        self.wfile.write(packed)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a monitor."""
    monkeypatch.setattr(Monitor, "asked", [], raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Monitor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("ABMONITOR_CONFIG", "ABMONITOR_URL", "ABMONITOR_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    app = typer.Typer()
    commands.register(app)

    def given(*arguments: object, **environment: str) -> Result:
        words = [str(argument) for argument in arguments]
        result = CliRunner().invoke(app, words, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return given


# --- where they are found ---------------------------------------------------------------------------


def test_a_monitor_a_store_and_a_file_tell_the_same(url: str, config: Path, exported: Path) -> None:
    sources: list[Source] = [ApiSource(url), StoreSource(load(config)), FileSource(exported)]
    for source in sources:
        assert source.decisions(Wanted()) == [each.decision for each in found()]
        for each in found():
            assert source.find(each.decision.id) == each
        assert source.find("offers:new:1:999") is None


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted(action="rollback"), lambda d: d.action == "rollback"),
        (Wanted(treatment="newer"), lambda _: False),
        (Wanted(treatment="new", experiment="offers"), lambda _: True),
        (Wanted(since=rollback().decision.at), lambda d: d.at >= rollback().decision.at),
        (Wanted(until=rollback().decision.at - 1), lambda d: d.at < rollback().decision.at),
    ],
)
def test_only_what_is_wanted_is_told(
    url: str, exported: Path, wanted: Wanted, fits: Callable[[Decision], bool]
) -> None:
    expected = [each.decision for each in found() if fits(each.decision)]
    assert ApiSource(url).decisions(wanted) == expected
    assert FileSource(exported).decisions(wanted) == expected


def test_the_newest_are_told_oldest_first(exported: Path) -> None:
    told = FileSource(exported).decisions(Wanted(limit=2))
    assert told == [each.decision for each in found()[-2:]]


def test_the_token_is_sent_to_the_monitor(url: str, run: Run) -> None:
    assert run("decisions", "--url", url, ABMONITOR_TOKEN="t0ken").exit_code == 0
    assert [sent for _, sent in Monitor.asked] == ["Bearer t0ken"]


def test_an_export_holds_everything_and_can_be_read_again(url: str, tmp_path: Path) -> None:
    path = tmp_path / "all.ndjson"
    assert export(ApiSource(url), Wanted(), path) == len(found())
    assert [
        msgspec.json.decode(line, type=Found) for line in path.read_bytes().splitlines()
    ] == list(found())


@pytest.mark.parametrize("address", ["monitor:8000", "ftp://monitor", "", "http://"])
def test_what_is_no_address_is_refused(address: str, run: Run) -> None:
    result = run("decisions", "--url", address)
    assert result.exit_code == 2
    assert "expected an address such as http://127.0.0.1:8000" in result.stderr


def test_the_experiment_may_stand_alone_or_behind_its_option(exported: Path, run: Run) -> None:
    alone = run("decisions", "offers", "--file", exported)
    assert alone.exit_code == 0
    assert rollback().decision.id in alone.stdout
    assert run("decisions", "--experiment", "offers", "--file", exported).stdout == alone.stdout
    assert rollback().decision.id not in run("decisions", "other", "--file", exported).stdout


def test_an_action_that_there_is_not_is_refused_with_those_that_there_are(
    exported: Path, run: Run
) -> None:
    result = run("decisions", "--action", "banana", "--file", exported)
    assert result.exit_code == 2
    assert "--action: expected one of rollback, " in result.stderr
    assert "got 'banana'" in result.stderr


def test_where_no_monitor_answers_it_is_asked_whether_one_runs(run: Run) -> None:
    result = run("explain", rollback().decision.id, "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "is the monitor running there?" in result.stderr


def test_what_the_monitor_refuses_is_told_in_its_words(url: str, run: Run) -> None:
    result = run("decisions", "--url", url, "--experiment", "nowhere")
    assert result.exit_code == 1
    assert "404 unknown experiment 'nowhere'; there is: offers" in result.stderr


def test_a_file_that_is_no_export_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(msgspec.json.encode(found()[0]) + b'\n{"decision": 1}\n')
    with pytest.raises(SourceError, match=r"other:2: expected a line that `decisions --export`"):
        FileSource(path)


def test_nowhere_to_look_is_wrong_usage(run: Run) -> None:
    result = run("decisions")
    assert result.exit_code == 2
    assert "give --url" in result.stderr


# --- explain ----------------------------------------------------------------------------------------


def test_a_replayed_rollback_is_explained_and_comes_out_again(run: Run, exported: Path) -> None:
    decision = rollback().decision
    result = run("explain", decision.id, "--file", exported)
    assert result.exit_code == 0, result.stderr
    assert decision.reasons[0] in result.stdout
    assert "recomputed from the stored evidence: the same verdict" in result.stdout
    assert f"hash {decision.hash[:16]}" in result.stdout


def test_every_decision_of_a_replay_comes_out_again_from_the_store(run: Run, config: Path) -> None:
    assert {each.decision.action for each in found()} >= {"hold", "release", "rollback"}
    for each in found():
        assert run("explain", each.decision.id, "-c", config).exit_code == 0


def test_as_json_it_is_one_document(run: Run, url: str) -> None:
    result = run("explain", rollback().decision.id, "--json", ABMONITOR_URL=url)
    told = json.loads(result.stdout)
    assert (told["same"], told["differences"], told["missing"]) == (True, [], None)
    assert told["decision"]["id"] == rollback().decision.id
    assert any(step["title"] == "guardrail rap:sequential" for step in told["steps"])


def test_a_decision_that_was_changed_ends_with_status_1_and_says_what(
    run: Run, tmp_path: Path
) -> None:
    decision = rollback().decision
    counts = {**decision.counts, "new": {**decision.counts["new"], "tp": 1}}
    other = msgspec.structs.replace(decision, counts=counts)
    path = tmp_path / "changed"
    path.write_bytes(msgspec.json.encode(Found(decision=other, reasoning=rollback().reasoning)))
    result = run("explain", decision.id, "--file", path)
    assert result.exit_code == 1
    assert f"counts.new.tp: stored 1, recomputed {decision.counts['new']['tp']}" in result.stdout
    assert "DIFFERS" in result.stdout
    assert json.loads(run("explain", decision.id, "--file", path, "--json").stdout)["same"] is False


@pytest.mark.parametrize("reasoning", [None, "bm9uc2Vuc2U=", "no base64 !"])
def test_without_usable_evidence_it_cannot_be_recomputed_and_ends_with_status_1(
    run: Run, tmp_path: Path, reasoning: str | None
) -> None:
    path = tmp_path / "bare"
    path.write_bytes(msgspec.json.encode(Found(decision=rollback().decision, reasoning=reasoning)))
    result = run("explain", rollback().decision.id, "--file", path)
    assert result.exit_code == 1
    assert "cannot be recomputed: " in result.stdout


def test_an_unknown_decision_and_what_is_no_id_are_told_apart(run: Run, exported: Path) -> None:
    unknown = run("explain", "offers:new:1:999", "--file", exported)
    assert (unknown.exit_code, "there is no decision" in unknown.stderr) == (1, True)
    wrong = run("explain", "offers", "--file", exported)
    assert (wrong.exit_code, "expected the id of a decision" in wrong.stderr) == (2, True)


def test_the_guide_shows_what_the_command_prints(run: Run, exported: Path) -> None:
    printed = run("explain", rollback().decision.id, "--file", exported).stdout.splitlines()
    formulas = [line for line in printed if " = " in line and "hash" not in line]
    assert len(formulas) > 10
    guide = (Path(__file__).parents[2] / "docs/explain.md").read_text().splitlines()
    assert [line for line in formulas if line not in guide] == []


# --- decisions --------------------------------------------------------------------------------------


def test_decisions_are_listed_with_id_and_reason(run: Run, exported: Path) -> None:
    result = run("decisions", "--file", exported, COLUMNS="400")
    decision = rollback().decision
    for text in (decision.id, str(Moment(decision.at)), decision.reasons[0]):
        assert text in result.stdout
    told = json.loads(run("decisions", "--file", exported, "--json").stdout)["decisions"]
    assert [each["id"] for each in told] == [each.decision.id for each in found()]


@pytest.mark.parametrize(("since", "there"), [("2020-01-01T00:00:00Z", True), ("24h", False)])
def test_times_are_moments_or_how_long_ago(
    run: Run, exported: Path, since: str, there: bool
) -> None:
    result = run("decisions", "--file", exported, "--since", since, "--json")
    assert bool(json.loads(result.stdout)["decisions"]) is there


def test_a_time_that_is_none_is_wrong_usage(run: Run, exported: Path) -> None:
    result = run("decisions", "--file", exported, "--since", "yesterday")
    assert result.exit_code == 2
    assert "--since: expected a time such as" in result.stderr


def test_an_export_is_written_by_the_command(run: Run, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "again"
    result = run("decisions", "--file", exported, "--export", path, "--action", "rollback")
    assert result.exit_code == 0
    assert [json.loads(line)["decision"]["id"] for line in path.read_text().splitlines()] == [
        rollback().decision.id
    ]
    failed = run("decisions", "--file", exported, "--export", tmp_path / "no" / "where")
    assert (failed.exit_code, "No such file" in failed.stderr) == (1, True)


# --- the chain --------------------------------------------------------------------------------------


def test_a_whole_chain_is_verified(run: Run, config: Path, exported: Path, url: str) -> None:
    for where in (("-c", config), ("--file", exported), ("--url", url)):
        result = run("decisions", "--verify", *where)
        assert result.exit_code == 0, result.stdout
        assert f"offers: {len(found())} decisions: none was changed" in result.stdout


def test_a_changed_decision_a_gap_and_a_missing_end_break_the_chain(
    run: Run, exported: Path, config: Path
) -> None:
    lines = exported.read_bytes().splitlines(keepends=True)
    first = msgspec.json.decode(lines[0], type=Found)
    other = msgspec.structs.replace(first.decision, reasons=("another",))
    changed = msgspec.json.encode(Found(decision=other, reasoning=first.reasoning)) + b"\n"
    for content, why in (
        ([changed, *lines[1:]], "was changed after it was written down"),
        ([lines[0], *lines[2:]], "something is missing or was put in"),
    ):
        exported.write_bytes(b"".join(content))
        result = run("decisions", "--verify", "--file", exported)
        assert (result.exit_code, why in result.stdout) == (1, True)
        told = json.loads(run("decisions", "--verify", "--file", exported, "--json").stdout)
        assert told["whole"] is False
        assert why in told["experiments"]["offers"]["broken"]
    source = StoreSource(load(config))
    source.heads = lambda: {"offers": "another"}  # type: ignore[method-assign]
    ((_, _, wrong),) = verify(source)
    assert wrong == f"after {found()[-1].decision.id} something is missing"


def test_an_export_of_some_decisions_may_begin_anywhere(exported: Path) -> None:
    lines = exported.read_bytes().splitlines(keepends=True)
    exported.write_bytes(b"".join(lines[1:]))
    assert [wrong for _, _, wrong in verify(FileSource(exported))] == [None]


def test_what_cannot_be_verified_together_is_wrong_usage(run: Run, exported: Path) -> None:
    for more in (("--action", "hold"), ("--export", exported), ("--since", "1h")):
        result = run("decisions", "--verify", "--file", exported, *more)
        assert result.exit_code == 2
        assert "--verify" in result.stderr
