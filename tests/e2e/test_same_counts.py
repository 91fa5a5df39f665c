"""The promise that everything rests on: however a log is read, the counts are the same. On a real Redis."""

import random
from pathlib import Path
from typing import Any

import pytest
from support.eventfiles import (
    GRACE,
    MINUTE,
    SETTINGS,
    Event,
    by_time,
    outcome,
    shuffled,
    traffic,
    written,
)
from support.failing import HookedStore, KillAt, KilledError, nothing
from support.feed import Found, found

import stream.files
from abmonitor.document import document
from abmonitor.replay import replay
from abmonitor.settings import Settings, load
from metrics.layout import Kind
from stream.files import Input
from stream.store import Store


def log(seed: int) -> list[Event]:
    """Two hours of traffic with duplicates, late outcomes and outcomes that nobody waits for."""
    rnd, events = random.Random(seed), traffic(1_200, seed=seed, gap=6_000)
    for event in rnd.sample(events, 60):
        events.append(dict(event))
    for event in rnd.sample([e for e in events if e["type"] == "prediction"], 30):
        events.append(outcome(event["prediction_id"], event["time"] + 40 * MINUTE))
    events += [outcome(f"nobody-{n}", rnd.choice(events)["time"]) for n in range(20)]
    return by_time(events)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)
    return load(path)


async def told(settings: Settings, path: Path, store: Store) -> dict[str, Any]:
    return document((await replay(settings, [Input(path)], store=store)).view)


class Dying:
    """Replays a file in random cuts over and over, killed each time but the last."""

    def __init__(
        self,
        store: HookedStore,
        monkeypatch: pytest.MonkeyPatch,
        rnd: random.Random,
        *,
        exchanges: int,
    ) -> None:
        """It ends in one of so many first `exchanges` with the store, if it gets that far."""
        self._store, self._monkeypatch = store, monkeypatch
        self._random, self._exchanges = rnd, exchanges
        self.crashes = 0

    async def told(self, settings: Settings, path: Path, *, lives: int) -> dict[str, Any]:
        """The document of the last life."""
        for _ in range(lives - 1):
            self._cut()
            kill = KillAt(self._random.randrange(self._exchanges))
            hooks = self._random.choice(((kill, nothing), (nothing, kill)))
            self._store.before, self._store.after = hooks
            try:
                await told(settings, path, self._store)
            except KilledError:
                self.crashes += 1
            self._store.calm()
        self._cut()
        return await told(settings, path, self._store)

    def _cut(self) -> None:
        self._monkeypatch.setattr(
            stream.files, "BATCH_RECORDS", self._random.choice((60, 150, 400))
        )


def counts(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{name}/{variant}": (facts["counts"], facts["mature_counts"], facts["predictions"])
        for name, found in document["experiments"].items()
        for variant, facts in found["variants"].items()
    }


