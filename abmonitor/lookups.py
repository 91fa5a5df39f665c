"""What a monitor will look up when it starts, and what of that is not here. Looks at the environment and at files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from abmonitor.auth import Tokens, TokensError
from abmonitor.breach import OnBreach
from abmonitor.connections import KafkaSettings
from abmonitor.secret import Secret, SecretError
from abmonitor.settings import Settings


class Lookup(NamedTuple):
    """An address or a secret, and what wants it."""

    secret: Secret
    wanted_by: str


def lookups(settings: Settings) -> Iterator[Lookup]:
    """All addresses and secrets of a monitor, in the order of the settings."""
    yield Lookup(settings.redis, "redis")
    ordered = any(each.on_breach.action == "kafka" for each in settings.experiments)
    if settings.kafka.control is not None or ordered:
        yield from (Lookup(secret, "kafka") for secret in _of_kafka(settings.kafka))
    for one in settings.notify.to:
        for secret in (one.url, one.token, one.proxy):
            if secret is not None:
                yield Lookup(secret, f"notify: {one.called}")
    for experiment in settings.experiments:
        for secret in _of_breach(experiment.on_breach):
            yield Lookup(secret, f"on_breach of {experiment.name}")


def missing(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """What is not here, a line each; elsewhere it may be. No line holds a value."""
    unset: dict[str, list[str]] = {}
    unread: dict[str, list[str]] = {}
    for secret, wanted_by in lookups(settings):
        try:
            secret.resolve(environ)
        except SecretError as error:
            if secret.env is not None:
                unset.setdefault(secret.env, []).append(wanted_by)
            else:
                unread.setdefault(str(error), []).append(wanted_by)
    found = []
    if unset:
        found.append(f"not set here: {', '.join(f'{n} ({_all(who)})' for n, who in unset.items())}")
    found += [f"{why} ({_all(who)})" for why, who in unread.items()]
    found += [*_tokens(settings), *_folders(settings)]
    return found


def _of_kafka(kafka: KafkaSettings) -> Iterator[Secret]:
    wanted = (kafka.servers, kafka.username, kafka.password, kafka.token, kafka.key_password)
    return (secret for secret in wanted if secret is not None)


def _of_breach(breach: OnBreach) -> Iterator[Secret]:
    """Where a webhook goes and what it sends along."""
    verify = None if breach.verify is None else breach.verify.url
    for secret in (breach.url, breach.secret, verify, *breach.headers.values()):
        if isinstance(secret, Secret):
            yield secret


def _tokens(settings: Settings) -> Iterator[str]:
    if settings.api.tokens is not None:
        try:
            Tokens(Path(settings.api.tokens))
        except TokensError as error:
            yield f"{error} (api.tokens)"


def _folders(settings: Settings) -> Iterator[str]:
    for experiment in settings.experiments:
        flag = experiment.on_breach.flagd
        if flag is not None and not (folder := Path(flag.path).parent).is_dir():
            yield f"there is no folder {folder} here (on_breach of {experiment.name}: flagd)"


def _all(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))
