"""What workers take from their machine."""

import time

import pytest
from support.chaos import MakeScene
from support.servers import RedisServer
from support.workers import wait_until


LAG = "abmonitor_worker_lag_records"

IDLE_S = 6.0
IDLE_SHARE = 0.15
"""Of one processor."""


def test_an_idle_worker_leaves_the_processor_alone(
    make_scene: MakeScene, own_redis: RedisServer
) -> None:
    scene = make_scene(own_redis)
    (worker,) = scene.crew.hire()
    scene.crew.wait_ready()
    time.sleep(2)
    before = worker.cpu_seconds
    time.sleep(IDLE_S)
    share = (worker.cpu_seconds - before) / IDLE_S
    assert share < IDLE_SHARE, f"{share:.1%} of a processor to do nothing"


FLOODS, FLOOD = 8, 25_000
"""Predictions, each with what belongs to it."""
GROWTH = 32 << 20
"""Bytes; what is kept of each event would be far more."""


@pytest.mark.long
def test_a_worker_does_not_grow_with_what_it_has_counted(
    make_scene: MakeScene, own_redis: RedisServer
) -> None:
    scene = make_scene(own_redis)
    (worker,) = scene.crew.hire()
    scene.crew.wait_ready()
    sizes = []
    for number in range(FLOODS):
        scene.flood(FLOOD, seed=number)
        wait_until(lambda: worker.metric(LAG) == 0, "all is counted", 120, scene.crew.tails)
        time.sleep(3)
        sizes.append(worker.resident_bytes)
    assert sizes[-1] - sizes[1] < GROWTH, [f"{size >> 20} MB" for size in sizes]
