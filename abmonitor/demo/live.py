"""The live view of the demo: one screen that shows what the monitor knows, and what it does not."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from abmonitor.demo.scene import DEFECT_AT, Scene
from abmonitor.demo.story import Story
from abmonitor.document import experiment
from abmonitor.monitor import View
from abmonitor.summary import UNKNOWN, comparison_lines, moment, number, state_text


BARS = "▁▂▃▄▅▆▇█"
TREND = 24
"""Points of a trend line; one is added each ten simulated minutes."""


class Screen:
    """Draws the scene after each step."""

    def __init__(self) -> None:
        self._trends: dict[str, deque[float | None]] = {}
        self._steps = 0

    def draw(self, scene: Scene, view: View) -> RenderableType:
        """The whole screen."""
        shown = view.experiments[scene.experiment]
        found = experiment(shown)
        if self._steps % 10 == 0:
            self._remember(found)
        self._steps += 1
        lines = [Text(line) for line in comparison_lines(found)]
        return Panel(
            Group(
                self._clock(scene),
                Text(),
                self._variants(scene, found),
                Text(),
                *lines,
                Text(),
                *_decisions(found["decisions"]),
            ),
            title=f"abmonitor demo · {scene.experiment}",
            subtitle=f"http://127.0.0.1:{scene.port}/metrics · /api/v1/experiments",
        )

    def _remember(self, found: dict[str, Any]) -> None:
        for variant, facts in found["variants"].items():
            trend = self._trends.setdefault(variant, deque(maxlen=TREND))
            trend.append(facts["metrics"]["rap"])

    def _clock(self, scene: Scene) -> RenderableType:
        offer = scene.offers[max(0, scene.served - 1)]
        broken = scene.served > DEFECT_AT
        secret = Text(
            " the treatment's features are stale (the monitor is not told) " if broken else "",
            style="white on dark_red",
        )
        stopped = scene.router.rolled_back_at
        if stopped is not None:
            secret = Text(f" all traffic to control since customer {stopped:,} ", style="on green")
        head = Text.assemble(
            f"simulated {moment(scene.now)}  customer {scene.served:,} of {len(scene.offers):,}"
            f"  (called {offer.date})  ",
            secret,
        )
        return Group(head, ProgressBar(total=len(scene.offers), completed=scene.served))

    def _variants(self, scene: Scene, found: dict[str, Any]) -> Table:
        table = Table(expand=True, pad_edge=False, box=None, header_style="dim")
        names = "variant,predictions,labels,mature,RAP,RAP over time,ROI,profit/call €,accuracy"
        for column in [*names.split(","), "p50", "p95", "p99 ms", "state"]:
            left = column in {"variant", "RAP over time", "state"}
            table.add_column(column, justify="left" if left else "right", no_wrap=True)
        cost = scene.settings.experiments[0].profitability
        unit = (cost.unit_cost if cost else None) or 1.0
        for variant, facts in found["variants"].items():
            comparison = found["comparisons"].get(variant)
            metrics, window = facts["metrics"], facts["windows"]["1h"]
            latency = window.get("latency_ms", {})
            profit = metrics["profit_per_prediction"]
            table.add_row(
                Text(variant, style="bold"),
                f"{facts['predictions']:,}",
                f"{facts['predictions'] - facts['unlabelled']:,}",
                f"{facts['mature_predictions']:,}",
                number(metrics["rap"], "+.3f"),
                spark(self._trends.get(variant, ())),
                number(metrics["roi"], "+.0%"),
                number(None if profit is None else profit * unit, "+.2f"),
                number(metrics["accuracy"], ".1%"),
                *(number(latency.get(key), ".0f") for key in ("p50", "p95", "p99")),
                state_text(comparison["state"]) if comparison else Text("control", style="dim"),
            )
        return table


def spark(values: Sequence[float | None] | deque[float | None]) -> Text:
    """A trend line of small bars; unknown values are gaps."""
    known = [value for value in values if value is not None]
    if not known:
        return Text(UNKNOWN)
    low, high = min(known), max(known)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    bars = (" " if v is None else BARS[round((v - low) * scale)] for v in values)
    return Text("".join(bars), style="cyan")


def _decisions(decisions: Sequence[dict[str, Any]]) -> list[Text]:
    lines = [Text("decisions", style="dim")]
    for decision in decisions[-4:]:
        said = "; ".join(decision["reasons"])
        style = "bold red" if decision["action"].startswith("roll") else ""
        lines.append(Text(f"{moment(decision['at'])}  {decision['action']}  {said}", style=style))
    return lines + [Text()] * (5 - len(lines))


def ending(story: Story) -> RenderableType:
    """What the run showed."""
    lines = [
        f"The treatment's feature pipeline broke at customer {story.defect_at:,}.",
    ]
    if story.rolled_back_at is None:
        lines.append("It was NOT rolled back.")
    else:
        took = story.rolled_back_at - story.defect_at
        seen = "and the monitor saw the traffic go" if story.verified else "unverified"
        lines += [
            f"It was rolled back {took:,} customers later, at {story.rolled_back_at:,}, {seen}:",
            *(f"  {reason}" for reason in story.reasons),
            f"Until then it decided {story.bad_predictions:,} times, which cost"
            f" {story.lost:,.0f} € against the control.",
            f"Left alone, it would have cost {story.would_have_been_lost:,.0f} € by customer"
            f" {story.customers:,}: {story.would_have_been_lost - story.lost:,.0f} € were saved.",
        ]
    lines.append("The offers and answers are real (UCI Bank Marketing, CC BY 4.0); latencies, delays")
    lines.append("of answers and the pace are simulated.")
    return Panel("\n".join(lines), title="what happened")


