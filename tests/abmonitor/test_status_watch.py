"""`status --watch`: what fits on a screen, and a terminal that outlives the monitor. Real server, real terminal."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from support.running import Running

from abmonitor.api_types import (
    AtRisk,
    ExperimentStatus,
    Status,
    TreatmentStatus,
)
from abmonitor.status_screen import Picture, Seen, worst_first
from abmonitor.summary import moment
from alerts.machine import Command
from alerts.standing import SEVERITY


NOW = 1_700_000_000_000
PATIENCE_S = 30
OPENS, CLOSES = "\x1b[?1049h", "\x1b[?1049l"
"""The alternate screen, which leaves what was on the terminal as it was."""
STYLES = re.compile(r"\x1b\[[0-9;]*m")


def experiment(name: str, state: str = "healthy", **more: object) -> ExperimentStatus:
    lost = more.pop("lost", None)
    treatment = TreatmentStatus(
        treatment="new",
        state=state,
        since=NOW - 60_000,
        epoch=1,
        causes=(),
        verified=None,
        paused=None,
        latched=(),
        share=0.5,
        share_lately=0.5,
        intended_share=0.5,
        versions=(),
        quarantined=(),
        guardrails=(),
        at_risk=AtRisk(an_hour=lost, unit="money", predictions_an_hour=100),  # type: ignore[arg-type]
        advice=None,
        commands=(f'abmonitor rollback {name} --treatment new --reason "..."',),
    )
    made = ExperimentStatus(
        name=name,
        state=state,
        leads=True,
        control="old",
        data_age_ms=0,
        labels_final_to=NOW,
        labels_stalled=False,
        dry_run=False,
        treatments=(treatment,),
    )
    return msgspec.structs.replace(made, **more)


def fleet(states: Sequence[str]) -> Status:
    named = (experiment(f"experiment-{n:03d}", state) for n, state in enumerate(states))
    return Status(as_of=NOW, problem=None, experiments=tuple(named))


def drawn(seen: Seen, *, height: int, width: int = 80, now: int = NOW) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), record=True, highlight=False)
    console.print(Picture(seen, now, "title"))
    return [line.rstrip() for line in console.export_text().splitlines()]


def seen(found: Status) -> Seen:
    return Seen().after(found, NOW)


# --- what fits ------------------------------------------------------------------------------------


def test_the_worst_comes_first_by_state_then_labels_then_loss_then_name() -> None:
    expected = [
        experiment("z", "rollback_failed"),
        experiment("y", "hold", labels_stalled=True),
        experiment("x", "hold", lost=7.0),
        experiment("a", "hold", lost=0.5),
        experiment("b", "hold"),
        experiment("c", "hold"),
        experiment("d", "healthy", lost=1_000.0),
    ]
    assert worst_first(sorted(expected, key=lambda one: one.name)) == expected


def test_no_state_is_forgotten_in_the_order() -> None:
    backwards = fleet([state.value for state in reversed(SEVERITY)]).experiments
    assert [one.state for one in worst_first(backwards)] == [state.value for state in SEVERITY]


@pytest.mark.parametrize("height", range(4, 60))
@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_every_screen_is_filled_and_never_overfilled(count: int, height: int) -> None:
    found = fleet(["healthy"] * (count - 1) + ["hold"])
    lines = drawn(seen(found), height=height)
    assert len(lines) <= height
    text = "\n".join(lines)
    assert f"experiment-{count - 1:03d}: hold" in text  # the worst
    named = set(re.findall(r"^experiment-\d+(?=: )", text, re.MULTILINE))
    more = re.search(r"^… and (\d+) more", text, re.MULTILINE)
    assert len(named) + (int(more[1]) if more else 0) == count


def test_all_are_whole_where_there_is_room() -> None:
    lines = drawn(seen(fleet(["healthy", "hold"])), height=80)
    assert sum(line.startswith("profit at risk") for line in lines) == 2
    assert not any(line.startswith("… and") for line in lines)


def test_what_does_not_fit_is_counted_by_state_the_worst_first() -> None:
    states = ["healthy"] * 100 + ["rolled_back"] * 2 + ["hold"] * 98
    lines = drawn(seen(fleet(states)), height=24)
    assert len(lines) == 24
    assert lines[2] == "experiment-100: rolled back"
    lined = [line for line in lines if line.startswith("experiment-")]
    assert lined[1].startswith("experiment-101: rolled back")
    assert lined[2].startswith("experiment-102: hold")
    rest = 98 - (len(lined) - 2)
    assert lines[-1] == f"… and {rest + 100} more: {rest} hold, 100 healthy"


def test_a_line_says_what_is_lost_and_that_labels_stall() -> None:
    stalled = experiment("stalled", "hold", labels_stalled=True, lost=12.5)
    found = Status(as_of=NOW, problem=None, experiments=(experiment("a", "suspect"), stalled))
    found = msgspec.structs.replace(
        found, experiments=(experiment("worst", "rolling_back"), *found.experiments)
    )
    lines = drawn(seen(found), height=18, width=120)
    (line,) = [each for each in lines if each.startswith("stalled: ")]
    assert line == (
        "stalled: hold  labels STALLED  new 50.0%, at risk 12.50 an hour (100 predictions an hour)"
    )


def test_long_commands_go_on_in_the_next_line() -> None:
    found = Status(as_of=NOW, problem=None, experiments=(experiment("x" * 64),))
    lines = drawn(seen(found), height=40, width=60)
    (command,) = found.experiments[0].treatments[0].commands
    assert command.replace(" ", "") in "".join(lines).replace(" ", "")


def test_names_are_never_taken_for_markup() -> None:
    found = Status(as_of=NOW, problem="[red]no[/red]", experiments=(experiment("[bold]x"),))
    text = "\n".join(drawn(seen(found), height=40))
    assert "[bold]x: healthy" in text
    assert "! the monitor is not ready: [red]no[/red]" in text


# --- a monitor that is away -----------------------------------------------------------------------


def test_what_was_seen_stays_dimmed_under_the_reason_why_nothing_is_newer() -> None:
    now = NOW + 83_400
    away = seen(fleet(["hold"])).after("nothing listens", now)
    lines = drawn(away, height=40, now=now)
    assert f"! no answer since {moment(NOW)} UTC, for 1m23s: nothing listens" in lines
    assert "experiment-000: hold" in lines
    console = Console(width=80, height=40, file=io.StringIO(), force_terminal=True, highlight=False)
    for known, dim in ((seen(fleet(["hold"])), False), (away, True)):
        console.file = io.StringIO()
        console.print(Picture(known, now, "title"))
        line = next(each for each in console.file.getvalue().splitlines() if "-000" in each)
        assert (re.search(r"\x1b\[(1;)?2(;1)?m(?=experiment-000)", line) is not None) == dim


def test_before_the_first_answer_only_the_reason_is_there() -> None:
    lines = drawn(Seen().after("nothing listens", NOW), height=10)
    assert lines == ["title", "! no answer yet: nothing listens"]


def test_an_answer_ends_the_absence() -> None:
    found = fleet(["hold"])
    back = seen(found).after("nothing listens", NOW + 1).after(found, NOW + 2)
    assert (back.away(NOW + 3), back.at) == (None, NOW + 2)
    assert "! no" not in "\n".join(drawn(back, height=40))


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    if made._thread.is_alive():
        made.end()


def pause(running: Running) -> None:
    """Let something change that everybody sees."""
    shop = running.shop
    running.run(shop.monitor.command("offers", "new", Command(shop.now, "pause", "ann", "why")))
    running.run(shop.pass_time(1))


HEEDING = """
import signal
from abmonitor.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""The command as it is started from a terminal: what begins in the background ignores Ctrl-C."""


class Watched(AbstractContextManager["Watched"]):
    """`abmonitor status --watch` in a process of its own, on a terminal or on a pipe."""

    def __init__(self, *arguments: str, terminal: tuple[int, int] | None = None) -> None:
        outer, inner = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", *terminal, 0, 0))
        self.text = ""
        self._out = outer
        hidden = ("ABMONITOR_URL", "ABMONITOR_TOKEN", "COLUMNS", "LINES", "FORCE_COLOR")
        environ = {name: told for name, told in os.environ.items() if name not in hidden}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEEDING, "status", "--watch", "--every", "1s", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=inner,
            stderr=inner if terminal else subprocess.PIPE,
            env=environ | {"TERM": "xterm-256color"},
            text=True,
        )
        os.close(inner)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def until(self, told: str) -> str:
        """Read on until this is said, and give what was said since the last call."""
        deadline, said = time.monotonic() + PATIENCE_S, ""
        while told not in said:
            left = deadline - time.monotonic()
            assert left > 0, f"{told!r} did not come; this did: {said[-2000:]}"
            if select.select([self._out], [], [], left)[0]:
                read = os.read(self._out, 65536)
                assert read, f"it ended without {told!r}; it said: {said[-2000:]}"
                said = STYLES.sub("", said + read.decode(errors="replace"))
        self.text += said
        return said

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C; gives the exit status, and what it said to people."""
        self.process.send_signal(signal.SIGINT)
        deadline, rest = time.monotonic() + PATIENCE_S, b""
        while select.select([self._out], [], [], PATIENCE_S)[0]:
            assert time.monotonic() < deadline, f"it goes on: {rest[-2000:].decode()}"
            try:
                read = os.read(self._out, 65536)
            except OSError:  # so ends a terminal
                break
            if not read:
                break
            rest += read
        self.text += rest.decode(errors="replace")
        _, told = self.process.communicate(timeout=PATIENCE_S)
        os.close(self._out)
        return self.process.returncode, told or ""


