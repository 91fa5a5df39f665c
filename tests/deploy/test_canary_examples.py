"""The examples for Argo Rollouts and Flagger: the real gates answer them, and what follows is what was meant."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from support import tools
from support.eventfiles import SETTINGS, traffic
from support.failing import HookedStore
from support.manifests import CHART, Json, documents, helm, named, of_kind
from support.schemas import problems
from support.servers.base import or_skip
from support.views import settings_of, view_of

from abmonitor.canaries import Canaries
from abmonitor.gates import Gates, routes
from abmonitor.server import application
from abmonitor.view import View
from alerts.standing import ACTING, Standing, State


DEPLOY = tools.PROJECT / "deploy"
NOW = 1_772_366_400_000
CONTROL, TREATMENT = "rules-v1", "ranker-v2"
LATCHED = ACTING | {State.ROLLED_BACK}
UNDECIDED = State.COLLECTING
HARM, PASS = "abmonitor-harm", "abmonitor-pass"


def manifests(folder: str) -> list[Json]:
    """All of one controller's examples."""
    files = sorted((DEPLOY / folder).glob("*.yaml"))
    return [one for file in files for one in documents(file.read_text("utf-8"))]


def hooks() -> list[Json]:
    """Those of Flagger's example."""
    found: list[Json] = named(manifests("flagger"), "Canary")["spec"]["analysis"]["webhooks"]
    return found


def metric(template: str) -> Json:
    """The only metric of an AnalysisTemplate."""
    (found,) = named(manifests("argo"), "AnalysisTemplate", template)["spec"]["metrics"]
    assert isinstance(found, dict)
    return found


def arguments(template: str) -> dict[str, str]:
    """What Argo puts into the template: its own values, and those of the Rollout's analyses."""
    told: list[Json] = named(manifests("argo"), "AnalysisTemplate", template)["spec"]["args"]
    canary = named(manifests("argo"), "Rollout")["spec"]["strategy"]["canary"]
    analyses = [
        canary["analysis"],
        *(step["analysis"] for step in canary["steps"] if "analysis" in step),
    ]
    (mine,) = [one for one in analyses if one["templates"] == [{"templateName": template}]]
    given = {one["name"]: one["value"] for one in [*told, *mine["args"]] if "value" in one}
    assert given.keys() == {one["name"] for one in told}
    return given


def filled(text: str, given: dict[str, str]) -> str:
    """A text with Argo's arguments in it."""
    for name, value in given.items():
        text = text.replace("{{args." + name + "}}", value)
    assert "{{" not in text
    return text


def below(url: str) -> str:
    """Path and query of an address."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


# --- the files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["argo", "flagger"])
def test_every_example_fits_the_definition_of_its_kind(folder: str) -> None:
    with or_skip():
        tools.definitions()
    found = manifests(folder)
    assert found
    assert {one["metadata"]["name"]: problems(one) for one in found if problems(one)} == {}


def test_every_address_is_that_of_the_monitors_that_the_chart_installs() -> None:
    values = CHART / "ci" / "plain-values.yaml"
    options = ("-n", "monitoring", "--kube-version", "1.34", "-f", values)
    with or_skip():
        status, told, wrong = helm("template", "abmonitor", CHART, *options)
    assert status == 0, wrong
    service = named(documents(told), "Service")
    (port,) = service["spec"]["ports"]
    place = f"{service['metadata']['name']}.{service['metadata']['namespace']}:{port['port']}"
    asked = [hook["url"] for hook in hooks()]
    asked += [
        filled(metric(name)["provider"]["web"]["url"], arguments(name)) for name in (HARM, PASS)
    ]
    assert {urlsplit(url).netloc for url in asked} == {place}
    assert {urlsplit(url).scheme for url in asked} == {"http"}


def test_nothing_but_a_verdict_ends_an_analysis() -> None:
    for name in (HARM, PASS):
        found = metric(name)
        assert found["consecutiveErrorLimit"] >= 1_000_000, "a monitor that is away would abort"
        assert found["failureLimit"] == 0
    assert "successCondition" not in metric(HARM)
    assert "count" not in metric(HARM)  # it looks as long as the Rollout goes on
    patient = metric(PASS)
    assert patient["consecutiveSuccessLimit"] == 1
    assert patient["inconclusiveLimit"] >= patient["count"]
    hours = patient["count"] * int(patient["interval"].removesuffix("s")) / 3600
    assert hours > 24 * 300


def test_harm_is_looked_for_all_the_time_and_the_verdict_waited_for_in_a_step() -> None:
    canary = named(manifests("argo"), "Rollout")["spec"]["strategy"]["canary"]
    assert canary["analysis"]["templates"] == [{"templateName": HARM}]
    assert "startingStep" not in canary["analysis"]
    first, second = canary["steps"]
    assert 0 < first["setWeight"] < 100
    assert second["analysis"]["templates"] == [{"templateName": PASS}]
    assert len(of_kind(manifests("argo"), "AnalysisTemplate")) == 2


def test_pods_know_the_hash_that_they_send_as_their_version() -> None:
    spec = named(manifests("argo"), "Rollout")["spec"]["template"]["spec"]
    (entry,) = spec["containers"][0]["env"]
    assert (
        entry["valueFrom"]["fieldRef"]["fieldPath"]
        == "metadata.labels['rollouts-pod-template-hash']"
    )


# --- the gates ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Site:
    """A monitor's server: what its monitor knows, and a client."""

    view: View
    problem: str | None = None
    client: TestClient[Any, Any] | None = None

    def put(self, state: State) -> None:
        """The treatment is there."""
        one = self.view.experiments["offers"]
        standings = {TREATMENT: Standing(state=state, epoch=1)}
        book = msgspec.structs.replace(one.book, standings=standings, looked_at=NOW)
        self.view = replace(self.view, as_of=NOW, experiments={"offers": replace(one, book=book)})

    async def asked_by_argo(self, name: str) -> object:
        """The value that Argo takes out of the gate's answer to one of the templates."""
        assert self.client is not None
        web = metric(name)["provider"]["web"]
        assert web.get("method", "GET") == "GET"
        async with self.client.get(below(filled(web["url"], arguments(name)))) as answer:
            assert answer.status == 200
            told = await answer.json()
        field = web["jsonPath"].removeprefix("{$.").removesuffix("}")
        assert web["jsonPath"] == "{$." + field + "}"
        return told[field]

    async def asked_by_flagger(self, hook: Json) -> int:
        """The status of the gate's answer to a hook, posted as Flagger does."""
        assert self.client is not None
        canary = named(manifests("flagger"), "Canary")["metadata"]
        body = {
            "name": canary["name"],
            "namespace": canary["namespace"],
            "phase": "Progressing",
            "checksum": "85d557f47b",
            "metadata": hook["metadata"],
        }
        async with self.client.post(below(hook["url"]), json=body) as answer:
            return answer.status


