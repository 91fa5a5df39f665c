"""The commands that show dead letters, and send them again."""

import base64
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from abmonitor.cli.common import (
    Config,
    Json,
    failed,
    is_typed,
    print_json,
    say,
    settings_from,
    wrong_usage,
)
from abmonitor.cli.kafka import brokers_of, counting
from abmonitor.operate.admin import KafkaAdmin, KafkaFailedError
from abmonitor.operate.letter_box import Filter, Found, LetterBox, Summary
from abmonitor.operate.printable import printable
from abmonitor.operate.redrive import Redrive, Redriven, Sender
from abmonitor.settings import Settings
from metrics.duration import Duration
from stream.redrive import TOO_OLD


Reason = Annotated[str | None, typer.Option(help="Only letters with this reason.")]
Topic = Annotated[str | None, typer.Option(help="Only letters from this topic.")]
Since = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Only letters of the last 2h, 7d, ...")
]
Limit = Annotated[int, typer.Option(min=0, max=100_000, help="How many letters to show.")]

_CELL = 200
"""Characters of a value that fit into any terminal's line."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        help="Show what could not be used, and send it again.", invoke_without_command=True
    )
    group.callback()(show_command)
    group.command("redrive")(redrive_command)
    app.add_typer(group, name="dead-letters")


def show_command(
    context: typer.Context,
    config: Config = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Show the letters by reason and topic, and the last of them."""
    context.obj = config
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context)
        return
    settings = settings_from(config)
    brokers, start = brokers_of(settings), _start(since)
    summary = Summary(limit)
    wanted = Filter(reason, topic)
    try:
        with (
            LetterBox(brokers, settings.kafka.dead_letters) as box,
            counting("letters") as progress,
        ):
            read = 0
            for records in box.read(box.beginnings(start)):
                summary.note(records, wanted)
                read += len(records)
                progress(read)
    except KafkaFailedError as error:
        failed(f"dead-letters: {error}")
    if as_json:
        print_json(_document(summary))
    else:
        _show(summary)


def _refuse_misplaced(context: typer.Context) -> None:
    """What stands before `redrive` would be lost on it, and it would send more than was asked for."""
    for name in context.params:
        if name != "config" and is_typed(context, name):
            option = "--" + {"as_json": "json"}.get(name, name)
            wrong_usage(f"{option}: expected behind `{context.invoked_subcommand}`, not before it")


