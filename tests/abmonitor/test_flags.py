"""Flags over HTTP and in files: what the monitor knows, never nothing, and never what was rolled back."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from support.eventfiles import traffic
from support.views import view_of

from abmonitor.flags import PATH, Following, Published, routes, shown_of
from abmonitor.view import View
from alerts.actuators.flag_definition import Off, Shown, dealing, remembered
from alerts.actuators.flag_document import UnreadableError
from alerts.actuators.flag_file import FlagFile, Written
from alerts.actuators.flagd import Flagd, FlagdOptions
from alerts.actuators.log import Log
from alerts.order import Order
from alerts.standing import Standing, State
from metrics.experiment import Step
from metrics.moment import Moment


Client = TestClient[Any, Any]
NAME = "offers"


@pytest.fixture(scope="module")
def looked() -> View:
    view = view_of(traffic(200))
    return replace(view, as_of=1_772_366_400_000, leads=frozenset({NAME}))


@pytest.fixture
def names(looked: View) -> tuple[str, str]:
    """The control and the treatment."""
    declared = looked.experiments[NAME].experiment
    (treatment,) = declared.treatments
    return declared.control, treatment


def standing_at(view: View, standing: Standing) -> View:
    """The view with its treatment there."""
    one = view.experiments[NAME]
    (treatment,) = one.experiment.treatments
    book = msgspec.structs.replace(one.book, standings={treatment: standing})
    return replace(view, experiments={NAME: replace(one, book=book)})


ROLLED_BACK = Standing(
    state=State.ROLLED_BACK, epoch=2, decision="offers:t:7:3", ordered_at=7, since=9, verified=True
)


# --- what is shown ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("standing", "off"),
    [
        (Standing(), False),
        (Standing(state=State.HOLD), False),
        (Standing(state=State.PASSED), False),
        (Standing(state=State.WOULD_ROLL_BACK, decision="d", ordered_at=7), False),
        (Standing(state=State.ROLLING_BACK, decision="d", ordered_at=7), True),
        (Standing(state=State.VERIFYING, decision="d", ordered_at=7, acted_at=8), True),
        (Standing(state=State.ROLLBACK_FAILED, decision="d", ordered_at=7), True),
        (Standing(state=State.ROLLED_BACK, verified=False), True),
        (ROLLED_BACK, True),
        (msgspec.structs.replace(ROLLED_BACK, state=State.ENDED), True),
        (Standing(state=State.ENDED), False),
        (Standing(state=State.ENDED, decision="d", ordered_at=7), False),
    ],
)
def test_a_treatment_is_off_from_its_rollback_until_it_is_rearmed(
    looked: View, names: tuple[str, str], standing: Standing, off: bool
) -> None:
    shown = shown_of(standing_at(looked, standing).experiments[NAME], 0)
    assert set(shown.off) == ({names[1]} if off else set())
    assert shown.epochs == {names[1]: standing.epoch}


def test_the_reason_is_the_decision_that_rolled_it_back(
    looked: View, names: tuple[str, str]
) -> None:
    shown = shown_of(standing_at(looked, ROLLED_BACK).experiments[NAME], 0)
    assert shown.off == {names[1]: Off("offers:t:7:3", 2, 7)}


def test_a_ramp_is_followed_and_its_largest_share_kept_free(
    looked: View, names: tuple[str, str]
) -> None:
    control, treatment = names
    one = looked.experiments[NAME]
    declared = msgspec.structs.replace(
        one.experiment,
        variants={control: 9, treatment: 1},
        ramp=(Step(at=Moment(1_000), variants={control: 1, treatment: 3}),),
    )
    one = replace(one, experiment=declared)
    assert shown_of(one, 999).split == {control: 9, treatment: 1}
    assert shown_of(one, 1_000).split == {control: 1, treatment: 3}
    assert shown_of(one, 999).room == shown_of(one, 1_000).room == {treatment: 0.75}


# --- over HTTP -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Site:
    """A server, and what its monitor knows."""

    view: View
    client: Client | None = None
    problem: str | None = None

    async def ask(
        self, method: str = "GET", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert self.client is not None
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.request(method, PATH, headers=sent)
        return answer.status, answer.headers, await answer.read()


@pytest.fixture
async def site(looked: View) -> AsyncIterator[Site]:
    made = Site(looked)
    app = web.Application()
    app.add_routes(routes(Published(lambda: made.view, lambda: made.problem)))
    async with TestClient(TestServer(app)) as made.client:
        yield made


def flag_of(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(body)["flags"][NAME]
    return found


async def test_the_flags_are_served_with_their_hash(site: Site, names: tuple[str, str]) -> None:
    control, treatment = names
    status, headers, body = await site.ask()
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert dealing(flag_of(body)) == ((treatment, 1), (control, 1))
    status, head, nothing = await site.ask("HEAD")
    assert (status, head["ETag"], nothing) == (200, headers["ETag"], b"")
    for known in (headers["ETag"], f"W/{headers['ETag']}", f'"other", {headers["ETag"]}', "*"):
        status, fresh, nothing = await site.ask(If_None_Match=known)
        assert (status, fresh["ETag"], nothing) == (304, headers["ETag"], b"")
    assert (await site.ask(If_None_Match='"other"'))[0] == 200


async def test_a_rollback_changes_the_flags_and_their_hash(
    site: Site, looked: View, names: tuple[str, str]
) -> None:
    _, before, _ = await site.ask()
    site.view = standing_at(looked, ROLLED_BACK)
    status, after, body = await site.ask(If_None_Match=before["ETag"])
    assert status == 200
    assert after["ETag"] != before["ETag"]
    assert "targeting" not in flag_of(body)
    assert set(remembered(flag_of(body))) == {names[1]}


async def test_another_tick_without_a_change_keeps_the_hash(site: Site, looked: View) -> None:
    _, before, _ = await site.ask()
    site.view = replace(looked, as_of=(looked.as_of or 0) + 1)
    assert (await site.ask(If_None_Match=before["ETag"]))[0] == 304


@pytest.mark.parametrize("condition", ["problem", "no tick", "unknown", "no experiments"])
async def test_what_is_not_known_is_not_served(site: Site, looked: View, condition: str) -> None:
    match condition:
        case "problem":
            site.problem = "no tick has ended for 15 s"
        case "no tick":
            site.view = View()
        case "unknown":
            site.view = replace(looked, unknown={NAME: "the control log does not answer"})
        case _:
            site.view = replace(looked, experiments={})
    for tag in ({}, {"If_None_Match": "*"}):
        status, headers, body = await site.ask(**tag)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert msgspec.json.decode(body)["error"].startswith("the flags are not known: ")
    site.problem, site.view = None, looked
    assert (await site.ask())[0] == 200


async def test_what_got_lost_later_stays_as_it_was_served_last(site: Site, looked: View) -> None:
    site.view = standing_at(looked, ROLLED_BACK)
    _, before, _ = await site.ask()
    held = standing_at(looked, Standing(state=State.HOLD))
    site.view = replace(held, unknown={NAME: "its state cannot be read"})
    assert (await site.ask(If_None_Match=before["ETag"]))[0] == 304
    site.view = held  # a store that came back empty: epoch 1 again
    assert (await site.ask(If_None_Match=before["ETag"]))[0] == 304
    site.view = standing_at(looked, Standing(epoch=3))
    status, _, body = await site.ask(If_None_Match=before["ETag"])
    assert (status, remembered(flag_of(body))) == (200, {})


# --- in files --------------------------------------------------------------------------------------


@pytest.fixture
def flagd(tmp_path: Path) -> Flagd:
    return Flagd.at(FlagdOptions(path=str(tmp_path / "flags.json")))


def flag_in(tmp_path: Path) -> dict[str, Any]:
    return flag_of((tmp_path / "flags.json").read_bytes())


async def test_files_follow_the_view(
    tmp_path: Path, flagd: Flagd, looked: View, names: tuple[str, str]
) -> None:
    control, treatment = names
    following = Following({NAME: flagd, "others": Log(), "gone": flagd})
    await following.follow(looked)
    assert dealing(flag_in(tmp_path)) == ((treatment, 1), (control, 1))
    await following.follow(standing_at(looked, ROLLED_BACK))
    assert dealing(flag_in(tmp_path)) == ((control, 1),)
    assert await flagd.off(NAME) == {treatment: Off("offers:t:7:3", 2, 7)}
    await following.follow(standing_at(looked, Standing(epoch=3)))
    assert dealing(flag_in(tmp_path)) == ((treatment, 1), (control, 1))
    assert following.problems == {}


@pytest.mark.parametrize("condition", ["no tick", "unknown", "standing by"])
async def test_files_are_left_alone_by_whoever_does_not_know_or_lead(
    tmp_path: Path, flagd: Flagd, looked: View, condition: str
) -> None:
    view = {
        "no tick": replace(looked, as_of=None),
        "unknown": replace(looked, unknown={NAME: "lost"}),
        "standing by": replace(looked, leads=frozenset()),
    }[condition]
    await Following({NAME: flagd}).follow(view)
    assert not (tmp_path / "flags.json").exists()


async def test_a_monitor_that_has_forgotten_a_rollback_is_told_and_does_not_undo_it(
    tmp_path: Path,
    flagd: Flagd,
    looked: View,
    names: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    control, treatment = names
    order = Order(
        id="offers:t:7:3", experiment=NAME, treatment=treatment, control=control, decided_at=7
    )
    await flagd.show(Shown(experiment=NAME, control=control, split={control: 1, treatment: 1}))
    await flagd.apply(order)
    following = Following({NAME: flagd})
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await following.follow(looked)
    assert dealing(flag_in(tmp_path)) == ((control, 1),)
    assert (
        f"keeps {treatment} off, of whose rollback the monitor knows nothing"
        in (following.problems[NAME])
    )
    assert len(caplog.records) == 1
    await following.follow(standing_at(looked, Standing(epoch=2)))
    assert following.problems == {}


async def test_a_file_that_cannot_be_read_is_a_problem_and_never_an_error(
    tmp_path: Path, flagd: Flagd, looked: View
) -> None:
    (tmp_path / "flags.json").write_text("{")
    following = Following({NAME: flagd})
    await following.follow(looked)
    assert "expected a JSON object" in following.problems[NAME]
    with pytest.raises(UnreadableError):
        await flagd.off(NAME)
    await following.follow(replace(looked, leads=frozenset()))
    assert following.problems == {}


class Hanging(Flagd):
    """Its folder is on a machine that went away."""

    def __init__(self, path: str) -> None:
        super().__init__(FlagFile(Path(path)), FlagdOptions(path=path))
        self.answers, self.asked = asyncio.Event(), 0

    async def show(self, shown: Shown) -> Written:  # noqa: ARG002  # as in the original
        self.asked += 1
        await self.answers.wait()
        return Written(changed=True)


async def test_a_folder_that_hangs_is_waited_for_once_and_not_for_long(
    tmp_path: Path, looked: View
) -> None:
    hanging = Hanging(str(tmp_path / "flags.json"))
    following = Following({NAME: hanging}, patience=0.01)
    for _ in range(3):
        await following.follow(looked)
    assert hanging.asked == 1
    assert following.problems[NAME].endswith("does not answer")
    hanging.answers.set()
    following.patience = 10.0
    await following.follow(looked)
    assert following.problems == {}
    await following.follow(looked)
    assert hanging.asked == 2
