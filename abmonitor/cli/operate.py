"""Commands of the person on call: status, pause, resume, rollback, rearm, end; and tokens."""

import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console

from abmonitor.api_client import DEFAULT_URL, ApiClient, ApiError, segment
from abmonitor.api_types import Status
from abmonitor.auth import EVERYTHING, Role, line, new_token
from abmonitor.cli.common import (
    ExperimentToo,
    Json,
    MaybeExperiment,
    chosen,
    failed,
    print_json,
    say,
    wrong_usage,
)
from abmonitor.cli.watching import EVERY, LEAST, watch
from abmonitor.secret import Secret, SecretError
from abmonitor.status_text import show
from abmonitor.summary import moment
from metrics.duration import Duration


Url = Annotated[str, typer.Option(envvar="ABMONITOR_URL", help="Where the monitor is.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="A file that holds the token; else ABMONITOR_TOKEN does.", show_default=False
    ),
]
Experiment = Annotated[str, typer.Argument(help="The experiment.", show_default=False)]
Treatment = Annotated[
    str | None,
    typer.Option(help="One treatment; default: all of the experiment.", show_default=False),
]
Reason = Annotated[str, typer.Option(help="Why; it is kept and shown.", show_default=False)]
Everything = Annotated[bool, typer.Option("--all", help="All experiments.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("status")(status_command)
    app.command("pause")(pause_command)
    app.command("resume")(resume_command)
    app.command("rollback")(rollback_command)
    app.command("rearm")(rearm_command)
    app.command("end")(end_command)
    group = typer.Typer(help="Make tokens for the API.", no_args_is_help=True)
    group.callback()(_token)
    group.command("new")(new_token_command)
    app.add_typer(group, name="token")


def status_command(
    experiment: MaybeExperiment = None,
    *,
    named: ExperimentToo = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    watching: Annotated[
        bool, typer.Option("--watch", help="Keep it on the screen until Ctrl-C.")
    ] = False,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help=f"How often --watch asks; default: {EVERY}.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON document and nothing else; with --watch one a line."
        ),
    ] = False,
) -> None:
    """Show on one screen how experiments stand, and the commands to act on them."""
    wanted, client = chosen("status", experiment, named), client_of(url, token_file)
    if watching:
        try:
            watch(client, url, wanted, every=_every(every), as_json=as_json)
        except ApiError as error:
            _end("status", error)
        return
    if every is not None:
        wrong_usage("status: --every needs --watch")
    try:
        document = client.get("/api/v1/status", experiment=wanted)
    except ApiError as error:
        _end("status", error)
    if as_json:
        print_json(document)
        return
    try:
        found = msgspec.convert(document, Status)
    except msgspec.ValidationError:
        failed(f"status: {url} did not answer as a monitor of this version does")
    show(Console(highlight=False), found)


def _every(given: str | None) -> Duration:
    """How often to ask; ends the program with status 2 where that is no duration, or too short."""
    try:
        found = EVERY if given is None else Duration.parse(given)
    except ValueError as error:
        wrong_usage(f"status: --every: {error}")
    if found < LEAST:
        wrong_usage(f"status: --every: expected {LEAST} or more, got {found}")
    return found


