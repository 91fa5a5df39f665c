"""The table of the API's routes: what is served and what is described are made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from abmonitor.api import (
    SERVED,
    VERBS,
    VERBS_FOR_ALL,
    command,
    command_all,
    query,
    unknown_experiment,
)
from abmonitor.api_decisions import (
    read_something,
    show_decision,
    show_decisions,
    show_status,
    visible,
)
from abmonitor.api_guard import Handler, RefusedError
from abmonitor.api_types import (
    DecisionFound,
    Decisions,
    DecisionsWanted,
    Done,
    Experiments,
    ExperimentShort,
    NothingWanted,
    Problem,
    Status,
    StatusWanted,
    Undone,
)
from abmonitor.document import experiment
from abmonitor.http import as_json
from abmonitor.series import series
from abmonitor.view import ExperimentView, View


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the API, and everything that its description says."""

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Any
    """The type of a good answer."""
    query: type = NothingWanted
    body: type | None = None
    refusals: Mapping[int, type] = field(default_factory=dict)
    """The types of answers that are not good, by status."""

    @property
    def acts(self) -> bool:
        """Whether it changes anything."""
        return self.method == "POST"


async def _experiments(request: web.Request) -> web.Response:
    query(request, NothingWanted)
    view = request.app[SERVED].view()
    found = tuple(_short(view, name) for name in visible(request))
    return as_json(Experiments(as_of=view.as_of, experiments=found))


def _short(view: View, name: str) -> ExperimentShort:
    found = view.experiments[name]
    return ExperimentShort(
        name=name,
        state=found.book.worst(found.experiment.treatments).value,
        control=found.experiment.control,
        treatments={
            treatment: standing.state.value for treatment, standing in found.book.standings.items()
        },
        predictions=sum(f.total.predictions for f in found.snapshot.variants.values()),
        as_of=found.snapshot.watermark,
        url=f"/api/v1/experiments/{name}",
    )


async def _experiment(request: web.Request) -> web.Response:
    found = _found(request)
    return as_json({"name": found.experiment.name, **experiment(found)})


async def _series(request: web.Request) -> web.Response:
    found = _found(request)
    return as_json({"name": found.experiment.name, **series(found)})


def _found(request: web.Request) -> ExperimentView:
    """The experiment that is asked for. Raises RefusedError."""
    query(request, NothingWanted)
    name, names = request.match_info["name"], visible(request)
    if name not in names:
        read_something(request)
        raise RefusedError(404, unknown_experiment(names, name))
    return request.app[SERVED].view().experiments[name]


_READ = dict.fromkeys((400, 401, 429), Problem)
_FOUND = {**_READ, 404: Problem, 503: Problem}
_ACT = {
    **dict.fromkeys((400, 401, 403, 408, 413, 415, 422, 429), Problem),
    409: Undone,
    503: Undone,
}

ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/api/v1/experiments", "All experiments", _experiments, Experiments, refusals=_READ
    ),
    Route(
        "GET",
        "/api/v1/experiments/{name}",
        "Everything that is known of an experiment",
        _experiment,
        dict[str, Any],
        refusals=_FOUND,
    ),
    Route(
        "GET",
        "/api/v1/experiments/{name}/series",
        "What pages and reports draw of an experiment over time",
        _series,
        dict[str, Any],
        refusals=_FOUND,
    ),
    Route(
        "GET",
        "/api/v1/status",
        "What the person on call has to know",
        show_status,
        Status,
        StatusWanted,
        refusals=_FOUND,
    ),
    Route(
        "GET",
        "/api/v1/decisions",
        "The newest decisions that fit, oldest first",
        show_decisions,
        Decisions,
        DecisionsWanted,
        refusals=_FOUND,
    ),
    Route(
        "GET",
        "/api/v1/decisions/{id}",
        "A decision, and what it rests on",
        show_decision,
        DecisionFound,
        refusals=_FOUND,
    ),
    *(
        Route(
            "POST",
            f"/api/v1/experiments/{{name}}/{verb}",
            f"{verb.capitalize()} a treatment, or all of an experiment",
            command,
            Done,
            body=body,
            refusals={**_ACT, 404: Problem},
        )
        for verb, body in VERBS.items()
    ),
    *(
        Route(
            "POST",
            f"/api/v1/{verb}",
            f"{verb.capitalize()} all experiments",
            command_all,
            Done,
            body=body,
            refusals=_ACT,
        )
        for verb, body in VERBS_FOR_ALL.items()
    ),
)
