"""The list of treatments and the order on a page: worst first, of now, and nothing old is called good."""

import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from support.drawn import cohorts, declared, shown
from support.eventfiles import traffic
from support.pages import Seen
from support.views import view_of

from abmonitor.api import Api
from abmonitor.server import application
from abmonitor.view import View
from abmonitor.web import boards, words
from abmonitor.web.board import Picture
from abmonitor.web.boards import Boards
from abmonitor.web.experiment import ExperimentPage, worst_first
from abmonitor.web.fleet import OLD, FleetPage
from alerts.guardrails import Guardrail
from alerts.standing import State
from metrics.experiment import MINUTE
from metrics.uncertainty import Difference


NAMES = ("offers",)


@pytest.fixture(scope="module")
def counted() -> View:
    """Predictions with labels, all of them final."""
    return view_of(traffic(2_000), complete=True)


def watermark(view: View) -> int:
    """Up to when its data is there, which is now."""
    found = view.experiments["offers"].snapshot.watermark
    assert found is not None
    return found


def differing(view: View, estimate: float) -> View:
    """The view with another difference of the headline metric."""
    one = view.experiments["offers"]
    found = Difference(estimate, estimate - 0.1, estimate + 0.1)
    compared = one.comparisons["new"]
    compared = replace(compared, differences={**compared.differences, "rap": found})
    return replace(view, experiments={"offers": replace(one, comparisons={"new": compared})})


def in_state(view: View, state: State) -> View:
    """The view with its treatment in this state."""
    one = view.experiments["offers"]
    standing = msgspec.structs.replace(one.book.standings["new"], state=state)
    book = msgspec.structs.replace(one.book, standings={"new": standing})
    return replace(view, experiments={"offers": replace(one, book=book)})


def row(picture: Picture) -> str:
    (found,) = picture.lists["rows"].values()
    return "".join(found)


def ends_at(picture: Picture) -> tuple[float, float]:
    """Where the spark line ends and where the line of no difference is, downwards."""
    found = re.search(r'y1="([\d.]+)".*<circle cx="[\d.]+" cy="([\d.]+)"', row(picture))
    assert found is not None
    return float(found[2]), float(found[1])


@pytest.mark.parametrize("estimate", [-0.9, 0.9])
def test_a_spark_line_ends_at_the_number_beside_it(counted: View, estimate: float) -> None:
    page, now = FleetPage(), watermark(counted)
    page.picture(counted, NAMES, None, now)
    picture = page.picture(differing(counted, estimate), NAMES, None, now)
    assert words.difference_of("rap", estimate) in row(picture)
    end, zero = ends_at(picture)
    assert (end > zero) == (estimate < 0)


def test_a_spark_line_is_not_drawn_again_for_what_cannot_be_seen(counted: View) -> None:
    page, now = FleetPage(), watermark(counted)
    spark = re.compile("<svg.*</svg>")
    drawn = [
        spark.findall(row(page.picture(differing(counted, -0.2 + n / 10_000), NAMES, None, now)))
        for n in range(4)
    ]
    assert drawn[0]
    assert all(each == drawn[0] for each in drawn)


@pytest.mark.parametrize("state", [State.HEALTHY, State.PASSED, State.COLLECTING])
def test_what_rests_on_old_data_is_not_called_good(counted: View, state: State) -> None:
    page, view, now = FleetPage(), in_state(counted, state), watermark(counted)
    new = page.picture(view, NAMES, None, now)
    assert f'data-level="{words.level_of(state)}"' in row(new)
    old = page.picture(view, NAMES, None, now + OLD + MINUTE)
    assert 'data-level="watch"' in row(old)
    assert "old data" in row(old)
    assert 'class="pill good"' not in row(old)
    assert "or with old data" in old.parts["summary"]
    assert "old data" not in row(new) + new.parts["summary"]
    told = ExperimentPage().picture(view, "offers", None, now + OLD + MINUTE).parts["t0"]
    assert 'class="pill' in told
    assert 'class="pill good"' not in told


def test_old_data_does_not_make_what_is_bad_look_better(counted: View) -> None:
    view = in_state(counted, State.ROLLBACK_FAILED)
    picture = FleetPage().picture(view, NAMES, None, (watermark(counted)) + 60 * MINUTE)
    assert 'data-level="bad"' in row(picture)


def test_nothing_is_counted_in_an_alarming_colour_where_there_is_none(counted: View) -> None:
    picture = FleetPage().picture(in_state(counted, State.HEALTHY), NAMES, None, watermark(counted))
    told = re.findall(
        r'<span class="(\w+)"><span class="sign".*?<b>(\d)</b>', picture.parts["summary"]
    )
    assert told == [("quiet", "0"), ("quiet", "0"), ("quiet", "0"), ("good", "1")]


def test_a_page_says_of_which_day_its_time_is(counted: View) -> None:
    view, now = replace(counted, as_of=watermark(counted)), watermark(counted)
    pages = (
        FleetPage().picture(view, NAMES, None, now),
        ExperimentPage().picture(view, "offers", None, now),
    )
    for picture in pages:
        assert f"{picture.parts['as-of-day']} {picture.parts['as-of']}" == words.moment(now)


def test_treatments_in_the_same_state_begin_with_what_loses_most() -> None:
    view = shown(declared(), cohorts(1, 6))
    for lost in ((-0.3, 0.2), (-0.1, -0.2)):
        compared = {
            name: replace(one, differences={**one.differences, "rap": Difference(each, None, None)})
            for (name, one), each in zip(view.comparisons.items(), lost, strict=True)
        }
        order = [name for _, name in worst_first(replace(view, comparisons=compared))]
        assert order == sorted(compared, key=lambda name: lost[[*compared].index(name)])


@pytest.mark.parametrize("margin", [0.02, None])
async def test_a_line_that_is_not_there_is_not_explained(
    counted: View, margin: float | None
) -> None:
    tested = Guardrail(metric="rap", test="sequential", margin=margin)
    one = shown(declared(guardrails=() if margin is None else (tested,)), cohorts(1, 6))
    name = one.experiment.name
    view = replace(counted, experiments={name: one}, leads=frozenset())
    app = application(lambda: view, lambda: None, api=Api(clock=lambda: 0))
    async with TestClient[Any, Any](TestServer(app)) as client:
        told = Seen(await (await client.get(f"/experiments/{name}")).text()).words
    assert ("red line" in told) == (margin is not None)


def test_a_picture_with_something_old_is_not_made_again_for_everybody_who_looks(
    counted: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def picture(*_: object) -> Picture:
        nonlocal made
        made += 1
        return Picture({"a": str(made)}, whole=made > 1)

    monkeypatch.setattr(FleetPage, "picture", picture)
    monkeypatch.setattr(boards, "AGAIN_S", 60.0)
    found = Boards(lambda: counted, lambda: None, lambda: 0)
    assert {found.fleet(NAMES).board.mark for _ in range(10)} == {found.fleet(NAMES).board.mark}
    assert made == 1
    monkeypatch.setattr(boards, "AGAIN_S", 0.0)
    for _ in range(10):
        found.fleet(NAMES)
    assert made == 2