@pytest.mark.parametrize("seed", range(3))
async def test_a_file_read_with_random_cuts_and_crashes_gives_the_same_document(
    settings: Settings,
    tmp_path: Path,
    real_store: HookedStore,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    path = written(tmp_path / "events.ndjson", log(seed))
    embedded = Store.embedded()
    expected = await told(settings, path, embedded)
    await embedded.close()
    dying = Dying(real_store, monkeypatch, random.Random(seed), exchanges=40)
    found = await dying.told(settings, path, lives=30)
    assert dying.crashes > 10
    assert counts(found) == counts(expected)
    assert found["events"] == expected["events"]
    decided = [found["experiments"]["offers"]["decisions"] for found in (found, expected)]
    assert [(d["action"], d["at"], d["reasons"]) for d in decided[0]] == [
        (d["action"], d["at"], d["reasons"]) for d in decided[1]
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_units_and_money_are_the_same_after_random_cuts_and_crashes(
    tmp_path: Path, real_store: HookedStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    (tmp_path / "settings.yaml").write_text(BY_UNIT)
    declared = load(tmp_path / "settings.yaml")
    path = written(tmp_path / "events.ndjson", with_units_and_money(log(seed), seed))
    embedded = Store.embedded()
    await told(declared, path, embedded)
    expected = packed(await found(embedded))
    await embedded.close()
    dying = Dying(real_store, monkeypatch, random.Random(seed), exchanges=40)
    await dying.told(declared, path, lives=25)
    assert dying.crashes > 8
    state = await found(real_store)
    assert packed(state) == expected
    totals = state.of(Kind.TOTAL).values()
    assert all(ledger.units and ledger.crossed and ledger.unitless for ledger in totals)
    assert all(0 < ledger.failing < ledger.errors for ledger in totals)
    assert any(ledger.money and ledger.buckets.any() for ledger in state.of(Kind.MATURE).values())


@pytest.mark.parametrize("seed", range(2))
async def test_sequential_decisions_and_their_evidence_are_the_same_after_random_cuts_and_crashes(
    tmp_path: Path, real_store: HookedStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    (tmp_path / "settings.yaml").write_text(SEQUENTIAL)
    declared = load(tmp_path / "settings.yaml")
    path = written(tmp_path / "events.ndjson", with_a_bad_treatment(log(seed)))
    embedded = Store.embedded()
    expected = (await told(declared, path, embedded))["experiments"]["offers"]
    await embedded.close()
    dying = Dying(real_store, monkeypatch, random.Random(seed), exchanges=60)
    found = (await dying.told(declared, path, lives=15))["experiments"]["offers"]
    assert dying.crashes > 5
    rollbacks = [d for d in expected["decisions"] if d["action"] == "rollback"]
    assert [d["reasons"][0].split(" ")[0] for d in rollbacks] == ["rap"]
    for mine, reference in zip(found["decisions"], expected["decisions"], strict=True):
        assert mine == reference | {"id": mine["id"]}
    guardrails = [each["comparisons"]["new"]["guardrails"] for each in (found, expected)]
    assert guardrails[0] == guardrails[1]
    assert guardrails[0]["rap:sequential"]["phase"] == "fail"
    assert guardrails[0]["rap:sequential:5m"]["evidence"]["harm"] is not None


SEQUENTIAL = """\
experiments:
  - name: offers
    control: old
    variants: {old: 0.5, new: 0.5}
    labels: {observed: all, horizon: 10m, grace: 5m, cohort: 1m, landmarks: [5m]}
    profitability: {unit_revenue: 60, unit_cost: 20}
    guardrails:
      - {metric: rap, test: sequential, margin: 0.05, detect: 0.3}
      - {metric: rap, test: sequential, margin: 0.05, detect: 0.3, landmark: 5m}
      - {metric: error_rate, test: sequential, relative_margin: 0.5}
      - {metric: selection_rate, test: sequential, margin: 0.9}
"""


def with_a_bad_treatment(events: list[Event]) -> list[Event]:
    """The same events, but that `new` decides the wrong way round after a third of the time."""
    begins = events[0]["time"] + (events[-1]["time"] - events[0]["time"]) / 3
    return [
        event | {"predicted": not event["predicted"]}
        if event.get("variant") == "new" and event["time"] > begins
        else event
        for event in events
    ]


BY_UNIT = SETTINGS.replace(
    "    guardrails:", "    randomised_by: unit\n    money: {cap: 50}\n    guardrails:"
)


def with_units_and_money(events: list[Event], seed: int) -> list[Event]:
    """The same events with units, of which few cross over and one fails in storms, costs and values."""
    rnd, made = random.Random(seed), []
    for event in events:
        if event["type"] == "outcome":
            made.append(event | {"value": rnd.choice((0, 12.5, 70))})
            continue
        unit = rnd.randrange(150)
        extra: Event = {"cost": 0.25} if rnd.random() < 0.95 else {}
        if rnd.random() < 0.95:
            extra |= {"unit_id": f"u{unit}"}
        if rnd.random() < 0.9:
            extra |= {"variant": ("old", "new")[unit % 2]}
        if rnd.random() < 0.1:
            extra |= {"unit_id": f"broken-{unit % 2}", "error": True}
        made.append(event | extra)
    return made


def packed(state: Found) -> dict[str, bytes]:
    """All ledgers but fine panes: how soon old ones are deleted goes by batches."""
    ledgers = state.ledgers.items()
    return {str(name): ledger.pack() for name, ledger in ledgers if name.kind is not Kind.FINE}


@pytest.mark.parametrize("seed", range(3))
async def test_a_file_shuffled_within_grace_gives_the_same_counts(
    settings: Settings, tmp_path: Path, real_store: HookedStore, seed: int
) -> None:
    events = log(seed)
    disordered = shuffled(events, GRACE, seed)
    assert disordered != events
    expected = await told(settings, written(tmp_path / "in-order.ndjson", events), real_store)
    await real_store.client.flushdb()
    found = await told(settings, written(tmp_path / "shuffled.ndjson", disordered), real_store)
    assert counts(found) == counts(expected)
    assert any(mature["tp"] for _, mature, _ in counts(found).values())
