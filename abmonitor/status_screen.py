"""The status on one screen that is drawn again and again: what fits, worst first. Pure, but for the look of things."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from rich.console import Console, ConsoleOptions, Group
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from abmonitor.api_types import ExperimentStatus, Status
from abmonitor.status_text import experiment_line, experiment_text
from abmonitor.summary import moment
from alerts.standing import SEVERITY
from metrics.duration import Duration


Lines = list[list[Segment]]

_DIM = Style(dim=True)
_PLACES = {state.value: place for place, state in enumerate(SEVERITY)}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a monitor last said, and why there is nothing newer."""

    found: Status | None = None
    at: int | None = None
    """When it said so, epoch ms."""
    failure: str | None = None
    """Why it does not answer now, None where it does."""

    def after(self, answer: Status | str, now: int) -> Self:
        """What is known after an answer, or after the reason why there was none."""
        if isinstance(answer, str):
            return replace(self, failure=answer)
        return replace(self, found=answer, at=now, failure=None)

    def away(self, now: int) -> str | None:
        """Since when nobody answers and why; None where somebody does."""
        if self.failure is None:
            return None
        if self.at is None:
            return f"no answer yet: {self.failure}"
        lasts = Duration((now - self.at) // 1000 * 1000)
        return f"no answer since {moment(self.at)} UTC, for {lasts}: {self.failure}"


@dataclass(frozen=True, slots=True)
class Picture:
    """One screen. What does not fit whole stands on a line, and what does not fit at all is counted."""

    seen: Seen
    now: int
    """Epoch ms."""
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Draw it into the screen's size."""
        plain = options.update(height=None)
        height = options.height or console.height
        lines = self._head(console, plain)
        if self.seen.found is not None:
            body = _body(self.seen.found, console, plain, height - len(lines))
            if self.seen.failure is not None:
                body = [list(Segment.apply_style(line, post_style=_DIM)) for line in body]
            lines += body
        for number, line in enumerate(lines[:height]):
            if number:
                yield Segment.line()
            yield from line

    def _head(self, console: Console, options: ConsoleOptions) -> Lines:
        at = "" if self.seen.at is None else f"{moment(self.seen.at)} UTC  "
        head = Text(f"{at}{self.title}", style="dim", no_wrap=True, overflow="ellipsis")
        found, away = self.seen.found, self.seen.away(self.now)
        parts = [head]
        if away is not None:
            parts.append(Text(f"! {away}", style="bold red"))
        elif found is not None and found.problem:
            parts.append(Text(f"! the monitor is not ready: {found.problem}", style="bold red"))
        return console.render_lines(Group(*parts), options, pad=False)


def worst_first(found: Sequence[ExperimentStatus]) -> list[ExperimentStatus]:
    """By state, then those whose labels stall, then by what they lose, then by name."""

    def place(one: ExperimentStatus) -> tuple[int, bool, float, str]:
        risks = [treatment.at_risk.an_hour or 0.0 for treatment in one.treatments]
        return _PLACES.get(one.state, -1), not one.labels_stalled, -max(risks, default=0), one.name

    return sorted(found, key=place)


def _body(found: Status, console: Console, options: ConsoleOptions, room: int) -> Lines:
    """At most `room` lines: the worst experiment whole, and others as far as every one has a line."""
    experiments = worst_first(found.experiments)
    if not experiments:
        return console.render_lines(Text("nothing was read yet"), options, pad=False)

    def whole(one: ExperimentStatus) -> Lines:
        parts = experiment_text(one, found.as_of, unbroken=False)
        return [[], *console.render_lines(Group(*parts), options, pad=False)]

    lines, left = whole(experiments[0]), experiments[1:]
    while left:
        block = whole(left[0])
        if len(lines) + len(block) + len(left) - 1 + (len(left) > 1) > room:
            break
        lines, left = lines + block, left[1:]
    lines = lines[: room - 1] if left else lines[:room]
    if left and len(lines) + 1 < room:
        lines.append([])
    fitting = room - len(lines)
    shown = left if len(left) <= fitting else left[: fitting - 1]
    short = [experiment_line(one) for one in shown]
    if rest := left[len(shown) :]:
        short.append(_uncounted(rest))
    return lines + (console.render_lines(Group(*short), options, pad=False) if short else [])


def _uncounted(rest: Sequence[ExperimentStatus]) -> Text:
    """What is not on the screen: how many, in which states."""
    states = Counter(one.state for one in rest)  # worst first, as they came
    told = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items())
    return Text(f"… and {len(rest)} more: {told}", style="bold", no_wrap=True, overflow="ellipsis")
