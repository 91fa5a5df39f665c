"""Every command of docs/ranking.md is run, and prints what stands below it; every option and column is explained."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from abmonitor.cli import main
from abmonitor.ranking.columns import COLUMNS


ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "ranking.md"
WIDTH = "100"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """A command with what it printed, or a file that the reader writes."""

    command: str
    printed: str = ""


def steps(text: str) -> Iterator[Step]:
    """Commands begin with `$ `, and go on after a backslash; a Python block is run, a YAML block names its file."""
    for kind, body in FENCED.findall(text):
        if kind == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                joined = part.replace("\\\n", " ")
                command, _, printed = joined.partition("\n")
                yield Step(command, printed)
        elif kind in {"python", "yaml"}:
            yield Step(kind, body)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that looks like the project's, to which the guide may write."""
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    (tmp_path / "docs" / "study").symlink_to(ROOT / "docs" / "study")
    (tmp_path / "abmonitor").symlink_to(ROOT / "abmonitor")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> str:
    program, *arguments = shlex.split(command)
    if program == "cat":
        return Path(arguments[0]).read_text()
    assert program == "abmonitor"
    found = CliRunner().invoke(main.app, arguments, env={"COLUMNS": WIDTH, "TERM": "dumb"})
    assert found.exit_code == 0, found.output
    return found.output


def without_trailing_space(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_every_command_of_the_guide_prints_and_draws_what_the_guide_shows(desk: Path) -> None:
    text = GUIDE.read_text()
    known = list(steps(text))
    assert sum(step.command.startswith("abmonitor rank ") for step in known) >= 8
    for step in known:
        if step.command == "python":
            exec(compile(step.printed, "guide", "exec"), {})
        elif step.command == "yaml":
            name = step.printed.partition("\n")[0].removeprefix("# ")
            (desk / name).write_text(step.printed)
        else:
            printed = without_trailing_space(run(step.command))
            assert printed == without_trailing_space(step.printed), step.command
    shown = re.findall(r"!\[.*?\]\((.*?\.svg)\)", text)
    assert len(shown) >= 2
    for path in shown:
        assert words(ROOT / "docs" / path) == words(desk / "docs" / path)


def words(figure: Path) -> list[str]:
    """All that is written in a figure: names, ranges and the numbers at its axes."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", figure.read_text(), re.DOTALL)
    assert len(found) > 10
    return found


def test_every_option_of_the_command_is_in_the_guide_and_none_that_there_is_not() -> None:
    group: Any = typer.main.get_command(main.app)
    options = {
        name
        for parameter in group.commands["rank"].params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }
    reference = GUIDE.read_text().partition("\n## Options")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(--[a-z-]+)", reference))
    assert named == options - {"--help"}


def test_every_column_of_the_table_is_in_the_guide() -> None:
    reference = GUIDE.read_text().partition("\n## Columns")[2].partition("\n## ")[0]
    first_cells = "".join(re.findall(r"^\| (`.*?) \|", reference, re.MULTILINE))
    assert set(re.findall(r"`([a-z_]+)`", first_cells)) == {column.name for column in COLUMNS}
