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

import stream.files
from abmonitor.document import document
from abmonitor.replay import replay
from abmonitor.settings import Settings, load
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
    rnd, crashes = random.Random(seed), 0
    for life in range(30):
        monkeypatch.setattr(stream.files, "BATCH_RECORDS", rnd.choice((60, 150, 400)))
        real_store.calm()
        if life < 29:  # the last one lives
            kill = KillAt(rnd.randrange(40))
            real_store.before, real_store.after = rnd.choice(((kill, nothing), (nothing, kill)))
        try:
            found = await told(settings, path, real_store)
        except KilledError:
            crashes += 1
    assert crashes > 10
    assert counts(found) == counts(expected)
    assert found["events"] == expected["events"]
    decided = [found["experiments"]["offers"]["decisions"] for found in (found, expected)]
    assert [(d["action"], d["at"], d["reasons"]) for d in decided[0]] == [
        (d["action"], d["at"], d["reasons"]) for d in decided[1]
    ]


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
