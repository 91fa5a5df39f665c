"""Words from outside with markup in them: the page shows them, on its first way and when pushed, and runs none."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from playwright.async_api import expect
from support.browser import Visit, Visits
from support.stage import EXPERIMENT, TREATMENT, Still

from abmonitor.view import View


pytestmark = pytest.mark.asyncio(loop_scope="module")

EVIL = "<img src=x onerror=\"window.ran='img'\"><script>window.ran='script'</script>'&\u2028more"
"""Markup, and a line separator of Unicode, which JSON does not escape."""
Shown = tuple[Still, str]


async def not_run(visit: Visit) -> None:
    assert await visit.page.evaluate("window.ran") is None
    assert not [asked for asked in visit.asked if asked.endswith("/x")]


async def test_a_list_shows_names_with_markup_in_them_and_runs_none(
    still: Shown, acts: dict[str, View], visits: Visits
) -> None:
    shown, url = still
    shown.view = evil(acts["defect"])
    shown.problem = EVIL
    try:
        async with visits(url) as visit:
            page = await visit.open()
            await expect(page.locator("#liveness")).to_have_text("live, as of")
            await expect(page.locator("#rows")).to_contain_text(EVIL)
            await expect(page.locator("#problem")).to_contain_text(EVIL)
            shown.problem = EVIL + "2"
            await expect(page.locator("#problem")).to_contain_text(EVIL + "2")  # pushed
            await not_run(visit)
            await page.click("#rows a")
            await expect(page.locator("h1")).to_have_text(EVIL)
            await not_run(visit)
    finally:
        shown.problem = None


async def test_an_experiment_shows_markup_and_runs_none(
    still: Shown, acts: dict[str, View], visits: Visits
) -> None:
    shown, url = still
    shown.view = evil(acts["rolled-back"])
    async with visits(url) as visit:
        await visit.open()
        await visit.page.click("#rows a")
        page = visit.page
        await expect(page.locator("#liveness")).to_have_text("live, as of")
        for selector in (
            "h1",
            "#t0",
            "#counts",
            "#rows-decisions",
            "[data-chart=labelled]",
            "#evidence0",
        ):
            await expect(page.locator(selector)).to_contain_text(EVIL)
        await page.locator("#t0 button[data-verb]").first.click()
        await expect(page.locator("#what")).to_contain_text(EVIL)
        await page.keyboard.press("Escape")
        before = shown.view
        shown.view = replace(before)  # another view, all of which is pushed again
        await page.wait_for_timeout(1_000)
        await not_run(visit)


def evil(view: View) -> View:
    """The demo with markup in all words that come from outside."""
    one = view.experiments[EXPERIMENT]
    named: dict[str, Any] = {TREATMENT: EVIL}

    def renaming(found: dict[str, Any]) -> dict[str, Any]:
        return {named.get(name, name): value for name, value in found.items()}

    declared = msgspec.structs.replace(
        one.experiment, name=EVIL, variants=renaming(dict(one.experiment.variants))
    )
    facts = renaming(dict(one.snapshot.variants))
    facts[EVIL] = replace(facts[EVIL], versions={EVIL: one.snapshot.watermark or 0})
    snapshot = replace(one.snapshot, variants=facts)
    judgements = {
        EVIL: {
            name: msgspec.structs.replace(found, reason=EVIL)
            for name, found in one.book.judgements[TREATMENT].items()
        }
    }
    standing = msgspec.structs.replace(one.book.standings[TREATMENT], causes=(EVIL,))
    book = msgspec.structs.replace(
        one.book, standings={EVIL: standing}, judgements=judgements, quarantined={EVIL: {EVIL: 1}}
    )
    decisions = tuple(
        msgspec.structs.replace(each, treatment=EVIL, experiment=EVIL, reasons=(EVIL,), actor=EVIL)
        for each in one.decisions
    )
    renamed_one = replace(
        one,
        experiment=declared,
        snapshot=snapshot,
        book=book,
        comparisons={EVIL: replace(one.comparisons[TREATMENT], treatment=EVIL)},
        decisions=decisions,
    )
    return replace(
        view,
        experiments={EVIL: renamed_one},
        fleet=replace(view.fleet, snapshots={EVIL: snapshot}),
        leads=frozenset({EVIL}),
    )
