"""A broker that is restarted, killed, or does not answer."""

import time

from support.chaos import MakeScene
from support.servers import KafkaServer, RedisServer


def test_counts_are_exact_after_the_broker_was_away(
    make_scene: MakeScene, broker: KafkaServer, own_redis: RedisServer, is_long: bool
) -> None:
    scene = make_scene(own_redis, per_second=200)
    scene.stream.start()
    scene.crew.hire(2)
    scene.crew.wait_ready()
    for round_ in range(6 if is_long else 1):
        time.sleep(2)
        broker.stop()
        time.sleep(round_)
        broker.start()
        time.sleep(2)
        broker.suspend()
        time.sleep(1.5)  # less than the clock skew that the scene allows
        broker.resume()
        time.sleep(2)
        broker.kill()
        time.sleep(round_)
        broker.start()
    scene.stream.finish()
    scene.crew.assert_alive()
    scene.settle()
