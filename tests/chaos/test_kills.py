"""Workers that are killed at any moment."""

import random
import time

from support.chaos import MakeScene
from support.servers import RedisServer


def test_counts_are_exact_after_workers_were_killed_at_random_moments(
    make_scene: MakeScene, own_redis: RedisServer, is_long: bool
) -> None:
    scene = make_scene(own_redis, per_second=300)
    scene.stream.start()
    crew = scene.crew.hire(3 if is_long else 2)
    scene.crew.wait_ready()
    rnd = random.Random(7)
    for _ in range(60 if is_long else 8):
        time.sleep(rnd.uniform(0, 4 if is_long else 1.5))
        worker = rnd.choice(crew)
        worker.kill()
        time.sleep(rnd.choice((0, 0, 0.5, 7)) if is_long else 0)
        worker.start()
    scene.stream.finish()
    scene.settle()
