"""The live view of the demo: one screen that shows what the monitor knows, and what it does not.

It fits a terminal of 80 columns and 24 lines, without cutting anything off.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.text import Text

from abmonitor.demo.scene import HOST, Scene
from abmonitor.demo.story import Story
from abmonitor.document import experiment
from abmonitor.progress import progress_table
from abmonitor.summary import (
    UNKNOWN,
    Rows,
    by_variant,
    comparison_rows,
    moment,
    number,
    rows_table,
    standing,
)
from abmonitor.view import View


BARS = "▁▂▃▄▅▆▇█"
TREND = 20
"""Points of a trend line; one is added each ten simulated minutes."""

DECISIONS = 3
"""The newest decisions that have reasons are shown; of the others the state tells."""


class Screen:
    """Draws the scene after each step."""

    def __init__(self) -> None:
        self._trends: dict[str, deque[float | None]] = {}
        self._steps = 0

    def draw(self, scene: Scene, view: View) -> RenderableType:
        """The whole screen."""
        found = experiment(view.experiments[scene.experiment])
        if self._steps % 10 == 0:
            self._remember(found)
        self._steps += 1
        variants = list(found["variants"])
        treatment = scene.router.treatment
        return Panel(
            Group(
                _clock(scene),
                ProgressBar(total=len(scene.offers), completed=scene.served),
                Text(),  # a bar does not end its line
                *by_variant(variants, self._rows(scene, found)),
                *_verdict(treatment, found, _moved_by_flag(scene)),
                *_decisions(found),
            ),
            title=f"abmonitor demo · {scene.experiment}{_flag(scene)}",
            subtitle=f"http://{HOST}:{scene.port}/metrics · /api/v1/experiments",
        )

    def _remember(self, found: dict[str, Any]) -> None:
        for variant, facts in found["variants"].items():
            trend = self._trends.setdefault(variant, deque(maxlen=TREND))
            trend.append(facts["metrics"]["rap"])

    def _rows(self, scene: Scene, found: dict[str, Any]) -> Rows:
        facts = list(found["variants"].values())
        metrics = [fact["metrics"] for fact in facts]
        latest = [fact["windows"]["1h"]["latency_ms"] for fact in facts]
        cost = scene.economics.unit_cost or 1.0
        profits = [each["profit_per_prediction"] for each in metrics]
        return {
            "predictions": [f"{fact['predictions']:,}" for fact in facts],
            "  labels seen / final": [
                f"{fact['predictions'] - fact['unlabelled']:,} / {fact['mature_predictions']:,}"
                for fact in facts
            ],
            "RAP": [number(each["rap"], "+.3f") for each in metrics],
            "RAP over time": [
                spark(self._trends.get(variant, ())) for variant in found["variants"]
            ],
            "ROI": [number(each["roi"], "+.0%") for each in metrics],
            "profit per customer, €": [
                number(None if profit is None else profit * cost, "+.2f") for profit in profits
            ],
            "accuracy": [number(each["accuracy"], ".1%") for each in metrics],
            "latency p50/p95/p99, ms": [
                " / ".join(number(each[key], ".0f") for key in ("p50", "p95", "p99"))
                for each in latest
            ],
            "state": [standing(found, variant) for variant in found["variants"]],
        }


def _flag(scene: Scene) -> str:
    """What the flag deals, where one does."""
    if scene.flagging is None:
        return ""
    share = scene.flagging.shares.get(scene.router.treatment, 0.0)
    return f" · flag: {share:.0%} {scene.router.treatment}"


def _moved_by_flag(scene: Scene) -> bool:
    """Whether the title already tells that nothing is left to compare."""
    return scene.flagging is not None and scene.router.rolled_back_at is not None


def _verdict(treatment: str, found: dict[str, Any], moved: bool) -> Iterable[RenderableType]:
    """How the treatment stands, and how far its guardrails are from a verdict."""
    rows = comparison_rows(treatment, found)
    titles = ["net business value"] + ([] if moved else ["split of the traffic"])
    yield rows_table({title: rows[title] for title in titles})
    progress = progress_table(found["comparisons"][treatment]["guardrails"])
    if progress is not None:
        yield progress


def _clock(scene: Scene) -> RenderableType:
    """When it is, and what the monitor is not told."""
    offer = scene.offers[max(0, scene.served - 1)]
    stopped = scene.router.rolled_back_at
    secret = Text("both models work as they should", style="dim")
    if stopped is not None:
        secret = Text(f" all traffic to control since customer {stopped:,} ", style="on green")
    elif scene.served > scene.router.defect_at:
        what = f"from {scene.router.defect_at:,} on the treatment reads stale features"
        secret = Text(f" nobody told the monitor: {what} ", style="white on dark_red")
    head = (
        f"{moment(scene.now)[:-3]}  customer {scene.served:,} of {len(scene.offers):,}"
        f"  (really called on {offer.date})"
    )
    return Group(Text(head), secret)


def spark(values: Iterable[float | None]) -> Text:
    """A trend line of small bars; unknown values are gaps."""
    values = list(values)
    known = [value for value in values if value is not None]
    if not known:
        return Text(UNKNOWN)
    low, high = min(known), max(known)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    bars = (" " if v is None else BARS[round((v - low) * scale)] for v in values)
    return Text("".join(bars), style="cyan")


def _decisions(found: dict[str, Any]) -> Iterable[Text]:
    if not found["decisions"]:
        yield Text("no decisions yet", style="dim")
    told = [decision for decision in found["decisions"] if decision["reasons"]]
    for decision in told[-DECISIONS:]:
        what = f"{moment(decision['at'])[11:16]}  {decision['action'].replace('_', ' ')}"
        style = "bold red" if decision["action"] == "rollback" else ""
        yield Text(f"{what}: {'; '.join(decision['reasons'])}", style=style)


def ending(story: Story) -> RenderableType:
    """What the run showed."""
    lines = [f"The treatment's feature pipeline broke at customer {story.defect_at:,}."]
    if story.rolled_back_at is None:
        lines.append("It was NOT rolled back.")
    else:
        took = story.rolled_back_at - story.defect_at
        seen = "and the monitor saw the traffic go" if story.verified else "unverified"
        saved = story.would_have_been_lost - story.lost
        lines.append(
            f"It was rolled back {took:,} customers later, at {story.rolled_back_at:,}, {seen}:"
        )
        lines += [f"  {reason}" for reason in story.reasons]
        if story.false_alarms is not None:
            lines.append(
                "That holds however often one looks: of treatments that are no worse than tolerated,"
                f" at most {story.false_alarms:.0%} are ever rolled back."
            )
        lines.append(
            f"Until then it decided {story.bad_predictions:,} times, which cost"
            f" {story.lost:,.0f} € against the control. Left alone, it would have cost"
            f" {story.would_have_been_lost:,.0f} € by customer {story.customers:,}: {saved:,.0f} €"
            " were saved."
        )
    lines.append(
        "The offers and answers are real (UCI Bank Marketing, CC BY 4.0); latencies, delays of"
        " answers and the pace are simulated."
    )
    return Panel(Text("\n".join(lines)), title="what happened")
