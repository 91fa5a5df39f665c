"""What happens when a guardrail is breached: settings, and the actuators that they ask for (file system)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self

from msgspec import Meta, Struct

from abmonitor.decisions_topic import kafka_actuator
from abmonitor.secret import Secret, SecretError
from alerts.actuators.argo import Argo, ArgoOptions
from alerts.actuators.flagd import Flagd, FlagdOptions
from alerts.actuators.kafka import KafkaOptions
from alerts.actuators.log import Log
from alerts.actuators.readback import Scalar
from alerts.actuators.webhook import Webhook
from alerts.actuators.webhook_options import MAX_BODY, Method, ReadBack, Status, WebhookOptions
from alerts.order import Actuator
from metrics.duration import Duration
from stream.brokers import Brokers


Problem = tuple[tuple[str, ...], str]
"""Where in `on_breach` something is wrong, and what."""

Action = Literal["log", "webhook", "kafka", "flagd", "argo"]


class Text(str):
    """Text of any number of lines."""

    __slots__ = ()

    @classmethod
    def parse(cls, data: object) -> Self:
        """Take text as it is. Raises ValueError for anything else, and for too much."""
        if not isinstance(data, str) or len(data) > MAX_BODY:
            raise ValueError(f"expected text of at most {MAX_BODY:,} characters")
        return cls(data)


class VerifySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a webhook's receiver tells how things are, and what it says once an order took effect."""

    url: Secret
    expect: Annotated[dict[str, Scalar], Meta(min_length=1)]
    """JSON Pointers to plain values."""


class OnBreach(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens when a guardrail is breached."""

    action: Action = "log"
    dry_run: bool = False
    url: Secret | None = None
    secret: Secret | None = None
    """Signs the orders, so that the receiver knows who sent them."""
    method: Method = "POST"
    headers: dict[str, str | Secret] = {}
    body: Text | None = None
    """A template; None sends the order as a CloudEvents document."""
    success: tuple[Status, ...] = ()
    """Statuses that mean done; none given: every 2xx."""
    verify: VerifySettings | None = None
    timeout: Duration = Duration(5_000)
    kafka: KafkaOptions | None = None
    flagd: FlagdOptions | None = None
    argo: ArgoOptions | None = None


_WEBHOOK = ("url", "secret", "method", "headers", "body", "success", "verify", "timeout")
_OWNERS = {
    **dict.fromkeys(_WEBHOOK, "webhook"),
    "kafka": "kafka",
    "flagd": "flagd",
    "argo": "argo",
}
_NEEDS = {
    "webhook": ("url", "{env: ROLLBACK_URL}"),
    "flagd": ("flagd", "{path: /etc/flagd/offers.json}"),
    "argo": ("argo", "{rollout: offer-recommender, namespace: shop}"),
}


def problems(breach: OnBreach) -> Iterator[Problem]:
    """Fields that do not go together, and options that cannot work."""
    if needed := _NEEDS.get(breach.action):
        field, example = needed
        if getattr(breach, field) is None:
            yield (), f"action: {breach.action} needs {field}, such as {field}: {example}"
    for field, owner in _OWNERS.items():
        # Whoever gives an address and forgets the action believes to be protected.
        if owner != breach.action and getattr(breach, field) != getattr(OnBreach(), field):
            yield (
                (field,),
                (f"action: {breach.action} has no use for {field}; did you mean action: {owner}?"),
            )
    for name in ("kafka", "flagd", "argo"):
        options = getattr(breach, name)
        for field, text in options.problems() if options is not None else ():
            yield (name, field), text


def templates(breach: OnBreach, variants: Sequence[str]) -> Iterator[Problem]:
    """What is wrong with a webhook's templates, as far as it can be told without its secrets."""
    if breach.action == "webhook" and breach.url is not None:
        options = _webhook(breach, lambda _: "https://known-when-it-starts.example")
        yield from (((field,), text) for field, text in options.problems(variants))


def _webhook(breach: OnBreach, look_up: Callable[[Secret], str]) -> WebhookOptions:
    if breach.url is None:
        raise SecretError("action: webhook needs a url")
    verify = breach.verify
    return WebhookOptions(
        url=look_up(breach.url),
        secret=None if breach.secret is None else look_up(breach.secret),
        method=breach.method,
        headers={
            name: look_up(value) if isinstance(value, Secret) else value
            for name, value in breach.headers.items()
        },
        body=breach.body,
        success=breach.success,
        verify=None if verify is None else ReadBack(url=look_up(verify.url), expect=verify.expect),
        timeout=breach.timeout / 1000,
    )


def actuator_of(breach: OnBreach, environ: Mapping[str, str], brokers: Brokers | None) -> Actuator:
    """What carries orders out. Raises SecretError or ValueError, without secrets, where it cannot be made."""
    match breach.action:
        case "webhook":
            return Webhook(_webhook(breach, lambda secret: secret.resolve(environ)))
        case "kafka":
            if brokers is None:
                raise SecretError("action: kafka needs kafka.servers, and that is not set")
            return kafka_actuator(brokers, breach.kafka or KafkaOptions())
        case "flagd" if breach.flagd is not None:
            return Flagd.at(breach.flagd)
        case "argo" if breach.argo is not None:
            return Argo(breach.argo)
        case _:
            return Log()
