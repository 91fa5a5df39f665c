"""The commands of the person on call, against a real server."""

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from support.running import Running
from typer.testing import CliRunner, Result

import abmonitor.api_client
from abmonitor.api_client import ApiClient, ApiError, segment
from abmonitor.auth import Tokens
from abmonitor.cli import operate
from alerts.book import Decision
from alerts.standing import State


app = typer.Typer()
operate.register(app)

Run = Callable[..., Result]
REASON = ("--reason", "a test")
ACTING = [
    ["pause", "offers"],
    ["pause", "--all"],
    ["resume", "offers"],
    ["rollback", "offers"],
    ["rearm", "offers"],
    ["end", "offers"],
]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.end()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("ABMONITOR_URL", "ABMONITOR_TOKEN", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def given(*arguments: str, **environ: str) -> Result:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return given


@pytest.fixture
def ann(run: Run, running: Running) -> Run:
    """Runs commands as ann, against the running server."""

    def given(*arguments: str) -> Result:
        token = running.shop.tokens["ann"]
        return run(*arguments, ABMONITOR_URL=running.url, ABMONITOR_TOKEN=token)

    return given


def decisions(running: Running, name: str = "offers") -> list[Decision]:
    found: list[Decision] = running.run(running.shop.kept.decisions(name))
    return found


# --- acting ---------------------------------------------------------------------------------------


def test_a_rollback_is_done_and_told(ann: Run, running: Running) -> None:
    result = ann("rollback", "offers", "--treatment", "new", *REASON)
    assert result.exit_code == 0, result.stderr
    decision = decisions(running)[0]
    assert (decision.action, decision.actor) == ("rollback", "ann")
    assert decision.reasons == ("ann: a test",)
    assert "rollback: offers/new, state rolling back" in result.stdout
    assert decision.id in result.stdout
    assert running.shop.received == [decision.id]


def test_all_experiments_are_paused_for_a_while_and_resumed(ann: Run, running: Running) -> None:
    assert ann("pause", "--all", "--for", "2h", *REASON).exit_code == 0
    running.run(running.shop.pass_time(1))
    for name in ("offers", "prices"):
        (decision,) = decisions(running, name)
        paused = running.shop.monitor.view.experiments[name].book.standings["new"].paused
        assert paused is not None
        assert paused.until == decision.at + 7_200_000
    result = ann("resume", "--all", *REASON)
    assert result.stdout.count("resume: ") == 2


def test_json_is_the_answer_and_nothing_else(ann: Run, running: Running) -> None:
    result = ann("pause", "offers", *REASON, "--json")
    document = json.loads(result.stdout)
    assert [found["id"] for found in document["decisions"]] == [decisions(running)[0].id]
    assert document["refused"] == {}
    assert result.stderr == ""


def test_what_is_rolled_back_is_rearmed_with_force_and_ended(ann: Run, running: Running) -> None:
    ann("rollback", "offers", *REASON)
    running.run(running.shop.pass_time(3))
    result = ann("rearm", "offers", "--force", *REASON)
    assert result.exit_code == 0, result.stderr
    assert ann("end", "offers", *REASON).exit_code == 0
    running.run(running.shop.pass_time(1))
    book = running.shop.monitor.view.experiments["offers"].book
    assert book.standings["new"].state is State.ENDED


def test_what_changes_nothing_fails_and_says_why(ann: Run) -> None:
    result = ann("rearm", "offers", *REASON)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("rearm: rearm changed nothing: new: ")


def test_what_was_refused_in_part_fails_although_the_rest_was_done(
    run: Run, monkeypatch: pytest.MonkeyPatch, ann: Run
) -> None:
    del run
    post = ApiClient.post

    def some(client: ApiClient, path: str, body: object) -> dict[str, Any]:
        return post(client, path, body) | {"refused": {"other": "it is ended"}}

    monkeypatch.setattr(ApiClient, "post", some)
    result = ann("pause", "offers", *REASON)
    assert result.exit_code == 1
    assert "pause: offers/new, state" in result.stdout
    assert result.stderr == "pause refused for other: it is ended\n"


# --- wrong usage and failures ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pause", *REASON], "pause: expected either an experiment or --all"),
        (["resume", "offers", "--all", *REASON], "resume: expected either an experiment or --all"),
        (["pause", "--all", "--treatment", "new", *REASON], "--treatment needs an experiment"),
        (["pause", "offers", "--for", "soon", *REASON], "until: expected a duration"),
        (["pause", "offers", "--reason", " "], "reason: expected 1 to 500 characters, not only"),
        (["rollback", "offer", *REASON], "no experiment 'offer'; there are: offers, prices"),
        (["rollback", "offers", "--treatment", "old", *REASON], "there are: new"),
        (["rollback", "a/../b", *REASON], "no experiment 'a/../b'"),
        (["status", "offer"], "no experiment 'offer'; there are: offers, prices"),
    ],
)
def test_wrong_usage_ends_with_status_2(
    ann: Run, running: Running, arguments: list[str], told: str
) -> None:
    result = ann(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert decisions(running) == []


@pytest.mark.parametrize("arguments", ACTING)
def test_nothing_is_done_without_a_reason(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("arguments", ACTING)
def test_without_a_token_it_says_how_to_get_one(
    run: Run, running: Running, arguments: list[str]
) -> None:
    result = run(*arguments, *REASON, ABMONITOR_URL=running.url)
    assert result.exit_code == 2
    assert "abmonitor token new" in result.stderr
    assert "ABMONITOR_TOKEN" in result.stderr


def test_a_token_may_be_in_a_file_and_then_goes_before_the_environment(
    run: Run, running: Running, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(running.shop.tokens["bob"] + "\n")
    url, ann = running.url, running.shop.tokens["ann"]
    options = ["pause", "offers", *REASON, "--url", url, "--token-file", str(file)]
    result = run(*options, ABMONITOR_TOKEN=ann)
    assert result.exit_code == 2
    assert "bob may only read" in result.stderr
    file.write_text(ann)
    assert run(*options).exit_code == 0
    file.unlink()
    result = run(*options)
    assert (result.exit_code, "cannot read the file" in result.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["status"], *([*each, *REASON] for each in ACTING)])
def test_where_nothing_listens_it_asks_whether_the_monitor_runs(
    run: Run, arguments: list[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    result = run(*arguments, "--url", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"nothing listens at {url}: is the monitor running" in result.stderr


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://x", "file:///etc/passwd", "http://", "http://a:b@c", "http://[x"],
)
def test_an_address_that_is_none_is_refused(run: Run, url: str) -> None:
    result = run("status", "--url", url)
    assert result.exit_code == 2
    assert "expected an address such as http://127.0.0.1:8000" in result.stderr


def test_a_token_that_is_none_is_refused_and_not_repeated(run: Run) -> None:
    result = run("status", ABMONITOR_TOKEN="s3cr3t\nX-Evil: 1")
    assert result.exit_code == 2
    assert "s3cr3t" not in result.stderr


# --- strange servers ------------------------------------------------------------------------------


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str | None]]]:
    """A server that always says the same; gives its address and the tokens that it was sent."""
    sent = list[str | None]()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers["Authorization"])
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # as the base class wants it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
        server.shutdown()
        thread.join()


