"""The command that begins a settings file, from samples of what there is."""

from pathlib import Path
from typing import Annotated

import typer

from abmonitor import simulation
from abmonitor.cli.common import failed, say, settings_from, wrong_usage
from abmonitor.cli.kafka import brokers_of
from abmonitor.init import first_settings
from abmonitor.init.sample import Sample, SampleError, of_file, of_topic
from abmonitor.init.survey import Survey, surveyed
from abmonitor.init.todos import todos
from abmonitor.settings import SettingsError, load


KAFKA = "kafka:"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("init")(init_command)


def init_command(
    samples: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="SAMPLE",
            help="A file of JSON lines (gzipped or not), or kafka:TOPIC (at ABMONITOR_KAFKA), from which"
            " mappings are guessed. May be given several times: predictions and outcomes.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.")] = Path(
        "abmonitor.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    config: Annotated[  # not from the environment: there it may name the file that is to be written
        Path | None,
        typer.Option(
            "-c",
            "--config",
            help="Settings whose `kafka` says how to get to kafka:TOPIC; without it ABMONITOR_KAFKA does.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Begin a settings file; with --from, fill in what can be told from samples."""
    if output.exists() and not force:
        wrong_usage(f"{output} exists already; --force overwrites it")
    survey = _survey(samples or [], config)
    text = first_settings.text(survey)
    try:
        simulation.write(output, [text.encode()], force=force)
        load(output)
    except OSError as error:
        failed(f"init: {output}: {error.strerror or error}")
    except SettingsError as error:
        failed(f"init: mend this before anything else:\n{error}")
    _tell(survey, output)


def _survey(samples: list[str], config: Path | None) -> Survey:
    try:
        return surveyed([_sample(each, config) for each in samples])
    except SampleError as error:
        failed(f"init: {error}")


def _sample(given: str, config: Path | None) -> Sample:
    if given.startswith(KAFKA):
        brokers = brokers_of(None if config is None else settings_from(config))
        return of_topic(given.removeprefix(KAFKA), brokers)
    path = Path(given)
    if path.is_dir() or not path.exists():
        wrong_usage(f"{given}: {'is a folder' if path.is_dir() else 'no such file'}")
    return of_file(path)


def _tell(survey: Survey, output: Path) -> None:
    """Say what was found, and what is to be done next."""
    for source in survey.sources:
        kind = f"{source.kind}s" if source.kind else "events as they are"
        say(
            f"{source.sample.name}: {kind}; {source.decoded:,} of {len(source.events):,} can be used"
        )
        if source.sample.skipped:
            say(f"  left out, because they are no JSON objects: {source.sample.skipped:,}")
        for name in source.missing:
            say(f"  no field looks like {name}")
    if survey.outcomes and survey.counts:
        say(f"{survey.met:,} of {survey.outcomes:,} outcomes met their prediction")
    say(f"{output} is written; {len(todos(output))} TODOs in it are left to you")
    files = [
        f"{source.topic}={source.sample.name}"
        for source in survey.sources
        if not source.sample.in_kafka
    ]
    if files:
        say(f"then try: abmonitor replay {' '.join(files)} -c {output}")
    say(f"{'or' if files else 'then'}: abmonitor check -c {output}")
