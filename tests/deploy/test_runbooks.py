"""Runbooks: a page for every alert, true of the command line and of the metrics, and served by the monitor."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from aiohttp.test_utils import TestClient, TestServer
from support.exposed import series_names
from support.servers.base import or_skip
from support.servers.prometheus import promtool

from abmonitor.api import Api
from abmonitor.api_guard import Guard
from abmonitor.cli.main import app
from abmonitor.runbooks import INDEX, pages
from abmonitor.server import application
from abmonitor.view import View
from alerts.actions import ACTIONS


ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "runbooks"
RULES = ROOT / "deploy" / "prometheus" / "rules"
NOTIFIER = ROOT / "alerts" / "notifiers" / "firing.py"
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Changing it"]
LONGEST = 60
PAGES = sorted(FOLDER.glob("*.md"))
COMMANDS = typer.main.get_command(app)
USAGE = typer.BadParameter.__base__ or typer.BadParameter
"""What is raised where a call has to be changed."""


def of_prometheus() -> set[str]:
    groups = [g for file in RULES.glob("*.yml") for g in yaml.safe_load(file.read_text())["groups"]]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def recorded() -> set[str]:
    groups = [g for file in RULES.glob("*.yml") for g in yaml.safe_load(file.read_text())["groups"]]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def of_the_monitor() -> set[str]:
    return set(re.findall(r'"(Abmonitor[A-Za-z]+)"', NOTIFIER.read_text()))


def commands(text: str) -> Iterator[str]:
    """Whole lines in blocks of code, and what stands between back-ticks."""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind != "promql":
            yield from block.splitlines()
    yield from re.findall(r"`(abmonitor [^`]*)`", text)


def parsed(words: list[str]) -> Any:
    """The context of a command; raises click's UsageError where it does not exist, or not so."""
    command, found, rest = COMMANDS, "abmonitor", words
    while rest and rest[0] in getattr(command, "commands", {}):
        found, *rest = rest
        command = command.commands[found]  # type: ignore[attr-defined]
    assert command is not COMMANDS, f"no such command: {words}"
    return command.make_context(found, rest)


def _checked(file: Path) -> None:
    with or_skip():
        status, said = promtool("check", "rules", str(file))
    assert status == 0, said


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert len(of_prometheus()) > 20
    assert len(of_the_monitor()) == 10
    assert {page.stem for page in PAGES} - {INDEX} == of_prometheus() | of_the_monitor()


def test_the_index_names_every_page_once() -> None:
    named = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \|", pages()[INDEX], re.MULTILINE)
    assert all(name == file for name, file in named)
    assert sorted(name for name, _ in named) == sorted(p.stem for p in PAGES if p.stem != INDEX)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_has_the_same_headings(page: Path) -> None:
    text = page.read_text("utf-8")
    assert len(text.splitlines()) < LONGEST
    if page.stem != INDEX:
        assert text.startswith(f"# {page.stem}\n")
        assert re.findall(r"^## (.*)", text, re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for line in commands(page.read_text("utf-8")):
        program, *words = shlex.split(line)
        assert program == "abmonitor", line
        found = parsed(words)
        action = found.params.get("action")
        assert action is None or action in ACTIONS, line


def test_a_command_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no such command"):
        parsed(["resume-all"])
    with pytest.raises(USAGE, match="reason"):
        parsed(["rollback", "offers"])
    with pytest.raises(USAGE, match="--since"):
        parsed(["status", "--since", "1h"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_metrics_of_a_page_are_exposed_or_recorded(page: Path) -> None:
    named = set(
        re.findall(r"(?<![\w:])(?:\w+:)?abmonitor_[a-z_]+\w*(?::\w+)?", page.read_text("utf-8"))
    )
    assert named <= series_names() | recorded()


def test_the_questions_of_all_pages_are_promql(tmp_path: Path) -> None:
    asked = [
        line
        for page in PAGES
        for block in re.findall(
            r"^```promql\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        )
        for line in block.splitlines()
    ]
    assert len(asked) > 40
    rules = [{"record": f"asked:{at}", "expr": expr} for at, expr in enumerate(asked)]
    file = tmp_path / "asked.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    _checked(file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_links_to_exists(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", page.read_text("utf-8")):
        assert (page.parent / link).is_file(), link


def test_the_pages_that_are_installed_are_those_of_the_folder() -> None:
    assert pages() == {page.stem: page.read_text("utf-8") for page in PAGES}


async def test_the_monitor_serves_pages_to_everybody_and_nothing_else() -> None:
    api = Api(clock=lambda: 0, guard=Guard(open_reads=False))  # even who may read nothing else
    server = TestServer(application(View, lambda: None, api=api))
    async with TestClient(server) as client:
        for name in ("AbmonitorRollback", ""):
            answer = await client.get(f"/runbooks/{name}")
            assert answer.status == 200
            assert answer.content_type == "text/plain"
            assert await answer.text() == pages()[name or INDEX]
        for wrong in ("Nothing", "..%2F..%2Fpyproject.toml", "%2Fetc%2Fpasswd", "README.md", "a/b"):
            assert (await client.get(f"/runbooks/{wrong}")).status == 404, wrong
        assert (await client.post("/runbooks/AbmonitorRollback")).status == 405
        assert (await client.get("/api/v1/status")).status == 401
