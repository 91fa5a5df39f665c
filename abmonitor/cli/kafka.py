"""What commands over Kafka share: where it is, and what they show meanwhile."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from abmonitor.cli.common import wrong_usage
from abmonitor.connections import KafkaSettings
from abmonitor.secret import SecretError
from abmonitor.settings import Settings
from stream.brokers import Brokers


def brokers_of(settings: Settings | None) -> Brokers:
    """Where Kafka is; without settings the environment variable alone says it.

    Ends the program with status 2 where nothing says it.
    """
    kafka = KafkaSettings() if settings is None else settings.kafka
    _quiet()
    try:
        return kafka.brokers(os.environ)
    except SecretError as error:
        wrong_usage(f"kafka.servers: {error}")


def _quiet() -> None:
    """The client libraries log each failed attempt; commands tell the failure itself, once."""
    for library in ("kafka", "aiokafka"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many `what` there were so far, and how many a second."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed:,} " + what),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(what, total=None, rate="")

        def show(done: int) -> None:
            speed = progress.tasks[task].finished_speed or progress.tasks[task].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            progress.update(task, completed=done, rate=rate)

        yield show