@pytest.fixture(scope="module")
def looked() -> View:
    """A view of the experiment that the examples name."""
    text = SETTINGS.replace("old", CONTROL).replace("new", TREATMENT)
    return view_of(traffic(20), settings_of(text))


@pytest.fixture
async def site(looked: View, embedded_store: HookedStore) -> AsyncIterator[Site]:
    """Its monitor, as it is served."""
    made = Site(looked)
    made.put(UNDECIDED)
    canaries = Canaries(embedded_store.client, "shop")
    gates = Gates(lambda: made.view, lambda: made.problem, canaries, lambda: NOW)
    app = application(lambda: made.view, lambda: None, more=routes(gates))
    async with TestClient(TestServer(app)) as made.client:
        yield made


def phases(asked: Sequence[tuple[str, object]]) -> list[str]:
    """What Argo makes of values of its metrics, by the library that it uses."""
    with or_skip():
        program = tools.tool("conditions")
    keys = ("successCondition", "failureCondition")
    lines = [
        {"result": value} | {key: found[key] for key in keys if key in found}
        for found, value in ((metric(name), value) for name, value in asked)
    ]
    done = tools.run([program], "\n".join(map(json.dumps, lines)))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_argo_aborts_on_an_ordered_rollback_and_promotes_on_a_pass_alone(site: Site) -> None:
    asked: list[tuple[str, object]] = []
    for state in State:
        site.put(state)
        asked += [(name, await site.asked_by_argo(name)) for name in (HARM, PASS)]
    assert {value for name, value in asked if name == HARM} == {"ok", "rollback"}
    found = phases(asked)
    undecided = dict.fromkeys(State, "Inconclusive")
    wanted = undecided | {State.PASSED: "Successful"} | dict.fromkeys(LATCHED, "Failed")
    assert dict(zip(State, found[1::2], strict=True)) == wanted
    harm = dict.fromkeys(State, "Successful") | dict.fromkeys(LATCHED, "Failed")
    assert dict(zip(State, found[::2], strict=True)) == harm


async def test_argo_does_neither_where_the_monitor_knows_nothing(site: Site) -> None:
    site.put(State.ROLLED_BACK)
    site.problem = "Redis does not answer"
    asked = [(name, await site.asked_by_argo(name)) for name in (HARM, PASS)]
    assert phases(asked) == ["Successful", "Inconclusive"]


def test_a_condition_that_means_nothing_is_noticed() -> None:
    with or_skip():
        program = tools.tool("conditions")
    line = json.dumps({"result": "pass", "successCondition": "outcome == 1"})
    assert "unknown name outcome" in tools.run([program], line).stdout


async def test_flagger_takes_back_and_promotes_at_the_hooks_that_are_meant_for_it(
    site: Site,
) -> None:
    types = {hook["type"]: hook for hook in hooks()}
    assert types.keys() == {"rollback", "confirm-promotion", "event"}
    assert await site.asked_by_flagger(types["rollback"]) == 403  # which says whose canary it is
    for state in State:
        site.put(state)
        said = {kind: await site.asked_by_flagger(hook) for kind, hook in types.items()}
        assert said == {
            "rollback": 200 if state in LATCHED else 403,
            "confirm-promotion": 200 if state is State.PASSED else 403,
            "event": 200,
        }, state


async def test_flagger_does_neither_where_the_monitor_knows_nothing(site: Site) -> None:
    for state in (UNDECIDED, State.PASSED, State.ROLLED_BACK):
        site.put(state)
        site.problem = None if state is UNDECIDED else "Redis does not answer"
        said = {hook["type"]: await site.asked_by_flagger(hook) for hook in hooks()}
        assert (said["rollback"], said["confirm-promotion"]) == (403, 403)
