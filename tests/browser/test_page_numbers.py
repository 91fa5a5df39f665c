"""The page's numbers are the API's: read as a person reads them, and written anew from the API's documents."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from support.browser import Visits, visiting
from support.stage import CONTROL, EXPERIMENT, TREATMENT, Still

from abmonitor.view import View


pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = f"/experiments/{EXPERIMENT}"
DASH = "\N{EN DASH}"
Shown = tuple[Still, str]
Write = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Open:
    """An experiment's page in one act of the demo, and what the API says of it."""

    url: str
    page: Page
    found: dict[str, Any]
    series: dict[str, Any]
    told: dict[str, Any]
    """The status."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the treatment against the control."""
        found: dict[str, Any] = self.found["comparisons"][TREATMENT]
        return found

    async def text(self, selector: str) -> str:
        """What is to be read there, in one line."""
        return flat(await self.page.inner_text(selector))


@pytest_asyncio.fixture(
    params=["healthy", "defect", "rolled-back"], loop_scope="module", scope="module"
)
async def opened(
    request: pytest.FixtureRequest, still: Shown, acts: dict[str, View], browser: Browser
) -> AsyncIterator[Open]:
    shown, url = still
    shown.view = acts[request.param]
    api = f"{url}/api/v1/experiments/{EXPERIMENT}"
    found, series = await asked(api), await asked(f"{api}/series")
    (told,) = (await asked(f"{url}/api/v1/status"))["experiments"]
    async with visiting(browser, url) as visit:
        yield Open(url, await visit.open(PATH), found, series, told)
        assert visit.faults == []


