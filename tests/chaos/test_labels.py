"""Outcomes that stay away for a while, and a topic that is far ahead of the other."""

import time

from support.chaos import MakeScene
from support.feed import plain
from support.known_events import FAST
from support.scene import Scene
from support.servers import RedisServer
from support.workers import wait_until

from metrics.layout import Kind


SILENCE_S = 6.0
"""Longer than the horizon and grace of the scene."""


def test_while_outcomes_are_silent_nothing_becomes_final_and_nothing_is_missed_later(
    make_scene: MakeScene, own_redis: RedisServer
) -> None:
    scene = make_scene(own_redis, clean=True, shards=3, per_second=200)
    scene.stream.start()
    scene.crew.hire()
    wait_until(lambda: _final(scene)[0] > 0, "something is final", 60, scene.crew.tails)
    scene.stream.hold_outcomes()
    time.sleep(1)
    told = max(shard.meta.last_outcome or 0 for shard in scene.found())
    end = time.monotonic() + SILENCE_S
    while time.monotonic() < end:
        final, missing = _final(scene)
        assert missing == 0, "a label that may still come was taken for a no"
        time.sleep(0.3)
    arrived = _arrived_before(scene, told - FAST.labels.horizon)
    assert final <= arrived, f"{final} labels are final, outcomes are known of {arrived}"
    assert final == arrived, "what is known becomes final all the same"
    scene.stream.release_outcomes()
    scene.stream.finish()
    scene.settle()


def _final(scene: Scene) -> tuple[int, int]:
    """Predictions whose label is final in the shards that have outcomes, and how many have none."""
    stores = scene.found()
    mature = [plain(each) for store in stores[:1] for each in store.of(Kind.MATURE).values()]
    missing = [cell for facts in mature for name, cell in facts.cells.items() if "missing" in name]
    return sum(facts.predictions for facts in mature), sum(cell[0] for cell in missing)


def _arrived_before(scene: Scene, end: int) -> int:
    logged = scene.logged(scene.predictions)
    return sum(one.partition == 0 and one.timestamp < end for one in logged)


def test_a_topic_that_is_far_ahead_of_the_other_waits_for_it(
    make_scene: MakeScene, own_redis: RedisServer
) -> None:
    scene = make_scene(own_redis, clean=True, shards=3, max_skew="500ms", per_second=500)
    scene.stream.hold_outcomes()
    scene.stream.start()
    time.sleep(2)
    scene.stream.release_outcomes()
    scene.stream.finish()
    scene.crew.hire(2)
    scene.settle()