def test_on_a_terminal_it_is_one_screen_that_outlives_the_monitor(running: Running) -> None:
    with Watched("--url", running.url, terminal=(24, 80)) as watched:
        assert OPENS in watched.until("prices: ")
        pause(running)
        watched.until("by ann")
        running.end()
        said = watched.until("nothing listens")
        assert "no answer since" in said
        watched.until("by ann")  # what was seen stays
        assert watched.end()[0] == 0
    assert watched.text.rstrip().endswith(CLOSES)
    assert "Traceback" not in watched.text


def test_without_a_terminal_it_is_a_picture_for_every_change_and_no_control_codes(
    running: Running,
) -> None:
    with Watched("offers", "--url", running.url) as watched:
        watched.until("profit at risk an hour = ")
        time.sleep(2.5)  # answers that change nothing
        pause(running)
        watched.until("by ann")
        status, told = watched.end()
    assert (status, told) == (0, "")
    assert watched.text.count("offers: ") == 2
    assert "\x1b" not in watched.text


def test_json_is_a_document_a_line_and_an_outage_is_told_once(running: Running) -> None:
    with Watched("--json", "--url", running.url) as watched:
        watched.until("\n")
        watched.until("\n")
        running.end()
        time.sleep(3.5)
        status, told = watched.end()
    assert status == 0
    documents = [json.loads(line) for line in watched.text.splitlines()]
    assert len(documents) >= 2
    for document in documents:
        assert [one["name"] for one in document["experiments"]] == ["offers", "prices"]
    assert told.count("nothing listens") == 1


def test_it_waits_for_a_monitor_that_is_not_there_yet() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Watched("--url", url, terminal=(24, 80)) as watched:
        watched.until("no answer yet")
        assert watched.end()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--watch", "offer"], "no experiment 'offer'; there are: offers, prices"),
        (["--watch", "--every", "soon"], "status: --every: expected a duration"),
        (["--watch", "--every", "10ms"], "status: --every: expected 1s or more, got 10ms"),
        (["--every", "3s"], "status: --every needs --watch"),
    ],
)
def test_wrong_usage_ends_with_status_2(running: Running, arguments: list[str], told: str) -> None:
    command = [sys.executable, "-m", "abmonitor", "status", "--url", running.url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
