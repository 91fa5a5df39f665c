"""Chat: one short message a decision, to an incoming webhook of Slack or one that understands the same."""

import re

from alerts.book import Decision
from alerts.notifiers.news import News
from alerts.notifiers.post import Poster, Target, checked
from alerts.notifiers.words import filled, headline, plain, rfc3339, unsigned
from alerts.order import Receipt


REASONS = 5
"""So many reasons are told, each in so many characters; Discord takes 2,000 in all."""
REASON = 200

_SIGNS = {
    "rollback": ":rotating_light:",
    "would_roll_back": ":test_tube:",
    "rolled_back": ":leftwards_arrow_with_hook:",
    "rollback_failed": ":fire:",
    "escalated": ":fire:",
    "traffic_returned": ":fire:",
    "harm_while_paused": ":warning:",
    "braked": ":warning:",
    "hold_overdue": ":warning:",
    "hold": ":hourglass_flowing_sand:",
    "pass": ":white_check_mark:",
}
# Mattermost and Discord call people by these words in plain text, too.
_CALL = re.compile(r"@(?=channel|here|all|everyone)", re.IGNORECASE)


class SlackOptions(Target, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address of an incoming webhook, which is a secret as a whole."""


def escaped(text: str, longest: int) -> str:
    """`text` as mrkdwn that can neither call people nor make links.

    >>> escaped("a<b & <!channel>", 80)
    'a&lt;b &amp; &lt;!channel&gt;'
    """
    safe = plain(text, longest).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _CALL.sub("@\N{ZERO WIDTH SPACE}", safe)


def message(decision: Decision, link: str | None = None) -> str:
    """What is said of a decision: what, of which treatment, why, by whom and when."""
    sign = _SIGNS.get(decision.action)
    who = f"*{escaped(decision.treatment, 64)}* of *{escaped(decision.experiment, 64)}*"
    said = escaped(headline(decision), 100)
    lines = [" ".join(filter(None, (sign, f"{who} {said}")))]
    lines += [f"• {escaped(reason, REASON)}" for reason in unsigned(decision)[:REASONS]]
    more = len(decision.reasons) - REASONS
    if more > 0:
        lines.append(f"• and {more} more")
    when = f"{rfc3339(decision.at)[:19].replace('T', ' ')} UTC"
    last = [f"by {escaped(decision.actor, 64)}", when]
    if decision.before is not decision.state:
        last.append(f"{decision.before} → {decision.state}".replace("_", " "))
    if link is not None:
        name = filled(link, decision.experiment, decision.treatment, decision.id)
        last.append(f"<{name.replace('&', '&amp;')}|more>")
    return "\n".join([*lines, " · ".join(last)])


class Slack:
    """Posts decisions to one channel. Raises ValueError, without secrets, for options that cannot work."""

    every_s = None

    def __init__(self, options: SlackOptions) -> None:
        checked("slack", options)
        self._options, self._poster = options, Poster(options)

    def __repr__(self) -> str:
        return f"Slack({self._options!r})"

    async def notify(self, news: News) -> Receipt | None:
        """Post one message, where there is a decision."""
        if news.decision is None:
            return None
        return await self._poster.post({"text": message(news.decision, self._options.link)})

    async def close(self) -> None:
        """Close the connections."""
        await self._poster.close()
