"""The command that copies topics into one that is keyed by prediction."""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from abmonitor.cli.common import Config, Json, failed, print_json, settings_from, wrong_usage
from abmonitor.cli.kafka import brokers_of, counting
from abmonitor.operate import topics
from abmonitor.operate.admin import KafkaAdmin, KafkaFailedError
from abmonitor.settings import Settings
from stream.brokers import Brokers
from stream.dead_letters import KafkaDeadLetters
from stream.producer import MissingTopicError, Producer, RefusedError
from stream.rekey import Copied, Rekey
from stream.sources import Decoder


PATIENCE_S = 10.0
"""How long the records of the current poll may take to be written once the end is asked for."""

Into = Annotated[str, typer.Option(metavar="TOPIC", help="Where to copy to.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("rekey")(rekey_command)


def rekey_command(
    *,
    into: Into,
    config: Config = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Of the topic, where it is created; default 12.",
            show_default=False,
        ),
    ] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Copy even what was copied before.")
    ] = False,
    until_end: Annotated[
        bool,
        typer.Option(
            "--until-end/--follow", help="End where the topics end now, instead of following them."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy the settings' topics into one, as plain events with the prediction's id as key.

    For topics whose records are keyed otherwise, or that have different numbers of partitions. What cannot
    be decoded goes to the dead-letter topic. Goes on where it ended the last time.
    """
    settings = settings_from(config)
    if into in settings.topics:
        wrong_usage(f"--into {into}: it is one of the topics to be copied: {_named(settings)}")
    if into == settings.kafka.dead_letters:
        wrong_usage(f"--into {into}: it is the dead-letter topic")
    brokers = brokers_of(settings)
    started = time.monotonic()
    try:
        _prepare(settings, brokers, into, partitions)
        with counting("events") as show:
            copied = asyncio.run(
                _copy(settings, brokers, into, from_beginning, until_end, lambda c: show(c.events))
            )
    except (KafkaFailedError, KafkaError, MissingTopicError, RefusedError) as error:
        failed(f"rekey: {error}")
    except asyncio.CancelledError:
        failed("rekey: Kafka did not take the last records; the next run copies them")
    _tell(copied, into, time.monotonic() - started, as_json=as_json)


def _named(settings: Settings) -> str:
    return ", ".join(settings.topics)


def _prepare(settings: Settings, brokers: Brokers, into: str, partitions: int | None) -> None:
    """Create the topic where there is none."""
    with KafkaAdmin(brokers) as admin:
        found = admin.find([into])
        if into not in found:
            kept = topics.usual_retention(settings)
            count = partitions or topics.PARTITIONS
            admin.create([topics.event_topic(into, count, topics.BROKERS_CHOICE, kept)])
        elif partitions not in (None, found[into].partitions):
            wrong_usage(
                f"--partitions {partitions}: {into} exists, with {found[into].partitions} partitions"
            )


async def _copy(
    settings: Settings,
    brokers: Brokers,
    into: str,
    from_beginning: bool,
    until_end: bool,
    progress: Callable[[Copied], None],
) -> Copied:
    producer = Producer(brokers)
    letters = KafkaDeadLetters(brokers, settings.kafka.dead_letters)
    rekey = Rekey(
        brokers,
        settings.topics,
        into,
        group=f"{settings.group}-rekey-{into}",
        decoder=Decoder(settings.sources),
        dead_letters=letters,
        producer=producer,
    )
    try:
        await letters.start()
        task = asyncio.create_task(
            rekey.run(from_beginning=from_beginning, until_end=until_end, progress=progress)
        )
        await _until_told(task, rekey)
    finally:
        await letters.stop()
        await producer.stop()
    return rekey.copied


async def _until_told(task: "asyncio.Task[None]", rekey: Rekey) -> None:
    """Wait for the end; SIGINT and SIGTERM ask for it. Raises CancelledError where it takes too long."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    waiting = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            rekey.stop()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), PATIENCE_S)
            task.cancel()
        await task
    finally:
        waiting.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _tell(copied: Copied, into: str, seconds: float, *, as_json: bool) -> None:
    rate = (copied.events + copied.letters) / seconds
    if as_json:
        numbers = {"copied": copied.events, "dead_letters": copied.letters}
        print_json({"into": into, **numbers, "per_second": round(rate)})
    else:
        letters = f", {copied.letters:,} to the dead letters" if copied.letters else ""
        typer.echo(f"{copied.events:,} events copied into {into}{letters}; {rate:,.0f} a second")
