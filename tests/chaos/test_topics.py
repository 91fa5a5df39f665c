"""Topics that are not those any more which were counted."""

from support.chaos import MakeScene
from support.scene import Scene
from support.servers import RedisServer
from support.workers import wait_until


LAG = "abmonitor_worker_lag_records"


def _counted(scene: Scene) -> int:
    return scene.results()["predictions"]


def test_workers_end_with_an_explanation_when_topics_got_more_partitions(
    make_scene: MakeScene, own_redis: RedisServer, is_long: bool
) -> None:
    scene = make_scene(own_redis, clean=True, shards=3)
    scene.stream.start()
    scene.crew.hire()
    wait_until(lambda: _counted(scene) > 100, "something is counted", 60, scene.crew.tails)
    with scene.admin() as admin:
        admin.create_partitions({scene.predictions: 5, scene.outcomes: 5})
    new = scene.crew.hire()
    for worker in scene.crew.workers if is_long else new:  # others look at the topics each minute
        assert worker.ended(90) == 1
        assert "the topics have 5 partitions, but" in worker.said()
        assert "Traceback" not in worker.said()


def test_a_topic_that_was_made_anew_is_not_counted_as_the_old_one(
    make_scene: MakeScene, own_redis: RedisServer
) -> None:
    scene = make_scene(own_redis, clean=True, shards=3)
    scene.stream.start()
    (worker,) = scene.crew.hire()
    wait_until(lambda: _counted(scene) > 300, "something is counted", 60, scene.crew.tails)
    scene.stream.finish()
    wait_until(lambda: worker.metric(LAG) == 0, "all is counted", 60, scene.crew.tails)
    counted = _counted(scene)
    scene.make_anew(scene.predictions)
    with scene.send() as send:
        for number in range(10):
            value = f'{{"type":"prediction","prediction_id":"n{number}","experiment":"fast","variant":"a","predicted":true}}'
            send(scene.predictions, 0, b"key", value.encode())

    def told() -> bool:
        return "was made anew, or has lost records" in (worker.problem() or "")

    wait_until(told, "readiness says that the log was cut", 90, scene.crew.tails)
    assert _counted(scene) == counted
    scene.crew.assert_alive()