async def asked(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


# --- how numbers are written ----------------------------------------------------------------------


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def plus_percent(value: float) -> str:
    return unsigned_zero(f"{100 * value:+.1f}") + "%"


def points(value: float) -> str:
    return unsigned_zero(f"{value:+.2f}") + " %"


def milliseconds(value: float) -> str:
    return f"{value:,.1f} ms"


def unsigned_zero(text: str) -> str:
    """What is rounded to nothing has no sign."""
    return text if text.strip("+-0.") else text.strip("+-")


def known(write: Write, value: float | None) -> str:
    return DASH if value is None else write(value)


def bounded(found: dict[str, Any], key: str, at: int, write: Write) -> str:
    value, lower, upper = (found[each][at] for each in (key, "lower", "upper"))
    if value is None or lower is None:
        return known(write, value)
    return f"{write(value)} [{write(lower)}, {write(upper)}]"


def utc(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


# --- how they are read ----------------------------------------------------------------------------


def flat(text: str) -> str:
    """In one line, with single blanks."""
    return " ".join(text.split())


async def cells(page: Page, rows: str) -> list[list[str]]:
    """The rows of tables with these bodies, also of those that are folded up."""
    found: list[list[str]] = await page.eval_on_selector_all(
        f"{rows} tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return [[flat(cell) for cell in row] for row in found]


async def by_head(page: Page, selector: str) -> dict[str, dict[str, str]]:
    """What the tables there say of each variant, by the head of the column."""
    found: dict[str, dict[str, str]] = {}
    told = await page.eval_on_selector_all(
        f"{selector} table",
        "all => all.map(one => [...one.rows].map(row => [...row.cells].map(cell => cell.textContent)))",
    )
    for heads, *rows in told:
        for row in rows:
            found.setdefault(flat(row[0]), {}).update(zip(heads, map(flat, row), strict=True))
    return found


def holds(text: str, wanted: Iterable[str]) -> None:
    missing = [each for each in wanted if each not in text]
    assert not missing, f"{missing} not in: {text}"


# --- the page of an experiment --------------------------------------------------------------------


async def test_how_it_stands_is_what_the_status_says(opened: Open) -> None:
    (one,) = opened.told["treatments"]
    final_to = utc(opened.told["labels_final_to"])
    holds(await opened.text("#facts"), [CONTROL, utc(opened.found["as_of"]), final_to])
    wanted = [
        TREATMENT,
        one["state"].replace("_", " "),
        f"{one['at_risk']['predictions_an_hour']:,}",
        f"{percent(one['share'])} ({percent(one['intended_share'])})",
        percent(one["share_lately"]),
    ]
    holds(await opened.text("#t0"), wanted)


async def test_what_it_is_worth_is_what_the_api_says(opened: Open) -> None:
    value = opened.facts["net_business_value"]
    wanted = [
        points(value["estimate"]),
        f"[{points(value['lower'])}, {points(value['upper'])}]",
        *map(points, value["parts"].values()),
        opened.facts["recommendation"].replace("_", " "),
    ]
    holds(await opened.text("#value0"), wanted)
    holds(await opened.text("#range0"), [flat(opened.facts["roi_range"]["sentence"])])


async def test_the_split_is_tested_as_the_api_says(opened: Open) -> None:
    ratio = opened.facts["sample_ratio"]
    wanted = ["nothing to compare yet"]
    if ratio["p_value"] is not None:
        wanted = [f"{ratio['p_value']:.2g}", *(f"{n:,}" for n in ratio["counts"].values())]
    holds(await opened.text("#sample"), wanted)


async def test_counts_and_how_many_labels_are_final_are_those_of_the_api(opened: Open) -> None:
    told = await by_head(opened.page, "#counts")
    assert told.keys() == {CONTROL, TREATMENT}
    for name, one in opened.found["variants"].items():
        metrics, counts, final = one["metrics"], one["mature_counts"], one["mature_predictions"]
        expected = {
            "TP": f"{counts['tp']:,}",
            "FP": f"{counts['fp']:,}",
            "FN": f"{counts['fn']:,}",
            "TN": f"{counts['tn']:,}",
            "Precision": percent(metrics["precision"]),
            "Recall": percent(metrics["recall"]),
            "Accuracy": percent(metrics["accuracy"]),
            "Predictions": f"{one['predictions']:,}",
            "Failed": f"{one['errors']:,}",
            "With an outcome": f"{one['predictions'] - one['unlabelled']:,}",
            "Label final": f"{final:,} ({percent(final / one['predictions'])})",
        }
        assert {head: told[name][head] for head in expected} == expected
        (profit,) = [text for head, text in told[name].items() if head.startswith("Profit")]
        assert profit == f"{metrics['profit_per_prediction']:+.3f}"


async def test_evidence_is_that_of_the_api_and_100_per_cent_only_where_it_decides(
    opened: Open,
) -> None:
    judged = {row[0]: row[1:] for row in await cells(opened.page, "#evidence0 tbody")}
    guardrails = opened.facts["guardrails"]
    assert judged.keys() == guardrails.keys()
    for name, guardrail in guardrails.items():
        phase, harm, safe, _, why = judged[name]
        assert phase.endswith(guardrail["phase"])
        assert why == flat(guardrail["reason"])
        evidence = guardrail["evidence"] or {"harm": None, "safe": None}
        for told, verdict in ((harm, "harm"), (safe, "safe")):
            if evidence[verdict] is None:
                assert told in {DASH, "0%"}
            else:
                share = max(0.0, evidence[verdict] / evidence[f"{verdict}_needed"])
                assert told == f"{100 * share // 1:.0f}%"


async def test_the_trail_holds_every_decision_the_newest_first(opened: Open) -> None:
    told = await cells(opened.page, "#rows-decisions")
    decisions = opened.found["decisions"]
    if not decisions:
        assert [len(row) for row in told] in ([], [1])  # at most a word that there are none
        return
    assert [(row[0], row[1], row[4], row[5]) for row in told] == [
        (
            utc(each["at"]),
            each["action"].replace("_", " "),
            "; ".join(each["reasons"]) or DASH,
            each["id"],
        )
        for each in reversed(decisions)
    ]


# --- charts and the tables behind them ------------------------------------------------------------


async def test_every_point_of_labelled_charts_stands_in_the_table_below(opened: Open) -> None:
    page, labelled = opened.page, opened.series["labelled"]
    assert labelled["metric"] == "rap"
    newest = range(len(labelled["at"]) - 1, -1, -1)
    assert len(newest) > 10
    moments = [utc(labelled["at"][n]) for n in newest]
    lines = [labelled["variants"][name] for name in (CONTROL, TREATMENT)]
    assert await cells(page, "#rows-labelled") == [
        [at, *(bounded(line, "value", n, percent) for line in lines)]
        for at, n in zip(moments, newest, strict=True)
    ]
    found = labelled["differences"][TREATMENT]
    assert await cells(page, "#rows-difference") == [
        [at, bounded(found, "estimate", n, plus_percent), plus_percent(found["margin"])]
        for at, n in zip(moments, newest, strict=True)
    ]
    value = labelled["net_business_value"][TREATMENT]
    parts = [value[part] for part in ("accuracy", "latency", "errors")]
    assert await cells(page, "#rows-value0") == [
        [at, bounded(value, "estimate", n, points), *(known(points, part[n]) for part in parts)]
        for at, n in zip(moments, newest, strict=True)
    ]


async def test_every_point_of_charts_of_arrivals_stands_in_the_table_below(opened: Open) -> None:
    arrival = opened.series["arrival"]
    variants: Sequence[dict[str, Any]] = [arrival["variants"][n] for n in (CONTROL, TREATMENT)]
    newest = range(len(arrival["at"]) - 1, -1, -1)
    tables: list[tuple[str, tuple[str, ...], Write]] = [
        ("latency", ("p50", "p95", "p99"), milliseconds),
        ("split", ("share", "intended"), percent),
        ("errors", ("error_rate",), percent),
    ]
    for name, columns, write in tables:
        lines = [variant[column] for variant in variants for column in columns]
        assert await cells(opened.page, f"#rows-{name}") == [
            [utc(arrival["at"][n]), *(known(write, line[n]) for line in lines)] for n in newest
        ]
    shares = [opened.series["latency"]["variants"][n]["share"] for n in (CONTROL, TREATMENT)]
    bins = await cells(opened.page, "#rows-distribution")
    assert len(bins) == len(opened.series["latency"]["edges_ms"]) - 1
    assert [row[1:] for row in bins] == [
        [DASH if not share else known(percent, share[n]) for share in shares]
        for n in range(len(bins))
    ]


TABLES = {
    "labelled": "rows-labelled",
    "difference": "rows-difference",
    "value": "rows-value0",
    "latency": "rows-latency",
    "split": "rows-split",
    "errors": "rows-errors",
}


@pytest.mark.parametrize("chart", TABLES)
async def test_a_chart_and_its_table_write_numbers_alike(opened: Open, chart: str) -> None:
    await opened.page.wait_for_selector(f"[data-chart={chart}] canvas")
    newest = (await cells(opened.page, f"#{TABLES[chart]}"))[0][1:]
    legend = await opened.page.eval_on_selector_all(
        f"[data-chart={chart}] .legend .value", "all => all.map(one => one.textContent)"
    )
    told = {flat(value) for value in legend}
    assert told - {"0.0%"} == set(newest) - {"0.0%"}  # the line of no difference is in no table


# --- the list -------------------------------------------------------------------------------------


async def test_the_list_says_what_the_api_says(opened: Open, visits: Visits) -> None:
    (one,) = opened.told["treatments"]
    async with visits(opened.url) as visit:
        page = await visit.open()
        columns = ("name", "state", "risk", "difference", "traffic", "why")
        told = {each: flat(await page.inner_text(f"#rows .{each}")) for each in columns}
        link = await page.get_attribute("#rows a", "href")
    assert told["name"] == f"{EXPERIMENT} {TREATMENT}"
    assert one["state"].replace("_", " ") in told["state"]
    an_hour = one["at_risk"]["an_hour"]
    lost = known(lambda lost: f"{lost:,.0f}" if lost >= 1000 else f"{lost:.2f}", an_hour)
    assert told["risk"] == lost
    assert told["difference"] == plus_percent(opened.facts["rap_difference"]["estimate"])
    assert told["traffic"].startswith(percent(one["share"]))
    assert all(cause in told["why"] for cause in one["causes"])
    assert link == PATH.removeprefix("/")
