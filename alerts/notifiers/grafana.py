"""Grafana: one annotation a decision, so that charts show when something was done, and why."""

import html
from collections.abc import Iterator

from alerts.book import Decision
from alerts.notifiers.news import News
from alerts.notifiers.post import Poster, Problem, Target, checked, under
from alerts.notifiers.words import filled, headline, plain, unsigned
from alerts.order import Receipt


REASONS = 10
REASON = 300
TAG = 100
"""Characters of a tag that Grafana keeps."""


class GrafanaOptions(Target, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Grafana is; `token` is that of a service account that may write annotations."""

    dashboard: str | None = None
    """UID of the only dashboard that shows them; None: all that ask for the tag `abmonitor`."""

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with these options, without quoting what may be secret."""
        yield from Target.problems(self)
        if self.dashboard is not None and not self.dashboard.strip():
            yield "dashboard", "expected the UID of a dashboard, got nothing"


def annotation(
    decision: Decision, link: str | None = None, dashboard: str | None = None
) -> dict[str, object]:
    """The annotation of a decision, as Grafana's `POST /api/annotations` takes it; its text is HTML."""
    name, treatment = plain(decision.experiment, 80), plain(decision.treatment, 80)
    lines = [f"{treatment} of {name} {headline(decision)}"]
    lines += [f"- {plain(reason, REASON)}" for reason in unsigned(decision)[:REASONS]]
    lines.append(f"by {plain(decision.actor, 64)}")
    text = [html.escape(line) for line in lines]
    if link is not None:
        where = filled(link, decision.experiment, decision.treatment, decision.id)
        text.append(f'<a href="{html.escape(where)}">more</a>')
    tags = ["abmonitor", f"experiment:{name}", f"treatment:{treatment}", decision.action]
    made: dict[str, object] = {
        "time": decision.at,
        "tags": [plain(tag, TAG) for tag in tags],
        "text": "\n".join(text),
    }
    return made if dashboard is None else {**made, "dashboardUID": dashboard}


class Grafana:
    """Writes annotations. Raises ValueError, without secrets, for options that cannot work."""

    every_s = None

    def __init__(self, options: GrafanaOptions) -> None:
        checked("grafana", options)
        self._options = options
        self._poster = Poster(options, under(options.url, "/api/annotations"))

    def __repr__(self) -> str:
        return f"Grafana({self._options!r})"

    async def notify(self, news: News) -> Receipt | None:
        """Write one annotation, where there is a decision."""
        if news.decision is None:
            return None
        made = annotation(news.decision, self._options.link, self._options.dashboard)
        return await self._poster.post(made)

    async def close(self) -> None:
        """Close the connections."""
        await self._poster.close()
