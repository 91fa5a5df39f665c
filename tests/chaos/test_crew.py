"""Workers that come and go, and one that sleeps for longer than the group waits."""

import time

from support.chaos import MakeScene
from support.scene import Scene
from support.servers import RedisServer
from support.workers import WorkerProcess, wait_until


FROZEN_S = 8.0
"""Longer than the session time-out of the scene."""
FLOOD = 20_000
"""Predictions that a worker is busy with for some seconds."""


def test_counts_are_exact_while_workers_come_and_go(
    make_scene: MakeScene, own_redis: RedisServer, is_long: bool
) -> None:
    scene = make_scene(own_redis, per_second=300)
    scene.stream.start()
    scene.crew.hire()
    for _ in range(12 if is_long else 2):
        scene.crew.hire(2)
        scene.crew.wait_ready()
        for worker in scene.crew.running[:2]:
            assert worker.stop() == 0, worker.tail()
    scene.stream.finish()
    scene.settle()


def test_a_worker_that_wakes_up_after_others_took_its_shards_counts_nothing(
    make_scene: MakeScene, own_redis: RedisServer, is_long: bool
) -> None:
    scene = make_scene(own_redis, per_second=100)
    sleeper, _ = scene.crew.hire(2)
    scene.stream.start()
    refused = 0.0
    for round_ in range(8 if is_long else 3):
        refused += _sleep(scene, sleeper, seed=round_ + 2)
        if refused and not is_long:
            break
    assert refused, "whenever it woke up, it had nothing in hand"
    scene.stream.finish()
    scene.crew.assert_alive()
    scene.settle()


def _sleep(scene: Scene, sleeper: WorkerProcess, *, seed: int) -> float:
    """Freeze a worker while it catches up, until another has its shards; how often it was refused."""
    (other,) = (worker for worker in scene.crew.workers if worker is not sleeper)
    for worker in scene.crew.workers:
        worker.kill()
    scene.flood(FLOOD, seed=seed)
    sleeper.start()
    wait_until(lambda: _commits(sleeper) > 0, "it counts", 30, scene.crew.tails)
    sleeper.freeze()
    other.start()
    time.sleep(FROZEN_S)
    wait_until(lambda: _commits(other) > 0, "the other one counts", 30, other.tail)
    sleeper.thaw()
    time.sleep(1)  # until it looks around, it says what it said before
    back = "the worker that slept is ready again"
    wait_until(lambda: sleeper.problem() is None, back, 30, scene.crew.tails)
    return _refused(sleeper)


def _commits(worker: WorkerProcess) -> float:
    try:
        return worker.metric("abmonitor_worker_commit_seconds_count")
    except OSError:  # it does not listen yet
        return 0


def _refused(worker: WorkerProcess) -> float:
    names = "commit_conflicts", "trimmed_records", "rewinds"
    return sum(worker.metric(f"abmonitor_worker_{name}_total") for name in names)
