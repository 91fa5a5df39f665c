"""The command that creates the topics of a deployment."""

from typing import Annotated, Any

import typer

from abmonitor.cli.common import Config, Json, failed, print_json, say, settings_from, wrong_usage
from abmonitor.cli.kafka import brokers_of
from abmonitor.operate import topics
from abmonitor.operate.admin import KafkaAdmin, KafkaFailedError
from metrics.duration import Duration


Partitions = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=10_000,
        help="Of each event topic; default: as those that exist have, or 12.",
        show_default=False,
    ),
]
Replication = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="Default: the broker's own.", show_default=False),
]
Retention = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="How long events are kept, such as 14d; default: 7d, or twice what labels need.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="Create and check the topics in Kafka.", no_args_is_help=True)
    group.command("create")(create_command)
    app.add_typer(group, name="topics")


def create_command(
    config: Config = None,
    partitions: Partitions = None,
    replication: Replication = None,
    retention: Retention = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be created.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the topics that the settings name: for events, dead letters, the control log, and orders.

    Topics that exist are left as they are; what is wrong with them is told, with exit status 1 where
    counts would not be exact, or what was decided could get lost.
    """
    settings = settings_from(config)
    brokers = brokers_of(settings)
    kept = _retention(retention)
    try:
        with KafkaAdmin(brokers) as admin:
            plan = topics.plan(
                settings,
                admin.find(topics.all_topics(settings)),
                partitions=partitions,
                replication=replication or topics.BROKERS_CHOICE,
                retention=kept,
            )
            admin.create(plan.create, validate_only=dry_run)
    except KafkaFailedError as error:
        failed(f"topics create: {error}")
    needed = topics.needed_retention(settings)
    if kept is not None and kept < needed:
        say(f"warning: --retention {kept}: a lost store could not be rebuilt; labels need {needed}")
    _tell(plan, created=not dry_run, as_json=as_json)
    if plan.broken:
        raise typer.Exit(1)


def _retention(text: str | None) -> Duration | None:
    if text is None:
        return None
    try:
        return Duration.parse(text)
    except ValueError as error:
        wrong_usage(f"--retention: {error}")


def _tell(plan: topics.Plan, *, created: bool, as_json: bool) -> None:
    for problem in plan.problems:
        say(f"{'error' if problem.breaks else 'warning'}: {problem.topic}: {problem.message}")
    if as_json:
        print_json(_document(plan, created=created))
        return
    for topic in plan.create:
        done = "created" if created else "would create"
        configs = ", ".join(f"{key}={value}" for key, value in topic.configs.items())
        typer.echo(f"{done} {topic.name}: {topic.partitions} partitions, {configs}")
    for name in plan.exist:
        typer.echo(f"exists  {name}")


def _document(plan: topics.Plan, *, created: bool) -> dict[str, Any]:
    new = [
        {
            "topic": topic.name,
            "partitions": topic.partitions,
            "replication": None if topic.replication < 0 else topic.replication,
            "configs": topic.configs,
        }
        for topic in plan.create
    ]
    return {
        "created": new if created else [],
        "would_create": [] if created else new,
        "exist": plan.exist,
        "problems": plan.problems,
    }