def pause_command(
    experiment: MaybeExperiment = None,
    *,
    everything: Everything = False,
    treatment: Treatment = None,
    reason: Reason,
    lasting: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="DURATION",
            help="How long, such as 2h; default: until resumed.",
            show_default=False,
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Do nothing for a while; harm is kept in mind, and acted on when the pause ends."""
    path = _path("pause", experiment, everything=everything, treatment=treatment)
    body = {"treatment": treatment, "reason": reason, "until": lasting}
    _act("pause", path, body, client_of(url, token_file), as_json=as_json)


def resume_command(
    experiment: MaybeExperiment = None,
    *,
    everything: Everything = False,
    treatment: Treatment = None,
    reason: Reason,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """End a pause; without one, acknowledge why a treatment holds."""
    path = _path("resume", experiment, everything=everything, treatment=treatment)
    body = {"treatment": treatment, "reason": reason}
    _act("resume", path, body, client_of(url, token_file), as_json=as_json)


def rollback_command(
    experiment: Experiment,
    *,
    treatment: Treatment = None,
    reason: Reason,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Send the traffic of a treatment, or of all, to the control; works at any time."""
    body = {"treatment": treatment, "reason": reason}
    path = _path("rollback", experiment)
    _act("rollback", path, body, client_of(url, token_file), as_json=as_json)


def rearm_command(
    experiment: Experiment,
    *,
    treatment: Treatment = None,
    reason: Reason,
    force: Annotated[
        bool,
        typer.Option("--force", help="Although it is too soon, or the version was rolled back."),
    ] = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Start a new life of a treatment that was rolled back."""
    body = {"treatment": treatment, "reason": reason, "force": force}
    path = _path("rearm", experiment)
    _act("rearm", path, body, client_of(url, token_file), as_json=as_json)


def end_command(
    experiment: Experiment,
    *,
    treatment: Treatment = None,
    reason: Reason,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """End the judging of a treatment, or of all, for good."""
    body = {"treatment": treatment, "reason": reason}
    path = _path("end", experiment)
    _act("end", path, body, client_of(url, token_file), as_json=as_json)


def _token() -> None:
    """Keeps `new` a command of its own, although there is no other."""


def new_token_command(
    name: Annotated[
        str, typer.Option(help="Whose it is: decisions are signed with it.", show_default=False)
    ],
    role: Annotated[Role, typer.Option(help="Whether they may act, too.")] = "read",
    experiment: Annotated[
        list[str] | None,
        typer.Option(
            help="What it covers: a name, or a pattern with *; may be repeated. Default: all.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a token, and print it this one time, with the line for the file of tokens."""
    try:
        token, entry = new_token(name, role, tuple(experiment or (EVERYTHING,)))
    except ValueError as error:
        wrong_usage(f"token new: {error}")
    if as_json:
        print_json({"token": token, "entry": entry})
        return
    say("the token; it is shown this once, and kept nowhere:")
    typer.echo(token)
    say("\nthe line below `tokens:` in the file that the settings name as `api: {tokens: FILE}`:")
    typer.echo(line(entry))


def client_of(url: str, token_file: Path | None) -> ApiClient:
    """What asks the monitor at `url`; ends the program with status 2 where that cannot be.

    The token is in the file, or in ABMONITOR_TOKEN: on a command line everybody could read it.
    """
    token = os.environ.get("ABMONITOR_TOKEN", "").strip() or None
    try:
        if token_file is not None:
            token = Secret(file=str(token_file)).resolve(os.environ)
        return ApiClient(url, token)
    except (SecretError, ValueError) as error:
        wrong_usage(f"--url, --token-file or ABMONITOR_TOKEN: {error}")


def _path(
    verb: str, experiment: str | None, *, everything: bool = False, treatment: str | None = None
) -> str:
    """Where to ask for it; ends the program with status 2 where it is not said of what."""
    if everything == (experiment is not None):
        wrong_usage(f"{verb}: expected either an experiment or --all")
    if experiment is None:
        if treatment is not None:
            wrong_usage(f"{verb}: --treatment needs an experiment")
        return f"/api/v1/{verb}"
    return f"/api/v1/experiments/{segment(experiment)}/{verb}"


def _act(verb: str, path: str, body: dict[str, Any], client: ApiClient, *, as_json: bool) -> None:
    """Ask for it, and tell what became of it; what was refused ends the program with status 1."""
    said = {field: value for field, value in body.items() if value is not None}
    try:
        document = client.post(path, said)
    except ApiError as error:
        for decision in error.document.get("decisions", ()):
            say(f"done: {_in_words(decision)}")
        _end(verb, error)
    if as_json:
        print_json(document)
    else:
        for decision in document["decisions"]:
            typer.echo(_in_words(decision))
    for treatment, why in document["refused"].items():
        say(f"{verb} refused for {treatment}: {why}")
    if document["refused"]:
        raise typer.Exit(1)


def _in_words(decision: dict[str, Any]) -> str:
    state = decision["state"].replace("_", " ")
    what = decision["action"].replace("_", " ")
    which = f"{decision['experiment']}/{decision['treatment']}"
    return f"{moment(decision['at'])}  {what}: {which}, state {state}  ({decision['id']})"


def _end(command: str, error: ApiError) -> NoReturn:
    """End with status 2 where the call was wrong, else with 1."""
    if error.wrong_call:
        wrong_usage(f"{command}: {error}")
    failed(f"{command}: {error}")