def test_a_token_is_not_sent_on_to_where_an_answer_points() -> None:
    with (
        answering(200, b"{}") as (other, stolen),
        answering(302, b"", Location=other) as (url, sent),
    ):
        with pytest.raises(ApiError, match="redirects: it may be a login page"):
            ApiClient(url, "abm_x").get("/api/v1/status")
        assert (sent, stolen) == (["Bearer abm_x"], [])


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"<html>", "did not answer as a monitor does"),
        (200, b"[]", "did not answer as a monitor does"),
        (502, b"<html>", "answered with status 502"),
        (500, b'{"error": 7}', "answered with status 500"),
        (503, b'{"error": "the store is away"}', "the store is away"),
    ],
)
def test_an_answer_that_is_no_monitors_is_a_failure(
    run: Run, status: int, body: bytes, told: str
) -> None:
    with answering(status, body) as (url, _):
        result = run("status", "--url", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr


def test_a_status_of_another_version_is_told(run: Run) -> None:
    with answering(200, b'{"as_of": "yesterday"}') as (url, _):
        result = run("status", "--url", url)
    assert result.exit_code == 1
    assert "as a monitor of this version does" in result.stderr


def test_what_was_done_before_a_failure_is_told(run: Run) -> None:
    done = {
        "action": "pause",
        "experiment": "a",
        "treatment": "t",
        "at": 0,
        "state": "hold",
        "id": "i",
    }
    body = json.dumps({"error": "b did not answer", "decisions": [done]}).encode()
    with answering(503, body) as (url, _):
        result = run("pause", "--all", *REASON, "--url", url)
    assert result.exit_code == 1
    assert "done: 1970-01-01 00:00:00  pause: a/t, state hold  (i)" in result.stderr
    assert "b did not answer" in result.stderr


def test_a_server_that_hangs_may_have_acted_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(abmonitor.api_client, "PATIENCE_S", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = ApiClient(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ApiError, match="may have been done all the same") as raised:
            client.post("/api/v1/pause", {})
        assert not raised.value.wrong_call
        with pytest.raises(ApiError, match=r"did not answer within 0\.2 s$"):
            client.get("/api/v1/status")


def test_parameters_are_escaped_and_left_out_where_there_are_none(running: Running) -> None:
    client = ApiClient(running.url + "/")
    assert client.get("/api/v1/decisions", experiment="offers", action=None, limit=5) == {
        "decisions": []
    }
    with pytest.raises(ApiError, match="a&b") as raised:
        client.get("/api/v1/decisions", since="a&b")
    assert raised.value.wrong_call
    assert segment("a/b?c") == "a%2Fb%3Fc"


# --- status ---------------------------------------------------------------------------------------


def test_the_status_says_all_that_the_person_on_call_has_to_know(
    ann: Run, running: Running
) -> None:
    ann("pause", "offers", "--for", "2h", "--reason", "holidays")
    running.run(running.shop.pass_time(1))
    result = ann("status", "offers")
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    assert text.startswith("offers: ")
    assert "new: " in text
    assert "0s old" in text
    assert "50.0% of the traffic (intended 50.0%)" in text
    assert "by ann until 2023-11-15 01:05:00: holidays" in text
    assert "error_rate" in text
    assert "last minute: 50.0%" in text
    assert "this monitor leads" in text
    assert 'abmonitor rollback offers --treatment new --reason "..."' in text
    assert 'abmonitor resume offers --treatment new --reason "..."' in text
    assert "abmonitor pause" not in text
    assert "profit at risk an hour = " in text
    assert "prices" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_experiment_may_stand_alone_or_behind_its_option(ann: Run) -> None:
    alone = ann("status", "offers")
    assert alone.exit_code == 0
    assert ann("status", "--experiment", "offers").stdout == alone.stdout
    assert ann("status", "offers", "--experiment", "offers").stdout == alone.stdout
    both = ann("status", "offers", "--experiment", "prices")
    assert both.exit_code == 2
    assert "expected one experiment, got offers and --experiment prices" in both.stderr


def test_the_commands_that_the_status_prints_can_be_run(ann: Run) -> None:
    document = json.loads(ann("status", "offers", "--json").stdout)
    for command in document["experiments"][0]["treatments"][0]["commands"]:
        program, *arguments = command.replace('"..."', "why").split()
        assert program == "abmonitor"
        assert ann(*arguments).exit_code == 0


def test_the_status_warns_where_the_monitor_is_not_ready(ann: Run, running: Running) -> None:
    running.shop.problems.append("Redis does not answer")
    result = ann("status")
    assert result.stdout.startswith("! the monitor is not ready: Redis does not answer\n")


# --- tokens ---------------------------------------------------------------------------------------


def test_a_new_token_is_printed_once_with_the_line_for_the_file(run: Run, tmp_path: Path) -> None:
    result = run("token", "new", "--name", "eve", "--role", "operate", "--experiment", "off*")
    token, line = result.stdout.splitlines()
    file = tmp_path / "tokens.yaml"
    file.write_text(f"tokens:\n{line}\n")
    caller = Tokens(file).caller(token)
    assert caller is not None
    assert (caller.name, caller.role, caller.experiments) == ("eve", "operate", ("off*",))
    document = json.loads(run("token", "new", "--name", "eve", "--json").stdout)
    assert document["entry"]["role"] == "read"
    assert document["token"] != token


@pytest.mark.parametrize(
    "arguments", [[], ["--name", "a b"], ["--name", "x", "--role", "root"], ["--name", "abmonitor"]]
)
def test_a_token_for_nobody_is_refused(run: Run, arguments: list[str]) -> None:
    result = run("token", "new", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