def redrive_command(
    context: typer.Context,
    config: Config = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Even letters that an earlier run sent.")
    ] = False,
    stale: Annotated[
        bool,
        typer.Option(
            "--stale", help="Even predictions whose outcomes may have come and gone (early_for)."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Send letters that can be used with the settings of today to their topics again.

    What can not be used yet is left for the next run. The workers must have the new settings already.
    """
    # What was typed anywhere goes before the environment, which `config` may be from.
    settings = settings_from(config if is_typed(context, "config") else context.obj)
    start = _start(since)
    try:
        result = _redrive(
            settings, Filter(reason, topic), start, everything=everything, stale=stale, dry=dry_run
        )
    except KafkaFailedError as error:
        failed(f"dead-letters redrive: {error}; what was not sent yet is sent by the next run")
    if as_json:
        print_json(_redriven_document(result, dry_run=dry_run))
    else:
        _show_redriven(result, settings, dry_run=dry_run)


def _redrive(
    settings: Settings,
    wanted: Filter,
    since: int | None,
    *,
    everything: bool,
    stale: bool,
    dry: bool,
) -> Redriven:
    brokers = brokers_of(settings)
    with KafkaAdmin(brokers) as admin:
        partitions = {name: t.partitions for name, t in admin.find(settings.topics).items()}
    group = f"{settings.group}-redrive"
    with (
        LetterBox(brokers, settings.kafka.dead_letters, group=group) as box,
        Sender(brokers) as sender,
        counting("letters") as progress,
    ):
        redrive = Redrive(settings, box, partitions, now=_now(), stale=stale)
        redrive.run(
            wanted,
            None if dry else sender.send,
            since=since,
            everything=everything,
            progress=progress,
        )
    return redrive.result


def _now() -> int:
    return int(time.time() * 1000)


def _start(since: str | None) -> int | None:
    if since is None:
        return None
    try:
        return max(_now() - Duration.parse(since), 0)
    except ValueError as error:
        wrong_usage(f"--since: {error}")


def _show(summary: Summary) -> None:
    console = Console()
    if not summary.counts:
        console.print("no letters")
    else:
        console.print(_counts(summary.counts, "letters"))
    if summary.last:
        console.print()
        console.print(_letters(summary.last, console.width))
    if summary.strange:
        say(f"{summary.strange:,} records are no letters of abmonitor")


def _counts(counts: Counter[tuple[str, str]], what: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(what, justify="right")
    table.add_column("reason")
    table.add_column("topic")
    for (reason, topic), count in counts.most_common():
        table.add_row(f"{count:,}", _text(reason), _text(topic))
    return table


def _letters(letters: list[Found], width: int) -> Text:
    """Three lines a letter: where it is from, what is wrong with it, and its value."""
    lines = []
    for found in letters:
        letter = found.letter
        if letter is not None:
            place = f"{letter.topic}/{letter.partition}/{letter.offset}"
            cut = "" if found.whole else " (cut)"
            lines.append(f"{_time(found.at)}  {printable(letter.reason)}  {printable(place)}{cut}")
            lines += [
                f"  {printable(text, width - 2)}" for text in (letter.detail, letter.value or "")
            ]
    return Text("\n".join(lines), no_wrap=True)


def _text(value: bytes | str) -> Text:
    return Text(printable(value, _CELL))  # a Text, so that brackets are not taken for markup


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _document(summary: Summary) -> dict[str, Any]:
    return {
        "counts": _count_documents(summary.counts),
        "strange": summary.strange,
        "letters": [_letter_document(found) for found in summary.last],
    }


def _count_documents(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"reason": printable(reason), "topic": printable(topic), "count": count}
        for (reason, topic), count in counts.most_common()
    ]


def _letter_document(found: Found) -> dict[str, Any]:
    letter = found.letter
    if letter is None:
        return {}
    return {
        "reason": printable(letter.reason),
        "detail": printable(letter.detail),
        "topic": printable(letter.topic),
        "partition": letter.partition,
        "offset": letter.offset,
        "at": found.at,
        "whole": found.whole,
        "key": None if letter.key is None else printable(letter.key),
        "value": printable(letter.value or b"", _CELL),
        "value_base64": base64.b64encode(letter.value or b"").decode(),
        "headers": {printable(name): printable(value) for name, value in letter.headers.items()},
    }


def _redriven_document(result: Redriven, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "sent": _count_documents(result.sent),
        "unusable": _count_documents(result.unusable),
        "done_before": result.done_before,
        "strange": result.strange,
        "given_up": result.given_up,
    }


def _show_redriven(result: Redriven, settings: Settings, *, dry_run: bool) -> None:
    console = Console()
    done = "would be sent" if dry_run else "sent again"
    console.print(f"{sum(result.sent.values()):,} letters {done}")
    if result.sent:
        console.print(_counts(result.sent, done))
    if result.unusable:
        console.print(f"{sum(result.unusable.values()):,} letters left for another run")
        console.print(_counts(result.unusable, "left"))
    if any(reason == TOO_OLD for reason, _ in result.unusable):
        say(
            f"{TOO_OLD}: outcomes wait {settings.early_for} for their prediction (early_for); these"
            " predictions are older, so theirs may be lost, and they would count as having none."
            " --stale sends them all the same; counting anew from the log is exact"
        )
    if result.given_up:
        say(
            f"{result.given_up:,} letters that were left are too scattered to be remembered; only"
            " --all reaches them"
        )
